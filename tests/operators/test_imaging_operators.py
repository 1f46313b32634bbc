"""Blur, reduction, colour filters and projections: what cameras and scanners do to images."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from calepin.operators import Bayer, Blur, Downsample, Matrix, Radon
from calepin.operators.least_squares import regularised_least_squares
from calepin.testing import check_operator


def randn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def psf(*shape, seed=0):
    """Return a PSF without symmetry."""
    values = randn(*shape, seed=seed).square()
    return values / values.sum()


def gaussian(width, sigma=1.2):
    t = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    line = (-0.5 * (t / sigma) ** 2).exp()
    return line[:, None] * line / line.sum() ** 2


ANGLES = torch.tensor([0.0, 20.0, 45.0, 90.0, 131.0], dtype=torch.float64)

OPERATORS = {
    **{
        f"blur {boundary} {name}": lambda boundary=boundary, kernel=kernel: Blur(
            kernel(), (2, 9, 8), boundary=boundary
        )
        for boundary in ("symmetric", "circular", "zero", "valid")
        for name, kernel in {
            "odd": lambda: psf(3, 5),
            "even": lambda: psf(4, 2),
            "own mirror image": lambda: gaussian(5),
            "one pixel": lambda: torch.ones(1, 1, dtype=torch.float64),
        }.items()
    },
    "blur as large as the image": lambda: Blur(psf(6, 5), (6, 5)),
    "blur of signals": lambda: Blur(psf(4), (3, 10)),
    "blur of volumes": lambda: Blur(psf(3, 2, 3), (5, 6, 4), boundary="circular"),
    **{
        f"downsample {factor} {boundary} {kernel}": lambda factor=factor, boundary=boundary, kernel=kernel: (
            Downsample((2, 12, 18), factor, boundary=boundary, antialias=kernel)
        )
        for factor in (2, 3)
        for boundary in ("symmetric", "circular", "zero")
        for kernel in ("bicubic", "box")
    },
    "downsample by an odd kernel": lambda: Downsample((12, 8), 2, antialias=gaussian(5)),
    "downsample by a kernel without symmetry": lambda: Downsample(
        (12, 8), 2, antialias=psf(4, 3), boundary="circular"
    ),
    "bayer": lambda: Bayer((5, 6)),
    "bayer GBRG": lambda: Bayer((6, 7), pattern="GBRG"),
    "radon": lambda: Radon((7, 9), ANGLES),
    "radon of channels": lambda: Radon((2, 8, 6), ANGLES),
    "matrix": lambda: Matrix(randn(7, 12), (3, 4)),
    "matrix of channels": lambda: Matrix(randn(30, 24), (2, 3, 4)),
    "radon cut off": lambda: Radon((8, 8), ANGLES, n_detectors=5),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.filterwarnings("ignore:the PSF sums")
def test_operators_conform(name):
    check_operator(OPERATORS[name]())


@pytest.mark.parametrize(
    "name", ["blur symmetric odd", "blur circular even", "downsample 3 zero box", "radon"]
)
def test_complex_samples_are_filtered_too(name):
    check_operator(OPERATORS[name](), dtype=torch.complex128)


@pytest.mark.parametrize("name", OPERATORS)
def test_precision_follows_the_samples(name):
    operator = OPERATORS[name]()
    x = randn(2, *operator.in_shape, dtype=torch.float32)
    y = operator(x)
    assert y.dtype == operator.adjoint(y).dtype == torch.float32
    torch.testing.assert_close(y, operator(x.double()).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("boundary", "mode"), [("symmetric", "reflect"), ("circular", "wrap"), ("zero", "constant")]
)
@pytest.mark.parametrize("shape", [(3, 5), (4, 5), (4, 4)])
def test_blur_is_the_convolution_of_scipy(boundary, mode, shape):
    image, kernel = randn(9, 8), psf(*shape)
    expected = ndimage.convolve(image.numpy(), kernel.numpy(), mode=mode)
    np.testing.assert_allclose(Blur(kernel, (9, 8), boundary=boundary)(image[None])[0], expected, atol=1e-12)


def test_a_valid_blur_assumes_nothing_outside():
    image, kernel = randn(12, 11), psf(3, 4)
    blur = Blur(kernel, (10, 8), boundary="valid")
    assert blur.in_shape == (12, 11)
    whole = Blur(kernel, (12, 11), boundary="zero")(image[None])[0]
    torch.testing.assert_close(blur(image[None])[0], whole[1:11, 1:9])


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_reduction_is_that_of_pillow(factor):
    from PIL import Image

    image = np.random.default_rng(0).uniform(0, 1, (48, 60)).astype(np.float32)
    expected = Image.fromarray(image).resize((60 // factor, 48 // factor), Image.Resampling.BICUBIC)
    found = Downsample((48, 60), factor)(torch.from_numpy(image)[None])[0].numpy()
    border = 3  # Pillow cuts the kernel at the border instead of mirroring the image
    inner = (slice(border, -border),) * 2
    np.testing.assert_allclose(found[inner], np.asarray(expected)[inner], atol=1e-5)


def test_a_box_is_the_mean_of_a_block():
    x = randn(2, 6, 9)
    expected = x.view(2, 2, 3, 3, 3).mean((2, 4))
    torch.testing.assert_close(Downsample((6, 9), 3, antialias="box")(x), expected)


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_a_bayer_pattern_reads_row_by_row(pattern):
    x = torch.arange(3.0).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    y = Bayer((4, 4), pattern=pattern)(x)[0]
    assert "".join("RGB"[int(value)] for value in y[:2, :2].flatten()) == pattern
    torch.testing.assert_close(y[2:, 2:], y[:2, :2])


def test_projections_are_those_of_scikit_image():
    from skimage.transform import radon

    rows, columns = np.mgrid[:64, :64]
    image = np.exp(-((rows - 25.0) ** 2) / 40 - (columns - 40.0) ** 2 / 90)
    image[(rows - 32) ** 2 + (columns - 32) ** 2 > 31**2] = 0
    angles = [0.0, 30.0, 90.0, 160.0]
    expected = radon(image, angles, circle=True).T
    found = Radon((64, 64), torch.tensor(angles), n_detectors=64)(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(found, expected, atol=0.01 * expected.max())


def test_each_projection_has_the_sum_of_the_image():
    x = randn(2, 7, 9)
    sums = Radon((7, 9), ANGLES)(x).sum(-1)
    torch.testing.assert_close(sums, x.sum((1, 2))[:, None].expand_as(sums))


@pytest.mark.parametrize(
    "name", ["blur symmetric odd", "blur valid odd", "downsample 2 zero bicubic", "radon"]
)
def test_least_squares_without_a_closed_form_are_solved_by_conjugate_gradients(name):
    operator = OPERATORS[name]()
    x, y = randn(2, *operator.in_shape), randn(2, *operator.out_shape, seed=1)
    assert operator.solve_gram(y, 0.1) is None
    z, converged = regularised_least_squares(operator, x, y, weight=0.1, n_iter=500, tol=1e-10)
    assert converged
    gradient = operator.adjoint(operator(z) - y) + 0.1 * (z - x)
    assert gradient.abs().max() < 1e-8
    assert not regularised_least_squares(operator, x, y, weight=0.1, n_iter=1, tol=1e-10)[1]


@pytest.mark.parametrize("name", ["blur circular odd", "blur symmetric own mirror image", "bayer"])
def test_a_closed_form_minimises_the_same_objective(name):
    operator = OPERATORS[name]()
    x, y = randn(2, *operator.in_shape), randn(2, *operator.out_shape, seed=1)
    z, converged = regularised_least_squares(operator, x, y, weight=0.1, n_iter=0)
    assert converged
    assert (operator.adjoint(operator(z) - y) + 0.1 * (z - x)).abs().max() < 1e-10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Blur(psf(9, 3), (8, 8)),
            r"psf: expected at most the size of the image, \(8, 8\), got \(9, 3\)",
        ),
        (lambda: Blur(torch.zeros(3, 3), (8, 8)), "psf: expected finite values that are not all zero"),
        (lambda: Blur(torch.ones(3, 3, dtype=torch.int64), (8, 8)), "psf: expected a real tensor"),
        (lambda: Blur(psf(3, 3), (8, 8), boundary="wrap"), "boundary: expected one of"),
        (lambda: Blur(psf(3, 3, 3), (8, 8)), "psf: expected at most the size of the image"),
        (lambda: Downsample((9, 8), 2), "shape: expected sides that are multiples of 2"),
        (lambda: Downsample((8, 8), 1), "factor: expected an integer of at least 2"),
        (lambda: Downsample((8, 8), 2, antialias="sinc"), "antialias: expected one of"),
        (lambda: Downsample((6, 6), 2), "psf: expected at most the size of the image"),
        (lambda: Bayer((4, 4), pattern="RGBG"), "pattern: expected one of"),
        (lambda: Bayer((3, 4, 4)), "shape: expected"),
        (
            lambda: Matrix(randn(3, 12), (3, 5)),
            r"matrix: expected shape \(n_measurements, 15\)",
        ),
        (lambda: Matrix(torch.ones(3, 12, dtype=torch.int64), (3, 4)), "matrix: expected a floating dtype"),
        (lambda: Matrix(torch.zeros(3, 12), (3, 4)), "matrix: expected values that are not all zero"),
        (lambda: Matrix(torch.full((3, 12), torch.nan), (3, 4)), "matrix: expected finite values"),
        (lambda: Radon((8,), ANGLES), "shape: expected"),
        (lambda: Radon((8, 8), torch.tensor([torch.nan])), "angles: expected a real tensor of finite angles"),
    ],
)
def test_what_cannot_be_built_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_psf_that_changes_the_brightness_warns():
    with pytest.warns(UserWarning, match="the PSF sums to 2, not to 1"):
        Blur(2 * psf(3, 3), (8, 8))


def test_angles_in_radians_are_warned_of():
    with pytest.warns(UserWarning, match="angles: expected degrees, got angles within 2 pi"):
        Radon((8, 8), torch.linspace(0, torch.pi, 12))
