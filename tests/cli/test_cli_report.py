"""--report writes what --json prints, with settings, data, figures and versions, in one safe page."""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import calepin.experiments.coverage
import calepin.experiments.experiment
import calepin.experiments.stored
from calepin.cli import main
from calepin.datasets import simulate_convolutional
from calepin.experiments import Claim, Experiment, Findings, Item
from calepin.report import Curve, curves, save_figure

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from test_page import checked

EVIL = "<script>x.npy"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def reported(capsys, *arguments):
    """Return the page of a command, after a check that it has each number that --json prints."""
    assert main([*arguments, "--report", "r.html", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    page = checked(Path("r.html").read_text("utf-8"))
    rows = {row[0]: row[1:] for row in page.rows if row}
    for name, value in numbers(printed):
        assert [name, f"{value:.6g}" if isinstance(value, float) else str(value)] in page.rows
    titles = {"Result", "Residuals", "Data", "Warnings and notes", "Settings", "How it was made"}
    assert titles <= set(page.words)
    for name in ("calepin", "numpy", "torch", "Python", "threads", "date", "seconds in all"):
        assert rows[name] != ["-"]
    assert rows["command"][0].startswith(f"calepin {arguments[0]}")
    return page, rows


def numbers(values, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{name} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", value


def captions(page):
    return [image["alt"] for image in page.of("img")]


def test_learn_from_a_file_whose_name_is_a_script(capsys):
    np.save(EVIL, np.random.default_rng(0).standard_normal((60, 16)))
    learn = ["learn", EVIL, "-o", "d.safetensors", "--n-components", "5", "--max-iter", "2"]
    page, rows = reported(capsys, *learn)
    assert rows["SHA-256"] == [hashlib.sha256(Path(EVIL).read_bytes()).hexdigest()]
    assert rows["shape"] == ["60 x 16"]
    assert rows["--max-iter"] == ["2", "given"]
    assert rows["--alpha"][1] == "default"
    assert rows["file"] == [EVIL]
    assert len(captions(page)) == 4
    assert main([*learn, "--report", "r.html", "-q"]) == 0  # replaces a report
    Path("r.html").write_text("<!DOCTYPE html><p>mine")
    assert main([*learn, "--report", "r.html", "-q"]) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert Path("r.html").read_text().endswith("mine")


def test_without_jinja2_nothing_is_run(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    np.save("x.npy", np.eye(8))
    assert main(["learn", "x.npy", "-o", "d.safetensors", "--report", "r.html"]) == 1
    err = capsys.readouterr().err
    assert err == "calepin: error: --report needs Jinja2: pip install 'calepin[report]'\n"
    assert not Path("d.safetensors").exists()


def test_learn_filters(capsys):
    data = simulate_convolutional(6, (60,), n_components=2, kernel_size=(8,), n_events=2, offset=-0.5)
    np.save("c.npy", data.X[:, 0])
    options = ["--n-components", "2", "--kernel-size", "8", "--likelihood", "binomial", "--trials", "25"]
    page, rows = reported(
        capsys, "learn-filters", "c.npy", "-o", "f.safetensors", *options, "--max-iter", "1"
    )
    assert rows["--likelihood"] == ["binomial", "given"]
    assert any("filters" in caption for caption in captions(page))


def test_denoise(capsys):
    options = ["--sigma", "20", "--n-components", "8", "--patch-size", "4"]
    from PIL import Image

    pixels = np.random.default_rng(0).random((24, 20)) * 255
    Image.fromarray(pixels.astype(np.uint8)).save("a.png")
    page, rows = reported(capsys, "denoise", "a.png", "-o", "b.png", *options)
    assert rows["sigma"] == ["20"]
    assert len(captions(page)) == 5
    assert captions(page)[0] == "From left: noisy, denoised, noisy - denoised; below, an enlarged detail"
    assert "Atoms" in page.words


def test_reconstruct_with_a_note(capsys):
    options = ["--size", "16", "--max-iter", "2", "--n-starts", "1"]
    page, _ = reported(capsys, "reconstruct", "--sample", "camera", *options)
    assert any("reduced from 512 x 512 to 16 x 16" in words for words in page.words)
    assert len(captions(page)) == 3


def test_spikes(capsys):
    np.save("s.npy", (np.random.default_rng(0).random((6, 60)) < 0.2).astype(float))
    options = ["--kernel-size", "6", "--n-events", "2", "--train", "0:4", "--order", "2", "--n-rounds", "1"]
    assert main(["spikes", "s.npy", "-o", "m.safetensors", *options, "--report", "r.html", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    page = checked(Path("r.html").read_text("utf-8"))
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["events"][3] == f"{printed['models']['events']['bits_per_spike']:.6g}"
    assert rows["1"][0] == str(printed["onsets"][0])
    assert printed["written"] == ["m.safetensors", "r.html"]


@dataclass(frozen=True)
class Settings:
    bar: float = 1


def draws(settings, run):
    save_figure(curves({"a": Curve([1, 2], [3, 4])}, xlabel="x", ylabel="y"), run.folder / "a.png")
    claims = [Claim("holds <b>", 0.25, "<=", 1), Claim("fails", 2.5, "<=", settings.bar)]
    return Findings({"value": 0.125}, claims, ["a.png", "none.png"])


def breaks(settings, run):
    raise FileNotFoundError("set12 is needed")


def test_reproduce_shows_failed_claims_and_what_did_not_run(capsys, monkeypatch):
    known = {
        name: Experiment(name, f"shows {name}", "Fig. 1", Settings(), Settings(), measure)
        for name, measure in [("draws", draws), ("breaks", breaks), ("sleeps", draws)]
    }
    monkeypatch.setattr(calepin.experiments.experiment, "installed", lambda: known)
    assert main(["reproduce", "draws", "breaks", "--report", "r.html", "-q"]) == 1
    page = checked(Path("r.html").read_text("utf-8"))
    text = " ".join(page.words)
    assert "2 of 3 experiments ran; 1 of 2 claims hold." in text
    assert "1 of 2 claims do NOT hold. 1 of 2 experiments could not run." in text
    assert ["fails", "2.5", "<= 1", "NO"] in page.rows
    assert ["holds <b>", "0.25", "<= 1", "yes"] in page.rows
    assert ["value", "0.125"] in page.rows
    assert ["sleeps", "Fig. 1", "not asked for"] in page.rows
    assert "It could not run: set12 is needed" in text
    assert captions(page) == ["Ours: a.png"]
    assert "The figure none.png cannot be shown" in text
    assert [row.get("class") for row in page.of("tr")].count("failed") == 3


def test_an_interrupted_reproduction_leaves_a_report(capsys, monkeypatch):
    def stops(settings, run):
        raise KeyboardInterrupt

    known = {
        name: Experiment(name, f"shows {name}", "Fig. 1", Settings(), Settings(), measure)
        for name, measure in [("draws", draws), ("stops", stops)]
    }
    monkeypatch.setattr(calepin.experiments.experiment, "installed", lambda: known)
    assert main(["reproduce", "*", "--report", "r.html", "-q"]) == 130
    page = checked(Path("r.html").read_text("utf-8"))
    assert ["stops", "Fig. 1", "asked for"] in page.rows
    assert any("Not finished: 1 experiments" in words for words in page.words)


def items(*verdicts):
    return [
        Item(
            "a paper",
            f"Fig. {i}",
            "<i>says</i>",
            "draws",
            verdict,
            theirs=".1 dB",
            values=("value",),
            claims=("holds",),
            because="" if verdict == "holds" else "of this",
        )
        for i, verdict in enumerate(verdicts)
    ]


def test_a_report_in_a_folder_has_every_item_of_the_papers(capsys, monkeypatch):
    known = {"draws": Experiment("draws", "shows", "Fig. 1", Settings(3), Settings(), draws)}
    listed = [
        *items("holds", "does not hold"),
        Item("a paper", "Fig. 9", "needs a week", "", "missing", because="a week"),
    ]
    monkeypatch.setattr(calepin.experiments.experiment, "installed", lambda: known)
    monkeypatch.setattr(calepin.experiments.coverage, "coverage", lambda: listed)
    assert main(["reproduce", "--all", "--seeds", "2", "--report", "pages", "-q"]) == 0
    page = checked(Path("pages/index.html").read_text("utf-8"))
    row = ["Fig. 0", "<i>says</i>", "draws", ".1 dB", "value 0.125 (0.125 to 0.125)", "quick, seeds 0, 1"]
    assert [*row, "holds; 2 of 2 claims"] in page.rows  # empty cells have no text
    assert ["Fig. 9", "needs a week", "missing", "a week"] in page.rows
    assert ["fails", "2.5 (2.5 to 2.5)", "<= 3", "yes"] in page.rows
    assert "3 items; holds: 1, does not hold: 1, missing: 1." in " ".join(page.words)
    assert [row.get("class") for row in page.of("tr")].count("failed") == 3


def test_values_that_deviate_are_in_the_report(capsys, monkeypatch):
    known = {"draws": Experiment("draws", "shows", "Fig. 1", Settings(3), Settings(), draws)}
    monkeypatch.setattr(calepin.experiments.experiment, "installed", lambda: known)
    claims = [{"claim": name, "holds": True} for name in ("holds <b>", "fails")]
    old = {"seed": 0, "values": {"value": 0.2}, "claims": claims}
    kept = {"settings": {"bar": 3}, "runs": [old]}
    monkeypatch.setattr(calepin.experiments.stored, "stored", lambda experiment, scale: kept)
    assert main(["reproduce", "draws", "--check", "--report", "r.html", "-q"]) == 1
    text = " ".join(checked(Path("r.html").read_text("utf-8")).words)
    assert "Deviates from the stored results: draws, seed 0, value: stored 0.2, new 0.125." in text
