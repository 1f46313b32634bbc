"""Scans of several coils: sensitivities, total variation, wavelets and groups."""

import numpy as np
import pytest
import torch

from calepin.core.errors import IncompatibleError
from calepin.datasets import load_sample
from calepin.metrics import psnr
from calepin.operators import (
    Identity,
    NonCartesianFourier,
    Sensitivities,
    centred_fft,
    centred_ifft,
    radial_trajectory,
)
from calepin.reconstruction import reconstruct_scan, scan_image, scan_kspace, scan_trajectory
from calepin.restoration import default_prior, restore_scan
from calepin.restoration.variation import least_variation

SIDE = 64


def kspace(n_coils=4, noise=0.01):
    """Return noisy k-space of a disc with edges and waves, seen by coils around it."""
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    disc = np.hypot(rows, columns) < 0.8
    image = disc * (0.5 + 0.3 * (abs(rows) < 0.3) + 0.2 * np.sin(25 * columns) * (rows > 0))
    angles = np.arange(n_coils)[:, None, None] * 2 * np.pi / n_coils
    away = (rows - np.sin(angles)) ** 2 + (columns - np.cos(angles)) ** 2
    samples = centred_fft(torch.from_numpy(image * np.exp(1j * (angles + rows) - 0.5 * away))).numpy()
    rng = np.random.default_rng(0)
    return samples + noise * (rng.standard_normal(samples.shape) + 1j * rng.standard_normal(samples.shape))


def gain_of(found, scan):
    """Return by how many dB an image is nearer to the truth than the zero-filled one."""
    assert scan.truth is not None
    return psnr(found.image, scan.truth) - psnr(found.adjoint, scan.truth)


@pytest.mark.parametrize(("prior", "gain"), [("groups", 6), ("tv", 6), ("wavelet", 4)])
@pytest.mark.parametrize("pattern", ["points", "columns"])
def test_each_prior_is_well_ahead_of_zero_filling(prior, gain, pattern):
    scan = scan_kspace(kspace(), acceleration=3, pattern=pattern)
    found = restore_scan(scan, prior=prior)
    assert gain_of(found, scan) > gain
    assert found.converged
    assert found.residuals.shape[1] == 1


def test_what_was_acquired_is_kept_and_nothing_is_random():
    scan = scan_kspace(kspace(), acceleration=3)
    found = restore_scan(scan)
    np.testing.assert_allclose(scan.operator(found.x), scan.y, atol=1e-4 * float(scan.y.abs().max()))
    assert torch.equal(found.x, restore_scan(scan, prior="groups").x)


def test_the_result_follows_the_unit_of_kspace():
    samples = kspace()
    plain, large = (restore_scan(scan_kspace(f * samples, acceleration=3), prior="tv") for f in (1, 1e6))
    np.testing.assert_allclose(large.image, plain.image, atol=1e-3)


def test_a_given_noise_level_is_in_the_units_of_kspace():
    samples = kspace()
    weak, same, strong = (
        restore_scan(scan_kspace(unit * samples, acceleration=3), prior="tv", noise=noise)
        for unit, noise in ((1, 0.01), (100, 1.0), (100, 3.0))
    )
    np.testing.assert_allclose(same.image, weak.image, atol=1e-3)
    assert strong.residual > 1.1 * weak.residual


def test_one_coil_needs_no_sensitivities():
    scan = scan_kspace(kspace(1), acceleration=2)
    assert default_prior(scan) == "untrained"
    found = restore_scan(scan, prior="groups")
    assert gain_of(found, scan) > 3


def test_full_kspace_is_transformed_and_nothing_else():
    scan = scan_kspace(kspace())
    assert scan.notes == ("fully sampled: the image is the inverse transform",)
    assert scan.truth is None
    for found in (restore_scan(scan), restore_scan(scan, prior="tv"), reconstruct_scan(scan)):
        assert (found.n_iter, found.residual) == (0, 0.0)
        assert torch.equal(found.x, scan.operator.adjoint(scan.y))
        np.testing.assert_array_equal(found.image, found.adjoint)


def test_without_a_full_middle_a_network_is_fitted_and_that_is_told(monkeypatch):
    samples = kspace()
    samples[:, 1::2] = 0
    scan = scan_kspace(samples)
    assert default_prior(scan) == "untrained"
    monkeypatch.setattr("calepin.restoration.scan.reconstruct_scan", lambda scan, **settings: settings)
    with pytest.warns(UserWarning, match=r"sensitivities need 6 x 6 samples .*, got 1 x 64: fitted an"):
        assert restore_scan(scan, random_state=3) == {"random_state": 3}
    with pytest.raises(ValueError, match=r"scan: sensitivities need .*; use prior 'untrained'"):
        restore_scan(scan, prior="tv")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"prior": "dictionary"}, ValueError, "prior: expected one of 'groups', 'wavelet', 'tv'"),
        ({"noise": 0.0}, ValueError, "noise: expected a finite number above 0"),
        (
            {"noise": 1e9},
            ValueError,
            r"noise: expected less than the largest sample of k-space, .*, got 1e\+09",
        ),
        ({"noise": 0.1, "prior": "untrained"}, IncompatibleError, "noise: an untrained network has no use"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        restore_scan(scan_kspace(kspace(), acceleration=3), **settings)


def test_an_image_is_for_an_untrained_network():
    scan = scan_image(load_sample("coins"), size=16)
    assert default_prior(scan) == "untrained"
    with pytest.raises(IncompatibleError, match="scan: expected k-space for prior 'tv', got an image"):
        restore_scan(scan, prior="tv")


def along_spokes(n_coils=4, n_spokes=25):
    """Return coil images, a quarter of the spokes that they need, and their noisy samples."""
    images = centred_ifft(torch.from_numpy(kspace(n_coils, noise=0)))
    spokes = radial_trajectory((SIDE, SIDE), n_spokes)
    clean = NonCartesianFourier((n_coils, SIDE, SIDE), spokes)(images[None])[0].numpy()
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape)
    return np.linalg.norm(images.numpy(), axis=0), spokes, clean + 0.01 * noise


def magnitude_of(coils):
    return np.linalg.norm(np.asarray(coils)[0], axis=0)


@pytest.mark.parametrize(("n_coils", "gain"), [(1, 3), (4, 6)])
def test_spokes_are_restored_beyond_gridding(n_coils, gain):
    truth, spokes, samples = along_spokes(n_coils)
    scan = scan_trajectory(samples, spokes.numpy(), (SIDE, SIDE))
    operator = scan.operator
    assert isinstance(operator, NonCartesianFourier)
    assert default_prior(scan) == "groups"
    gridded = magnitude_of(operator.adjoint(scan.y / operator.density()))
    found = magnitude_of(restore_scan(scan).x)
    assert psnr(scan.scale * found, truth) > psnr(scan.scale * gridded, truth) + gain


def test_given_sensitivities_are_as_good_as_calibrated_ones_in_any_unit():
    truth, spokes, samples = along_spokes()
    scan = scan_trajectory(samples, spokes.numpy(), (SIDE, SIDE))
    coils = centred_ifft(torch.from_numpy(kspace(noise=0)))
    maps = coils / torch.linalg.vector_norm(coils, dim=0).clamp_min(1e-3)
    one, other = (
        restore_scan(scan, sensitivities=maps.numpy() * unit, prior="wavelet").x for unit in (1, 100)
    )
    np.testing.assert_allclose(one, other, atol=1e-4)
    calibrated = restore_scan(scan, prior="wavelet").x
    assert (
        psnr(scan.scale * magnitude_of(one), truth) > psnr(scan.scale * magnitude_of(calibrated), truth) - 0.5
    )


def test_sensitivities_that_do_not_fit_are_refused():
    _, spokes, samples = along_spokes(n_spokes=2)
    scan = scan_trajectory(samples, spokes.numpy(), (SIDE, SIDE))
    with pytest.raises(ValueError, match="scan: sensitivities need 6 x 6 samples .*; expected sensitivities"):
        restore_scan(scan)
    for maps, message in (
        (np.ones((3, SIDE, SIDE)), r"sensitivities: expected a complex array of shape \(4, 64, 64\)"),
        (np.zeros((4, SIDE, SIDE)), "sensitivities: expected finite values that are not all zero"),
    ):
        with pytest.raises(ValueError, match=message):
            restore_scan(scan, sensitivities=maps)
    with pytest.raises(IncompatibleError, match="sensitivities: expected None for an untrained network"):
        restore_scan(scan, sensitivities=np.ones((4, SIDE, SIDE)), prior="untrained")


def test_the_variation_is_least():
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(1, 2, 9, 8, dtype=torch.complex128, generator=generator)
    weight = 0.3

    def objective(x):
        edges = torch.stack([x.roll(-1, axis) - x for axis in (-2, -1)])
        variation = torch.linalg.vector_norm(edges, dim=(0, 2)).sum()
        return float(0.5 * (operator(x) - y).abs().square().sum() + weight * variation)

    operator = Identity((2, 9, 8))
    x, n_iter, converged = least_variation(operator, y, weight=weight, max_iter=5000, tol=1e-9)
    assert converged
    assert n_iter < 5000
    for size in (1e-1, 1e-3):
        for _ in range(10):
            away = torch.randn(y.shape, dtype=y.dtype, generator=generator)
            assert objective(x + size * away) >= objective(x) - 1e-9
    # the same with maps, whose norm is not one
    maps = Sensitivities(2 * torch.randn(2, 3, 9, 8, dtype=torch.complex128, generator=generator))
    data = torch.randn(1, 3, 9, 8, dtype=torch.complex128, generator=generator)
    operator, y = maps, data
    x, _, _ = least_variation(maps, data, weight=weight, max_iter=5000, tol=1e-7)
    for _ in range(10):
        away = 1e-2 * torch.randn(x.shape, dtype=x.dtype, generator=generator)
        assert objective(x + away) >= objective(x) - 1e-6
