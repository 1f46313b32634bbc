"""Pieces of a run are kept: a resumed run equals an uninterrupted one, and computes only the rest."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from calepin.experiments import Claim, Experiment, Findings, Run, perform


@dataclass(frozen=True)
class Settings:
    n_draws: int = 3


def experiment(computed, stop_at=None):
    def measure(settings, run):
        means = []
        for draw in range(settings.n_draws):

            def compute(draw=draw):
                if draw == stop_at:
                    raise KeyboardInterrupt
                computed.append(draw)
                return {"x": np.random.default_rng([run.seed, draw]).standard_normal(5), "n": draw}

            piece = run.piece(f"draw{draw}", compute)
            means.append(piece["x"].mean() + piece["n"])
        return Findings({"mean": float(np.mean(means))}, [Claim("mean", float(np.mean(means)), ">=", 0)])

    return Experiment("toy", "a toy", "nowhere", Settings(), Settings(5), measure)


def values(result):
    return {key: result[key] for key in ("values", "claims", "settings")}


def test_an_interrupted_run_goes_on_with_the_pieces_it_has(tmp_path):
    whole = perform(experiment([]), tmp_path / "whole")
    computed = []
    with pytest.raises(KeyboardInterrupt):
        perform(experiment(computed, stop_at=2), tmp_path / "cut")
    assert computed == [0, 1]
    resumed = perform(experiment(computed), tmp_path / "cut")
    assert computed == [0, 1, 2]
    assert values(resumed) == values(whole)
    assert (whole["n_resumed"], resumed["n_resumed"]) == (0, 2)


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"scale": "paper"}, {"device": "cuda"}, {"resume": False}], ids=str
)
def test_pieces_of_another_run_are_not_used(tmp_path, other):
    computed = []
    perform(experiment(computed), tmp_path)
    computed.clear()
    assert perform(experiment(computed), tmp_path)["n_resumed"] == 3
    assert computed == []
    assert perform(experiment(computed), tmp_path, **other)["n_resumed"] == 0
    assert len(computed) >= 3


def test_a_run_anew_does_not_go_on_from_a_checkpoint(tmp_path):
    def measure(settings, run):
        checkpoint = run.path("training", "checkpoint")
        steps = int(checkpoint.read_text()) if checkpoint.exists() else 0
        checkpoint.write_text(str(steps + 1))
        return Findings({"steps": steps + 1}, [])

    trained = replace(experiment([]), measure=measure)
    counts = [
        perform(trained, tmp_path, resume=resume)["values"]["steps"] for resume in (True, True, False, True)
    ]
    assert counts == [1, 2, 1, 2]


def test_pieces_of_other_code_are_not_used(tmp_path, monkeypatch):
    computed = []
    perform(experiment(computed), tmp_path)
    monkeypatch.setattr("calepin.core.package.sources_checksum", lambda package: "changed")
    perform(experiment(computed), tmp_path)
    assert len(computed) == 6


def test_a_damaged_piece_is_computed_again_with_a_warning(tmp_path):
    run = Run(0, "cpu", tmp_path)
    first = run.piece("a", lambda: {"x": np.arange(4.0)})
    (kept,) = (tmp_path / "pieces").iterdir()
    kept.write_bytes(kept.read_bytes()[:40])
    with pytest.warns(RuntimeWarning, match="is damaged and computed again"):
        again = run.piece("a", lambda: {"x": np.arange(4.0)})
    np.testing.assert_array_equal(first["x"], again["x"])
    assert replace(run).piece("a", lambda: {})["x"].shape == (4,)


def test_arrays_come_back_as_they_were(tmp_path):
    made = {
        "single": np.float32([1.5, np.nan]),
        "whole": np.arange(3),
        "text": np.array(["a", "bc"]),
        "none": np.zeros((0, 2)),
        "number": 0.1,
    }
    run = Run(0, "cpu", tmp_path)
    for found in (run.piece("a", lambda: made), run.piece("a", lambda: {})):
        assert list(found) == list(made)
        for key, value in made.items():
            np.testing.assert_array_equal(found[key], value)
            assert found[key].dtype == np.asarray(value).dtype


def test_pieces_are_arrays_with_plain_names(tmp_path):
    run = Run(0, "cpu", tmp_path)
    with pytest.raises(TypeError, match="expected arrays of numbers or text, got objects"):
        run.piece("a", lambda: {"x": {"nested": 1}})
    for name in ("", "a/b", "..\n", "ä"):
        with pytest.raises(ValueError, match="name: expected letters"):
            run.piece(name, lambda: {"x": 1})
