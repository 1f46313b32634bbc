"""Stacks of frames: axes in any order, cuts where the scene changes, the level of the noise."""

import warnings

import numpy as np
import pytest

from calepin.datasets import load_sample
from calepin.imaging.frames import (
    at_rest,
    check_stack,
    estimate_stack_noise,
    from_frames,
    related_runs,
    to_frames,
)


@pytest.fixture(scope="module")
def photographs():
    """Three unrelated frames of 96x96 pixels."""
    images = [load_sample(name).pixels for name in ("camera", "brick", "coins")]
    return [image[60:156, 80:176] for image in images]


def in_noise(frames, sigma):
    rng = np.random.default_rng(0)
    return (np.stack(frames) / sigma + rng.standard_normal((len(frames), *frames[0].shape))).astype(
        np.float32
    )


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "YXZ", "XYT", "XTY"])
def test_frames_have_their_axis_first_and_go_back(axes, rng):
    stack = rng.random((16, 17, 18))
    frames = to_frames(stack, axes)
    sizes = dict(zip(axes, stack.shape, strict=True))
    assert frames.shape == (1, sizes["T" if "T" in axes else "Z"], sizes["Y"], sizes["X"])
    np.testing.assert_array_equal(from_frames(frames, axes, stack.shape), stack)


@pytest.mark.parametrize("axes", ["TCZYX", "YXSTZ", "CYX", "XZYS", "YXS"])
def test_volumes_of_other_axes_come_one_after_the_other_and_go_back(axes, rng):
    sizes = {"T": 2, "C": 3, "Z": 4, "Y": 16, "X": 17, "S": 3}
    stack = rng.random([sizes[letter] for letter in axes])
    frames = to_frames(stack, axes)
    depth = sizes["Z"] if "Z" in axes else 1
    colours = (3,) if "S" in axes else ()
    assert frames.shape[1:] == (depth, sizes["Y"], sizes["X"], *colours)
    np.testing.assert_array_equal(from_frames(frames, axes, stack.shape), stack)


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3])
def test_a_stack_is_cut_where_the_scene_changes(sigma, photographs):
    a, b, c = photographs
    moving = [np.roll(a, (t, 2 * t), (0, 1)) for t in range(3)]
    frames = in_noise([*moving, b, c, c], sigma)
    assert related_runs(frames) == [(0, 3), (3, 4), (4, 6)]


def test_a_scene_at_rest_is_told_from_one_that_moves(photographs):
    def rest_of(speed, sigma):
        moving = [np.roll(photographs[0], speed * t, 1)[:, 20:80] for t in range(6)]
        return at_rest(in_noise(moving, sigma))

    for sigma in (0.05, 0.2):
        still, slow, fast = (rest_of(speed, sigma) for speed in (0, 2, 6))
        assert still > 0.95
        assert still - 0.02 > slow > fast + 0.1


def test_noise_alone_is_at_rest(rng):
    assert at_rest(rng.standard_normal((12, 64, 64)).astype(np.float32)) > 0.8
    assert at_rest(np.zeros((1, 32, 32), dtype=np.float32)) == 1


def test_noise_alone_and_one_frame_are_not_cut(rng):
    noise = rng.standard_normal((12, 64, 64)).astype(np.float32)
    assert related_runs(noise) == [(0, 12)]
    assert related_runs(noise[:1]) == [(0, 1)]


def test_an_exactly_constant_stack_is_one_run():
    assert related_runs(np.zeros((4, 32, 32), dtype=np.float32)) == [(0, 4)]


def test_the_level_is_that_of_the_noise_and_empty_frames_do_not_count(photographs):
    rng = np.random.default_rng(1)
    frames = np.stack([photographs[0]] * 9) + rng.normal(0, 0.08, (9, 96, 96))
    frames[:6] = 0
    assert estimate_stack_noise(frames) == pytest.approx(0.08, rel=0.15)


def test_what_is_told_about_the_noise_names_the_frame():
    frames = np.zeros((3, 32, 32))
    with pytest.warns(UserWarning, match=r"frame \d: the noise level of the image is estimated as 0"):
        assert estimate_stack_noise(frames) == 0


def test_a_good_stack_has_no_warning(photographs):
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate_stack_noise(photographs[0] + rng.normal(0, 0.1, (3, 96, 96)))


@pytest.mark.parametrize(
    ("stack", "told"),
    [
        (np.zeros((20, 20)), r"image: expected the three axes ZYX, got shape \(20, 20\)"),
        (np.zeros((4, 20, 20, 3)), "image: expected the three axes ZYX"),
        ([np.zeros((20, 20)), np.zeros((20, 21))], r"image: expected frames of one size, got \(20, 20\) and"),
        (np.zeros((20, 15, 20)), "image: expected frames of at least 16 x 16 pixels, got 15 x 20"),
        (
            np.zeros((0, 20, 20)),
            r"image: expected a stack with samples, got an empty one of shape \(0, 20, 20\)",
        ),
        ([], r"image: expected a stack with samples, got an empty one of shape \(0,\)"),
        (np.full((3, 20, 20), np.nan), "image: expected samples, all of them are missing"),
        (np.zeros((3, 20, 20), dtype=int), "image: expected floating-point numbers, got int64"),
        (np.full((3, 20, 20), np.inf), "image: expected finite values, got 1200 NaN or infinities"),
    ],
)
def test_what_is_no_stack_is_refused_in_one_line(stack, told):
    with pytest.raises(ValueError, match=told) as error:
        check_stack(stack, "ZYX")
    assert "\n" not in str(error.value)
