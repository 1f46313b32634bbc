import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

import calepin
from calepin import GaussianNoise
from calepin.datasets import load_sample
from calepin.operators import (
    Bayer,
    Blur,
    Dense,
    Downsample,
    Identity,
    Mask,
    Matrix,
    MultiCoilMRI,
    NonCartesianFourier,
    Radon,
    Sensitivities,
    SubsampledHadamard,
    radial_trajectory,
)
from calepin.restoration import GroupDenoiser, TVDenoiser, WaveletDenoiser
from calepin.restoration.mosaic import along_edges
from calepin.restoration.splitting import gain

CAMERA = load_sample("camera").pixels.astype(np.float64)[170:218, 230:278]
CAT = np.ascontiguousarray(np.moveaxis(load_sample("cat").pixels.astype(np.float64)[100:132, 150:182], -1, 0))


def psnr(image, clean):
    return -10 * np.log10(np.mean((image - clean) ** 2))


def measured(operator, image, sigma, seed=0):
    y = operator(torch.from_numpy(image)[None])[0].numpy()
    return y + np.random.default_rng(seed).normal(0, sigma, y.shape)


def gaussian(width, sigma):
    t = torch.arange(width, dtype=torch.float64) - width // 2
    line = (-0.5 * (t / sigma) ** 2).exp()
    return line[:, None] * line / line.sum() ** 2


def blurred(boundary="symmetric", sigma=0.01):
    blur = Blur(gaussian(7, 1.2), CAMERA.shape, boundary=boundary)
    return blur, measured(blur, CAMERA, sigma)


@pytest.mark.parametrize("prior", ["tv", "wavelet", "groups", "dictionary", "network", "best"])
def test_a_blurred_image_gets_sharper(prior):
    blur, y = blurred()
    result = calepin.restore(y, blur, noise=GaussianNoise(0.01), prior=prior)
    assert psnr(result.image, CAMERA) > psnr(y, CAMERA) + (1.0 if prior == "wavelet" else 2.0)
    assert result.converged
    assert isinstance(result._repr_html_(), str)
    levels = [step["level"] for step in result.history]
    assert levels[:8] == sorted(levels[:8], reverse=True)
    assert levels[7] == pytest.approx(0.01 / gain(blur, torch.from_numpy(y)))


def test_a_boundary_without_a_closed_form_is_restored_as_well():
    blur = Blur(gaussian(7, 1.2), (42, 42), boundary="valid")
    y = measured(blur, CAMERA, 0.01)
    result = calepin.restore(y, blur, noise=GaussianNoise(0.01), prior="tv")
    assert result.image.shape == CAMERA.shape
    inner = (slice(3, -3),) * 2
    assert psnr(result.image[inner], CAMERA[inner]) > psnr(y, CAMERA[inner]) + 2


def test_denoising_is_the_case_of_the_identity():
    y = CAMERA + np.random.default_rng(0).normal(0, 0.1, CAMERA.shape)
    result = calepin.restore(y, Identity(CAMERA.shape), noise=GaussianNoise(0.1), prior="groups")
    assert psnr(result.image, CAMERA) > psnr(y, CAMERA) + 4


def test_missing_pixels_are_the_case_of_a_mask():
    mask = Mask(torch.from_numpy(np.random.default_rng(0).uniform(size=CAMERA.shape) < 0.5))
    y = measured(mask, CAMERA, 0.0)
    result = calepin.restore(y, mask, noise=GaussianNoise(0.0), prior="tv")
    assert psnr(result.image, CAMERA) > 23


def test_a_reduced_image_is_enlarged_beyond_bicubic_interpolation():
    from skimage.transform import resize

    reduce = Downsample(CAMERA.shape, 2)
    y = measured(reduce, CAMERA, 0.0)
    result = calepin.restore(y, reduce, noise=GaussianNoise(0.0), prior="dictionary")
    assert psnr(result.image, CAMERA) > psnr(resize(y, CAMERA.shape, order=3), CAMERA) + 0.5


def test_colours_of_a_bayer_sensor_are_restored():
    bayer = Bayer(CAT.shape[1:])
    y = measured(bayer, CAT, 0.0)
    result = calepin.restore(y, bayer, noise=GaussianNoise(0.0), prior="groups")
    assert result.image.shape == CAT.shape
    assert psnr(result.image, CAT) > 35


@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
def test_a_mosaic_is_first_interpolated_along_edges(pattern):
    bayer = Bayer(CAT.shape[1:], pattern=pattern)
    y = measured(bayer, CAT, 0.0)
    first = along_edges(y, bayer.colour.numpy())
    np.testing.assert_array_equal(measured(bayer, first, 0.0), y)
    assert psnr(first, CAT) > 35
    level = np.full((6, 7), 0.3)
    np.testing.assert_allclose(along_edges(level, Bayer((6, 7)).colour.numpy()), 0.3)


def test_projections_and_complex_measurements_are_restored():
    radon = Radon(CAMERA.shape, torch.linspace(0, 171, 20, dtype=torch.float64))
    result = calepin.restore(measured(radon, CAMERA, 0.1), radon, noise=GaussianNoise(0.1), prior="tv")
    assert psnr(result.image, CAMERA) > 18
    acquired = torch.rand(CAMERA.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    acquired[20:28, 20:28] = True
    mri = MultiCoilMRI(acquired)
    image = torch.from_numpy(CAMERA)[None].to(torch.complex128)
    result = calepin.restore(mri(image[None])[0], mri, noise=GaussianNoise(0.0), prior="tv")
    assert isinstance(result.image, torch.Tensor)
    filled = mri.adjoint(mri(image[None]))[0]
    assert psnr(result.image.numpy(), image.numpy()).real > psnr(filled.numpy(), image.numpy()).real + 1


@pytest.mark.filterwarnings("ignore:conjugate gradients did not converge")  # frequencies of few samples
def test_spokes_of_kspace_are_restored_beyond_their_weighted_adjoint():
    image = load_sample("camera").pixels[100:356:4, 150:406:4].astype(np.float64)
    spokes = radial_trajectory(image.shape, 20)
    operator = NonCartesianFourier(image.shape, spokes)
    y = operator(torch.from_numpy(image)[None])[0]
    noise = torch.randn(2, *y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = (y + 0.01 * torch.complex(*noise)).to(torch.complex64)
    # each sample weighted by the area around it, and the best scale: what gridding can reach
    density = torch.linalg.vector_norm(spokes, dim=1).clamp_min(0.25).float()
    gridded = operator.adjoint((density * y)[None])[0].real.numpy()
    gridded = gridded * (gridded * image).sum() / (gridded**2).sum()
    # without a warning: conjugate gradients converge, although the middle of k-space is sampled densely
    result = calepin.restore(y, operator, noise=GaussianNoise(0.01), prior="tv")
    assert result.image.dtype == torch.complex64
    assert psnr(result.image.real.numpy(), image) > psnr(gridded, image) + 3


@pytest.mark.parametrize("sigma", [0.01, 0.05])
@pytest.mark.parametrize("kind", ["blur", "identity", "mask", "downsample"])
def test_the_level_of_the_noise_is_that_of_the_residual(kind, sigma):
    image = load_sample("camera").pixels.astype(np.float64)[64:192, 128:256]
    operator = {
        "blur": lambda: Blur(gaussian(7, 1.2), image.shape),
        "identity": lambda: Identity(image.shape),
        "mask": lambda: Mask(torch.from_numpy(np.random.default_rng(1).uniform(size=image.shape) < 0.7)),
        "downsample": lambda: Downsample(image.shape, 2),
    }[kind]()
    y = measured(operator, image, sigma)
    if kind == "mask":
        y *= operator.observed.numpy()
    result = calepin.restore(y, operator, prior="tv")
    # fine texture, of which the camera has much, counts as noise
    assert 0.9 * sigma < result.sigma < 1.15 * sigma + 0.008


def test_units_of_the_image_and_of_the_operator_do_not_matter():
    """Steps follow from the norm of the operator, and levels from the range of the image."""
    blur, y = blurred()
    usual = calepin.restore(y, blur, noise=GaussianNoise(0.01), prior="tv").image
    other = calepin.restore(1000 * y, blur, noise=GaussianNoise(10.0), prior="tv").image
    np.testing.assert_allclose(other / 1000, usual, atol=2e-3)
    with pytest.warns(UserWarning, match="the PSF sums to 3"):
        triple = Blur(3 * blur.psf, CAMERA.shape)
    other = calepin.restore(3 * y, triple, noise=GaussianNoise(0.03), prior="tv").image
    np.testing.assert_allclose(other, usual, atol=2e-3)


@pytest.mark.filterwarnings("ignore:the last step still changed the image")
@pytest.mark.parametrize("prior", ["tv", "groups"])
@pytest.mark.parametrize("kind", ["blur", "mask", "downsample", "hadamard", "matrix", "bayer"])
def test_an_offset_of_a_million_costs_no_quality(kind, prior):
    colours = 255 * CAT
    gray = 255 * CAMERA[:32, :32]
    clean = colours if kind == "bayer" else gray
    rng = np.random.default_rng(0)
    operator = {
        "blur": lambda: Blur(gaussian(7, 1.2), clean.shape),
        "mask": lambda: Mask(torch.from_numpy(rng.uniform(size=clean.shape) < 0.6)),
        "downsample": lambda: Downsample(clean.shape, 2),
        "hadamard": lambda: SubsampledHadamard(clean.shape, 600),
        "matrix": lambda: Matrix(torch.from_numpy(rng.integers(0, 2, (600, 1024)).astype(float)), (32, 32)),
        "bayer": lambda: Bayer((32, 32)),
    }[kind]()
    noise = 2 * rng.standard_normal(operator.out_shape) * (measured(operator, clean, 0.0) != 0)
    errors = []
    for offset in (0, 1e6, 1e6 * np.arange(1, 4)[:, None, None] if kind == "bayer" else -1e6):
        y = measured(operator, clean + offset, 0.0) + noise
        start = clean.mean() + offset + 0 * clean if kind == "hadamard" else None
        found = calepin.restore(y, operator, noise=GaussianNoise(2.0), prior=prior, start=start).image
        errors.append(np.sqrt(np.mean((found - offset - clean) ** 2)))
    assert max(errors) < 1.06 * errors[0]


@pytest.mark.parametrize("prior", ["tv", "untrained"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_image_is_restored(prior, dtype):
    blur = Blur(gaussian(5, 1.0), (20, 20))
    found = calepin.restore(np.full((20, 20), 1e4, dtype), blur, noise=GaussianNoise(50.0), prior=prior)
    np.testing.assert_allclose(found.image, 1e4, rtol=0.02)


def test_an_untrained_network_reaches_values_above_those_of_the_smooth_first_image():
    """Of projections the first image has half of the contrast; the network's values were limited to it."""
    rows, columns = np.mgrid[-1:1:20j, -1:1:20j]
    image = (rows**2 + columns**2 < 0.6) * (0.4 + 0.6 * (abs(columns) < 0.3)).astype(np.float32)
    radon = Radon((20, 20), torch.arange(0, 180, 9.0))
    y = radon(torch.from_numpy(image)[None])
    y = y + 0.8 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = calepin.restore(y[0], radon, noise=GaussianNoise(0.8), prior="untrained").image
    assert np.abs(found.numpy() - image).mean() < 0.06


def test_an_untrained_network_does_not_depend_on_units():
    mask = Mask(torch.from_numpy(np.random.default_rng(0).uniform(size=(16, 16)) < 0.5))
    y = measured(mask, CAMERA[:16, :16], 0.0)
    one, other = (
        calepin.restore(k * y, mask, noise=GaussianNoise(0.05 * k), prior="untrained").image
        for k in (1, 1e-8)
    )
    np.testing.assert_allclose(other / 1e-8, one, atol=1e-3)


def test_an_untrained_network_makes_an_image_far_from_zero():
    mask = Mask(torch.from_numpy(np.random.default_rng(0).uniform(size=(32, 32)) < 0.5))
    y = measured(mask, CAMERA[:32, :32] + 1e4, 0.0)
    found = calepin.restore(y, mask, noise=GaussianNoise(0.05), prior="untrained").image
    assert psnr(found - 1e4, CAMERA[:32, :32]) > 18


def test_an_untrained_network_is_a_prior():
    mask = Mask(torch.from_numpy(np.random.default_rng(0).uniform(size=(32, 32)) < 0.5))
    y = measured(mask, CAMERA[:32, :32], 0.0).astype(np.float32)
    result = calepin.restore(y, mask, noise=GaussianNoise(0.05), prior="untrained")
    assert result.image.dtype == np.float32
    assert result.converged
    assert psnr(result.image, CAMERA[:32, :32]) > psnr(y, CAMERA[:32, :32]) + 5
    missed = y - measured(mask, result.image, 0.0)
    assert result.history[-1]["residual"] == pytest.approx(np.sqrt(np.mean(missed**2)), rel=1e-4)


def test_an_untrained_network_is_fitted_in_as_many_iterations_as_are_asked_for():
    mask = Mask(torch.from_numpy(np.random.default_rng(0).uniform(size=(32, 32)) < 0.5))
    y = measured(mask, CAMERA[:32, :32], 0.0).astype(np.float32)
    with pytest.warns(ConvergenceWarning, match="not converged after 5 iterations"):
        result = calepin.restore(y, mask, noise=GaussianNoise(0.05), prior="untrained", max_iter=5)
    assert result.n_iter == 5
    assert not result.converged


def test_an_untrained_network_tells_its_iterations_and_refuses_what_has_no_effect():
    mask = Mask(torch.from_numpy(np.random.default_rng(0).uniform(size=(16, 16)) < 0.5))
    y = measured(mask, CAMERA[:16, :16], 0.0).astype(np.float32)
    options = {"noise": GaussianNoise(0.05), "prior": "untrained", "max_iter": 5}
    heard = []
    with pytest.warns(ConvergenceWarning):
        calepin.restore(y, mask, **options, callback=lambda stage, fraction: heard.append((stage, fraction)))
    assert heard == [(f"iteration {k}", k / 5) for k in range(1, 6)]
    with pytest.raises(calepin.IncompatibleError, match="tol: expected None for an untrained network"):
        calepin.restore(y, mask, **options, tol=0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "operator",
    [
        Matrix(torch.ones(4, 256, dtype=torch.float16), (16, 16)),
        Matrix(torch.ones(4, 256, dtype=torch.float32), (16, 16)),
        Matrix(torch.ones(4, 256, dtype=torch.float64), (16, 16)),
        Downsample((16, 16), 2),
        MultiCoilMRI(torch.ones(16, 16) > 0, n_coils=1) @ Sensitivities(torch.ones(1, 1, 16, 16) + 0j),
    ],
    ids=["half", "single", "double", "downsample", "mri"],
)
def test_an_untrained_network_has_the_precision_of_the_measurements_as_other_priors_have(operator, dtype):
    before = [tensor.dtype for tensor in operator.buffers()]
    y = operator(torch.ones(1, *operator.in_shape).to(torch.from_numpy(np.empty(0, dtype)).dtype))[0].numpy()
    noise = GaussianNoise(0.5 * float(np.abs(y).max()))  # the fit ends early
    for prior in ("tv", "untrained"):
        image = calepin.restore(y, operator, noise=noise, prior=prior).image
        assert image.dtype == y.dtype
        assert np.isfinite(image).all()
    assert [tensor.dtype for tensor in operator.buffers()] == before


class NonLocalMeans:
    """A denoiser that calepin does not know."""

    def denoise(self, image, noise, *, random_state, callback):
        from skimage.restoration import denoise_nl_means

        sigma = noise.sigma
        image = denoise_nl_means(image, 5, 6, h=0.8 * sigma, sigma=sigma, fast_mode=True)
        return calepin.DenoiseResult(image, noise)


def test_any_denoiser_is_a_prior():
    blur, y = blurred()
    result = calepin.restore(y, blur, noise=GaussianNoise(0.01), prior=NonLocalMeans())
    assert psnr(result.image, CAMERA) > psnr(y, CAMERA) + 0.5


def test_precision_and_kind_follow_the_measurements():
    blur, y = blurred()
    single = calepin.restore(y.astype(np.float32), blur, noise=GaussianNoise(0.01), prior="tv").image
    assert single.dtype == np.float32
    tensor = calepin.restore(torch.from_numpy(y), blur, noise=GaussianNoise(0.01), prior="tv").image
    assert tensor.dtype == torch.float64
    np.testing.assert_allclose(single, tensor.numpy(), atol=1e-3)


def test_what_did_not_converge_warns():
    blur, y = blurred()
    with pytest.warns(ConvergenceWarning, match="the last step still changed the image by"):
        result = calepin.restore(y, blur, noise=GaussianNoise(0.01), prior="tv", max_iter=8, tol=1e-9)
    assert not result.converged
    assert result.n_iter == 8


def test_progress_is_reported():
    blur, y = blurred()
    seen = []
    calepin.restore(
        y, blur, noise=GaussianNoise(0.01), prior="tv", callback=lambda *at: seen.append(at), max_iter=8
    )
    assert [stage for stage, _ in seen] == [f"step {k}" for k in range(1, 9)]
    assert seen[-1][1] == 1.0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": np.zeros((4, 4))}, ValueError, r"y: expected the operator's shape \(48, 48\), got \(4, 4\)"),
        (
            {"y": np.zeros((48, 48), int)},
            ValueError,
            "y: expected floating-point or complex numbers, got int64",
        ),
        ({"y": np.full((48, 48), np.nan)}, ValueError, "y: expected finite values"),
        (
            {"y": np.ones(192), "operator": NonCartesianFourier((48, 48), radial_trajectory((48, 48), 2))},
            ValueError,
            "y: expected complex measurements, as those of the operator, got torch.float64",
        ),
        (
            {"prior": "bm3d"},
            ValueError,
            "prior: expected one of 'dictionary', 'network', 'best', 'groups', 'wavelet",
        ),
        ({"prior": TVDenoiser}, ValueError, "prior: expected .*a Denoiser, got the class"),
        ({"noise": calepin.PoissonNoise()}, TypeError, "noise: expected .*a GaussianNoise"),
        (
            {"noise": GaussianNoise(0.1, 0.2)},
            calepin.IncompatibleError,
            "noise: expected GaussianNoise with one",
        ),
        ({"max_iter": 7}, ValueError, "max_iter: expected an integer of at least 8"),
        ({"max_iter": 0, "prior": "untrained"}, ValueError, "max_iter: expected a positive integer"),
        (
            {"noise": GaussianNoise(1e39)},
            ValueError,
            r"noise: expected sigma in the units of y, .* got 1e\+39",
        ),
        ({"tol": -1.0}, ValueError, "tol: expected a finite number of at least 0"),
        ({"start": np.zeros((4, 4))}, ValueError, "start: expected the operator's shape"),
        ({"operator": Dense(torch.ones(5, 4))}, ValueError, "y: expected the operator's shape"),
    ],
)
def test_arguments_that_restore_refuses(change, error, message):
    with pytest.raises(error, match=message):
        calepin.restore(**({"y": CAMERA, "operator": Identity((48, 48))} | change))


def test_signals_are_no_images():
    with pytest.raises(ValueError, match=r"operator: expected images \(height, width\)"):
        calepin.restore(np.ones(4), Dense(torch.eye(4).double()))


@pytest.mark.parametrize("denoiser", [WaveletDenoiser(), GroupDenoiser(), TVDenoiser()])
@pytest.mark.parametrize("image", [CAMERA, np.moveaxis(CAT, 0, -1)], ids=["gray", "colour"])
def test_priors_denoise_images(denoiser, image):
    noisy = image + np.random.default_rng(0).normal(0, 0.1, image.shape)
    before = noisy.copy()
    result = calepin.denoise(noisy, method=denoiser, noise=GaussianNoise(0.1))
    assert psnr(result.image, image) > psnr(noisy, image) + 3.5
    np.testing.assert_array_equal(noisy, before)
    same = calepin.denoise(noisy, method=denoiser, noise=GaussianNoise(0.0))
    np.testing.assert_array_equal(same.image, noisy)


@pytest.mark.parametrize("shape", [(8, 9), (17, 40), (48, 30)])
def test_wavelets_take_images_of_any_size(shape):
    image = np.full(shape, 3.0)
    result = calepin.denoise(image, method=WaveletDenoiser(), noise=GaussianNoise(0.5))
    np.testing.assert_allclose(result.image, image, atol=1e-5)


@pytest.mark.filterwarnings("ignore:the last step still changed")
@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("ratio", [0.2, 0.4, 0.9])
def test_unknown_noise_of_random_measurements_costs_little(sigma, ratio):
    """The residual of few measurements tells little of the noise, those that were held out do."""
    clean = load_sample("camera").pixels[200:264, 180:244].astype(np.float64)
    operator = SubsampledHadamard((64, 64), round(ratio * 4096))
    y = operator(torch.from_numpy(clean)[None])[0].numpy()
    y += sigma * np.random.default_rng(0).standard_normal(y.shape)
    found = calepin.restore(y, operator, prior="tv")
    known = calepin.restore(y, operator, noise=calepin.GaussianNoise(max(sigma, 1e-3)), prior="tv")
    assert psnr(found.image, clean) > min(psnr(known.image, clean) - 1.5, 30)


def test_patterns_of_zeros_and_ones_serve_as_well_as_balanced_ones():
    """The mean of all patterns is most of each measurement, and little of what they tell."""
    patterns = torch.randint(0, 2, (900, CAMERA.size), generator=torch.Generator().manual_seed(0)).double()
    balanced = Matrix(patterns - 0.5, CAMERA.shape)
    y = measured(balanced, CAMERA, 0.02)
    expected = calepin.restore(y, balanced, noise=GaussianNoise(0.02), prior="tv").image
    counts = y + 0.5 * CAMERA.sum()
    positive = Matrix(patterns, CAMERA.shape)
    found = calepin.restore(counts, positive, noise=GaussianNoise(0.02), prior="tv").image
    assert psnr(expected, CAMERA) > 24
    assert psnr(found, CAMERA) > psnr(expected, CAMERA) - 0.5


@pytest.mark.parametrize("ratio", [2, 4])
def test_the_level_of_more_measurements_than_pixels_is_not_overestimated(ratio):
    image = CAMERA[:16, :16]
    matrix = (
        torch.randn(ratio * 256, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 16
    )
    operator = Matrix(matrix, image.shape)
    y = measured(operator, image, 0.1)
    result = calepin.restore(y, operator, prior="wavelet")
    assert result.noise.sigma == pytest.approx(0.1, rel=0.4)
    least_squares = np.linalg.lstsq(matrix.numpy(), y, rcond=None)[0].reshape(image.shape)
    assert psnr(result.image, image) > psnr(least_squares, image) + 0.5
