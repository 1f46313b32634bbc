import numpy as np
import pytest
import torch

from calepin.networks import (
    DeepDecoder,
    Jacobian,
    LinearGenerator,
    TwoLayerGenerator,
    gaussian_kernel,
    triangular_kernel,
)
from calepin.reconstruction import (
    jacobian_spectrum,
    kernel_weights,
    low_frequency_energy,
    measurements_needed,
    recovery_bound,
    spectral_drift,
    subspace_energy,
    trigonometric_basis,
)
from calepin.reconstruction.spectrum import LARGEST_CONSTANT

DOUBLE = torch.zeros(0, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("n", [1, 2, 7, 10])
def test_the_trigonometric_basis_is_orthonormal_and_ordered_by_frequency(n):
    basis = trigonometric_basis(n)
    np.testing.assert_allclose(basis @ basis.T, np.eye(n), atol=1e-12)
    strongest = np.abs(np.fft.rfft(basis, axis=1)).argmax(1)
    np.testing.assert_array_equal(strongest, (np.arange(n) + 1) // 2)


@pytest.mark.parametrize("kernel", [triangular_kernel(7), gaussian_kernel(1.3)])
def test_weights_are_the_expected_spectrum_of_the_jacobian(kernel):
    network = TwoLayerGenerator(40, channels=4000, kernel=kernel)
    weights = network.initial(1, like=DOUBLE, generator=generator())[0]
    basis = trigonometric_basis(40)
    energies = np.diag(basis @ network.jacobian_gram(weights).numpy() @ basis.T)
    closed = kernel_weights(kernel.numpy(), 40)
    np.testing.assert_allclose(np.sqrt(energies)[:15], closed[:15], rtol=0.05)


def test_weights_in_2d_are_those_of_the_jacobian_too():
    kernel = triangular_kernel(3, ndim=2)
    network = TwoLayerGenerator((6, 8), channels=6000, kernel=kernel)
    gram = network.jacobian_gram(network.initial(1, like=DOUBLE, generator=generator())[0]).numpy()
    waves = np.fft.fft(np.eye(6)), np.fft.fft(np.eye(8))
    fourier = np.kron(*waves) / np.sqrt(48)
    energies = np.diag(fourier @ gram @ fourier.conj().T).real.reshape(6, 8)
    np.testing.assert_allclose(np.sqrt(energies), kernel_weights(kernel.numpy(), (6, 8)), rtol=0.1)


def test_wider_kernels_concentrate_on_low_frequencies():
    shares = []
    for width in (3, 7, 15, 31):
        energy = kernel_weights(triangular_kernel(width).numpy(), 300) ** 2
        shares.append(energy[:21].sum() / energy.sum())
    assert shares == sorted(shares)


def test_the_gram_matrix_is_that_of_the_jacobian():
    network = TwoLayerGenerator((4, 5), channels=6, kernel=triangular_kernel(3, ndim=2))
    weights = network.initial(1, like=DOUBLE, generator=generator())[0]
    rows = Jacobian(network, weights).adjoint(torch.eye(20, dtype=torch.float64).view(20, 1, 4, 5))
    torch.testing.assert_close(network.jacobian_gram(weights), rows @ rows.T)


def test_a_linear_generator_has_the_spectrum_of_its_matrix():
    matrix = torch.randn(6, 9, dtype=torch.float64, generator=generator())
    found = jacobian_spectrum(LinearGenerator(matrix), torch.zeros(9, dtype=torch.float64))
    left, values, _ = np.linalg.svd(matrix.numpy())
    np.testing.assert_allclose(found.values, values)
    np.testing.assert_allclose(np.abs((found.vectors * left.T).sum(1)), 1)


@pytest.mark.parametrize("limit", ["dense", "products alone"])
def test_leading_values_agree_with_all(limit, monkeypatch):
    network = DeepDecoder((12, 12), channels=8, depth=2, in_size=3)
    weights = network.initial(1, like=DOUBLE, generator=generator())[0]
    whole = jacobian_spectrum(network, weights)
    if limit != "dense":
        monkeypatch.setattr("calepin.reconstruction.spectrum._DENSE_ENTRIES", 1)
        with pytest.raises(ValueError, match="rank: expected a number"):
            jacobian_spectrum(network, weights)
    some = jacobian_spectrum(network, weights, rank=5)
    np.testing.assert_allclose(some.values, whole.values[:5], rtol=1e-3)
    assert subspace_energy(some.vectors, whole.vectors[:8]) > 0.999


def test_the_bound_is_its_formula():
    sigma = 0.9 ** np.arange(1, 31)
    x = trigonometric_basis(30)[2] * 2
    expected = 4 / sigma[2] ** 2 * (sigma[12:] ** 2).sum()
    assert recovery_bound(x, sigma, 18) == pytest.approx(expected)
    assert recovery_bound(x, sigma, 18, xi=0.1) == pytest.approx(expected + 0.04)
    assert recovery_bound(x, np.r_[sigma[:2], 0, sigma[3:]], 18) == np.inf


def test_smoother_signals_need_fewer_measurements():
    sigma = kernel_weights(triangular_kernel(15).numpy(), 300)
    basis = trigonometric_basis(300)
    counts = [measurements_needed(basis[i], sigma, 0.1) for i in (0, 5, 15)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    for i, m in zip((0, 5, 15), counts, strict=True):
        assert LARGEST_CONSTANT * recovery_bound(basis[i], sigma, m) <= 0.1
        assert LARGEST_CONSTANT * recovery_bound(basis[i], sigma, m - 1) > 0.1
    flat = np.where(np.arange(300) < 299, 1.0, 0.0)
    assert measurements_needed(basis[299], flat, 0.1) is None


def test_smoothness_is_the_share_of_low_frequencies():
    wave = trigonometric_basis(20)[3]
    assert low_frequency_energy(wave, 3) == pytest.approx(0, abs=1e-12)
    assert low_frequency_energy(wave, 4) == pytest.approx(1)
    image = np.outer(trigonometric_basis(8)[0], trigonometric_basis(10)[1])[None]
    assert low_frequency_energy(image, 3) == pytest.approx(1)
    noise = np.random.default_rng(0).standard_normal((32, 32))
    assert low_frequency_energy(noise, 512) == pytest.approx(0.5, abs=0.1)


def test_drift_is_a_ratio_whichever_comes_first():
    spectrum = 0.9 ** np.arange(10)
    assert spectral_drift(spectrum, spectrum) == 0
    assert spectral_drift(spectrum, 2 * spectrum) == pytest.approx(np.log(2))
    assert spectral_drift(2 * spectrum, spectrum) == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: trigonometric_basis(0), "n: expected a positive integer"),
        (lambda: kernel_weights(np.zeros(3), 8), "kernel: expected an entry"),
        (lambda: recovery_bound(np.ones(4), np.ones(3), 2), "sigma: expected one value"),
        (lambda: measurements_needed(np.ones(4), np.ones(4), 0.0), "error: expected a finite number above 0"),
        (lambda: low_frequency_energy(np.ones(4), 5), "p: expected an integer from 1 to 4"),
        (lambda: low_frequency_energy(np.ones((2, 2, 2)), 1), "signal: expected one or two axes"),
        (lambda: spectral_drift(np.ones(3), np.ones(4)), "after: expected shape"),
        (
            lambda: jacobian_spectrum(LinearGenerator(torch.ones(2, 3)), torch.zeros(3), rank=4),
            "rank: expected an integer from 1 to 2",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
