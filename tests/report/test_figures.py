"""Figures show what they are given, look where there is something to see, and reach the disk whole."""

import numpy as np
import pytest

from calepin.datasets import read_image
from calepin.report import Curve, before_after, curves, save_figure, sheet
from calepin.report.figures import detail_window


def test_before_and_after_shows_each_image_and_the_same_detail_of_each():
    rng = np.random.default_rng(0)
    pictures = {name: rng.random((40, 60)) for name in ("noisy", "denoised", "clean")}
    figure = before_after(pictures, captions={"noisy": "20.2 dB"})
    top, bottom = figure.axes[:3], figure.axes[3:]
    assert [axes.get_title() for axes in top] == ["noisy   20.2 dB", "denoised", "clean"]
    rows, columns = detail_window(pictures["clean"])
    for picture, whole, detail in zip(pictures.values(), top, bottom, strict=True):
        np.testing.assert_array_equal(whole.images[0].get_array(), picture)
        np.testing.assert_array_equal(detail.images[0].get_array(), picture[rows, columns])


def test_a_large_image_is_thinned_but_its_detail_is_not():
    image = np.zeros((2700, 1800, 3), np.float32)
    figure = before_after({"noisy": image, "denoised": image})
    assert figure.axes[0].images[0].get_array().shape == (900, 600, 3)
    assert figure.axes[2].images[0].get_array().shape == (450, 450, 3)


@pytest.mark.parametrize("scale", [1, 8])
def test_the_detail_is_where_the_edges_are(scale):
    image = np.zeros((120 * scale, 200 * scale))
    corner = image[20 * scale : 50 * scale, 130 * scale : 160 * scale]
    corner[:] = np.indices(corner.shape).sum(axis=0) // (4 * scale) % 2
    rows, columns = detail_window(image)
    assert (rows.start, columns.start) == pytest.approx((20 * scale, 130 * scale), abs=3 * scale)
    assert rows.stop - rows.start == columns.stop - columns.start == 30 * scale


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2, 3)])
def test_tiny_images_have_a_detail_too(shape):
    rows, columns = detail_window(np.zeros(shape))
    assert np.zeros(shape)[rows, columns].size > 0


def test_images_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"the same size, got \[\(3, 3\), \(4, 4\)\]"):
        before_after({"a": np.zeros((3, 3)), "b": np.zeros((4, 4))})


def test_curves_have_names_bands_and_scales(tmp_path):
    x = np.arange(1, 6)
    lines = {"ksvd": Curve(x, 1.0 / x, 0.5 / x, 2.0 / x), "mod": Curve(x, x)}
    figure = curves(lines, xlabel="passes", ylabel="error", yscale="log")
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["ksvd", "mod"]
    assert len(axes.collections) == 1
    assert axes.get_yscale() == "log"
    save_figure(figure, tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").pixels.std() > 0


def test_a_figure_that_cannot_be_drawn_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.nonsense"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="nonsense"):
        save_figure(curves({"a": Curve([1], [1])}, xlabel="x", ylabel="y"), path)
    assert path.read_bytes() == b"old"


def test_more_lines_than_colours_are_all_drawn_and_told_apart():
    figure = curves({str(i): Curve([0, 1], [i, i]) for i in range(9)}, xlabel="x", ylabel="y")
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(looks) == 9


def test_a_sheet_has_a_column_for_each_kind_and_a_row_for_each_sample(rng):
    pictures = rng.random((4, 5, 6))
    figure = sheet({"noisy": pictures, "denoised": 1 - pictures}, n_rows=3)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["noisy", "denoised"]
    assert len(figure.axes) == 6
    np.testing.assert_array_equal(figure.axes[5].images[0].get_array(), 1 - pictures[2])
    assert len(sheet({"noisy": pictures[:1]}).axes) == 1


@pytest.mark.parametrize(("black", "white"), [(-1000, 3000), (0, 65535), (0, 1e-3), (5, 7)])
def test_data_of_any_range_are_neither_black_nor_white(rng, black, white):
    image = black + (white - black) * rng.random((40, 60))
    for figure in (before_after({"noisy": image, "denoised": image}), sheet({"noisy": image[None]})):
        drawn = figure.axes[0].images[0]
        shown = drawn.norm(drawn.get_array())
        assert 0.4 < shown.mean() < 0.6
        assert shown.std() > 0.2


def test_bars_have_the_units_and_differences_a_symmetric_scale_of_their_own(rng):
    clean = 100 + 3000 * rng.random((40, 60))
    noisy = clean + 50 * rng.standard_normal(clean.shape)
    for figure in (
        before_after({"noisy": noisy, "clean": clean}, differences={"noise": noisy - clean}, units="counts"),
        sheet({"noisy": noisy[None], "clean": clean[None]}, differences={"noise": (noisy - clean)[None]},
              units="counts", names=["plane 0"]),
    ):  # fmt: skip
        bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
        assert [bar.get_xlabel() for bar in bars] == ["counts", "counts"]
        first, second, third = (axes.images[0] for axes in figure.axes[:3])
        assert first.get_clim() == second.get_clim()
        assert first.get_clim() == pytest.approx((100, 3100), abs=100)
        low, high = third.get_clim()
        assert low == -high
        assert 100 < high < 250
    assert figure.axes[0].get_ylabel() == "plane 0"


def test_a_dark_image_of_bytes_is_not_black_and_a_usual_one_has_the_range_of_its_type(rng):
    for top, limits in ((40, (0, 40)), (250, (0, 255))):
        image = top * rng.random((40, 60))
        figure = before_after({"a": image}, value_range=(0, 255))
        assert figure.axes[0].images[0].get_clim() == pytest.approx(limits, abs=1)


def test_missing_pixels_are_blue(rng):
    gray, colour = rng.random((20, 20)), rng.random((20, 20, 3))
    gray[3, 4] = colour[3, 4, 1] = np.nan
    figure = before_after({"known": gray, "filled": np.nan_to_num(gray)})
    assert figure.axes[0].images[0].get_array().mask.sum() == 1
    shown = before_after({"known": colour, "filled": np.nan_to_num(colour)}).axes[0].images[0].get_array()
    assert list(shown[3, 4]) == pytest.approx([0x56 / 255, 0xB4 / 255, 0xE9 / 255])


def test_each_group_of_a_sheet_has_scales_and_bars_of_its_own(rng):
    images = rng.random((3, 20, 20)) * np.array([3000, 3000, 50])[:, None, None]
    figure = sheet({"a": images}, groups=["C 0", "C 0", "C 1"], differences={"d": images / 10},
                   value_range=(0, 65535), units="counts")  # fmt: skip
    tops = [axes.images[0].get_clim()[1] for axes in figure.axes[:6]]
    assert tops == pytest.approx([3000, 300, 3000, 300, 50, 5], rel=0.1)
    bars = [axes.get_xlabel() for axes in figure.axes if axes.get_label() == "<colorbar>"]
    assert bars == ["counts, C 0"] * 2 + ["counts, C 1"] * 2
    with pytest.raises(ValueError, match="groups: expected one of each sample, 3, got 2"):
        sheet({"a": images}, groups=["C 0", "C 1"])
