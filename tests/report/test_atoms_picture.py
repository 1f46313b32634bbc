"""The image of a dictionary shows every atom, at its own contrast, with whole pixels."""

import numpy as np
import pytest

from calepin.report import atom_curves, atom_tiles, patch_shape


def tiles(image, n_components, shape, width):
    """Cut an image of atoms into the atoms again, by the layout the docstring promises."""
    columns = int(np.ceil(np.sqrt(n_components * shape[0] / shape[1])))
    zoom = max(1, width // (columns * (shape[1] + 1) + 1))
    gap = max(1, zoom // 2)
    for i in range(n_components):
        top = gap + i // columns * (shape[0] * zoom + gap)
        left = gap + i % columns * (shape[1] * zoom + gap)
        yield image[top : top + shape[0] * zoom : zoom, left : left + shape[1] * zoom : zoom]


def test_every_atom_is_there_with_zero_at_mid_gray():
    atoms = np.random.default_rng(0).standard_normal((10, 12))
    image = atom_tiles(atoms, (4, 3), width=200)
    assert 100 < image.shape[1] <= 200
    for atom, tile in zip(atoms, tiles(image, 10, (4, 3), 200), strict=True):
        expected = 0.5 + 0.5 * atom.reshape(4, 3) / np.abs(atom).max()
        np.testing.assert_allclose(tile, expected, atol=1e-6)


def test_an_atom_of_one_sign_uses_the_whole_range_and_a_flat_one_stays_flat():
    ramp = np.arange(1.0, 17.0)
    image = atom_tiles(np.stack([ramp, np.ones(16), np.zeros(16)]), width=100)
    first, flat, zero = tiles(image, 3, (4, 4), 100)
    assert (first.min(), first.max()) == (0, 1)
    assert np.ptp(flat) == 0
    assert (zero == 0.5).all()


def test_colour_atoms_share_one_stretch_over_their_channels():
    atoms = np.random.default_rng(1).standard_normal((4, 27))
    image = atom_tiles(atoms, width=60)
    assert image.shape[2] == 3
    for atom, tile in zip(atoms, tiles(image, 4, (3, 3), 60), strict=True):
        np.testing.assert_allclose(tile, 0.5 + 0.5 * atom.reshape(3, 3, 3) / np.abs(atom).max(), atol=1e-6)


@pytest.mark.parametrize(
    ("n_features", "shape"), [(64, (8, 8)), (192, (8, 8, 3)), (3, (1, 1, 3)), (50, None), (1, (1, 1))]
)
def test_square_patches_are_recognised(n_features, shape):
    assert patch_shape(n_features) == shape


def test_what_is_no_patch_is_refused():
    with pytest.raises(ValueError, match="50 features are not a square patch"):
        atom_tiles(np.ones((3, 50)))
    with pytest.raises(ValueError, match=r"shape: expected .* 50 entries, got \(7, 7\)"):
        atom_tiles(np.ones((3, 50)), (7, 7))
    with pytest.raises(ValueError, match="atoms: expected finite"):
        atom_tiles(np.full((3, 4), np.nan))
    with pytest.raises(ValueError, match="atoms: expected finite"):
        atom_curves(np.full((3, 4), np.inf))


def test_curves_draw_each_atom_at_its_own_scale():
    atoms = np.random.default_rng(2).standard_normal((5, 30)) * np.array([[1, 10, 100, 1000, 0]]).T
    (axes,) = atom_curves(atoms).axes
    lines = axes.collections[1].get_segments()
    assert len(lines) == 5
    heights = [np.abs(line[:, 1] - np.floor(line[:, 1].mean()) - 0.5).max() for line in lines]
    np.testing.assert_allclose(heights, [0.42, 0.42, 0.42, 0.42, 0], atol=1e-12)
