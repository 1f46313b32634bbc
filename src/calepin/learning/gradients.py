"""Gradients of a dictionary from unfolded sparse coding.

An encoder of T layers codes y, from zero, and the decoder is linear:

    z_{t+1} = prox( z_t - s (z_t D - y) D^T ),    loss = mean over samples of 0.5 ||y - z_T D||^2 + penalty

Two knobs give the three gradients of Tolooshams and Ba, "Stable and interpretable unrolled dictionary
learning", 2022, Algorithm 2: what the loss is, and what is differentiated.

    gradient   loss               differentiated         as T grows
    dec        nll (+ penalty)    the decoder alone      g_hat, linearly
    ae-lasso   nll + penalty      decoder and encoder    g_hat, twice as fast
    ae-ls      nll                decoder and encoder    nearer to the gradient at the true codes
"""

from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from calepin.likelihoods import Gaussian, Likelihood
from calepin.operators.dense import Dense
from calepin.penalties import HardThreshold, Penalty
from calepin.problem import Problem
from calepin.solvers.coders.coder import GradientRule
from calepin.solvers.coders.proximal import Differentiate, UnfoldedSolver, unfolded_codes, unfolded_encoder

__all__ = ["decoder_loss", "dictionary_gradient", "unfolded_loss"]


def dictionary_gradient(
    y: Any,
    atoms: Any,
    *,
    penalty: Penalty,
    n_unfold: int,
    step_size: float | None = None,
    gradient: GradientRule = "dec",
    solver: UnfoldedSolver = "ista",
    differentiate: Differentiate = "unroll",
    last_k: int | None = None,
    checkpoint_every: int | None = None,
    decay: float = 1.0,
    likelihood: Likelihood | None = None,
) -> Any:
    """Return the gradient of the mean loss of a batch in the atoms, with codes unfolded from zero.

    Parameters
    ----------
    y : array or tensor of shape (n, n_features)
        Samples. float32 is kept where the atoms are float32 too; all else is computed in float64.
    atoms : array or tensor of shape (n_components, n_features)
        Rows are atoms.
    penalty : Penalty
        L1, NonNegativeL1, HardThreshold, ...: the encoder's nonlinearity, and the second term of the
        loss of "ae-lasso". A hard threshold adds no term to the loss.
    n_unfold : int
        Layers T of the encoder.
    step_size : float, optional
        Step size of the layers, 1 / L by default; a constant of the differentiation either way.
    gradient : {"dec", "ae-lasso", "ae-ls"}
        "dec" detaches the code before it is decoded: ``z^T (z D - y) / n``.
    solver : {"ista", "fista"}
        "fista" has plain momentum, without restarts.
    differentiate : {"unroll", "last-k", "implicit"}
        How the encoder is differentiated (`calepin.solve`). With "implicit" the code is exact, so that
        "dec" and "ae-lasso" both are g_hat, the gradient of alternating minimisation.
    last_k, checkpoint_every : int, optional
        See `calepin.solve`.
    decay : float
        Factor of the penalty from one layer to the next; the first layer and the loss are undecayed.
    likelihood : Likelihood, optional
        Family of the samples, whose nll takes the place of half the squared error; Gaussian by default.

    Returns
    -------
    array or tensor of shape (n_components, n_features), like `atoms`

    Raises
    ------
    ValueError
        An argument that is not what it must be, or a step that makes the codes grow without bound.
    IncompatibleError
        A penalty without an implicit gradient, with "implicit"; a hard threshold with decay.
    """
    leaf = _tensor("atoms", atoms, "(n_components, n_features)")
    samples = _tensor("y", y, "(n, n_features)")
    if samples.device != leaf.device:
        raise ValueError(f"y: expected the device of atoms, {leaf.device}, got {samples.device}")
    dtype = torch.float32 if leaf.dtype == samples.dtype == torch.float32 else torch.float64
    leaf, samples = leaf.detach().to(dtype).clone().requires_grad_(), samples.detach().to(dtype)
    with torch.enable_grad():
        loss, _ = unfolded_loss(
            samples, leaf, penalty=penalty, n_unfold=n_unfold, step_size=step_size, gradient=gradient,
            solver=solver, differentiate=differentiate, last_k=last_k, checkpoint_every=checkpoint_every,
            decay=decay, likelihood=likelihood or Gaussian(),
        )  # fmt: skip
        (found,) = torch.autograd.grad(loss, leaf)
    return found if isinstance(atoms, Tensor) else found.numpy()


def unfolded_loss(
    y: Tensor,
    atoms: Tensor,
    *,
    penalty: Penalty,
    n_unfold: int,
    step_size: float | Tensor | None,
    gradient: GradientRule,
    solver: UnfoldedSolver,
    differentiate: Differentiate,
    likelihood: Likelihood,
    last_k: int | None = None,
    checkpoint_every: int | None = None,
    decay: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return the mean loss of a batch, whose gradient in `atoms` is the one asked for, and the codes.

    The arguments are those of `dictionary_gradient`, with tensors of one dtype.
    """
    for name, value, known in (
        ("gradient", gradient, GradientRule),
        ("solver", solver, UnfoldedSolver),
        ("differentiate", differentiate, Differentiate),
    ):
        if value not in get_args(known):
            raise ValueError(f"{name}: expected one of {get_args(known)}, got {value!r}")
    problem = Problem(Dense(atoms), likelihood, y)
    encoder = unfolded_encoder(penalty, step_size=step_size, solver=solver, decay=decay)
    codes = unfolded_codes(
        problem, encoder, n_iter=n_unfold, gradient=gradient, differentiate=differentiate,
        last_k=last_k, checkpoint_every=checkpoint_every,
    )  # fmt: skip
    return decoder_loss(problem, codes, gradient=gradient, penalty=penalty).mean(), codes.detach()


def decoder_loss(
    problem: Problem, codes: Tensor, *, gradient: GradientRule, penalty: Penalty | None
) -> Tensor:
    """Return the loss of each sample, (n,), whose gradient in the atoms is the one asked for."""
    loss = problem.nll(codes)
    if gradient == "ae-lasso" and penalty is not None and not isinstance(penalty, HardThreshold):
        loss = loss + penalty.value(codes)
    return loss


def _tensor(name: str, values: Any, shape: str) -> Tensor:
    """View an array as a tensor; raise ValueError unless it is real, finite and has two axes."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    if tensor.ndim != 2 or not tensor.numel() or tensor.is_complex():
        raise ValueError(
            f"{name}: expected real numbers of shape {shape}, got {tensor.dtype} of {tuple(tensor.shape)}"
        )
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    return tensor
