"""Groups of patches with a noise variance for each pixel: the kernel computes the formula it states."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calepin.imaging.groups import GroupFilter

ONE = GroupFilter(patch_size=4, group_size=7, radius=3, stride=4)  # of an image of one patch: one group


def planes(c, size, rng):
    return rng.standard_normal((c, size, size)).astype(np.float32)


def expected(patches, guides, variances, ridge):
    """Return m + S M^T (M (S + V) M^T)^-1 M (y - m) for the rows of patches, in double precision."""
    guides = guides.astype(np.float64)
    m = guides.mean(axis=0)
    S = (guides - m).T @ (guides - m) / len(guides) + ridge**2 * np.eye(len(m))
    found = []
    for y, v in zip(patches, variances, strict=True):
        known = np.isfinite(v)
        A = S[np.ix_(known, known)] + np.diag(v[known])
        found.append(m + S[:, known] @ np.linalg.solve(A, (y - m)[known]))
    return np.array(found)


@pytest.mark.parametrize("joint", [False, True])
def test_each_patch_is_the_linear_estimate_from_its_known_pixels(joint, rng):
    """An image of five by four pixels has two patches, one group of both for each reference."""
    noisy, guide = (rng.standard_normal((2, 5, 4)).astype(np.float32) for _ in range(2))
    sigma = rng.uniform(0.3, 1.5, (2, 5, 4) if joint else (5, 4)).astype(np.float32)
    sigma[rng.random(sigma.shape) < 0.3] = np.inf
    found = ONE.apply(noisy, guide, sigma, ridge=0.4)
    total, count = np.zeros_like(found, dtype=np.float64), np.zeros((5, 4))
    sigmas = sigma if joint else np.broadcast_to(sigma, noisy.shape)

    def patches(array):
        return np.stack(
            [array[:, i : i + 4].reshape(2, -1) for i in (0, 1)], axis=1
        )  # (planes, patches, pixels)

    y, e, v = patches(noisy), patches(guide), np.square(patches(sigmas).astype(np.float64))
    if joint:
        y, e, v = (a.transpose(1, 0, 2).reshape(1, 2, -1) for a in (y, e, v))
    for _ in range(2):  # references
        done = np.stack([expected(*parts, 0.4) for parts in zip(y, e, v, strict=True)])
        done = done.reshape(2, 2, 16).transpose(1, 0, 2) if joint else done
        for k in (0, 1):
            total[:, k : k + 4] += done[:, k].reshape(2, 4, 4)
            count[k : k + 4] += 1
    np.testing.assert_allclose(found, total / count, atol=2e-5)


@pytest.mark.parametrize("common", [False, True])
def test_a_constant_map_is_the_number(common, rng):
    noisy, guide = planes(2, 24, rng), planes(2, 24, rng)
    groups = GroupFilter(patch_size=5, group_size=12, radius=8, stride=3, common=common)
    constant = np.full((24, 24), 0.7, dtype=np.float32)
    np.testing.assert_allclose(
        groups.apply(noisy, guide, constant), groups.apply(noisy, guide, 0.7), atol=2e-4
    )


def test_correlated_noise_enters_by_the_covariance_of_a_patch(rng):
    noisy, guide = (rng.standard_normal((2, 5, 4)).astype(np.float32) for _ in range(2))
    root = rng.standard_normal((2, 16, 16))
    covariance = root @ root.transpose(0, 2, 1) / 16 + 0.3 * np.eye(16)
    found = ONE.apply(noisy, guide, 0.8, covariance=covariance)
    total, count = np.zeros((2, 5, 4)), np.zeros((5, 4))
    for c in range(2):
        y, e = (
            np.stack([both[c, i : i + 4].ravel() for i in (0, 1)]).astype(float) for both in (noisy, guide)
        )
        m = e.mean(axis=0)
        C = (e - m).T @ (e - m) / 2
        done = m + (y - m) @ np.linalg.solve(C + 0.64 * covariance[c], C)
        for k in (0, 1):
            total[c, k : k + 4] += done[k].reshape(4, 4)
    for k in (0, 1):
        count[k : k + 4] += 1
    np.testing.assert_allclose(found, total / count, atol=2e-5)


def test_the_identity_is_white_noise(rng):
    noisy, guide = planes(2, 24, rng), planes(2, 24, rng)
    groups = GroupFilter(patch_size=5, group_size=12, radius=8, stride=3, mean="level")
    white = np.stack([np.eye(25)] * 2)
    np.testing.assert_allclose(
        groups.apply(noisy, guide, 0.7, covariance=white), groups.apply(noisy, guide, 0.7), atol=1e-6
    )


def test_what_residuals_share_is_added_to_the_estimate(rng):
    """An image of five by four pixels: each reference has one group of two patches."""
    noisy, guide = (rng.standard_normal((1, 5, 4)).astype(np.float32) for _ in range(2))
    groups = GroupFilter(patch_size=4, group_size=7, radius=3, stride=4, common=True)
    found = groups.apply(noisy, guide, 0.3)
    y, e = (np.stack([a[0, i : i + 4].ravel() for i in (0, 1)]).astype(float) for a in (noisy, guide))
    d = (y - e).mean(axis=0)
    d -= d.mean()
    part = 1 - 1.5 * 16 * 0.3**2 / (2 * d @ d)
    assert part > 0
    e += part * d
    done = expected(y, e, np.full((2, 16), 0.3**2), 0.0)
    total, count = np.zeros((5, 4)), np.zeros((5, 4))
    for k in (0, 1):
        total[k : k + 4] += done[k].reshape(4, 4)
        count[k : k + 4] += 1
    np.testing.assert_allclose(found[0], total / count, atol=2e-5)


@pytest.mark.parametrize(("amplitude", "error"), [(0.5, 0.04), (0.0, 0.02)])
def test_a_weak_texture_that_the_estimate_has_lost_comes_back(amplitude, error, rng):
    """Stripes below the noise, as often as those that the estimate knows; without them hardly any noise."""
    rows = np.arange(48)[:, None].repeat(48, axis=1)
    known = 5 * np.sin(rows * np.pi / 3).astype(np.float32)[None]
    clean = known + amplitude * np.sin(rows * 2 * np.pi / 3)
    noisy = (clean + rng.standard_normal((48, 48))).astype(np.float32)
    groups = GroupFilter(patch_size=10, group_size=32, radius=20, stride=5, mean="level", common=True)
    lost = replace(groups, common=False).apply(noisy, known, 1.0)
    assert np.mean((groups.apply(noisy, known, 1.0) - clean) ** 2) < error
    assert np.mean((lost - clean) ** 2) == pytest.approx(amplitude**2 / 2, abs=0.02)


def test_missing_values_have_no_influence(rng):
    noisy, guide = planes(1, 20, rng), planes(1, 20, rng)
    sigma = np.where(rng.random((20, 20)) < 0.4, np.inf, 0.5)
    other = np.where(np.isinf(sigma), 1e6, noisy[0])[None].astype(np.float32)
    groups = GroupFilter(patch_size=4, group_size=9, radius=6, stride=2)
    np.testing.assert_array_equal(groups.apply(noisy, guide, sigma), groups.apply(other, guide, sigma))


def test_pixels_without_noise_stay(rng):
    noisy, guide = planes(1, 20, rng), planes(1, 20, rng)
    groups = GroupFilter(patch_size=4, group_size=9, radius=6, stride=4)
    np.testing.assert_array_equal(groups.apply(noisy, guide, np.zeros((20, 20))), noisy)


@pytest.mark.parametrize("shape", [(20, 31), (3, 20, 31)])
def test_threads_give_the_same_bits(shape, rng):
    noisy = rng.standard_normal((3, 20, 31)).astype(np.float32)
    sigma = rng.uniform(0.1, 1, shape)
    groups = GroupFilter(patch_size=4, group_size=9, radius=6, stride=2)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(groups.apply(noisy, noisy, sigma, ridge=0.1))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*results)
