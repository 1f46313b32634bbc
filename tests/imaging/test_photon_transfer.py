"""Gain and read noise from one image, from a stack, and with a dark frame."""

import warnings

import numpy as np
import pytest
from skimage import data

from calepin.datasets import PoissonGaussianNoise, add_noise
from calepin.imaging import estimate_photon_transfer

CAMERA = PoissonGaussianNoise(gain=2.2, offset=100.0, read=5.0)
SCENE = 100 + 2.2 * 200 * data.camera()[:256, 128:384] / 255.0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_stack_shows_gain_and_read_noise(seed):
    stack = np.stack([add_noise(SCENE, CAMERA, random_state=10 * seed + k) for k in range(6)])
    found = estimate_photon_transfer(stack, offset=100.0)
    assert found.gain == pytest.approx(2.2, rel=0.03)
    assert found.read == pytest.approx(5.0, abs=1.5)
    assert found.offset == 100


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_image_shows_the_gain(seed):
    found = estimate_photon_transfer(add_noise(SCENE, CAMERA, random_state=seed), offset=100.0)
    assert found.gain == pytest.approx(2.2, rel=0.15)
    assert found.read < 20


@pytest.mark.parametrize("name", ["coins", "camera", "brick"])
def test_counts_have_a_gain_of_one_photon(name, rng):
    image = getattr(data, name)()[:256, :256] / 255.0
    found = estimate_photon_transfer(rng.poisson(60 * image))
    assert found.gain == pytest.approx(1, rel=0.25)


def test_dark_frames_show_offset_and_read_noise():
    stack = np.stack([add_noise(SCENE, CAMERA, random_state=k) for k in range(4)])
    dark = np.stack([add_noise(np.full((64, 64), 100.0), CAMERA, random_state=k) for k in range(4)])
    found = estimate_photon_transfer(stack, dark=dark)
    assert found.offset == pytest.approx(100, abs=0.2)
    assert found.read == pytest.approx(5, rel=0.03)
    assert found.gain == pytest.approx(2.2, rel=0.03)


def test_an_offset_that_is_too_small_is_told():
    stack = np.stack([add_noise(SCENE, CAMERA, random_state=k) for k in range(4)])
    with pytest.warns(UserWarning, match="offset: the noise vanishes .* above it"):
        assert estimate_photon_transfer(stack).read == 0


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        (np.zeros((1, 64, 64)), {}, "images: expected shape"),
        (np.zeros(64), {}, "images: expected shape"),
        (np.zeros((32, 64)), {}, "images: expected at least 48 x 48"),
        (np.zeros((64, 64)), {}, "images: expected several brightnesses, got 0 everywhere"),
        (np.full((64, 64), np.nan), {}, "images: expected finite"),
        (np.ones((64, 64)), {"offset": 3.0, "dark": np.zeros((8, 8))}, "offset: expected none beside dark"),
        (np.ones((64, 64)), {"offset": np.inf}, "offset: expected"),
    ],
)
def test_bad_input_is_named(images, settings, message):
    with pytest.raises(ValueError, match=message):
        estimate_photon_transfer(images, **settings)


def test_noise_of_one_level_is_not_that_of_photons(rng):
    ramp = np.linspace(0, 100, 128)[:, None] * np.ones((128, 128))
    falling = ramp + (12 - 0.1 * ramp) * rng.standard_normal(ramp.shape)
    with pytest.raises(ValueError, match="images: expected noise that grows with the brightness"):
        estimate_photon_transfer(falling)


def test_stacks_that_show_no_noise_or_are_no_stacks_are_refused():
    frame = add_noise(SCENE, CAMERA, random_state=0)
    with pytest.raises(ValueError, match="images: expected noise, got none"):
        estimate_photon_transfer(np.stack([frame, frame]), offset=100.0)
    with pytest.raises(ValueError, match="images: expected a stack"):
        estimate_photon_transfer(np.stack([frame] * 3, axis=2), offset=100.0)
    with pytest.raises(ValueError, match="offset: expected less than in the images"):
        estimate_photon_transfer(frame, offset=1000.0)
    with pytest.raises(ValueError, match="dark: expected less than in the images"):
        estimate_photon_transfer(frame, dark=frame + 500)


def frames_of(scenes, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([100 + 2.0 * rng.poisson(scene) + rng.normal(0, 6, scene.shape) for scene in scenes])


@pytest.mark.parametrize("n_frames", [2, 6])
def test_a_scene_that_moves_or_flickers_is_told_and_one_at_rest_is_not(n_frames):
    scene = 500 / 255 * data.camera()[100:200].astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        still = estimate_photon_transfer(frames_of([scene[:, 150:250]] * n_frames), offset=100)
    assert 1.9 < still.gain < 2.1
    moving = [scene[:, 150 + k : 250 + k] for k in range(n_frames)]
    flickering = [scene[:, 150:250] * (1.1 if k % 2 else 0.9) for k in range(n_frames)]
    for scenes in (moving, flickering):
        with pytest.warns(
            UserWarning, match="^images: the scene moves or changes between frames: the gain is"
        ):
            estimate_photon_transfer(frames_of(scenes), offset=100)


def test_motion_is_named_where_noise_falls_with_the_brightness():
    dark_edges = np.where(np.arange(96) // 4 % 2 * (np.arange(96) < 48), 0.0, 400.0) * np.ones((64, 1))
    with pytest.raises(ValueError, match="images: expected a scene at rest, but the scene moves or changes"):
        estimate_photon_transfer(frames_of([dark_edges[:, k : 80 + k] for k in range(4)]), offset=100)
