"""``calepin learn``: the same numbers as in Python; options that do nothing are refused."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from calepin import DictionaryLearner
from calepin.cli import main
from calepin.core.files import save_arrays
from calepin.datasets import simulate_sparse

SMALL = ["learn", "X.npy", "-o", "D.safetensors", "--n-components", "24", "--seed", "5"]
LEARN = [*SMALL, "--alpha", "0.2"]


@pytest.fixture(autouse=True)
def X(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = simulate_sparse(600, 16, 24, n_nonzero=3, noise=0.05).X.astype(np.float32)
    np.save("X.npy", X)
    return X


def said(capsys, *arguments):
    """Run a command with --json and return its object."""
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_learn_writes_what_the_estimator_learns(capsys, X):
    result = said(capsys, *LEARN, "--max-iter", "4", "--tol", "0")
    assert (result["n_components"], result["n_features"], result["n_iter"]) == (24, 16, 4)
    expected = DictionaryLearner(24, alpha=0.2, random_state=5, max_iter=4, tol=0).fit(X)
    learned = DictionaryLearner.load("D.safetensors")
    np.testing.assert_array_equal(learned.components_, expected.components_)
    assert result["objective"] == expected.history_[-1]["objective"]


@pytest.mark.parametrize("rule", ["online", "mod", "ksvd", "noodl"])
def test_every_rule_and_coder_is_passed_on(capsys, rule):
    coder = ["--alpha", "0.2"] if rule == "noodl" else ["--coder", "omp", "--n-nonzero", "2"]
    settings = ["--max-iter", "2", "--batch-size", "100", "--init", "dct"]
    said(capsys, *SMALL, "--rule", rule, *coder, *settings)
    learner = DictionaryLearner.load("D.safetensors")
    assert (learner.rule, learner.batch_size, learner.init) == (rule, 100, "dct")
    assert (learner.coder, learner.n_nonzero) == ((None, None) if rule == "noodl" else ("omp", 2))


def test_the_mean_goes_through_files_to_codes_and_back(capsys, X):
    np.save("X.npy", X + 5)
    said(capsys, *SMALL, "--coder", "omp", "--n-nonzero", "3", "--center", "--max-iter", "4")
    learner = DictionaryLearner.load("D.safetensors")
    np.testing.assert_allclose(learner.mean_, X.mean(0) + 5, rtol=1e-5)
    result = said(capsys, "encode", "X.npy", "--dict", "D.safetensors", "-o", "codes.npz")
    said(capsys, "decode", "codes.npz", "--dict", "D.safetensors", "-o", "Y.npy")
    error = np.load("Y.npy") - (X + 5)
    np.testing.assert_allclose(
        (error**2).sum() / ((X + 5) ** 2).sum(), result["relative_error"] ** 2, rtol=1e-3
    )
    assert (error**2).sum() < 0.5 * (X**2).sum()


def test_learning_goes_on_from_a_dictionary(capsys, X):
    said(capsys, *LEARN, "--max-iter", "2")
    start = DictionaryLearner.load("D.safetensors").components_
    said(capsys, *LEARN, "--max-iter", "1", "--init", "D.safetensors", "-o", "E.safetensors")
    expected = DictionaryLearner(24, alpha=0.2, random_state=5, max_iter=1, init=start).fit(X)
    np.testing.assert_array_equal(DictionaryLearner.load("E.safetensors").components_, expected.components_)


def test_the_number_of_atoms_is_that_of_the_start_and_else_that_of_the_features(capsys):
    save_arrays("S.safetensors", "dictionary", {"components": np.eye(20, 16)}, {})
    learn = ["learn", "X.npy", "-o", "D.safetensors", "--max-iter", "1"]
    assert said(capsys, *learn)["n_components"] == 16
    assert said(capsys, *learn, "--init", "S.safetensors")["n_components"] == 20


def test_ctrl_c_leaves_a_checkpoint_from_which_the_run_ends_as_if_never_stopped(capsys, monkeypatch):
    from calepin.learning.rules.classical import Online

    settings = ["--max-iter", "3", "--tol", "0", "--batch-size", "100"]
    said(capsys, *LEARN, *settings)
    whole = DictionaryLearner.load("D.safetensors").components_
    save_arrays("D.safetensors", "dictionary", {"components": np.eye(2)}, {})
    old = Path("D.safetensors").read_bytes()

    step, steps = Online.step, []

    def interrupted(self, arrays, batch):
        steps.append(batch)
        if len(steps) == 8:
            signal.raise_signal(signal.SIGINT)
        return step(self, arrays, batch)

    monkeypatch.setattr(Online, "step", interrupted)
    assert main([*LEARN, *settings, "--checkpoint", "run.safetensors"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert "run.safetensors holds the state of the run; --resume continues it" in err
    assert err.endswith("calepin: interrupted\n")
    assert Path("D.safetensors").read_bytes() == old

    resumed = said(capsys, *LEARN, *settings, "--checkpoint", "run.safetensors", "--resume")
    assert len(steps) == 18
    assert resumed["n_iter"] == 3
    learned = DictionaryLearner.load("D.safetensors").components_
    np.testing.assert_array_equal(learned, whole)


def test_samples_with_nan_are_refused(capsys, X):
    X[3, 2] = np.nan
    np.save("nan.npy", X)
    assert main(["learn", "nan.npy", "-o", "E.safetensors"]) == 2
    assert "NaN" in capsys.readouterr().err


def test_codes_and_atoms_are_nonnegative_where_that_is_asked_for(capsys, X):
    said(capsys, *LEARN, "--max-iter", "2", "--nonnegative", "--nonnegative-atoms")
    learner = DictionaryLearner.load("D.safetensors")
    assert learner.components_.min() >= 0
    assert learner.transform(X).min() >= 0


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        (["--coder", "omp", "--alpha", "0.1"], "--alpha"),
        (["--coder", "ols", "--alpha", "0.1", "--n-nonzero", "2"], "--alpha"),
        (["--n-nonzero", "2"], "--n-nonzero"),
        (["--coder", "lasso", "--n-nonzero", "2"], "--n-nonzero"),
        (["--rule", "noodl", "--n-nonzero", "2"], "--n-nonzero"),
    ],
)
def test_an_option_that_does_nothing_is_refused_by_name(capsys, options, refused):
    assert main(["learn", "X.npy", "-o", "E.safetensors", *options]) == 2
    assert f"Invalid value for {refused}: has " in capsys.readouterr().err
    assert not Path("E.safetensors").exists()


@pytest.mark.parametrize("option", ["--stride", "--trials", "--debias", "--kernel-size"])
def test_options_of_filters_are_none_of_atoms(capsys, option):
    assert main(["learn", "X.npy", "-o", "E.safetensors", option, "3"]) == 2
    assert f"No such option: {option}" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_a_full_disk_for_the_checkpoint_loses_no_dictionary(capsys, monkeypatch):
    from calepin.core.checkpoint import Checkpoint

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Checkpoint, "save", full)
    settings = ["--max-iter", "2", "--checkpoint", "run.safetensors", "--checkpoint-seconds", "0"]
    assert main([*LEARN, *settings]) == 0
    err = capsys.readouterr().err
    assert "warning: checkpoint: run.safetensors could not be written: No space left on device" in err
    assert DictionaryLearner.load("D.safetensors").n_iter_ == 2


@pytest.mark.filterwarnings("default")
def test_the_state_of_a_run_that_was_not_written_is_not_promised(capsys, monkeypatch):
    from calepin.core.checkpoint import Checkpoint
    from calepin.learning.rules.classical import Online

    def full(*_):
        raise OSError(28, "No space left on device")

    def interrupted(*_):
        signal.raise_signal(signal.SIGTERM)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", full)
    monkeypatch.setattr(Online, "step", interrupted)
    assert main([*LEARN, "--checkpoint", "run.safetensors"]) == 130
    assert "holds the state of the run" not in capsys.readouterr().err


def test_the_interval_of_checkpoints_needs_a_checkpoint(capsys):
    assert main([*LEARN, "--checkpoint-seconds", "5"]) == 2
    assert "--checkpoint-seconds: has no effect without --checkpoint" in capsys.readouterr().err
    assert main([*LEARN, "--resume"]) == 2
    assert "--resume: has no effect without --checkpoint" in capsys.readouterr().err


def test_missing_entries_are_refused_by_what_a_command_can_do(capsys, X):
    assert main([*LEARN, "--max-iter", "1", "-q"]) == 0
    X[3, 2] = np.nan
    np.save("X.npy", X)
    for command in (LEARN, ["encode", "X.npy", "--dict", "D.safetensors", "-o", "codes.npz"]):
        assert main([*command, "-q", *(["--force"] if command is LEARN else [])]) == 2
        err = capsys.readouterr().err
        assert "it contains NaN; in Python, DictionaryLearner(missing='allow') takes it as missing" in err
