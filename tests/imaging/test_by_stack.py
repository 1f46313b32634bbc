"""Volumes and time series: better than frame by frame, never worse where frames have nothing in common."""

import numpy as np
import pytest
from scipy import ndimage

import calepin
from calepin.core.errors import IncompatibleError
from calepin.datasets import (
    CorrelatedNoise,
    GaussianNoise,
    PoissonGaussianNoise,
    PoissonNoise,
    VaryingGaussianNoise,
    add_noise,
    load_sample,
)
from calepin.imaging import DictionaryDenoiser, StackDenoiser, inpaint
from calepin.metrics import psnr

SIGMA = 0.1


@pytest.fixture(scope="module")
def photograph():
    return load_sample("camera").pixels[20:160, 120:280]


@pytest.fixture(scope="module")
def drifting(photograph):
    """Ten frames of a scene that moves by fractions of a pixel."""
    frames = [ndimage.shift(photograph, (0.4 * t, 0.7 * t), mode="reflect")[40:88, 50:98] for t in range(10)]
    return np.clip(frames, 0, 1)


@pytest.fixture(scope="module")
def volume():
    """Smooth cells and a tube in depth, height and width."""
    z, y, x = np.mgrid[:12, :40, :40]
    cells = [(4, 12, 14, 6), (8, 26, 24, 8), (2, 30, 8, 5)]
    solid = sum(
        1 / (1 + np.exp(2 * (np.hypot(np.hypot(1.5 * (z - a), y - b), x - c) - r))) for a, b, c, r in cells
    )
    tube = np.exp(-((y - 8 - z) ** 2 + (x - 34 + 0.5 * z) ** 2) / 3)
    return 0.2 + 0.4 * solid + 0.4 * tube


def noisy_of(clean, sigma=SIGMA):
    return clean + np.random.default_rng(0).normal(0, sigma, clean.shape)


def frame_by_frame(noisy, noise):
    return np.stack([calepin.denoise(frame, noise=noise, method="dictionary").image for frame in noisy])


def test_a_time_series_gains_more_than_a_decibel_over_its_frames(drifting):
    noisy, noise = noisy_of(drifting), GaussianNoise(SIGMA)
    together = calepin.denoise(noisy, noise=noise, axes="TYX").image
    assert psnr(together, drifting) > psnr(frame_by_frame(noisy, noise), drifting) + 1.5


def test_a_volume_gains_more_than_two_decibels_over_its_slices(volume):
    noisy, noise = noisy_of(volume), GaussianNoise(SIGMA)
    together = calepin.denoise(noisy, noise=noise, axes="ZYX").image
    assert psnr(together, volume) > psnr(frame_by_frame(noisy, noise), volume) + 2


def test_unrelated_frames_are_denoised_one_by_one(photograph):
    other = load_sample("brick").pixels
    own = photograph[40:88, 50:98]
    frames = np.stack([own, other[60:108, 60:108], np.rot90(own)])
    noisy, noise = noisy_of(frames), GaussianNoise(SIGMA)
    together = calepin.denoise(noisy, noise=noise, axes="TYX").image
    np.testing.assert_allclose(together, frame_by_frame(noisy, noise), rtol=0, atol=1e-5)


def test_fast_motion_costs_nothing(photograph):
    """By 6 pixels a frame no patch of several frames has similar ones."""
    frames = np.stack([photograph[40:88, 10 + 6 * t : 58 + 6 * t] for t in range(5)])
    noisy, noise = noisy_of(frames), GaussianNoise(SIGMA)
    together = calepin.denoise(noisy, noise=noise, axes="TYX").image
    assert psnr(together, frames) > psnr(frame_by_frame(noisy, noise), frames) - 0.1


def test_a_stack_of_one_frame_is_an_image(drifting):
    noisy, noise = noisy_of(drifting[:1]), GaussianNoise(SIGMA)
    together = calepin.denoise(noisy, noise=noise, axes="TYX").image
    np.testing.assert_allclose(together, frame_by_frame(noisy, noise), rtol=0, atol=1e-5)


def test_two_frames_are_better_than_one(drifting):
    noisy, noise = noisy_of(drifting[:2]), GaussianNoise(SIGMA)
    together = calepin.denoise(noisy, noise=noise, axes="TYX").image
    assert psnr(together, drifting[:2]) > psnr(frame_by_frame(noisy, noise), drifting[:2]) + 0.3


def test_nothing_is_left_of_noise_alone():
    noisy = noisy_of(np.zeros((8, 32, 32)))
    result = calepin.denoise(noisy, noise=GaussianNoise(SIGMA), axes="TYX")
    assert np.std(result.image) < 0.05 * SIGMA


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_axes_in_any_order_and_units_of_any_size_give_the_same(dtype, volume):
    noisy = noisy_of(volume[:4, :24, :20]).astype(dtype)
    noise = GaussianNoise(SIGMA)
    found = calepin.denoise(noisy, noise=noise, axes="ZYX")
    moved = calepin.denoise(noisy.transpose(1, 2, 0), noise=noise, axes="YXZ")
    np.testing.assert_array_equal(moved.image.transpose(2, 0, 1), found.image)
    large = calepin.denoise(1024 * noisy, noise=GaussianNoise(1024 * SIGMA), axes="ZYX")
    np.testing.assert_allclose(large.image / 1024, found.image, rtol=0, atol=1e-5)
    assert found.image.dtype == dtype
    assert found.atoms is None
    assert found.sigma == SIGMA


def test_the_level_is_estimated_if_it_is_not_given(drifting):
    result = calepin.denoise(noisy_of(drifting), axes="TYX")
    assert result.sigma == pytest.approx(SIGMA, rel=0.15)


def test_without_noise_the_stack_stays(drifting):
    result = calepin.denoise(drifting, noise=GaussianNoise(0.0), axes="TYX")
    np.testing.assert_array_equal(result.image, drifting)


@pytest.mark.parametrize(("peak", "gain"), [(30, 10), (3, 6)])
def test_photons_of_a_time_series(peak, gain, drifting):
    clean = peak * drifting
    counts = np.random.default_rng(0).poisson(clean)
    found = calepin.denoise(counts, noise=PoissonNoise(), axes="TYX").image
    assert psnr(found / peak, drifting) > psnr(counts / peak, drifting) + gain
    assert np.mean(found) == pytest.approx(np.mean(clean), rel=0.02)
    assert found.min() >= 0


def test_a_camera_keeps_its_units(drifting):
    camera = PoissonGaussianNoise(gain=2.0, offset=100.0, read=3.0)
    clean = 100 + 2.0 * 40 * drifting
    noisy = add_noise(clean, camera).round().astype(np.uint16)
    found = calepin.denoise(noisy, noise=camera, axes="TYX").image
    assert found.dtype == np.float64
    assert np.mean((found - clean) ** 2) < 0.05 * np.mean((noisy - clean) ** 2)


def test_threads_give_the_same_bits(volume, with_threads):
    noisy = noisy_of(volume[:5, :24, :24])
    one, three = (
        with_threads(n, lambda: calepin.denoise(noisy, noise=GaussianNoise(SIGMA), axes="ZYX").image)
        for n in (1, 3)
    )
    np.testing.assert_array_equal(one, three)


def test_progress_never_falls(photograph):
    frames = np.stack([photograph[:24, :24]] * 3 + [np.rot90(photograph[60:84, 60:84])])
    told = []
    calepin.denoise(
        noisy_of(frames, 0.02),
        noise=GaussianNoise(0.02),
        axes="TYX",
        callback=lambda stage, fraction: told.append((fraction, stage)),
    )
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
    assert told[0][1] == "group 1"


def test_a_method_that_takes_stacks_can_be_given(drifting):
    noisy = noisy_of(drifting[:4, :24, :24])
    flat, deep = (
        calepin.denoise(noisy, method=StackDenoiser(depth), noise=GaussianNoise(SIGMA), axes="TYX").image
        for depth in (1, 4)
    )
    assert not np.array_equal(flat, deep)


@pytest.mark.parametrize("axes", ["YX", "IYX", "ZZYX", "zyx", "", 3, ["Z", "Y", "X"]])
def test_axes_that_do_not_fit_are_refused(axes, drifting):
    with pytest.raises(ValueError, match="axes: expected the letters Y, X and Z"):
        calepin.denoise(drifting, axes=axes)


def test_a_stack_without_axes_is_told_of_them(drifting):
    with pytest.raises(ValueError, match=r"image: .* got \(10, 48, 48\); for a stack give its axes"):
        calepin.denoise(drifting)


@pytest.mark.parametrize("method", ["dictionary", DictionaryDenoiser(), StackDenoiser, "stack"])
def test_methods_of_images_are_refused_for_a_stack(method, drifting):
    with pytest.raises(ValueError, match="method: expected None or calepin.imaging.StackDenoiser"):
        calepin.denoise(drifting, method=method, axes="TYX")


def test_noise_that_a_stack_cannot_have_is_refused(drifting):
    with pytest.raises(IncompatibleError, match="noise: StackDenoiser removes"):
        calepin.denoise(drifting, noise=CorrelatedNoise(np.ones((3, 3))), axes="TYX")
    with pytest.raises(ValueError, match=r"sigma: expected shape \(10, 48, 48\), as the stack, or"):
        calepin.denoise(drifting, noise=VaryingGaussianNoise(np.ones((10, 48))), axes="TYX")
    with pytest.raises(ValueError, match="image: expected counts for PoissonNoise"):
        calepin.denoise(drifting, noise=PoissonNoise(), axes="TYX")


def test_a_twentieth_of_the_samples_missing_costs_little(drifting, rng):
    noisy, noise = noisy_of(drifting), GaussianNoise(SIGMA)
    missing = rng.random(noisy.shape) < 0.05
    whole = calepin.denoise(noisy, noise=noise, axes="TYX").image
    found = calepin.denoise(np.ma.array(noisy, mask=missing), noise=noise, axes="TYX").image
    assert psnr(found, drifting) > psnr(whole, drifting) - 0.5
    assert psnr(found[missing], drifting[missing]) > psnr(whole, drifting) - 2.5
    with pytest.warns(UserWarning, match=r"image: 0\.049 of the samples are NaN: they are filled"):
        same = calepin.denoise(np.where(missing, np.nan, noisy), noise=noise, axes="TYX").image
    np.testing.assert_array_equal(same, found)


def test_a_missing_frame_is_filled_from_its_neighbours(drifting):
    mask = np.zeros(drifting.shape, bool)
    mask[4] = True
    found = calepin.denoise(
        np.ma.array(noisy_of(drifting), mask=mask), noise=GaussianNoise(SIGMA), axes="TYX"
    ).image
    assert psnr(found[4], drifting[4]) > psnr((drifting[3] + drifting[5]) / 2, drifting[4]) - 3


def test_the_level_and_counts_with_gaps(drifting, rng):
    missing = rng.random(drifting.shape) < 0.1
    result = calepin.denoise(np.ma.array(noisy_of(drifting), mask=missing), axes="TYX")
    assert result.sigma == pytest.approx(SIGMA, rel=0.15)
    counts = rng.poisson(10 * drifting)
    found, whole = (
        calepin.denoise(np.ma.array(counts, mask=mask), noise=PoissonNoise(), axes="TYX").image
        for mask in (missing, False)
    )
    assert psnr(found / 10, drifting) > psnr(whole / 10, drifting) - 0.5


def test_without_noise_gaps_alone_are_filled(drifting, rng):
    missing = rng.random(drifting.shape) < 0.05
    found = calepin.denoise(np.ma.array(drifting, mask=missing), noise=GaussianNoise(0.0), axes="TYX").image
    np.testing.assert_array_equal(found[~missing], drifting[~missing])
    assert psnr(found[missing], drifting[missing]) > 25


def test_a_frame_alone_with_gaps_is_filled_as_an_image_is(photograph, rng):
    noisy = noisy_of(photograph[40:72, 50:82])
    missing = rng.random(noisy.shape) < 0.1
    found = calepin.denoise(np.ma.array(noisy, mask=missing)[None], noise=GaussianNoise(SIGMA), axes="TYX")
    alone = inpaint(np.ma.array(noisy, mask=missing), noise=GaussianNoise(SIGMA))
    assert psnr(found.image[0], alone) > 35


def test_what_is_missing_everywhere_or_infinite_is_refused(drifting):
    with pytest.raises(ValueError, match="image: expected samples, all of them are missing"):
        calepin.denoise(np.full(drifting.shape, np.nan), axes="TYX")
    with pytest.raises(ValueError, match="image: expected finite values, got "):
        calepin.denoise(np.where(drifting == drifting[0, 0, 0], np.inf, drifting)[:, :20], axes="TYX")


def test_a_map_of_levels_is_better_than_their_mean(drifting):
    levels = np.broadcast_to(SIGMA * np.geomspace(0.25, 2, 48), (48, 48))
    noisy = drifting + levels * np.random.default_rng(0).standard_normal(drifting.shape)
    mean = GaussianNoise(float(np.sqrt(np.mean(levels**2))))
    found, one = (
        calepin.denoise(noisy, noise=noise, axes="TYX").image
        for noise in (VaryingGaussianNoise(levels), mean)
    )
    assert psnr(found, drifting) > psnr(one, drifting) + 2
    of_each = VaryingGaussianNoise(np.repeat(levels[None], len(drifting), axis=0))
    np.testing.assert_array_equal(calepin.denoise(noisy, noise=of_each, axes="TYX").image, found)


def test_a_map_of_one_level_is_that_level(drifting):
    noisy = noisy_of(drifting[:4])
    flat = VaryingGaussianNoise(np.full((48, 48), SIGMA))
    found = calepin.denoise(noisy, noise=flat, axes="TYX").image
    expected = calepin.denoise(noisy, noise=GaussianNoise(SIGMA), axes="TYX").image
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n", [1, 3])
def test_noise_too_weak_beside_that_of_others_is_told_once(drifting, n):
    level = np.full((48, 48), 0.001)
    level[:4, :4] = 1
    noisy = drifting[:n] + level * np.random.default_rng(0).standard_normal((n, 48, 48))
    with pytest.warns(UserWarning, match="noise: 99.3% of the pixels keep theirs, .* below 3%") as told:
        found = calepin.denoise(noisy, noise=VaryingGaussianNoise(level), axes="TYX").image
    assert len(told) == 1
    np.testing.assert_allclose(found[:, 10:], noisy[:, 10:], atol=1e-5)


@pytest.fixture(scope="module")
def coloured():
    cat = load_sample("cat").pixels
    return np.stack([cat[100 + t : 140 + t, 150:190] for t in range(6)])


def test_colours_are_denoised_together(coloured):
    noisy, noise = noisy_of(coloured), GaussianNoise(SIGMA)
    together = calepin.denoise(noisy, noise=noise, axes="TYXS")
    apart = np.stack(
        [calepin.denoise(noisy[..., c], noise=noise, axes="TYX").image for c in range(3)], axis=3
    )
    assert psnr(together.image, coloured) > psnr(apart, coloured) + 0.3
    assert together.image.shape == coloured.shape
    moved = calepin.denoise(np.moveaxis(noisy, 3, 0), noise=noise, axes="STYX")
    np.testing.assert_array_equal(np.moveaxis(moved.image, 0, 3), together.image)


def test_colours_with_gaps_in_all_channels_or_in_one(coloured, rng):
    noisy, noise = noisy_of(coloured), GaussianNoise(SIGMA)
    whole = psnr(calepin.denoise(noisy, noise=noise, axes="TYXS").image, coloured)
    shared = np.repeat(rng.random(coloured.shape[:3])[..., None] < 0.05, 3, axis=3)
    one = shared & (np.arange(3) == 1)
    for missing, cost in ((shared, 1), (one, 1.5)):
        found = calepin.denoise(np.ma.array(noisy, mask=missing), noise=noise, axes="TYXS").image
        assert psnr(found, coloured) > whole - cost


def test_channels_and_volumes_in_time_are_stacks_of_their_own(volume):
    small = volume[:4, :20, :20]
    both = np.stack([noisy_of(small, 0.05), 2 * noisy_of(small, 0.1)])
    result = calepin.denoise(both, axes="CZYX")
    assert [noise.sigma for noise in result.noise] == pytest.approx([0.05, 0.2], rel=0.3)
    for k, channel in enumerate(both):
        alone = calepin.denoise(channel, axes="ZYX")
        np.testing.assert_array_equal(result.image[k], alone.image)
    in_time = calepin.denoise(both, noise=GaussianNoise(SIGMA), axes="TZYX")
    np.testing.assert_array_equal(
        in_time.image[1], calepin.denoise(both[1], noise=GaussianNoise(SIGMA), axes="ZYX").image
    )
    assert in_time.sigma == SIGMA


@pytest.mark.parametrize("depth", [0, 17, 2.5])
def test_settings_out_of_range_are_refused(depth):
    with pytest.raises(ValueError, match="depth: expected an integer from 1 to 16"):
        StackDenoiser(depth)


def test_the_result_of_a_stack_is_shown_by_a_frame(drifting):
    result = calepin.denoise(drifting[:3], noise=GaussianNoise(0.0), axes="TYX")
    assert "denoised image" in result._repr_html_()


@pytest.mark.filterwarnings("ignore:image. 0.002 of the samples are NaN")
@pytest.mark.parametrize("gaps", [False, True])
def test_a_few_saturated_samples_are_no_obstacle(gaps):
    """A film of stars, one of which is ten thousand times the noise."""
    rng = np.random.default_rng(0)
    clean = np.full((4, 32, 32), 1000.0)
    clean[:, 20:23, 12:15] = 65000
    y = clean + rng.normal(0, 6, clean.shape)
    if gaps:
        y[2, 5:7, 5:9] = np.nan
    with pytest.warns(UserWarning, match="more than 2048 times the noise from the median, and stay"):
        found = calepin.denoise(y, noise=GaussianNoise(6.0), axes="ZYX").image
    near = clean == 1000
    np.testing.assert_array_equal(found[~near], y[~near])
    assert np.std(found[near] - 1000) < 2
