"""``calepin encode`` and ``decode``: the numbers of ``transform`` and of its inverse."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from calepin import DictionaryLearner
from calepin.cli import main
from calepin.core.files import save_arrays
from calepin.datasets import simulate_sparse

LEARN = ["learn", "X.npy", "-o", "D.safetensors", "--n-components", "24", "--alpha", "0.2", "--seed", "5"]


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
    from calepin.cli import codes

    said(capsys, *LEARN)
    encode = ["encode", "X.npy", "-d", "D.safetensors", "-o"]
    decode = ["decode", "whole.npz", "-d", "D.safetensors", "-o"]
    said(capsys, *encode, "whole.npz")
    said(capsys, *decode, "whole.npy")
    # of the coder's own blocks of 64: BLAS may round a product of other sizes differently
    monkeypatch.setattr(codes, "BLOCK", 192)
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
    assert "uses the layers it was learned with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coder", "omp", "--n-nonzero", "2", "--alpha", "1"], "--alpha: has no effect with coder omp"),
        (["--n-nonzero", "2", "--alpha", "1"], "--alpha: has no effect with coder omp"),
        (["--coder", "lasso", "--n-nonzero", "2"], "--n-nonzero: has no effect with coder lasso"),
        (["--coder", "fista"], "--coder: expected one of lasso, omp, ols, iht for the atoms of"),
    ],
)
def test_an_option_that_does_nothing_for_atoms_is_refused_by_name(capsys, options, message):
    said(capsys, *LEARN, "--max-iter", "1")
    assert main(["encode", "X.npy", "--dict", "D.safetensors", "-o", "Z.npz", *options]) == 2
    assert message in capsys.readouterr().err
    assert not os.path.exists("Z.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coder", "bcomp", "--n-nonzero", "2", "--alpha", "1"], "--alpha: has no effect with coder bcomp"),
        (["--n-nonzero", "2"], "--n-nonzero: has no effect with coder auto"),
        (["--coder", "omp"], "--coder: expected one of auto, fista, ista, exact, bcomp for the filters of"),
    ],
)
def test_an_option_that_does_nothing_for_filters_is_refused_by_name(capsys, options, message):
    learn = [
        "learn-filters",
        "X.npy",
        "-o",
        "F.safetensors",
        *["--kernel-size", "4", "--max-iter", "1", "--n-init", "1"],
    ]
    said(capsys, *learn, "--alpha", "0.1")
    assert main(["encode", "X.npy", "--dict", "F.safetensors", "-o", "Z.npz", *options]) == 2
    assert message in capsys.readouterr().err
    assert not os.path.exists("Z.npz")
