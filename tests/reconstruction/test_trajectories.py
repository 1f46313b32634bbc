"""k-space along a trajectory: files of BART and NumPy, units, and what does not fit."""

import sys

import numpy as np
import pytest
import torch

from calepin.core.errors import FileFormatError
from calepin.operators import NonCartesianFourier, radial_trajectory
from calepin.reconstruction import read_samples, read_trajectory, reconstruct_scan, scan_trajectory

SIZE = (32, 24)
SPOKES = radial_trajectory(SIZE, 12)


def write_bart(path, array):
    """Write an array in the order of its first index, as BART does."""
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, array.shape)) + "\n")
    path.with_suffix(".cfl").write_bytes(array.astype(np.complex64).tobytes(order="F"))


def samples(n_coils=2):
    image = np.hanning(34)[1:-1, None] * np.hanning(26)[1:-1] * np.exp(1j * np.arange(24) / 9)
    coils = torch.from_numpy(image * np.arange(1, n_coils + 1)[:, None, None])
    return NonCartesianFourier((n_coils, *SIZE), SPOKES)(coils[None])[0].numpy()


def test_files_of_bart_hold_the_samples_in_the_order_of_those_of_numpy(tmp_path):
    rng = np.random.default_rng(0)
    k, y = rng.standard_normal((5, 7, 2)), rng.standard_normal((3, 5, 7)) + 1j  # spokes, readout
    np.save(tmp_path / "k.npy", k)
    np.save(tmp_path / "y.npy", y)
    write_bart(tmp_path / "k.cfl", np.concatenate([k, np.zeros((5, 7, 1))], 2).transpose(2, 1, 0))
    write_bart(tmp_path / "y.cfl", y.transpose(2, 1, 0)[None])
    for name in ("k.npy", "k.cfl", "k.hdr"):
        np.testing.assert_allclose(read_trajectory(tmp_path / name), k.reshape(-1, 2), rtol=1e-6)
    for name in ("y.npy", "y.cfl", "y.hdr"):
        np.testing.assert_allclose(read_samples(tmp_path / name), y.reshape(3, -1), rtol=1e-6)
    np.save(tmp_path / "one.npy", y[0, 0])
    np.testing.assert_array_equal(read_samples(tmp_path / "one.npy"), y[:1, 0])


def test_files_that_hold_something_else_are_refused(tmp_path):
    files = {
        "real": np.ones((2, 5)),
        "flat": np.ones(4),
        "nan": np.full((3, 2), np.nan),
        "zero": np.zeros((2, 5), complex),
        "four": np.ones((1, 2, 3, 4), complex),
    }
    for name, array in files.items():
        np.save(tmp_path / f"{name}.npy", array)
    write_bart(tmp_path / "deep.cfl", np.ones((3, 4, 2)))
    write_bart(tmp_path / "many.cfl", np.ones((1, 4, 2, 3, 2)))
    for name, message in (
        ("real.npy", "holds float64, expected complex k-space"),
        ("zero.npy", "expected finite samples that are not all zero"),
        ("four.npy", r"holds samples of shape \(1, 2, 3, 4\), expected \(n_samples,\)"),
        ("many.cfl", r"has dimensions \[1, 4, 2, 3, 2, .* expected those of samples 1, readout, spokes and"),
        ("a.mat", "has suffix '.mat', expected one of .npy, .cfl, .hdr"),
    ):
        with pytest.raises(FileFormatError, match=message):
            read_samples(tmp_path / name)
    for name, message in (
        ("flat.npy", r"holds float64 of shape \(4,\), expected real frequencies \(n_samples, 2\)"),
        ("nan.npy", "holds NaN or infinity"),
        ("deep.cfl", "expected a trajectory of BART in two dimensions"),
    ):
        with pytest.raises(FileFormatError, match=message):
            read_trajectory(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_samples(tmp_path / "none.cfl")


def test_the_size_is_that_of_the_frequencies_and_the_scale_that_of_the_image():
    scan = scan_trajectory(samples(), SPOKES.numpy())
    assert scan.operator.in_shape == (2, *SIZE)
    assert scan_trajectory(samples(), SPOKES.numpy(), (40, 40)).operator.in_shape == (2, 40, 40)
    larger = scan_trajectory(100 * samples(), SPOKES.numpy())
    torch.testing.assert_close(larger.y, scan.y)
    assert larger.scale == pytest.approx(100 * scan.scale, rel=1e-5)
    assert scan.truth is None
    assert scan.fraction == pytest.approx(len(SPOKES) / (32 * 24))


def test_an_untrained_network_fits_a_trajectory_too():
    found = reconstruct_scan(
        scan_trajectory(samples(), SPOKES.numpy()), max_iter=2, n_starts=1, random_state=0
    )
    assert found.image.shape == SIZE
    assert found.x.shape == (1, 2, *SIZE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": samples()[:, :-1]}, r"samples: expected shape \(n_coils, 768\), .*, got \(2, 767\)"),
        ({"samples": samples()[0]}, r"samples: expected shape \(n_coils, 768\)"),
        ({"samples": 0 * samples()}, "samples: expected finite samples that are not all zero"),
        (
            {"coordinates": SPOKES.numpy().T},
            r"coordinates: expected finite frequencies of shape \(n_samples, 2",
        ),
        (
            {"coordinates": SPOKES.numpy() / SIZE},
            "coordinates: expected cycles per field of view, got at most 0.5: probably cycles per pixel, to "
            "be multiplied by the height and width",
        ),
        (
            {"coordinates": 2 * np.pi * SPOKES.numpy() / SIZE},
            "3.142: probably radians per pixel, to be multiplied by the height and width, over 2 pi",
        ),
        (
            {"shape": (16, 24)},
            r"shape: expected at least \(32, 24\) for frequencies up to 16 and 12 .* a readout that is d",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(change, message):
    with pytest.raises(ValueError, match=message):
        scan_trajectory(**({"samples": samples(), "coordinates": SPOKES.numpy()} | change))


def test_without_finufft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "finufft", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'calepin\[nufft\]'"):
        scan_trajectory(samples(), SPOKES.numpy())
