"""An option changes what comes out or is refused by name; its default is that of the function it feeds."""

import hashlib
import importlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from safetensors.numpy import load_file
from scipy.io import savemat

from calepin import ConvolutionalDictionaryLearner, DictionaryLearner, UnfoldedDictionaryLearner
from calepin.cli import main
from calepin.cli.app import app
from calepin.cli.options import Default, defaults, given, refuse
from calepin.core.files import save_arrays
from calepin.datasets import simulate_convolutional, simulate_sparse
from calepin.operators import NonCartesianFourier, radial_trajectory
from calepin.operators.fourier import centred_fft, centred_ifft
from calepin.spikes import simulate_spikes

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]

# what every command has, and what names its files: tests of the commands see to them
EVERYWHERE = {"--help", "--quiet", "--json", "--debug", "--force", "--output", "--dict"}
# whose options other tests go through
ELSEWHERE = {
    "denoise",
    "denoise-samples",
    "transfer",
    "compress",
    "decompress",
    "info",
    "reproduce",
    "doctor",
    "inpaint",
    "deblur",
    "upscale",
    "demosaic",
}


@dataclass(frozen=True)
class Method:
    """A way to call a command: what chooses the method, and what makes it fast."""

    chosen: str
    fast: str = ""
    output: str = "out.safetensors"
    values: dict[str, str] = field(default_factory=dict)  # in place of those for all methods


@dataclass(frozen=True)
class Calls:
    """The methods of a command, for each option a value that is not its default, and options of the input."""

    methods: dict[str, Method]
    values: dict[str, str] = field(default_factory=dict)
    of_input: frozenset[str] = frozenset()


LEARNING = {
    "--report": "report.html",
    "--init": "random",
    "--max-iter": "1",
    "--tol": "10",
    "--seed": "1",
    "--checkpoint": "run.safetensors",
    "--checkpoint-seconds": "5",
}
LEARNING |= {
    "--resume": "",
    "--nonnegative": "",
    "--n-components": "3",
    "--alpha": "0.02",
    "--n-nonzero": "3",
}
CALLS = {
    "learn": Calls(
        {
            "online lasso": Method("X.npy", "--alpha 0.1 --max-iter 3"),
            "mod lasso": Method("X.npy --rule mod --coder lasso", "--alpha 0.1 --max-iter 3"),
            "mod ols": Method("X.npy --rule mod --coder ols", "--max-iter 3"),
            "ksvd omp": Method("X.npy --rule ksvd --coder omp", "--max-iter 3"),
            "noodl iht": Method("X.npy --rule noodl", "--alpha 0.1 --max-iter 3"),
        },
        LEARNING
        | {
            "--rule": "mod",
            "--coder": "omp",
            "--batch-size": "16",
            "--nonnegative-atoms": "",
            "--center": "",
            "--init": "dct",
        },
    ),
    "learn-filters": Calls(
        {
            "fista": Method("S.npy", "--n-init 1 --alpha 0.5 --max-iter 7 --kernel-size 6 --n-components 2"),
            "ista debias": Method(
                "S.npy --coder ista --debias",
                "--n-init 1 --alpha 0.5 --max-iter 7 --kernel-size 6 --n-components 2",
            ),
            "exact": Method(
                "S.npy --coder exact", "--n-init 1 --alpha 0.5 --max-iter 7 --kernel-size 6 --n-components 2"
            ),
            "bcomp": Method(
                "S.npy --coder bcomp",
                "--n-init 1 --n-nonzero 2 --max-iter 7 --kernel-size 6 --n-components 2",
            ),
            "binomial": Method(
                "C.npy --likelihood binomial",
                "--trials 9 --alpha 1 --max-iter 7 --kernel-size 6 --n-components 2",
            ),
            "poisson": Method(
                "C.npy --likelihood poisson", "--alpha 1 --max-iter 7 --kernel-size 6 --n-components 2"
            ),
        },
        LEARNING
        | {"--kernel-size": "5", "--likelihood": "poisson", "--trials": "12", "--stride": "2", "--debias": ""}
        | {"--coder": "ista", "--offset": "-0.7", "--batch-size": "2", "--alpha-scaled": "0.3"},
        # tests of the command go through these: what they change is rare in signals as small as these
        frozenset({"--detrend", "--kernel-seconds", "--n-init", "--rank", "--robust", "--sampling-rate"}),
    ),
    "encode": Calls(
        {
            "lasso": Method("X.npy --dict lasso.safetensors", output="out.npz"),
            "omp": Method("X.npy --dict omp.safetensors", output="out.npz"),
            "unfolded": Method("X.npy --dict unfolded.safetensors", output="out.npz"),
            "chosen anew": Method("X.npy --dict lasso.safetensors --coder ols", output="out.npz"),
            "filters fista": Method("S.npy --dict fista.safetensors", output="out.npz"),
            "filters bcomp": Method("S.npy --dict bcomp.safetensors", output="out.npz"),
            "filters exact": Method("S.npy --dict fista.safetensors --coder exact", output="out.npz"),
        },
        {"--coder": "iht", "--alpha": "0.7", "--n-nonzero": "3"},
    ),
    "decode": Calls({"codes": Method("Z.npz --dict omp.safetensors", output="out.npy")}),
    "show": Calls(
        {
            "atoms": Method("atoms.safetensors", output="out.png"),
            "filters": Method("fista.safetensors", output="out.png"),
        },
        {"--shape": "2x8"},
    ),
    "spikes": Calls(
        {
            "fista": Method("N.npy", "--kernel-size 12 --order 2 --n-events 2 --n-rounds 1"),
            "pursuit": Method(
                "N.npy --coder pursuit", "--kernel-size 12 --order 2 --n-events 2 --n-rounds 1"
            ),
            "MATLAB": Method("N.mat", "--kernel-size 12 --order 2 --n-events 2 --n-rounds 1"),
            "NWB": Method("N.nwb --unit 1", "--kernel-size 12 --order 2 --n-events 2 --n-rounds 1"),
        },
        {"--figure": "figure.png", "--kernel-size": "9", "--n-events": "1", "--train": "0:8", "--order": "1"}
        | {"--baseline": "30:42", "--coder": "pursuit", "--alpha": "0.01", "--n-rounds": "2", "--seed": "1"}
        | {"--variable": "other", "--unit": "2", "--bin-width": "0.002", "--align": "cue"}
        | {"--window": "0.01:0.1", "--report": "report.html"},
        # tests of the command go through these
        frozenset({"--cues", "--likelihood", "--lists", "--nwb", "--stimulus", "--time-unit"}),
    ),
    "reconstruct": Calls(
        {
            "hadamard": Method("--sample coins", "--size 16 --max-iter 3 --n-starts 1", "out.png"),
            "mask": Method(
                "--sample coins --operator mask --mask P.npy",
                "--size 16 --max-iter 3 --n-starts 1",
                "out.png",
                {"--size": "12 --mask Q.npy"},
            ),
            "file": Method("image.npy", "--max-iter 3 --n-starts 1", "out.png"),
            "k-space": Method("K.npy --mri --acceleration 2", "--max-iter 3 --n-starts 1", "out.png"),
            "k-space, mask": Method(
                "K.npy --mri --mask M.npy",
                "--max-iter 3 --n-starts 1",
                "out.png",
                {"--columns": "2:14 --mask narrow.npy", "--size": "12 --mask small.npy"},
            ),
            "k-space, zeros": Method("gaps.npy --mri", "--max-iter 3 --n-starts 1", "out.png"),
            "trajectory": Method(
                "spokes.npy --mri --trajectory k.npy --prior untrained",
                "--max-iter 3 --n-starts 1",
                "out.png",
                {"--prior": "tv", "--shape": "18x20"},
            ),
            "matrix": Method("counts.npy --matrix A.npy --prior untrained", "", "out.npy", {"--prior": "tv"}),
            "sinogram": Method(
                "sinogram.npy --angles 0:150 --prior untrained", "", "out.npy", {"--shape": "12x12 "}
            ),
        },
        {"--operator": "dct", "--ratio": "0.5", "--acceleration": "3"}
        | {"--trajectory": "other.npy", "--sensitivities": "maps.npy"}
        | {"--pattern": "columns", "--mask": "L.npy", "--columns": "2:14", "--slice": "0", "--size": "12"}
        | {
            "--max-iter": "4",
            "--n-starts": "2",
            "--complex": "coils.npy",
            "--figure": "figure.png",
            "--error-map": "errors.npy",
        }
        | {"--report": "report.html"}
        | {
            "--matrix": "A.npy",
            "--angles": "0:180",
            "--shape": "8x32",
            "--sigma": "0.5",
            "--prior": "wavelet",
        }
        | {"--reference": "image.npy"}
        | {"--seed": "1", "--range": "0:0.8"},
        frozenset({"--sample", "--mri"}),
    ),
    "spectrum": Calls(
        {"triangular": Method("", output=""), "gaussian": Method("--kernel gaussian --width 4", output="")},
        {"--kernel": "box", "--width": "9", "--length": "100", "--smooth": "7", "--error": "0.2"}
        | {"--figure": "figure.png"},
    ),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Return a folder of small input files of every kind."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    X = simulate_sparse(64, 16, 20, n_nonzero=3, noise=0.05).X
    signals = simulate_convolutional(8, (40,), n_components=2, kernel_size=(6,), n_events=3, noise=0.05)
    for name, array in (
        ("X", X),
        ("S", signals.X),
        ("C", rng.poisson(1.5, (8, 1, 40)).clip(0, 9)),
        ("M", rng.random((16, 16)) < 0.5),
        ("L", rng.random((16, 16)) < 0.7),
        ("narrow", rng.random((16, 12)) < 0.5),
        ("small", rng.random((12, 12)) < 0.5),
        ("P", rng.random((13, 16)) < 0.5),
        ("Q", rng.random((9, 12)) < 0.5),
    ):
        np.save(folder / f"{name}.npy", array)
    image = np.outer(np.hanning(16), np.hanning(16))
    np.save(folder / "image.npy", image)
    A = rng.standard_normal((90, 256))
    np.save(folder / "A.npy", A)
    np.save(folder / "counts.npy", A @ image.ravel() + 0.1 * rng.standard_normal(90))
    np.save(folder / "sinogram.npy", np.stack([image.sum(0), image.sum(1), image.sum(0)]))
    _write_kspace(folder, rng)
    _write_spikes(folder)
    lasso = DictionaryLearner(20, alpha=0.1, max_iter=1, random_state=0).fit(X)
    lasso.save(folder / "lasso.safetensors")
    DictionaryLearner(20, coder="omp", n_nonzero=2, max_iter=1, random_state=0).fit(X).save(
        folder / "omp.safetensors"
    )
    UnfoldedDictionaryLearner(20, alpha=0.1, n_unfold=5, max_iter=1, random_state=0).fit(X).save(
        folder / "unfolded.safetensors"
    )
    filters = ConvolutionalDictionaryLearner(2, 6, alpha=0.1, max_iter=1, random_state=0).fit(signals.X)
    filters.save(folder / "fista.safetensors")
    filters.set_params(coder="bcomp", n_nonzero=2).save(folder / "bcomp.safetensors")
    save_arrays(folder / "atoms.safetensors", "dictionary", {"components": lasso.components_}, {})
    assert main(["encode", *f"{folder}/X.npy -d {folder}/omp.safetensors -o {folder}/Z.npz -q".split()]) == 0
    return folder


def _write_kspace(folder: Path, rng: np.random.Generator) -> None:
    image = np.hanning(18)[1:-1, None] * np.hanning(18)[1:-1] * np.exp(1j * np.arange(16) / 5)
    image = image + 0.01 * rng.standard_normal(image.shape)
    kspace = centred_fft(torch.from_numpy(np.stack([image, 1j * image]).astype(np.complex64))).numpy()
    np.save(folder / "K.npy", np.stack([kspace, kspace[:, ::-1]]))
    spokes = radial_trajectory((16, 16), 14)
    coils = centred_ifft(torch.from_numpy(kspace))
    np.save(folder / "k.npy", spokes.numpy())
    np.save(folder / "other.npy", spokes.flip(1).numpy())
    np.save(folder / "maps.npy", coils.numpy())
    np.save(folder / "spokes.npy", NonCartesianFourier((2, 16, 16), spokes)(coils[None])[0].numpy())
    np.save(folder / "gaps.npy", np.stack([kspace, kspace[:, ::-1]]) * (rng.random((16, 16)) < 0.6))


def _write_spikes(folder: Path) -> None:
    drive = np.zeros(120)
    drive[30:42] = drive[80:92] = 3 * np.hanning(12)
    counts = simulate_spikes(20, 120, drive=drive, baseline=-2).counts
    np.save(folder / "N.npy", counts)
    savemat(folder / "N.mat", {"train": counts, "other": counts[::-1, 10:]})
    try:
        pynwb: Any = importlib.import_module("pynwb")
    except ImportError:
        return
    file = pynwb.NWBFile("a test", "calepin", datetime(2026, 1, 1, tzinfo=UTC))
    trial, bins = np.nonzero(counts)
    file.add_unit(id=1, spike_times=np.sort(trial * 0.2 + bins * 0.001))
    file.add_unit(id=2, spike_times=np.sort(trial * 0.2 + (bins + 3) * 0.001))
    file.add_trial_column("cue", "a later time")
    for start in range(20):
        file.add_trial(start_time=0.2 * start, stop_time=0.2 * start + 0.12, cue=0.2 * start + 0.005)
    with pynwb.NWBHDF5IO(folder / "N.nwb", "w") as io:
        io.write(file)


def options_of(command: str) -> set[str]:
    """Return the long names of a command's options."""
    names = {max(option.opts, key=len) for option in COMMANDS[command].params}
    return {name for name in names if name.startswith("--")} - EVERYWHERE


def observed(capsys, command: str, arguments: list[str]) -> tuple[int, str, Any]:
    """Run a command; return its status, what it said went wrong, and all numbers that came out."""
    before = set(Path().iterdir())
    status = main([command, *arguments, "--json"])
    out, err = capsys.readouterr()
    numbers = json.loads(out) if out else {}
    written = {path.name: _content(path) for path in set(Path().iterdir()) - before}
    for name in written:
        Path(name).unlink()
    return (
        status,
        err,
        ({k: v for k, v in numbers.items() if k not in ("seconds", "peak_memory_mb")}, written),
    )


def _content(path: Path) -> dict[str, str]:
    """Return hashes of the arrays of a file: settings that are only written down count for nothing."""
    if path.suffix == ".safetensors":
        arrays = load_file(path)
    elif path.suffix == ".npz":
        arrays = dict(np.load(path))
    else:
        arrays = {"": np.fromfile(path, np.uint8)}
    return {name: hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for name, a in arrays.items()}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("command", "method"), [(command, method) for command, calls in CALLS.items() for method in calls.methods]
)
def test_each_option_changes_what_comes_out_or_is_refused(
    capsys, inputs, tmp_path, monkeypatch, command, method
):
    how, values = CALLS[command].methods[method], CALLS[command].values
    if method == "NWB":
        pytest.importorskip("pynwb")
    shutil.copytree(inputs, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    call = [*how.chosen.split(), *how.fast.split(), *(["-o", how.output] if how.output else [])]
    status, err, base = observed(capsys, command, call)
    assert status == 0, err
    silent = []
    values = values | how.values
    for option in sorted(values.keys() - set(how.chosen.split())):
        status, err, found = observed(capsys, command, [*call, option, *values[option].split()])
        refused = status == 2 and (option in err or option.removeprefix("--").replace("-", "_") in err)
        assert status == 0 or refused, f"{option}: {err}"
        if status == 0 and found == base:
            silent.append(option)
    assert silent == []


def test_every_option_of_every_command_is_gone_through():
    assert CALLS.keys() | ELSEWHERE == COMMANDS.keys()
    for command, calls in CALLS.items():
        assert options_of(command) == calls.values.keys() | calls.of_input, command


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_default_is_written_in_the_signature_that_the_option_feeds_and_nowhere_else(command):
    function: Callable[..., Any] = COMMANDS[command].callback
    options = {option.name: option for option in COMMANDS[command].params}
    for name, place in defaults(function).items():
        assert options[name].default in (None, False), f"--{name} restates {place}"
        place.value()  # the function has that parameter


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("learn", "[default: 30]"),
        ("learn-filters", "[default: 0.0001]"),
        ("reconstruct", "[default: hadamard]"),
        ("spikes", "[default in .nwb: start_time]"),
    ],
)
def test_help_shows_the_defaults_of_signatures(capsys, command, shown):
    assert main([command, "--help"]) == 0
    assert shown in " ".join(capsys.readouterr().out.split())


def test_a_default_is_read_from_a_signature():
    assert Default("calepin.estimators.dictionary:DictionaryLearner", "max_iter").value() == 30


def test_what_was_not_given_is_left_to_the_function():
    assert given(a=None, b=False, c=0, d="x") == {"c": 0, "d": "x"}


def test_only_what_was_given_is_refused():
    refuse({"--a": None, "--b": False}, "has no effect")
    with pytest.raises(typer.BadParameter, match="has no effect") as caught:
        refuse({"--a": None, "--b": 0}, "has no effect")
    assert caught.value.param_hint == "--b"
