"""Theorems 2 and 4, early stopping and total variation in miniature: each claim can fail, and is held."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calepin.experiments import perform
from calepin.networks import TwoLayerGenerator, triangular_kernel
from calepin.operators import Dense
from calepin.reconstruction import fit_untrained
from calepin.solvers import GradientDescent
from calepin_papers import EXPERIMENTS
from calepin_papers._common import fixed_iterations
from calepin_papers.untrained_networks import linearised, mri, mri_convergence, stopping, total_variation

TINY = {
    "cs-linearised": linearised.Settings(n_draws=1, channels=(256, 4096), n=32, n_iter=30),
    "cs-early-stopping": stopping.Settings(
        size=32, channels=48, max_iter=300, depth=3, in_size=4, learning_rate=0.03
    ),
    "cs-mri-convergence": mri_convergence.Settings(
        size=(32, 32), channels=16, max_iter=200, depth=3, n_center=4, learning_rate=0.03
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
    assert values["final_over_best_denoising"] > 1.3 > 1.2 > max(others)
    assert values["psnr_best_denoising"] > values["psnr_given_denoising"] + 1.5
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
    assert mri.relative_error(mri.magnitude(x), mri.magnitude(truth)) < 0.5 * zero_filled
