"""Groups over frames: each pass computes the formula it states, and memory and threads leave no trace."""

import numpy as np
import pytest
import torch

from calepin.imaging.groups import GroupFilter
from calepin.imaging.volume_groups import VolumeGroupFilter


def stack(shape, rng):
    return rng.standard_normal(shape).astype(np.float32)


def optimally_shrunk(patches, sigma):
    """Return the rows, with singular values shrunk as Gavish and Donoho say, in double precision."""
    level = patches.mean()
    n, q = sorted(patches.shape)
    u, s, v = np.linalg.svd(patches - level, full_matrices=False)
    y, beta = s / (sigma * np.sqrt(q)), n / q
    inside = np.maximum((y**2 - beta - 1) ** 2 - 4 * beta, 0)
    shrunk = np.where(y > 1 + np.sqrt(beta), np.sqrt(inside) / y, 0)
    return u @ np.diag(shrunk * sigma * np.sqrt(q)) @ v + level


def weighted_estimate(patches, guides, variance, level):
    """Return m + S M^T (M (S + V) M^T)^-1 M (y - m) for each row, in double precision; M keeps finite V."""
    m = np.full(guides.shape[1], guides.mean()) if level else guides.mean(axis=0)
    C = (guides - m).T @ (guides - m) / len(guides)
    out = []
    for y, v in zip(patches, variance, strict=True):
        M = np.isfinite(v)
        out.append(m + C[:, M] @ np.linalg.solve(C[M][:, M] + np.diag(v[M]), (y - m)[M]))
    return np.stack(out)


def linear_estimate(patches, guides, sigma, level):
    """Return m + C (C + sigma^2 I)^-1 (y - m) for the rows of patches, in double precision."""
    m = np.full(guides.shape[1], guides.mean()) if level else guides.mean(axis=0)
    C = (guides - m).T @ (guides - m) / len(guides)
    return m + (patches - m) @ np.linalg.solve(C + sigma**2 * np.eye(len(C)), C)


@pytest.mark.parametrize("shape", [(2, 3, 3), (1, 2, 2)])  # more pixels than patches, and fewer
@pytest.mark.parametrize("model", ["noisy", "level", "patch"])
def test_a_group_is_shrunk_as_the_model_says(model, shape, rng):
    """Two columns more than a patch, and one reference alone: one group of all three places."""
    t, u, v = shape
    noisy, guide = (stack((t, u, v + 2), rng) + 1 for _ in range(2))
    noisy *= 2
    groups = VolumeGroupFilter(shape, 3, (t, u, v + 2), model, radius=2)
    found = groups.apply(noisy[None], guide[None], 0.6)[0]
    y, e = (
        np.stack([array[:, :, k : k + v].ravel() for k in range(3)]).astype(np.float64)
        for array in (noisy, guide)
    )
    done = optimally_shrunk(y, 0.6) if model == "noisy" else linear_estimate(y, e, 0.6, model == "level")
    total, count = np.zeros(noisy.shape), np.zeros(noisy.shape)
    for k, patch in enumerate(done):
        total[:, :, k : k + v] += patch.reshape(shape)
        count[:, :, k : k + v] += 1
    np.testing.assert_allclose(found, total / count, atol=2e-5)


@pytest.mark.parametrize("model", ["level", "patch"])
def test_each_pixel_has_a_variance_of_its_own_or_is_missing(model, rng):
    shape = (2, 3, 3)
    noisy, guide = (stack((2, 3, 5), rng) + 1 for _ in range(2))
    weight = rng.uniform(0.3, 3, noisy.shape).astype(np.float32)
    weight[rng.random(noisy.shape) < 0.3] = 0
    groups = VolumeGroupFilter(shape, 3, (2, 3, 5), model, radius=2)
    found = groups.apply(noisy[None], guide[None], 0.6, weight=weight)[0]
    with np.errstate(divide="ignore"):
        variance = 0.36 / weight.astype(np.float64)
    y, e, v = (
        np.stack([array[:, :, k : k + 3].ravel() for k in range(3)]).astype(np.float64)
        for array in (noisy, guide, variance)
    )
    total, count = np.zeros(noisy.shape), np.zeros(noisy.shape)
    for k, patch in enumerate(weighted_estimate(y, e, v, model == "level")):
        total[:, :, k : k + 3] += patch.reshape(shape)
        count[:, :, k : k + 3] += 1
    np.testing.assert_allclose(found, total / count, atol=5e-5)


def test_planes_are_shrunk_by_their_own_model_in_the_groups_of_the_first(rng):
    noisy, guide = stack((2, 4, 12, 12), rng), stack((2, 4, 12, 12), rng)
    groups = VolumeGroupFilter((2, 4, 4), 6, (1, 2, 2), "level", radius=4, depth=2)
    both = groups.apply(noisy, guide, 0.5)
    np.testing.assert_array_equal(both[:1], groups.apply(noisy[:1], guide[:1], 0.5))
    alone = groups.apply(noisy[1:], guide[1:], 0.5, guide=guide[0])
    np.testing.assert_array_equal(both[1:], alone)


def test_one_frame_is_filtered_as_an_image_is(rng):
    noisy, guide = stack((1, 24, 31), rng), stack((1, 24, 31), rng)
    planar = GroupFilter(patch_size=5, group_size=12, radius=6, stride=3, mean="level")
    deep = VolumeGroupFilter((1, 5, 5), 12, (1, 3, 3), "level", radius=6)
    np.testing.assert_allclose(
        deep.apply(noisy[None], guide[None], 0.7)[0], planar.apply(noisy, guide, 0.7), rtol=0, atol=1e-5
    )


def test_patches_follow_an_object_through_the_frames(rng):
    """An object that moves by 3 pixels a frame is further away than `follow` in the last frame, but found."""
    clean = np.zeros((4, 20, 30), dtype=np.float32)
    thing = 5 * stack((4, 4), rng)
    for t in range(4):
        clean[t, 8:12, 3 + 3 * t : 7 + 3 * t] = thing
    noisy = clean + stack(clean.shape, rng)
    at_thing = np.s_[:, 8:12]

    def error(follow):
        groups = VolumeGroupFilter((1, 4, 4), 4, (1, 1, 1), "noisy", radius=12, depth=3, follow=follow)
        return np.mean(((groups.apply(noisy[None], clean[None], 1.0)[0] - clean)[at_thing]) ** 2)

    assert error(3) < 0.8 * error(0)


def test_a_long_stack_is_the_same_as_its_parts(rng):
    """A result depends on frames within the reach of a group only: the window of sums loses none."""
    noisy, guide = stack((15, 10, 12), rng), stack((15, 10, 12), rng)
    groups = VolumeGroupFilter((2, 4, 4), 6, (1, 2, 2), "patch", radius=4, depth=2)
    whole = groups.apply(noisy[None], guide[None], 0.5)[0]
    np.testing.assert_array_equal(groups.apply(noisy[None, :10], guide[None, :10], 0.5)[0, :5], whole[:5])
    np.testing.assert_allclose(
        groups.apply(noisy[None, 5:], guide[None, 5:], 0.5)[0, 5:], whole[10:], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("model", ["noisy", "level"])
def test_threads_give_the_same_bits(model, rng):
    noisy, guide = stack((6, 40, 17), rng), stack((6, 40, 17), rng)
    groups = VolumeGroupFilter((2, 4, 4), 8, (1, 2, 2), model, radius=4, depth=2)
    results, before = [], torch.get_num_threads()
    try:
        for n in (1, 4):
            torch.set_num_threads(n)
            results.append(groups.apply(noisy[None], guide[None], 0.5)[0])
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_progress_ends_at_one_and_never_falls(rng):
    noisy, told = stack((5, 12, 12), rng), []
    VolumeGroupFilter((2, 4, 4), 6, (1, 2, 2), "level").apply(
        noisy[None], noisy[None], 1.0, report=told.append
    )
    assert told == sorted(told)
    assert told[-1] == 1
