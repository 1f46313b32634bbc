"""Predicted errors of scans beside the real ones."""

import numpy as np
import pytest
import torch

from calepin.core.errors import IncompatibleError
from calepin.datasets import load_sample
from calepin.operators import (
    NonCartesianFourier,
    centred_fft,
    centred_ifft,
    radial_trajectory,
    root_sum_of_squares,
)
from calepin.reconstruction import scan_image, scan_kspace, scan_trajectory
from calepin.restoration import error_map, restore_scan
from calepin.restoration.scan_error import _parts, calibrated_size
from calepin.restoration.unseen import energy_of_lines, energy_of_samples, gaps_of

SIDE = 48


def kspace(noise=0.02):
    """Return noisy k-space of three coils around a disc, whose upper half has fine texture."""
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    rng = np.random.default_rng(0)
    texture = 0.4 * rng.standard_normal((SIDE, SIDE)) * (rows < 0)
    image = (np.hypot(rows, columns) < 0.8) * (0.7 + texture)
    angles = np.arange(3)[:, None, None] * 2 * np.pi / 3
    away = (rows - np.sin(angles)) ** 2 + (columns - np.cos(angles)) ** 2
    samples = centred_fft(torch.from_numpy(image * np.exp(1j * angles - 0.5 * away))).numpy()
    return samples + noise * (rng.standard_normal(samples.shape) + 1j * rng.standard_normal(samples.shape))


def scan_of(acquired):
    """Return a scan of one coil with the samples of a mask."""
    return scan_kspace(np.ones((1, *acquired.shape), complex), mask=acquired.numpy())


def sensitivities():
    """Return those of the coils of `kspace`."""
    angles = np.arange(3)[:, None, None] * 2 * np.pi / 3
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return np.exp(1j * angles - 0.5 * ((rows - np.sin(angles)) ** 2 + (columns - np.cos(angles)) ** 2))


def parts_of(scan):
    return _parts(scan, calibrated_size(scan), 4, 0)


def along(places, samples):
    """Return the scan of the images of k-space along a trajectory."""
    images = centred_ifft(torch.from_numpy(samples))[None]
    y = NonCartesianFourier((3, SIDE, SIDE), places)(images)[0].numpy()
    return scan_trajectory(y, places.numpy(), (SIDE, SIDE))


@pytest.mark.filterwarnings("ignore:the total variation still fell")
@pytest.mark.parametrize("pattern", ["points", "columns", "spokes"])
def test_errors_are_as_large_as_predicted_and_where_they_are_predicted(pattern):
    samples = kspace()
    if pattern == "spokes":
        scan = along(radial_trajectory((SIDE, SIDE), 20), samples)
    else:
        scan = scan_kspace(samples, acceleration=3, pattern=pattern)
    found = restore_scan(scan, prior="tv")
    stages = []
    predicted = error_map(scan, found, prior="tv", callback=lambda stage, part: stages.append((stage, part)))
    assert (predicted.dtype, predicted.shape) == (np.float32, (SIDE, SIDE))
    truth = root_sum_of_squares(centred_ifft(torch.from_numpy(samples / scan.scale))[None])
    error = (root_sum_of_squares(found.x) - truth).abs()[0, 0].numpy()
    assert 0.6 < np.sqrt((predicted**2).mean() / (error**2).mean()) < 1.7
    assert np.mean(error < 2 * predicted) > 0.85
    assert np.corrcoef(predicted.ravel(), error.ravel())[0, 1] > 0.3
    assert predicted[8 : SIDE // 2].mean() > 1.5 * predicted[SIDE // 2 : -8].mean()  # the texture
    assert [part for _, part in stages] == sorted(part for _, part in stages)
    assert stages[-1][0].startswith("split 4")


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", ["random", "every fourth"])
def test_the_energy_of_missing_lines_is_that_of_the_gaps_they_are_in(kind, axis):
    """Errors of held-out lines, which lie in wider gaps, tell those of missing lines."""
    rng = np.random.default_rng(0)
    lines = np.abs(np.arange(128) - 64) < 7
    lines |= rng.random(128) < 0.2 if kind == "random" else np.arange(128) % 4 == 0
    energy = 1e6 / (1 + np.abs(np.arange(128) - 64)) ** 2.5

    def errors(kept):
        return energy * (1 - np.exp(-((gaps_of(torch.from_numpy(kept)).numpy() / 3) ** 1.5)))

    acquired = torch.from_numpy(lines).unsqueeze(1 - axis).expand((128, 8)[::-1] if axis else (128, 8))
    parts = parts_of(scan_of(acquired.clone())).amax(1 - axis)
    misses = np.zeros(128)
    for k in range(4):
        held = (parts == k).numpy()
        misses[held] = errors(lines & ~held)[held]
    found = energy_of_lines(
        torch.from_numpy(misses), torch.from_numpy(energy * lines), parts, torch.from_numpy(lines)
    )
    assert found == pytest.approx(errors(lines)[~lines].sum(), rel=0.1)
    if kind == "every fourth":  # all held-out lines are in wider gaps
        assert found < 0.5 * misses.sum() / energy[misses > 0].sum() * energy[~lines].sum()


@pytest.mark.parametrize("missed", [0.0, 1.0, 2.0])
def test_lines_that_are_predicted_exactly_or_not_at_all_have_finite_errors(missed):
    acquired = (torch.arange(32) % 3 == 0) | (torch.arange(32) - 16).abs().lt(4)
    energies = acquired.double()
    energies[0] = 0  # a line of zeros
    parts = parts_of(scan_of(acquired.expand(8, -1).clone())).amax(0)
    found = energy_of_lines(missed * energies * (parts >= 0), energies, parts, acquired)
    assert 0 <= found <= 32


@pytest.mark.parametrize("places", ["grid", "spokes"])
def test_the_energy_of_unseen_samples_is_that_of_samples_as_far_from_others(places):
    """Errors that grow with both distances are found from held-out samples whose gaps are wider."""
    rng = np.random.default_rng(0)
    n = 4000
    radii, radii_unseen = (torch.from_numpy(rng.uniform(0, 0.5, size)) for size in (n, 2 * n))
    gaps = torch.from_numpy(rng.integers(1, 4, n) if places == "grid" else rng.exponential(1.5, n)).double()
    gaps_unseen = torch.from_numpy(np.ones(2 * n) if places == "grid" else rng.exponential(1.0, 2 * n))

    def errors(radius, gap):
        return torch.exp(-6 * radius) * (1 - torch.exp(-((gap / 2) ** 1.5)))

    misses = errors(radii, gaps) * torch.from_numpy(rng.exponential(1.0, n))
    found = energy_of_samples(radii, gaps, misses, radii_unseen, gaps_unseen)
    real = float(errors(radii_unseen, gaps_unseen).sum())
    assert found == pytest.approx(real, rel=0.1)
    assert abs(float(misses.mean()) * 2 * n / real - 1) > 0.2  # without the distances


def test_the_parts_of_a_trajectory_are_squares_outside_its_middle():
    where = radial_trajectory((SIDE, SIDE), 40)
    scan = along(where, kspace())
    parts = parts_of(scan)
    inside = where.abs().amax(1) < 3
    assert (parts[inside] == -1).all()
    assert np.isin(parts.numpy(), [-1, 0, 1, 2, 3]).all()
    sizes = torch.bincount(parts[parts >= 0])
    assert len(sizes) == 4
    assert sizes.min() > 0.5 * sizes.max()
    spoke = parts.view(40, -1)  # neighbours are left out together
    assert (spoke[:, 1:] == spoke[:, :-1]).double().mean() > 0.7


@pytest.mark.parametrize("hole", [False, True])
def test_random_points_need_no_middle_that_is_fully_sampled(hole):
    """The few large samples in the middle, which no other predicts, do not decide the size of the map."""
    rng = np.random.default_rng(0)
    where = torch.from_numpy(rng.uniform(-SIDE / 2, SIDE / 2, (1000, 2)))
    where = where[where.norm(dim=1) > 1.5] if hole else where
    scan, maps = along(where, kspace()), sensitivities()
    found = restore_scan(scan, prior="wavelet", sensitivities=maps)
    predicted = error_map(scan, found, prior="wavelet", sensitivities=maps, n_splits=2)
    truth = root_sum_of_squares(centred_ifft(torch.from_numpy(kspace() / scan.scale))[None])
    error = (root_sum_of_squares(found.x) - truth).abs()[0, 0].numpy()
    ratio = np.sqrt((predicted**2).mean() / (error**2).mean())
    assert ratio > 0 if hole else 0.4 < ratio < 4


def test_given_sensitivities_are_those_of_all_parts():
    maps = sensitivities()
    scan = scan_kspace(kspace(), mask=np.random.default_rng(0).random((SIDE, SIDE)) < 0.5)
    found = restore_scan(scan, prior="wavelet", sensitivities=maps)
    predicted = error_map(scan, found, prior="wavelet", sensitivities=maps, n_splits=2)
    assert (predicted >= 0).all()
    assert predicted.any()
    with pytest.raises(ValueError, match="sensitivities need 6 x 6 samples in the middle of k-space"):
        error_map(scan, found, prior="wavelet", n_splits=2)


def test_the_map_follows_the_unit_and_the_seed_and_is_zero_without_gaps():
    samples = kspace()
    maps = []
    for unit in (1.0, 1000.0):
        scan = scan_kspace(unit * samples, acceleration=3)
        found = restore_scan(scan, prior="wavelet")
        maps.append(scan.scale * error_map(scan, found, prior="wavelet", n_splits=2))
    np.testing.assert_allclose(maps[1], 1000 * maps[0], rtol=0.05)
    full = scan_kspace(samples)
    assert not error_map(full, restore_scan(full)).any()


def test_what_has_no_error_map_is_refused():
    scan = scan_kspace(kspace(), acceleration=3)
    found = restore_scan(scan, prior="wavelet")
    with pytest.raises(ValueError, match="n_splits: expected an integer of at least 2, got 1"):
        error_map(scan, found, n_splits=1)
    other = scan_kspace(kspace()[:, 8:-8], acceleration=3)
    with pytest.raises(
        ValueError, match="found: expected a reconstruction of this scan, coil images of shape"
    ):
        error_map(other, found)
    few = scan_kspace(kspace(), mask=(np.abs(np.arange(SIDE) - SIDE // 2) < 8) * np.ones((SIDE, 1)))
    with pytest.raises(
        ValueError,
        match="scan: expected at least 4 lines outside the fully sampled middle of k-space, .*, got 0",
    ):
        error_map(few, found)
    with pytest.raises(IncompatibleError, match="scan: expected k-space, got an image"):
        error_map(scan_image(load_sample("coins"), size=16), found)
