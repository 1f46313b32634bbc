"""``calepin reconstruct --mri``: several slices of a file, and several files, with the slices that fail."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from calepin.cli import main
from calepin.operators import NonCartesianFourier, radial_trajectory
from calepin.operators.fourier import centred_fft, root_sum_of_squares

OPTIONS = ["--mri", "--acceleration", "2", "--prior", "tv"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def kspace(n_slices=3, n_coils=2, side=32):
    """Return k-space (n_slices, n_coils, side, side) of discs that grow, and their magnitudes."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    discs = np.stack([1 / (1 + np.exp(30 * (np.hypot(x, y) - r))) for r in np.linspace(0.4, 0.8, n_slices)])
    coils = np.stack([np.exp(1j * k - (x - np.cos(3 * k)) ** 2) for k in range(n_coils)])
    images = torch.from_numpy(50 * discs[:, None] * coils)
    return centred_fft(images).numpy().astype(np.complex64), root_sum_of_squares(images)[:, 0].numpy()


def said(capsys, *arguments, status=0):
    assert main(["reconstruct", *arguments, *OPTIONS, "--json"]) == status
    out, err = capsys.readouterr()
    return json.loads(out) if out else None, err


def test_all_slices_become_one_stack_in_the_units_of_kspace(capsys):
    samples, images = kspace()
    np.save("scan.npy", samples)
    found, err = said(capsys, "scan.npy", "--slice", "all", "-o", "all.tif")
    assert err == ""
    stack = tifffile.imread("all.tif")
    assert (stack.dtype, stack.shape) == (np.float32, (3, 32, 32))
    assert np.linalg.norm(stack - images) < 0.1 * np.linalg.norm(images)
    assert [one["slice"] for one in found["slices"]] == [0, 1, 2]
    assert all(one["psnr"] > one["psnr_adjoint"] + 3 for one in found["slices"])
    assert found["peak_memory_mb"] is None or found["peak_memory_mb"] > 0
    said(capsys, "scan.npy", "--slice", "1:", "-o", "some.npy")
    np.testing.assert_array_equal(np.load("some.npy"), stack[1:])


def test_a_slice_that_fails_is_one_line_and_the_others_are_written(capsys):
    samples, _ = kspace()
    samples[1] = 0
    np.save("scan.npy", samples)
    found, err = said(capsys, "scan.npy", "--slice", "all", "-o", "all.npy", status=1)
    assert err == "calepin: error: scan.npy: slice 1: scan.npy holds only zeros, expected k-space\n"
    assert np.isnan(np.load("all.npy")).all((1, 2)).tolist() == [False, True, False]
    assert [one["slice"] for one in found["failed"]] == [1]
    assert len(found["slices"]) == 2


def test_lines_for_people_name_each_slice_and_what_was_spent(capsys):
    np.save("scan.npy", kspace()[0])
    assert main(["reconstruct", "scan.npy", "--slice", "0:2", "-o", "two.npy", *OPTIONS]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("scan.npy: slice 0: 32 x 32, 50.0% of the samples, residual ")
    assert "PSNR" in second
    assert last.startswith("two.npy, 2 slices, ")


def test_what_was_done_before_ctrl_c_is_kept(capsys, monkeypatch):
    from calepin.cli.slices import SliceReader

    reconstruct = SliceReader.reconstruct
    calls = []

    def interrupted(self, *arguments, **settings):
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return reconstruct(self, *arguments, **settings)

    monkeypatch.setattr(SliceReader, "reconstruct", interrupted)
    np.save("scan.npy", kspace()[0])
    _, err = said(capsys, "scan.npy", "--slice", "all", "-o", "all.npy", status=130)
    assert "all.npy: 1 of 3 slices, the others are NaN" in err
    assert np.isnan(np.load("all.npy")).any((1, 2)).tolist() == [False, True, True]


def test_many_files_are_written_into_a_folder_and_not_done_again(capsys):
    samples, _ = kspace()
    Path("in").mkdir()
    np.save("in/a.npy", samples)
    np.save("in/b.npy", samples[:1])
    np.save("in/c.npy", samples.real)
    found, err = said(capsys, "in", "--slice", "all", "-o", "out", status=1)
    assert "calepin: error: in/c.npy holds float32, expected complex k-space" in err
    assert [Path(one["written"]).name for one in found["images"]] == ["a.tif", "b.tif"]
    assert tifffile.imread("out/a.tif").shape == (3, 32, 32)
    assert tifffile.imread("out/b.tif").shape == (32, 32)
    found, err = said(capsys, "in/a.npy", "in/b.npy", "--slice", "all", "-o", "out")
    assert "2 of 2 images are in out already: skipped" in err
    assert found["images"] == []


def write_scans(names="abc"):
    """Write samples along spokes, each file at its own angles, into scans, spokes and images."""
    _, images = kspace(len(names))
    for k, name in enumerate(names):
        spokes = radial_trajectory((32, 32), 20 + k)
        coils = torch.from_numpy(images[k] * np.array([[[1.0]], [[1j]]]) / 2**0.5)
        for folder, array in (
            ("scans", NonCartesianFourier((2, 32, 32), spokes)(coils[None])[0].numpy()),
            ("spokes", spokes.numpy()),
            ("images", images[k]),
        ):
            Path(folder).mkdir(exist_ok=True)
            np.save(f"{folder}/{name}.npy", array)


def along(capsys, *arguments, status=0):
    given = [*arguments, "--mri", "--prior", "tv", "-o", "out", "--json"]
    assert main(["reconstruct", *given]) == status
    out, err = capsys.readouterr()
    return json.loads(out) if out else None, err


def test_files_along_trajectories_of_their_names_become_images_and_are_not_done_again(capsys):
    write_scans()
    Path("spokes/c.npy").unlink()
    given = ["scans", "--trajectory", "spokes", "--reference", "images"]
    found, err = along(capsys, *given, status=1)
    assert err == (
        "calepin: error: --trajectory: expected one file c.npy or .cfl in spokes for scans/c.npy, got none\n"
    )
    assert [Path(one["written"]).name for one in found["images"]] == ["a.tif", "b.tif"]
    assert all(one["slices"][0]["psnr"] > 30 for one in found["images"])
    assert tifffile.imread("out/a.tif").shape == (32, 32)
    write_scans("c")
    found, err = along(capsys, *given)
    assert "2 of 3 images are in out already: skipped" in err
    assert [Path(one["image"]).name for one in found["images"]] == ["c.npy"]
    np.save("spokes/a.npy", -np.load("spokes/a.npy"))  # another trajectory, another image
    found, _ = along(capsys, *given)
    assert [Path(one["image"]).name for one in found["images"]] == ["a.npy"]


def test_one_trajectory_may_lie_beside_the_files_that_share_it(capsys):
    write_scans("ab")
    np.save("scans/k.npy", np.load("spokes/a.npy"))
    np.save("scans/b.npy", np.load("scans/a.npy"))
    found, err = along(capsys, "scans", "--trajectory", "scans/k.npy")
    assert err == ""
    assert [Path(one["image"]).name for one in found["images"]] == ["a.npy", "b.npy"]
    np.testing.assert_array_equal(tifffile.imread("out/a.tif"), tifffile.imread("out/b.tif"))
    for given, message in (
        (["scans", "--trajectory", "none"], "--trajectory: expected a file or a folder, got none, which"),
        (
            ["scans", "--trajectory", "spokes", "--complex", "c.npy"],
            "--complex: is for one slice of one file",
        ),
    ):
        _, err = along(capsys, *given, status=2)
        assert message in err
        assert err.count("\n") == 1


def test_cartesian_files_have_sensitivities_and_true_images_of_their_names_or_one_for_all(capsys):
    samples, images = kspace(2)
    samples[:, :, :, ::3] = 0
    weights = np.exp(-((np.mgrid[-1:1:32j, -1:1:32j][1] - np.cos([[[0]], [[3]]])) ** 2))
    maps = np.stack([np.exp(1j * k) * weights[k] for k in range(2)]) / np.sqrt((weights**2).sum(0))
    for folder in ("in", "maps", "images"):
        Path(folder).mkdir()
    for k, name in enumerate("ab"):
        np.save(f"in/{name}.npy", samples[k])
        np.save(f"images/{name}.npy", images[k])
    np.save("maps/a.npy", maps)
    given = ["in", "--reference", "images", "--sensitivities"]
    found, err = along(capsys, *given, "maps", status=1)
    expected = "--sensitivities: expected one file b.npy or .cfl in maps for in/b.npy, got none"
    assert err.splitlines()[-1] == f"calepin: error: {expected}"
    (one,) = found["images"]
    assert one["slices"][0]["psnr"] > one["slices"][0]["psnr_adjoint"] + 3
    np.save("in/maps.npy", maps)
    both, _ = along(capsys, *given, "in/maps.npy")
    assert [Path(one["image"]).name for one in both["images"]] == ["a.npy", "b.npy"]
    alone = ["--sensitivities", "in/maps.npy", "--reference", "images/b.npy", "-o", "b.tif"]
    assert main(["reconstruct", "in/b.npy", *alone, "--mri", "--prior", "tv", "-q"]) == 0
    np.testing.assert_allclose(tifffile.imread("out/b.tif"), tifffile.imread("b.tif"), rtol=1e-5)
    np.save("in/a.npy", samples)
    given = ["in/a.npy", "--slice", "all", "--sensitivities", "in/maps.npy"]
    _, err = along(capsys, *given, status=1)
    assert err == "calepin: error: in/a.npy: --sensitivities: is for one slice of a file\n"


def test_predicted_errors_are_written_in_the_units_of_kspace(capsys):
    samples, images = kspace(1)
    np.save("scan.npy", samples)
    found, _ = said(capsys, "scan.npy", "-o", "one.npy", "--error-map", "errors.npy")
    assert found["written"] == ["one.npy", "errors.npy"]
    errors = np.abs(np.load("one.npy") - images[0])
    predicted = np.load("errors.npy")
    assert predicted.shape == errors.shape
    assert 0.4 < np.sqrt((predicted**2).mean() / (errors**2).mean()) < 2.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scan.npy", "--slice", "3"], "--slice: expected 0 to 2, got 3"),
        (["scan.npy", "--slice", "2:5"], "--slice: expected 0:3, the last one left out, got 2:5"),
        (["scan.npy", "--slice", "some"], "--slice: expected N, FIRST:LAST or all, got 'some'"),
        (["scan.npy", "--slice", "all", "-o", "all.png"], "expected one of .tif, .tiff, .npy for 3 slices"),
        (
            ["scan.npy", "--slice", "0", "--reference", "other.npy", "-o", "out.npy"],
            "--reference: has no effect: the true image is that of the full k-space",
        ),
        (["scan.npy", "--slice", "all", "--reference", "r.npy"], "--reference: is for one slice"),
        (["scan.npy", "--slice", "all", "--complex", "c.npy"], "--complex: is for one slice"),
        (["scan.npy", "--slice", "all", "--error-map", "e.npy"], "--error-map: is for one slice"),
        (["scan.npy", "--error-map", "e.png"], "expected"),
        (["scan.npy", "other.npy", "-o", "one.tif"], "--output: expected a folder for 2 images"),
        (["scan.npy", "other.npy"], "--output: expected a folder for the images"),
        (["scan.npy", "-o", "out", "--max-iter", "3"], "--max-iter: goes with --prior untrained"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(capsys, arguments, message):
    np.save("scan.npy", kspace()[0])
    np.save("other.npy", kspace()[0])
    assert main(["reconstruct", *arguments, *OPTIONS]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
