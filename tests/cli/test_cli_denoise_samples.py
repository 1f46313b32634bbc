"""``calepin denoise-samples``: samples become what a generative dictionary makes of their latents."""

import json

import numpy as np
import pytest

from calepin import GenerativeDictionaryLearner


def test_samples_come_nearer_to_the_clean_ones(transferred, run):
    clean = np.load(transferred / "test.npy")
    noisy = clean + 0.3 * np.random.default_rng(0).standard_normal(clean.shape)
    np.save(transferred / "noisy.npy", noisy)
    status, out, _ = run(
        "denoise-samples", transferred / "noisy.npy", "-o", transferred / "denoised.npy", "--model",
        transferred / "model.safetensors", "--reference", transferred / "test.npy", "--figure",
        transferred / "sheet.png", "--json",
    )  # fmt: skip
    assert status == 0
    said = json.loads(out)
    denoised = np.load(transferred / "denoised.npy")
    assert denoised.shape == clean.shape
    distance = np.linalg.norm((denoised - clean).reshape(40, -1), axis=1).mean()
    assert said["distance"] == pytest.approx(distance)
    assert said["distance"] < 0.8 * said["distance_noisy"]
    assert (transferred / "sheet.png").stat().st_size > 1000
    model = GenerativeDictionaryLearner.load(transferred / "model.safetensors")
    again = model.inverse_transform(model.transform(noisy.reshape(40, -1)))
    np.testing.assert_array_equal(denoised.reshape(40, -1), again)


def test_a_person_reads_how_far_samples_moved(transferred, run):
    status, out, _ = run(
        "denoise-samples", transferred / "test.npy", "-o", transferred / "moved.npy", "-m",
        transferred / "model.safetensors", "--reference", transferred / "test.npy",
    )  # fmt: skip
    assert status == 0
    assert "40 samples, latents of 10; mean change" in out
    assert "distance to the clean samples: 0 noisy" in out


def test_what_goes_wrong_is_one_line(transferred, run):
    np.save(transferred / "wide.npy", np.ones((3, 5)))
    np.save(transferred / "nan.npy", np.full((3, 8, 8), np.nan))
    new, model, out_path = (transferred / name for name in ("new.npy", "model.safetensors", "out.npy"))
    wide, test, figure = (transferred / name for name in ("wide.npy", "test.npy", "f.png"))
    for arguments, message in (
        ([new, "-o", transferred / "out.png", "--model", model], "ends in .npy"),
        ([new, "-o", out_path, "--model", model, "--sigma", "5"], "No such option: --sigma"),
        ([new, "-o", out_path], "Missing option '--model'"),
        (["-o", out_path, "--model", model], "NOISY.npy"),
        ([new, "--model", model], "--output"),
        ([wide, "-o", out_path, "--model", model], "5 features"),
        ([transferred / "nan.npy", "-o", out_path, "--model", model], "NaN"),
        ([new, "-o", out_path, "--model", model, "--reference", test], "reference: expected"),
        ([wide, "-o", out_path, "--model", model, "--figure", figure], "--figure"),
        ([model, "-o", out_path, "--model", model], "not an .npy"),
        ([new, "-o", out_path, "--model", new], "new.npy"),
    ):
        status, out, err = run("denoise-samples", *arguments)
        assert status == 2, arguments
        assert message in err
        assert err.count("\n") == 1
        assert not out
    assert not out_path.exists()
