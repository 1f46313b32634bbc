"""Gradients of a loss with respect to the dictionary, through unfolded sparse coding.

An encoder of T layers, initialised at zero, computes codes of y. The decoder is linear:

    z_{t+1} = prox( z_t - s (z_t D - y) D^T ),    loss = mean over samples of 0.5 ||y - z_T D||^2 + penalty

There are three gradients (Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022,
Algorithm 2). They differ in the loss and in what is differentiated. g_hat is the gradient of alternating
minimisation, with the exact lasso codes held constant.

    gradient   loss               differentiated         as T grows
    dec        nll (+ penalty)    the decoder only       tends to g_hat, linearly
    ae-lasso   nll + penalty      decoder and encoder    tends to g_hat, twice as fast
    ae-ls      nll                decoder and encoder    is nearer to the gradient at the true codes
"""

from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_arguments
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
    """Return the gradient of the mean loss of a batch with respect to the atoms.

    Parameters
    ----------
    y : array or tensor of shape (n, n_features)
        Samples. The computation is in float32 if samples and atoms are float32, otherwise in float64.
    atoms : array or tensor of shape (n_components, n_features)
        The dictionary; its rows are atoms.
    penalty : Penalty
        L1, NonNegativeL1, HardThreshold, ...: its proximal map is the nonlinearity of the layers, its
        value the second term of the loss of "ae-lasso". A hard threshold adds no term to the loss.
    n_unfold : int
        Number of layers T of the encoder.
    step_size : float, optional
        Step size of the layers, 1 / L by default. It is a constant of the differentiation.
    gradient : {"dec", "ae-lasso", "ae-ls"}, default "dec"
        The gradient to compute. "dec" holds the codes constant: ``z^T (z D - y) / n``.
    solver : {"ista", "fista"}, default "ista"
        Iteration of the layers. "fista" has momentum without restarts.
    differentiate : {"unroll", "last-k", "implicit"}, default "unroll"
        How the encoder is differentiated, see `calepin.solve`. With "implicit" the codes are exact, and
        "dec" and "ae-lasso" both equal g_hat, the gradient of alternating minimisation.
    last_k, checkpoint_every : int, optional
        See `calepin.solve`.
    decay : float, default 1.0
        Factor of the penalty from one layer to the next. The first layer and the loss use the penalty
        itself.
    likelihood : Likelihood, optional
        Family of the samples, Gaussian by default. Its negative log-likelihood (nll) is the data term of
        the loss: half the squared error for Gaussian data.

    Returns
    -------
    array or tensor of shape (n_components, n_features), like `atoms`

    Raises
    ------
    ValueError
        If an argument is invalid, or if the step size makes the codes diverge.
    IncompatibleError
        If "implicit" is combined with a penalty without an implicit gradient, or a hard threshold with
        decay.
    """
    check_arguments(dictionary_gradient, locals())
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
    """Return the mean loss of a batch and its codes; the gradient of the loss is `dictionary_gradient`'s.

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
    """Return the loss of each sample, (n,), that `gradient` differentiates with respect to the atoms."""
    loss = problem.nll(codes)
    if gradient == "ae-lasso" and penalty is not None and not isinstance(penalty, HardThreshold):
        loss = loss + penalty.value(codes)
    return loss


def _tensor(name: str, values: Any, shape: str) -> Tensor:
    """Return an array as a tensor; raise ValueError unless it is real, finite and has two axes."""
    if not isinstance(values, Tensor) and np.asarray(values).dtype.kind not in "biufc":
        raise ValueError(f"{name}: expected real numbers of shape {shape}, got {values!r:.60}")
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    if tensor.ndim != 2 or not tensor.numel() or tensor.is_complex():
        raise ValueError(
            f"{name}: expected real numbers of shape {shape}, got {tensor.dtype} of {tuple(tensor.shape)}"
        )
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    return tensor
