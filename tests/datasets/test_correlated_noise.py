"""Correlated noise: the density, the autocovariance and the drawn noise say the same."""

import numpy as np
import pytest

import calepin
from calepin.datasets import CorrelatedNoise, add_noise

LINE = np.array([[1.0, 2.0, 3.0, 2.0, 1.0]])
BLUR = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])


def test_a_constant_density_is_white_noise():
    noise = CorrelatedNoise(np.full((16, 17), 0.04))
    assert noise.sigma == pytest.approx(0.2)
    np.testing.assert_allclose(noise.covariance(4), 0.04 * np.eye(16), atol=1e-15)


def test_the_covariance_of_a_patch_is_that_of_the_convolved_white_noise():
    noise, p = CorrelatedNoise.from_kernel(BLUR), 5
    side = p + 2
    rows = []
    for i in range(p):
        for j in range(p):
            taps = np.zeros((side, side))
            taps[i : i + 3, j : j + 3] = BLUR
            rows.append(taps.ravel())
    np.testing.assert_allclose(noise.covariance(p), np.array(rows) @ np.array(rows).T, atol=1e-10)


def test_drawn_noise_has_the_autocovariance():
    noise = CorrelatedNoise.from_kernel(LINE + LINE.T[:5], sigma=0.5)
    drawn = add_noise(np.full((400, 400), 7.0), noise, random_state=1) - 7
    assert drawn.std() == pytest.approx(0.5, rel=0.03)
    r = noise.autocovariance(4)
    for a, b in ((0, 1), (2, 0), (1, 1), (2, -1)):
        first = drawn[: 400 - a, max(0, -b) : 400 - max(0, b)]
        second = drawn[a:, max(0, b) : 400 + min(0, b)]
        assert np.mean(first * second) == pytest.approx(r[3 + a, 3 + b], abs=0.015)
    again = add_noise(np.full((400, 400), 7.0), noise, random_state=1) - 7
    np.testing.assert_array_equal(again, drawn)


def test_opposite_borders_of_drawn_noise_are_independent():
    drawn = add_noise(np.zeros((64, 4000)), CorrelatedNoise.from_kernel(np.ones((9, 1))))
    assert abs(np.corrcoef(drawn[0], drawn[-1])[0, 1]) < 0.1


def test_each_channel_may_have_its_own_density():
    psd = np.full((8, 8, 3), [1.0, 4.0, 9.0])
    drawn = add_noise(np.zeros((200, 200, 3)), CorrelatedNoise(psd))
    np.testing.assert_allclose(drawn.std(axis=(0, 1)), [1, 2, 3], rtol=0.03)
    assert CorrelatedNoise(psd).covariance(2).shape == (3, 4, 4)
    shared = add_noise(np.zeros((200, 200, 3)), CorrelatedNoise.from_kernel(BLUR, sigma=2.0))
    assert abs(np.corrcoef(shared[..., 0].ravel(), shared[..., 1].ravel())[0, 1]) < 0.1


def test_a_dark_frame_gives_back_the_density():
    noise = CorrelatedNoise.from_kernel(BLUR, sigma=3.0)
    dark = add_noise(np.full((512, 512), 100.0), noise)
    found = CorrelatedNoise.from_dark_frames(dark)
    assert found.sigma == pytest.approx(3.0, rel=0.03)
    np.testing.assert_allclose(found.autocovariance(4), noise.autocovariance(4), atol=0.4)


def test_the_fixed_pattern_is_no_noise_if_there_are_several_frames():
    noise = CorrelatedNoise.from_kernel(LINE, sigma=1.0)
    pattern = 5 * np.random.default_rng(0).standard_normal((128, 128))
    frames = [add_noise(pattern, noise, random_state=k) for k in range(4)]
    assert CorrelatedNoise.from_dark_frames(frames).sigma == pytest.approx(1.0, rel=0.05)
    assert CorrelatedNoise.from_dark_frames(frames[0]).sigma > 4


def test_hot_pixels_of_a_dark_frame_are_left_out():
    dark = add_noise(np.zeros((128, 128)), CorrelatedNoise.from_kernel(BLUR, sigma=1.0))
    dark[::20, ::20] = 1000
    assert CorrelatedNoise.from_dark_frames(dark).sigma == pytest.approx(1.0, rel=0.1)


def test_a_dark_frame_of_integers_that_is_mostly_constant():
    dark = (np.random.default_rng(0).random((64, 64)) < 0.1).astype(np.uint16)
    assert CorrelatedNoise.from_dark_frames(dark).sigma == pytest.approx(dark.std(), rel=0.2)


def test_it_stands_at_the_top():
    assert calepin.CorrelatedNoise is CorrelatedNoise


SHIFTED = np.fft.fftshift(np.fft.fft2(BLUR, (9, 9)).real ** 2 + 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CorrelatedNoise(np.ones(5)), r"psd: expected shape \(a, b\) or \(a, b, 3\), got \(5,\)"),
        (lambda: CorrelatedNoise(np.ones((5, 5, 2))), "psd: expected shape"),
        (lambda: CorrelatedNoise(-np.ones((5, 5))), "psd: expected finite real numbers of at least 0"),
        (lambda: CorrelatedNoise(np.full((5, 5), np.inf)), "psd: expected"),
        (lambda: CorrelatedNoise(np.fft.fft2(BLUR)), "psd: expected real numbers"),
        (lambda: CorrelatedNoise(SHIFTED), r"psd: expected S\(f\) = S\(-f\) with the zero frequency first"),
        (lambda: CorrelatedNoise.from_kernel(np.zeros((3, 3))), "kernel: expected finite real numbers"),
        (lambda: CorrelatedNoise.from_kernel(BLUR, sigma=-1.0), "sigma: expected a finite number"),
        (lambda: CorrelatedNoise.from_dark_frames([]), "frames: expected at least one frame, got none"),
        (lambda: CorrelatedNoise.from_dark_frames(np.ones((8, 8))), "frames: expected .* at least 16 pixels"),
        (
            lambda: CorrelatedNoise.from_dark_frames([np.ones((20, 20)), np.ones((20, 21))]),
            "frames: expected one shape",
        ),
        (lambda: CorrelatedNoise.from_dark_frames(np.full((20, 20), np.nan)), "frames: expected finite"),
        (lambda: CorrelatedNoise(np.ones((4, 4))).covariance(0), "patch_size: expected"),
        (
            lambda: add_noise(np.ones((20, 20)), CorrelatedNoise(np.ones((4, 4, 3)))),
            r"psd: expected shape \(a, b\) for an image of shape \(20, 20\)",
        ),
    ],
)
def test_what_is_wrong_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
