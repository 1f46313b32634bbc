"""Figures of stacks: what each plane is, and how it is shown."""

import numpy as np
import pytest

from calepin.cli.figures import draw_planes
from calepin.datasets import Stack


def drawn(samples, axes, before=None):
    """Return names, images and upper limits of the planes of a figure, and the texts of its bars."""
    stack = Stack(samples, axes)
    before = stack.planes if before is None else before
    figure = draw_planes(stack, before, stack.planes, ("known", "filled"), subtract=False)
    first = [axes for axes in figure.axes if axes.get_ylabel()]
    return (
        [axes.get_ylabel() for axes in first],
        [axes.images[0].get_array() for axes in first],
        [axes.images[0].get_clim()[1] for axes in first],
        [axes.get_xlabel() for axes in figure.axes if axes.get_label() == "<colorbar>"],
    )


def test_planes_have_the_letters_of_their_axes_and_channels_a_scale_each(rng):
    samples = (rng.random((2, 3, 8, 12, 12)) * np.array([60000, 900, 30])[:, None, None, None]).astype("u2")
    names, images, tops, bars = drawn(samples, "TCZYX")
    assert names == [f"T {t}, C {c}, Z {z}" for c in range(3) for t, z in ((0, 0), (1, 7))]
    assert tops == pytest.approx([65535, 65535, 900, 900, 30, 30], rel=0.05)
    assert bars == [f"samples (uint16), C {c}" for c in range(3)]
    np.testing.assert_array_equal(images[3], samples[1, 1, 7])


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("ZYX", (9,), ["Z 0", "Z 2", "Z 3", "Z 5", "Z 6", "Z 8"]),
        ("IYX", (2,), ["plane 0", "plane 1"]),
        ("YX", (), ["plane 0"]),
        ("CYX", (9,), [f"C {k}" for k in (0, 2, 3, 5, 6, 8)]),
    ],
)
def test_planes_of_a_stack_are_spread_over_it(rng, axes, shape, expected):
    assert drawn(rng.random((*shape, 8, 8)), axes)[0] == expected


def test_a_plane_with_gaps_is_shown_if_there_is_one(rng):
    samples = rng.random((2, 20, 8, 8))
    before = samples.reshape(40, 8, 8).copy()
    before[9, 3, 4] = np.nan
    before[31, :2] = before[32, 0] = np.nan
    names, images, _, _ = drawn(samples, "CZYX", before)
    assert {"C 0, Z 9", "C 1, Z 11"} <= set(names)
    assert len(names) == len(set(names)) == 6
    assert sum(np.isnan(np.asarray(image)).sum() for image in images) == 1 + 16
