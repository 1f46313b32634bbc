"""Patches taken out of an image and put back make the image; groups do what their formula says."""

import numpy as np
from scipy import sparse

from calepin.imaging import patches as patches_module
from calepin.imaging.first_pass import natural_atoms, start_atoms
from calepin.imaging.groups import GroupFilter
from calepin.imaging.patches import add_patches, bands, centred_patches, random_patches


def put_back(plane: np.ndarray, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Code every patch in the basis of its pixels, then add the patches band by band."""
    total, weight = np.zeros_like(plane), np.zeros_like(plane)
    for first, last in bands(plane.shape, p):
        patches, means = centred_patches(plane, p, first, last)
        add_patches(total, weight, sparse.csr_array(patches), np.eye(p * p, dtype=np.float32), means, first)
    return total, weight


def test_patches_put_back_give_the_image(monkeypatch):
    monkeypatch.setattr(patches_module, "BAND_PATCHES", 40)  # several bands
    plane = np.random.default_rng(0).random((83, 31), dtype=np.float32)
    total, weight = put_back(plane, 5)
    assert len(list(bands(plane.shape, 5))) == 3
    np.testing.assert_allclose(total / weight, plane, rtol=1e-5)


def test_bands_cover_every_patch_row_once():
    rows = [row for first, last in bands((5000, 3000), 8) for row in range(first, last)]
    assert rows == list(range(4993))


def test_centred_patches_are_the_windows_without_their_means():
    plane = np.random.default_rng(1).random((9, 10), dtype=np.float32)
    patches, means = centred_patches(plane, 4, 2, 4)
    assert patches.shape == (2 * 7, 16)
    np.testing.assert_allclose(patches.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose((patches + means[:, None])[8], plane[3:7, 1:5].ravel(), rtol=1e-6)


def test_random_patches_come_from_different_places():
    planes = np.arange(2 * 12 * 12, dtype=np.float32).reshape(2, 12, 12) ** 2
    taken = random_patches(planes, 8, 1000, np.random.default_rng(0))
    assert taken.shape == (2 * 25, 64)  # all there are
    assert len(np.unique(taken, axis=0)) == 50


def test_the_shipped_atoms_are_unit_and_have_zero_mean():
    atoms = natural_atoms()
    assert atoms.shape == (256, 64)
    assert atoms.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(atoms, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(atoms.mean(axis=1), 0, atol=1e-3)


def test_means_may_be_those_of_another_plane():
    rng = np.random.default_rng(0)
    planes, others = rng.standard_normal((2, 1, 9, 8)).astype(np.float32)
    patches, means = centred_patches(planes[0], 4, 1, 3, means_of=others[0])
    np.testing.assert_allclose(patches[0].reshape(4, 4) + means[0], planes[0, 1:5, :4], atol=1e-6)
    assert means[0] == others[0, 1:5, :4].mean()
    drawn = random_patches(planes, 4, 1000, 0, means_of=others)
    np.testing.assert_allclose(
        drawn.mean(axis=1),
        random_patches(planes, 4, 1000, 0, means_of=np.zeros_like(planes)).mean(axis=1)
        - random_patches(others, 4, 1000, 0, means_of=np.zeros_like(planes)).mean(axis=1),
        atol=1e-6,
    )


def test_start_atoms_are_filled_up_where_more_are_wanted():
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(start_atoms(300, 8, rng)[:256], natural_atoms())
    assert start_atoms(100, 6, rng).shape == (100, 36)


def test_a_group_filter_without_noise_keeps_the_image_and_reaches_every_pixel():
    noisy = np.random.default_rng(0).random((1, 37, 29), dtype=np.float32)
    out = GroupFilter(patch_size=6, group_size=12, radius=5, stride=4).apply(noisy, noisy, 1e-3)
    np.testing.assert_allclose(out, noisy, atol=1e-3)


def test_large_images_are_filtered_without_seams(monkeypatch):
    from calepin.imaging import groups

    rng = np.random.default_rng(0)
    estimate = rng.random((2, 90, 40), dtype=np.float32)
    noisy = estimate + 0.1 * rng.standard_normal(estimate.shape, dtype=np.float32)
    filter_ = GroupFilter(patch_size=5, group_size=8, radius=6, stride=3)
    whole = filter_.apply(noisy, estimate, 0.1)
    monkeypatch.setattr(groups, "BAND", 2)
    np.testing.assert_array_equal(filter_.apply(noisy, estimate, 0.1), whole)
