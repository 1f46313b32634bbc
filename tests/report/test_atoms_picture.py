"""The image of a dictionary shows every atom, at its own contrast, with whole pixels."""

import numpy as np
import pytest

from calepin.report import atom_curves, atom_figure, atom_tiles, patch_shape, save_figure


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
    zeros, lines = (collection.get_segments() for collection in axes.collections)
    assert len(lines) == 5
    heights = [np.abs(line[:, 1] - zero[0, 1]).max() for line, zero in zip(lines, zeros, strict=True)]
    np.testing.assert_allclose(heights, [0.34, 0.34, 0.34, 0.34, 0], atol=1e-12)


def test_each_atom_has_its_number_and_its_scale_and_the_axis_its_indices():
    atoms = np.outer([1, 20], np.linspace(-1, 1, 30))
    (axes,) = atom_figure(atoms).axes
    assert [text.get_text() for text in axes.texts] == ["0", "±1", "1", "±20"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "29"]
    assert "index" in axes.get_xlabel()
    (axes,) = atom_figure(np.ones((6, 2, 10)), labels=list("abcdef")).axes
    assert [text.get_text() for text in axes.texts[::2]][:3] == [
        "a, channel 0",
        "a, channel 1",
        "b, channel 0",
    ]


def test_tiles_have_numbers_and_are_the_patches():
    atoms = np.random.default_rng(3).standard_normal((10, 16))
    (axes,) = atom_figure(atoms).axes
    assert [text.get_text() for text in axes.texts] == [str(i) for i in range(10)]
    grays = 0.5 + 0.5 * atoms / np.abs(atoms).max(axis=1, keepdims=True)
    expected = np.unique(np.append(grays, 1.0).round(4))
    np.testing.assert_allclose(np.unique(axes.images[0].get_array().round(4)), expected, atol=2e-4)
    assert atom_figure(atoms, (2, 8)).axes[0].get_xlabel().startswith("2 x 8 pixels")


def test_labels_are_no_formulas_and_one_for_each_atom(tmp_path):
    save_figure(atom_figure(np.ones((2, 9)), labels=["$\\frac{", "<b>"]), tmp_path / "a.png")
    with pytest.raises(ValueError, match="labels: expected one for each of 2 atoms, got 1"):
        atom_figure(np.ones((2, 9)), labels=["a"])
    with pytest.raises(ValueError, match="atoms: expected"):
        atom_figure(np.ones((2, 1, 2, 2, 2)))


def test_filters_of_a_recording_are_drawn_over_seconds_with_names_of_channels():
    filters = np.ones((2, 2, 51))
    (axes,) = atom_figure(filters, sampling_rate=250, channel_names=["C3", "Cz"]).axes
    assert axes.get_xlabel().startswith("time in the atom (s)")
    assert [tick.get_text() for tick in axes.get_xticklabels()][:2] == ["0", "0.2"]
    assert [text.get_text() for text in axes.texts][::2] == ["0, C3", "0, Cz", "1, C3", "1, Cz"]
    with pytest.raises(ValueError, match="channel_names: expected one for each of 2 channels, got 1"):
        atom_figure(filters, channel_names=["C3"])
    with pytest.raises(ValueError, match="sampling_rate: expected None for atoms of shape"):
        atom_figure(np.ones((2, 9)), sampling_rate=250)
