"""Theorems 2 and 4, early stopping and total variation in miniature: each claim can fail, and is held."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calepin.experiments import perform
from calepin.networks import LinearGenerator, TwoLayerGenerator, triangular_kernel
from calepin.operators import Dense
from calepin.reconstruction import fit_untrained, kernel_weights, trigonometric_basis
from calepin.solvers import GradientDescent
from calepin_papers import EXPERIMENTS
from calepin_papers._common import fixed_iterations
from calepin_papers.untrained_networks import linearised, mri, mri_convergence, stopping, total_variation

TINY = {
    "cs-linearised": linearised.Settings(n_draws=1, channels=(256, 4096), n=32, n_iter=30),
    "cs-early-stopping": stopping.Settings(
        size=32, channels=32, max_iter=150, depth=3, in_size=8, learning_rate=0.03, sigma=0.2
    ),
    "cs-mri-convergence": mri_convergence.Settings(
        size=(32, 32), channels=24, max_iter=300, depth=3, n_center=6, learning_rate=0.1, acceleration=4.0
    ),
}


def miniature(name, folder, seed=0):
    return perform(replace(EXPERIMENTS[name], quick=TINY[name]), folder, seed=seed)


def holds(result):
    return {claim["claim"]: claim["holds"] for claim in result["claims"]}


def test_the_network_stays_within_the_bounds_of_theorem_4(tmp_path):
    result = miniature("cs-linearised", tmp_path)
    assert holds(result) == dict.fromkeys(holds(result), True)
    # no bound is met by being empty: the first step alone leaves most of the residual
    assert 0.1 < result["values"]["residual_over_bound"] <= 1


def test_the_bounds_of_theorem_4_fail_for_another_jacobian(tmp_path, monkeypatch):
    right = linearised._pull
    monkeypatch.setattr(linearised, "_pull", lambda U, passed, signal: right(U, passed, signal)[::-1])
    assert not all(holds(miniature("cs-linearised", tmp_path)).values())


def test_the_descent_of_theorem_4_is_that_of_the_library(rng):
    n, k, m = 12, 6, 3
    kernel = triangular_kernel(3)
    U = linearised.circulant(kernel.numpy(), n)
    network = TwoLayerGenerator(n, channels=k, kernel=kernel)
    C, A, y = rng.standard_normal((n, k)), rng.standard_normal((m, n)), rng.standard_normal(m)
    start = torch.from_numpy(C.T.reshape(1, -1).copy())
    np.testing.assert_allclose(linearised.generate(U, C), network(start)[0].numpy(), atol=1e-12)
    step, seen = 0.01, []
    with fixed_iterations():
        fit_untrained(
            network,
            Dense(torch.from_numpy(A.T.copy())),
            torch.from_numpy(y)[None],
            optimizer=GradientDescent(step_size=step),
            start=start,
            max_iter=1,
            tol=0.0,
            callback=lambda progress: seen.append(progress.weights[0].numpy()),
        )
    moved = C - step * linearised._pull(U, U @ C > 0, A.T @ (A @ linearised.generate(U, C) - y))
    np.testing.assert_allclose(seen[0], moved.T.ravel(), atol=1e-10)


def test_denoising_alone_needs_an_early_stop(tmp_path):
    values = miniature("cs-early-stopping", tmp_path)["values"]
    others = [values[f"final_over_best_{name}"] for name in ("superresolution", "inpainting", "compressive")]
    assert values["final_over_best_denoising"] > 1.5 * max(others)
    assert values["psnr_best_denoising"] > values["psnr_given_denoising"] + 3
    assert values["psnr_held_out_denoising"] > values["psnr_final_denoising"]


def test_block_means_have_the_right_adjoint(rng):
    operator = stopping.BlockMeans((1, 6, 4), 2)
    x, y = (
        torch.from_numpy(rng.standard_normal((2, 1, 6, 4))),
        torch.from_numpy(rng.standard_normal((2, 1, 3, 2))),
    )
    torch.testing.assert_close((operator(x) * y).sum(), (x * operator.adjoint(y)).sum())


def test_a_fit_to_k_space_ends_near_its_best_iterate(tmp_path, monkeypatch):
    monkeypatch.delenv("CALEPIN_DATA", raising=False)
    result = miniature("cs-mri-convergence", tmp_path)
    assert all(holds(result).values())


def test_the_divergence_is_minus_the_adjoint_of_the_gradient(rng):
    x = torch.from_numpy(rng.standard_normal((1, 2, 5, 4)))
    p = torch.from_numpy(rng.standard_normal((2, 1, 2, 5, 4)))
    left = (total_variation.gradient(x) * p).sum()
    torch.testing.assert_close(left, -(x * total_variation.divergence(p)).sum())


@pytest.mark.parametrize("alpha", [1e-3, 1e-2])
def test_total_variation_is_at_its_minimum(alpha, monkeypatch):
    """No step towards zero filling, the truth or noise lowers the objective."""
    monkeypatch.delenv("CALEPIN_DATA", raising=False)
    truth = mri.load_slice((32, 32))
    operator = mri.sample((32, 32), "points", 4.0, 4, 0, truth.shape[1])
    y = operator(truth)
    consistent = []
    monkeypatch.setattr(total_variation, "data_consistent", lambda operator, x, y: consistent.append(x) or x)
    x = total_variation.least_variation(operator, y, alpha, 600)

    def objective(x):
        fidelity = 0.5 * (operator(x) - y).abs().square().sum()
        return float(fidelity + alpha * total_variation.total_variation(x).sum())

    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    for towards in (operator.adjoint(y) - x, truth - x, noise):
        for size in (1e-2, 1e-1):
            assert objective(x + size * towards) > objective(x) * (1 - 1e-4)
    zero_filled = mri.relative_error(mri.magnitude(operator.adjoint(y)), mri.magnitude(truth))
    assert mri.relative_error(mri.magnitude(x), mri.magnitude(truth)) < 0.7 * zero_filled


# Theorem 3's lemmas, on one generator: n = 48, a triangular kernel of width 5, starts of deviation omega.

N, OMEGA, DELTA = 48, 0.3, 0.1
KERNEL = triangular_kernel(5).numpy()
U = linearised.circulant(KERNEL, N)
NORM = np.linalg.norm(U, 2)
SIGMA = (trigonometric_basis(N).T * kernel_weights(KERNEL, N) ** 2) @ trigonometric_basis(N)


def jacobian(C):
    """Return J_G(C), (n, n k), from eq. 20."""
    k = C.shape[1]
    columns = [((U @ C[:, i] > 0) * U.T).T * np.sign(k / 2 - i - 0.5) / np.sqrt(k) for i in range(k)]
    return np.hstack(columns)


def test_the_linear_residual_and_iterates_are_those_of_proposition_2(rng):
    J, y, step, t = rng.standard_normal((5, 9)), rng.standard_normal(5), 0.02, 7
    network = LinearGenerator(torch.from_numpy(J))
    seen = []
    with fixed_iterations():
        fit_untrained(
            network,
            Dense(torch.eye(5, dtype=torch.float64)),
            torch.from_numpy(y)[None],
            optimizer=GradientDescent(step_size=step),
            max_iter=t,
            tol=0.0,
            callback=lambda progress: seen.append((progress.x[0].numpy(), progress.weights[0].numpy())),
        )
    x, weights = seen[-1]
    W, sigma, _ = np.linalg.svd(J, full_matrices=False)
    kept, along = (1 - step * sigma**2) ** t, W.T @ -y
    np.testing.assert_allclose(x - y, W @ (kept * along), atol=1e-12)  # eq. 39
    np.testing.assert_allclose(
        weights @ weights, ((along * (1 - kept) / sigma) ** 2).sum(), rtol=1e-9
    )  # eq. 40


@pytest.mark.parametrize("k", [8, 64, 512])
def test_lemmas_1_to_4_hold_for_random_coefficients(k, rng):
    C = OMEGA * rng.standard_normal((N, k))
    bound = OMEGA * np.sqrt(8 * np.log(2 * N / DELTA)) * np.linalg.norm(U)
    assert 0.02 * bound < np.linalg.norm(linearised.generate(U, C)) <= bound  # Lemma 1
    J = jacobian(C)
    assert 0.3 * NORM < np.linalg.norm(J, 2) <= NORM  # Lemma 2
    apart = np.linalg.norm(J @ J.T - SIGMA, 2)
    assert apart <= NORM**2 * np.sqrt(np.log(2 * N / DELTA) / k)  # Lemma 3
    np.testing.assert_allclose(J @ J.T, linearised._gram(U, U @ C > 0, U @ C > 0), atol=1e-12)
    T = linearised.transport(SIGMA, J @ J.T)
    np.testing.assert_allclose(T @ J @ J.T @ T.T, SIGMA, atol=1e-6)
    assert np.linalg.norm(T @ J - J, 2) <= 2 * np.sqrt(apart)  # Lemma 4, its matrix


@pytest.mark.parametrize("radius", [0.1, 1.0, 4.0])
def test_lemma_5_bounds_the_change_of_the_jacobian(radius, rng):
    k = 64
    start = OMEGA * rng.standard_normal((N, k))
    step = rng.standard_normal((N, k))
    moved = start + OMEGA * radius * step / np.linalg.norm(step)
    change = np.linalg.norm(jacobian(moved) - jacobian(start), 2)
    assert 0 < change <= 2 * (k * radius) ** (1 / 3) / np.sqrt(k) * NORM


def test_a_gaussian_matrix_of_few_rows_has_the_norms_of_eq_48(rng):
    m, n = 8, 72
    sigma = np.linalg.svd(rng.standard_normal((m, n)) / np.sqrt(m), compute_uv=False)
    assert np.sqrt(n / m) / 3 <= sigma[-1] <= sigma[0] <= 2 * np.sqrt(n / m)


def test_wider_kernels_weigh_low_frequencies_more():
    """Fig. 3: the fraction of the energy in the 21 lowest functions of 300 rises with the width."""
    weights = [kernel_weights(triangular_kernel(width).numpy(), 300) ** 2 for width in (3, 7, 15, 31)]
    fractions = [energy[:21].sum() / energy.sum() for energy in weights]
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.2 < 0.8 < fractions[-1]


def test_descent_on_a_linear_generator_ends_at_the_estimate_of_minimal_norm(rng):
    """Eq. 5, and the error of eq. 6: the part of the coefficients outside the rows of A J is lost."""
    J, A, c = rng.standard_normal((6, 10)), rng.standard_normal((3, 6)), rng.standard_normal(10)
    AJ = A @ J
    fit = fit_untrained(
        LinearGenerator(torch.from_numpy(J)),
        Dense(torch.from_numpy(A.T.copy())),
        torch.from_numpy(AJ @ c)[None],
        optimizer=GradientDescent(),
        max_iter=5000,
        tol=1e-10,
        patience=None,
    )
    minimal = np.linalg.pinv(AJ) @ AJ @ c
    np.testing.assert_allclose(fit.weights[0].numpy(), minimal, atol=1e-7)
    np.testing.assert_allclose(fit.x[0].numpy() - J @ c, J @ (minimal - c), atol=1e-6)
