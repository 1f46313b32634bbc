import json
import warnings

import numpy as np
import pytest

from calepin import GenerativeDictionaryLearner
from calepin.cli import main
from calepin.datasets import load_digits
from calepin.estimators.generative import UnderdeterminedWarning


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Blurred digits, and a model that transfer learned from some of them."""
    folder = tmp_path_factory.mktemp("transfer")
    digits = load_digits()[0].reshape(-1, 8, 8)[:290]
    blurred = (digits + np.roll(digits, 1, 2)) / 2
    np.save(folder / "new.npy", blurred[:250])
    np.save(folder / "test.npy", blurred[250:])
    data, model = str(folder / "new.npy"), str(folder / "model.safetensors")
    with warnings.catch_warnings():
        # no sample makes every unit of the decoder active: what is not determined is said
        warnings.simplefilter("ignore", UnderdeterminedWarning)
        status = main(["transfer", "-g", "vae-digits", "--data", data, "--max-iter", "3", "-o", model, "-q"])
    assert status == 0
    return folder


def run(capsys, *arguments):
    status = main([*map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_transfer_learns_a_layer_that_explains_new_samples(files):
    model = GenerativeDictionaryLearner.load(files / "model.safetensors")
    X = np.load(files / "test.npy").reshape(40, -1)
    error = np.linalg.norm(model.inverse_transform(model.transform(X)) - X) / np.linalg.norm(X)
    assert error < 0.5


def test_compress_and_decompress_return_the_rounded_latents_samples(files, capsys):
    status, out, _ = run(
        capsys,
        "compress",
        files / "test.npy",
        "--model",
        files / "model.safetensors",
        "-o",
        files / "a.clp",
        "--json",
    )
    told = json.loads(out)
    assert status == 0
    assert told["n_bytes"] == (files / "a.clp").stat().st_size
    assert told["ratio"] > 1
    status, out, _ = run(
        capsys, "decompress", files / "a.clp", "--model", files / "model.safetensors", "-o", files / "b.npy"
    )
    assert status == 0
    assert "40 x 8 x 8" in out
    model = GenerativeDictionaryLearner.load(files / "model.safetensors")
    X = np.load(files / "test.npy")
    latents = np.round(model.transform(X.reshape(40, -1).astype(np.float64)).astype(np.float64), 4)
    expected = model.inverse_transform(latents).reshape(40, 8, 8).astype(X.dtype)
    np.testing.assert_array_equal(np.load(files / "b.npy"), expected)


def test_denoise_brings_samples_nearer_to_the_clean_ones(files, capsys):
    clean = np.load(files / "test.npy")
    noisy = clean + 0.3 * np.random.default_rng(0).standard_normal(clean.shape)
    np.save(files / "noisy.npy", noisy)
    status, out, _ = run(
        capsys, "denoise", files / "noisy.npy", "-o", files / "denoised.npy", "--model",
        files / "model.safetensors", "--reference", files / "test.npy", "--figure", files / "sheet.png",
        "--json",
    )  # fmt: skip
    assert status == 0
    told = json.loads(out)
    denoised = np.load(files / "denoised.npy")
    assert denoised.shape == clean.shape
    distance = np.linalg.norm((denoised - clean).reshape(40, -1), axis=1).mean()
    assert told["distance"] == pytest.approx(distance)
    assert told["distance"] < 0.8 * told["distance_noisy"]
    assert (files / "sheet.png").stat().st_size > 1000
    model = GenerativeDictionaryLearner.load(files / "model.safetensors")
    again = model.inverse_transform(model.transform(noisy.reshape(40, -1)))
    np.testing.assert_array_equal(denoised.reshape(40, -1), again)
    status, out, _ = run(
        capsys,
        "denoise",
        files / "noisy.npy",
        "-o",
        files / "denoised.npy",
        "--model",
        files / "model.safetensors",
    )
    assert status == 0
    assert "40 samples, latents of 10" in out


def test_what_denoise_cannot_do_with_a_generative_model_is_one_line(files, capsys):
    np.save(files / "wide.npy", np.ones((3, 5)))
    np.save(files / "nan.npy", np.full((3, 8, 8), np.nan))
    model = files / "model.safetensors"
    out_path = files / "out.npy"
    for arguments, message in (
        ([files / "new.npy", "-o", files / "out.png", "--model", model], "ends in .npy"),
        ([files / "new.npy", "-o", out_path, "--model", model, "--sigma", "5"], "no --sigma"),
        ([files / "new.npy", "-o", out_path, "--model", model, "--noise", "poisson"], "no --noise poisson"),
        (["--sample", "camera", "-o", out_path, "--model", model], "no --sample"),
        (["-o", out_path, "--model", model], "NOISY.npy"),
        ([files / "new.npy", "--model", model], "--output"),
        ([files / "wide.npy", "-o", out_path, "--model", model], "5 features"),
        ([files / "nan.npy", "-o", out_path, "--model", model], "NaN"),
        ([files / "new.npy", "-o", out_path, "--model", model, "--reference", files / "test.npy"], "shape"),
        ([files / "wide.npy", "-o", out_path, "--model", model, "--figure", files / "f.png"], "--figure"),
        ([model, "-o", out_path, "--model", model], "not an .npy"),
    ):
        status, out, err = run(capsys, "denoise", *arguments)
        assert status == 2, arguments
        assert message in err
        assert err.count("\n") == 1
        assert not out
    assert not out_path.exists()


def test_the_rate_distortion_curve_is_drawn_beside_its_peers(files, capsys):
    status, out, _ = run(
        capsys, "compress", files / "test.npy", "-m", files / "model.safetensors", "-o", files / "c.clp",
        "--bits", 5, "--rate-distortion", files / "curve.png", "--training", files / "new.npy", "--json",
    )  # fmt: skip
    assert status == 0
    assert set(json.loads(out)["rate_distortion"]) == {"latents", "PCA", "OMP", "JPEG"}
    assert (files / "curve.png").stat().st_size > 1000


def test_what_goes_wrong_is_one_line(files, capsys):
    (files / "cut.clp").write_bytes(b"CLP1" + bytes(50))
    np.save(files / "flat.npy", np.ones(5))
    for arguments, message in (
        (
            ["decompress", files / "cut.clp", "-m", files / "model.safetensors", "-o", files / "d.npy"],
            "truncated",
        ),
        (
            ["decompress", files / "new.npy", "-m", files / "model.safetensors", "-o", files / "d.npy"],
            "not a .clp",
        ),
        (
            ["compress", files / "flat.npy", "-m", files / "model.safetensors", "-o", files / "d.clp"],
            "n_samples",
        ),
        (
            ["compress", files / "new.npy", "-m", files / "model.safetensors", "-o", files / "d.txt"],
            "ends in .clp",
        ),
        (
            ["transfer", "-g", "vae-cats", "--data", files / "new.npy", "-o", files / "m.safetensors"],
            "vae-digits",
        ),
        (["compress", files / "new.npy", "-m", files / "new.npy", "-o", files / "d.clp"], "new.npy"),
    ):
        status, out, err = run(capsys, *arguments)
        assert status == 2, arguments
        assert message in err
        assert err.count("\n") == 1
        assert not out
    assert not (files / "d.npy").exists()
