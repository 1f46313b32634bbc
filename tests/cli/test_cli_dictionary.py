"""learn, encode, decode, show and info: files in, files out, the same numbers as in Python."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from calepin import DictionaryLearner
from calepin.cli import main
from calepin.core.files import save_arrays
from calepin.datasets import read_image, simulate_sparse

LEARN = ["learn", "X.npy", "-o", "D.safetensors", "--atoms", "24", "--alpha", "0.2", "--seed", "5"]


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
    coder = [] if rule == "noodl" else ["--coder", "omp", "--n-nonzero", "2"]
    said(capsys, *LEARN, "--rule", rule, *coder, "--max-iter", "2", "--batch-size", "100", "--init", "dct")
    learner = DictionaryLearner.load("D.safetensors")
    assert (learner.rule, learner.batch_size, learner.init) == (rule, 100, "dct")
    assert (learner.coder, learner.n_nonzero) == ((None, None) if rule == "noodl" else ("omp", 2))


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
    Path("D.safetensors").write_bytes(b"old")

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
    assert "run.safetensors holds the state of the run; --resume goes on from it" in err
    assert err.endswith("calepin: interrupted\n")
    assert Path("D.safetensors").read_bytes() == b"old"

    resumed = said(capsys, *LEARN, *settings, "--checkpoint", "run.safetensors", "--resume")
    assert len(steps) == 18
    assert resumed["n_iter"] == 3
    learned = DictionaryLearner.load("D.safetensors").components_
    np.testing.assert_array_equal(learned, whole)


def test_encode_and_decode_are_transform_and_its_inverse(capsys, X):
    said(capsys, *LEARN)
    encoded = said(capsys, "encode", "X.npy", "--dict", "D.safetensors", "-o", "Z.npz")
    learner = DictionaryLearner.load("D.safetensors")
    codes = sparse.load_npz("Z.npz")
    expected = learner.transform(X)
    np.testing.assert_array_equal(codes.toarray(), expected)
    assert encoded["mean_nonzero"] == np.count_nonzero(expected) / len(X)
    said(capsys, "decode", "Z.npz", "--dict", "D.safetensors", "-o", "Y.npy")
    Y = np.load("Y.npy")
    np.testing.assert_allclose(Y, expected @ learner.components_, rtol=1e-5, atol=1e-6)
    error = np.linalg.norm(X - Y) / np.linalg.norm(X)
    assert encoded["relative_error"] == pytest.approx(error, rel=1e-4)


def test_the_coder_can_be_chosen_anew(capsys, X):
    said(capsys, *LEARN)
    encode = ["encode", "X.npy", "--dict", "D.safetensors", "-o", "Z.npz"]
    said(capsys, *encode, "--n-nonzero", "2")
    assert (sparse.load_npz("Z.npz").count_nonzero(axis=1) <= 2).all()
    few = said(capsys, *encode, "--alpha", "1")["mean_nonzero"]
    assert few < said(capsys, *encode)["mean_nonzero"]


def test_codes_do_not_depend_on_the_blocks(capsys, monkeypatch):
    from calepin.cli import dictionary

    said(capsys, *LEARN)
    encode = ["encode", "X.npy", "-d", "D.safetensors", "-o"]
    decode = ["decode", "whole.npz", "-d", "D.safetensors", "-o"]
    said(capsys, *encode, "whole.npz")
    said(capsys, *decode, "whole.npy")
    # of the coder's own blocks of 64: BLAS may round a product of other sizes differently
    monkeypatch.setattr(dictionary, "BLOCK", 192)
    said(capsys, *encode, "blocks.npz")
    said(capsys, *decode, "blocks.npy")
    assert (sparse.load_npz("whole.npz") != sparse.load_npz("blocks.npz")).nnz == 0
    np.testing.assert_array_equal(np.load("whole.npy"), np.load("blocks.npy"))


def test_codes_of_another_dictionary_and_damaged_codes_are_refused(capsys):
    save_arrays("D.safetensors", "dictionary", {"components": np.eye(4, 6)}, {})
    sparse.save_npz("Z.npz", sparse.random_array((5, 3), density=0.5, format="csr"))
    np.savez("other.npz", a=np.arange(3))
    content = Path("Z.npz").read_bytes()
    Path("cut.npz").write_bytes(content[: len(content) // 2])
    for name, message in [
        ("Z.npz", "Z.npz holds codes over 3 atoms, D.safetensors has 4"),
        ("other.npz", "other.npz is not a readable sparse matrix"),
        ("cut.npz", "cut.npz is not a readable sparse matrix"),
    ]:
        assert main(["decode", name, "--dict", "D.safetensors", "-o", "Y.npy"]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    assert not os.path.exists("Y.npy")


def test_samples_that_do_not_fit_the_dictionary_are_refused(capsys, X):
    said(capsys, *LEARN)
    np.save("narrow.npy", X[:, :5])
    bad = X.copy()
    bad[3, 2] = np.nan
    np.save("nan.npy", bad)
    for name, message in [("narrow.npy", "5 features"), ("nan.npy", "NaN")]:
        assert main(["encode", name, "--dict", "D.safetensors", "-o", "Z.npz"]) == 2
        assert message in capsys.readouterr().err
    assert main(["learn", "nan.npy", "-o", "E.safetensors"]) == 2
    assert "NaN" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("n_features", "options", "drawn_as", "colour"),
    [
        (16, [], "patches", False),
        (48, [], "patches", True),
        (50, [], "curves", None),
        (50, ["--shape", "5x10"], "patches", False),
        (30, ["--shape", "2X5"], "patches", True),
    ],
)
def test_show_draws_patches_or_curves(capsys, n_features, options, drawn_as, colour):
    atoms = np.random.default_rng(0).standard_normal((9, n_features))
    save_arrays("D.safetensors", "dictionary", {"components": atoms}, {})
    assert said(capsys, "show", "D.safetensors", "-o", "D.png", *options)["drawn_as"] == drawn_as
    image = read_image("D.png")
    assert image.pixels.std() > 0.05
    assert colour is None or (image.pixels.ndim == 3) == colour


def test_info_tells_what_each_file_holds(capsys, X):
    said(capsys, *LEARN, "--max-iter", "2")
    said(capsys, "encode", "X.npy", "--dict", "D.safetensors", "-o", "Z.npz")
    said(capsys, "show", "D.safetensors", "-o", "D.png")
    model = said(capsys, "info", "D.safetensors")
    assert model["kind"] == "dictionary"
    assert model["arrays"]["components"]["shape"] == [24, 16]
    assert model["parameters"]["estimator"]["alpha"] == 0.2
    assert said(capsys, "info", "X.npy") == {
        "file": "X.npy",
        "kind": "array",
        "shape": [600, 16],
        "dtype": "float32",
    }
    assert said(capsys, "info", "Z.npz")["nonzeros"] == sparse.load_npz("Z.npz").nnz
    assert said(capsys, "info", "D.png")["bits"] == 8
    assert main(["info", "D.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "24 x 16" in out
    assert "alpha" in out


@pytest.mark.parametrize(
    "arguments",
    [
        LEARN,
        ["encode", "X.npy", "--dict", "D.safetensors", "-o", "Z.npz"],
        ["decode", "Z.npz", "--dict", "D.safetensors", "-o", "Y.npy"],
        ["show", "D.safetensors", "-o", "D.png"],
        ["info", "D.safetensors"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_person_reads_lines_and_quiet_says_nothing(capsys, arguments):
    assert main([*LEARN, "--quiet"]) == 0
    assert main(["encode", "X.npy", "--dict", "D.safetensors", "-o", "Z.npz", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert "24" in out
    assert "{" not in out
    assert err == ""
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_an_unfolded_dictionary_codes_by_its_own_layers(tmp_path, capsys):
    from calepin import UnfoldedDictionaryLearner

    X = np.random.default_rng(0).standard_normal((60, 9))
    learner = UnfoldedDictionaryLearner(12, alpha=0.3, n_unfold=10, max_iter=1, random_state=0).fit(X)
    learner.save(tmp_path / "d.safetensors")
    np.save(tmp_path / "x.npy", X)
    files = [str(tmp_path / name) for name in ("x.npy", "d.safetensors", "z.npz", "back.npy")]
    assert main(["encode", files[0], "--dict", files[1], "-o", files[2], "--quiet"]) == 0
    codes = sparse.load_npz(files[2])
    np.testing.assert_allclose(codes.toarray(), learner.transform(X))
    assert main(["decode", files[2], "--dict", files[1], "-o", files[3], "--quiet"]) == 0
    np.testing.assert_allclose(np.load(files[3]), learner.inverse_transform(learner.transform(X)))
    assert main(["encode", files[0], "--dict", files[1], "-o", files[2], "--coder", "omp"]) == 2
    assert "by the layers it was learned with" in capsys.readouterr().err
