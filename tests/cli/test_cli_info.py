"""``calepin info``: what each kind of file holds."""

import json

import numpy as np
import pytest
from scipy import sparse

from calepin.cli import main
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
    image = said(capsys, "info", "D.png")
    assert (image["kind"], image["bits"]) == ("image", 8)
    assert main(["info", "D.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "24 x 16" in out
    assert "alpha" in out
