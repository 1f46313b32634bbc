"""Missing pixels are filled better than by interpolation, whatever marks them."""

import numpy as np
import pytest
import torch
from skimage import data
from skimage.restoration import inpaint_biharmonic

import calepin
from calepin.datasets import GaussianNoise
from calepin.imaging import inpaint
from calepin.metrics import psnr

TEXTURE = data.brick()[100:148, 100:148] / 255
COLOUR = data.astronaut()[20:60, 180:220] / 255


def known_pixels(shape, fraction=0.5, seed=0):
    return np.random.default_rng(seed).random(shape) < fraction


@pytest.fixture(scope="module")
def half():
    """An image of which half of the pixels are known, and the image filled."""
    mask = known_pixels(TEXTURE.shape)
    image = np.where(mask, TEXTURE, np.nan)
    return image, mask, inpaint(image)


def test_repeated_structure_is_filled_better_than_by_interpolation(half):
    image, mask, filled = half
    smooth = inpaint_biharmonic(np.where(mask, TEXTURE, 0), ~mask)
    assert psnr(filled, TEXTURE) > psnr(smooth, TEXTURE) + 1
    np.testing.assert_array_equal(filled[mask], image[mask])


@pytest.mark.parametrize(
    "marked",
    [
        lambda mask: (np.where(mask, TEXTURE, 7), mask),
        lambda mask: (np.where(mask, TEXTURE, np.nan), np.ones_like(mask)),
        lambda mask: (TEXTURE, mask.astype(int)),
        lambda mask: (TEXTURE, 255 * mask.astype(np.uint8)),
        lambda mask: (TEXTURE, mask.astype(float)),
        lambda mask: (np.ma.array(TEXTURE, mask=~mask), None),
        lambda mask: (torch.from_numpy(TEXTURE), torch.from_numpy(mask)),
    ],
    ids=["bool", "nan", "0/1", "0/255", "float", "numpy.ma", "torch"],
)
def test_every_kind_of_mask_is_the_same(marked, half):
    _, mask, filled = half
    np.testing.assert_array_equal(inpaint(*marked(mask)), filled)


def test_units_do_not_matter(half):
    image, _, filled = half
    np.testing.assert_allclose(inpaint(1000 * image - 300), 1000 * filled - 300, atol=1)


def test_integers_are_filled_as_floats():
    mask = known_pixels(TEXTURE.shape)
    whole = np.rint(255 * TEXTURE).astype(np.uint8)
    filled = inpaint(whole, mask)
    assert filled.dtype == np.float64
    np.testing.assert_array_equal(filled[mask], whole[mask])
    np.testing.assert_allclose(filled / 255, inpaint(whole / 255, mask), atol=1e-3)


def test_colour_is_filled_with_one_mask_for_all_channels():
    one = known_pixels(COLOUR.shape[:2])
    each = one[..., None] & np.ones(3, bool)
    filled = inpaint(COLOUR, one)
    np.testing.assert_array_equal(filled, inpaint(np.where(each, COLOUR, np.nan)))
    np.testing.assert_array_equal(filled[one], COLOUR[one])
    smooth = inpaint_biharmonic(np.where(each, COLOUR, 0), ~one, channel_axis=2)
    assert psnr(filled, COLOUR) > psnr(smooth, COLOUR)


def test_what_one_channel_lacks_the_others_have():
    mask = known_pixels(COLOUR.shape)
    together = inpaint(np.where(mask, COLOUR, np.nan))
    alone = np.stack([inpaint(COLOUR[..., c], mask[..., c]) for c in range(3)], axis=2)
    assert psnr(together, COLOUR) > psnr(alone, COLOUR) + 1


def test_noise_of_the_known_pixels_is_removed():
    mask = known_pixels(TEXTURE.shape, 0.7)
    noisy = TEXTURE + np.random.default_rng(1).normal(0, 0.08, TEXTURE.shape)
    kept = inpaint(noisy, mask)
    removed = inpaint(noisy, mask, noise=GaussianNoise(0.08))
    assert psnr(removed, TEXTURE) > psnr(kept, TEXTURE) + 3
    np.testing.assert_array_equal(kept[mask], noisy[mask])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 40), (40, 2), (5, 5, 3), (17, 23)])
def test_any_size(shape):
    mask = known_pixels(shape[:2], 0.6, seed=2)
    mask[0, 0] = True
    image = np.random.default_rng(0).random(shape)
    if mask.all():
        mask, image = np.array([[True, False]]), np.ones((1, 2))
    filled = inpaint(image, mask)
    assert filled.shape == image.shape
    assert np.isfinite(filled).all()
    assert filled.min() > -1
    assert filled.max() < 2


def test_scratches_across_a_pattern_are_filled():
    stripes = np.tile(np.sin(np.arange(48))[:, None], (1, 48))
    mask = np.ones((48, 48), bool)
    mask[:, 20:23] = False
    filled = inpaint(stripes, mask)
    assert np.abs(filled - stripes)[~mask].max() < 0.01


def test_a_constant_stays_constant():
    mask = known_pixels((20, 20))
    np.testing.assert_allclose(inpaint(np.full((20, 20), 3.25), mask), 3.25, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_input_are_kept(dtype):
    image, mask = TEXTURE[:20, :20].astype(dtype), known_pixels((20, 20))
    before = image.copy()
    assert inpaint(image, mask).dtype == dtype
    np.testing.assert_array_equal(image, before)


def test_threads_give_the_same_bits(half):
    image, _, filled = half
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        np.testing.assert_array_equal(inpaint(image), filled)
    finally:
        torch.set_num_threads(before)


def test_progress_ends_at_one():
    heard = []
    inpaint(
        TEXTURE[:16, :16], known_pixels((16, 16)), callback=lambda stage, part: heard.append((stage, part))
    )
    fractions = [part for _, part in heard]
    assert fractions == sorted(fractions)
    assert heard[-1] == ("pass 12", 1)


def test_an_image_without_gaps_is_returned_with_a_warning():
    with pytest.warns(UserWarning, match="mask: no entry is missing"):
        np.testing.assert_array_equal(inpaint(TEXTURE), TEXTURE)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (np.ones((8, 8)), np.zeros((8, 8)), "mask: expected an observed entry, got none among 64"),
        (np.full((8, 8), np.nan), None, "mask: expected an observed entry, got none"),
        (np.ones((8, 8)), np.ones((8, 9)), r"mask: expected shape \(8, 8\), as the image"),
        (
            np.ones((8, 8)),
            np.arange(64).reshape(8, 8),
            "mask: expected True and False, 0 and 1, or 0 and 255",
        ),
        (np.ones((8, 8)), np.full((8, 8), np.nan), "mask: expected True and False"),
        (np.ones((8, 8)), np.ma.array(np.ones((8, 8)), mask=True), "mask: expected an array without a mask"),
        (np.full((8, 8), np.inf), None, "image: expected finite values"),
        (np.ones(8), None, "image: expected shape"),
        (np.ones((8, 8, 3)), np.ones((8, 8, 3)) * [1, 1, 0], "a channel without one"),
    ],
)
def test_bad_input_is_named_in_one_line(image, mask, message):
    with pytest.raises(ValueError, match=message) as caught:
        inpaint(image, mask)
    assert "\n" not in str(caught.value)


def test_noise_of_another_kind_is_refused():
    with pytest.raises((TypeError, calepin.IncompatibleError), match="noise: "):
        inpaint(TEXTURE, known_pixels(TEXTURE.shape), noise=calepin.PoissonNoise())


def test_a_dark_margin_beside_an_image_far_from_zero_costs_no_detail():
    image = 255 * TEXTURE + 1e4
    margin = image.copy()
    margin[:6] = 0
    mask = known_pixels(image.shape)
    errors = [np.std((inpaint(values, mask) - values)[8:][~mask[8:]]) for values in (image, margin)]
    assert errors[1] < 1.15 * errors[0]


@pytest.mark.parametrize("margin", [-1e8, 1e25])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_huge_constant_margin_costs_no_detail(margin, dtype):
    mask = known_pixels(TEXTURE.shape)
    alone = inpaint((255 * TEXTURE[:, 24:]).astype(dtype), mask[:, 24:])
    image = (255 * TEXTURE).astype(dtype)
    image[:, :24] = margin
    filled = inpaint(image, mask)
    np.testing.assert_array_equal(filled[:, :24], image[:, :24])
    errors = [np.std((found - image[:, 24:])[~mask[:, 24:]]) for found in (filled[:, 24:], alone)]
    assert errors[0] < 1.05 * errors[1]


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_areas_of_a_colour_image_that_are_far_apart_are_filled_without_noise(share):
    width = int(share * COLOUR.shape[1])
    image = 255 * COLOUR
    image[:, :width] = -1e12
    mask = known_pixels(image.shape)
    noisy = image + np.random.default_rng(1).normal(0, 10, image.shape)
    heard = []
    filled = inpaint(
        noisy, mask, noise=GaussianNoise(10), callback=lambda stage, fraction: heard.append(fraction)
    )
    assert heard == sorted(heard)
    assert heard[-1] == 1
    assert np.std((filled - image)[:, width:][mask[:, width:]]) < 9
    assert np.std((filled - image)[:, width:]) < 20


def test_far_values_of_one_channel_alone_are_filled_as_before():
    image = 255 * COLOUR[:16, :16]
    image[2, 3, 0] = 1e9
    mask = known_pixels(image.shape)
    mask[2, 3] = [True, False, False]  # nothing tells the other channels of what is as far
    assert np.isfinite(inpaint(image, mask)).all()


def test_what_a_mask_hides_may_be_anything():
    clean = data.camera()[100:132, 150:182] / 255
    seen = np.random.default_rng(0).random(clean.shape) < 0.6
    expected = inpaint(np.where(seen, clean, 0), seen)
    for hidden in (np.inf, -np.inf, np.nan, 1e300):
        np.testing.assert_array_equal(inpaint(np.where(seen, clean, hidden), seen), expected)
    with pytest.raises(ValueError, match="finite"):
        inpaint(np.where(seen, clean, np.inf))


def test_too_few_pixels_for_groups_are_told():
    clean = data.camera()[100:164, 150:214] / 255
    seen = np.random.default_rng(0).random(clean.shape) < 0.005
    with pytest.warns(UserWarning, match=r"0\.[0-9]+% of the image is too little for groups of patches"):
        inpaint(clean, seen)
