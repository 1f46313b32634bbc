"""SOAP: Adam in the eigenbasis of the second moments of the gradient.

The gradient G of a weight tensor is seen as a matrix, (atoms, entries of an atom). Its second moments

    L = mean of G G^T over steps,     R = mean of G^T G

have eigenvectors Q_L, Q_R. The entries of ``Q_L^T G Q_R`` are nearly uncorrelated. In this basis the
diagonal scaling of Adam is a better approximation of a Newton step. Filters of images benefit from it,
because the gradients of their pixels are strongly correlated through the grey level (Vyas et al., "SOAP:
improving and stabilizing Shampoo using Adam", 2024, algorithm 3). Every few steps the bases are updated by
one orthogonal iteration: a matrix product and a QR decomposition.

The cost of an update is cubic in the length of an axis. The optimiser is meant for dictionaries, not for
layers with axes of thousands of entries.
"""

import numbers
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments

__all__ = ["SOAP"]


class SOAP(torch.optim.Optimizer):
    """Adam in the eigenbasis of Shampoo's statistics. Parameters with one axis are updated by plain Adam.

    Parameters
    ----------
    params : iterable of Tensor
        The parameters. The first axis of each gives the rows of the matrix, all others the columns.
    lr : float, default 2e-3
        Learning rate.
    betas : pair of float, default (0.9, 0.99)
        Decay factors of the running means of the gradient and of its square.
    statistics : float, default 0.95
        Decay factor of the running means L and R.
    eps : float, default 1e-6
        Regularisation of the denominator, relative to its largest entry. The steps therefore do not
        depend on the scale of the loss.
    refresh : int, default 10
        Number of steps between two updates of the bases.

    Raises
    ------
    ValueError
        If the learning rate is not positive, a decay factor is outside of [0, 1), `refresh` is not a
        positive integer, or ``step`` is called with a closure.

    Notes
    -----
    The state consists of tensors only, so that `calepin.learning.train` can checkpoint it.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 2e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        statistics: float = 0.95,
        eps: float = 1e-6,
        refresh: int = 10,
    ) -> None:
        check_arguments(SOAP.__init__, locals())
        if not lr > 0:
            raise ValueError(f"lr: expected a number above 0, got {lr!r}")
        for name, value in (("betas", betas[0]), ("betas", betas[1]), ("statistics", statistics)):
            if not 0 <= value < 1:
                raise ValueError(f"{name}: expected numbers of at least 0 and below 1, got {value!r}")
        if not isinstance(refresh, numbers.Integral) or refresh < 1:
            raise ValueError(f"refresh: expected a positive integer, got {refresh!r}")
        terms = {"lr": lr, "betas": betas, "statistics": statistics, "eps": eps, "refresh": refresh}
        super().__init__(params, terms)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        if closure is not None:
            raise ValueError("closure: expected None, SOAP evaluates one gradient per step")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _move(parameter, self.state[parameter], group)


def _move(parameter: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    gradient = parameter.grad
    assert gradient is not None
    is_matrix = parameter.ndim > 1 and parameter.numel() > len(parameter)
    gradient = gradient.flatten(1) if is_matrix else gradient.flatten()
    if not state:
        _begin(state, gradient)
    state["step"] += 1
    step, (first, second) = float(state["step"]), group["betas"]
    if is_matrix:
        forget = min(1 - 1 / (step + 1), group["statistics"])
        state["rows"].lerp_(gradient @ gradient.T, 1 - forget)
        state["columns"].lerp_(gradient.T @ gradient, 1 - forget)
    state["mean"].lerp_(gradient, 1 - first)
    state["square"].lerp_(_turned(gradient, state).square(), 1 - second)
    scale = (state["square"] / (1 - second**step)).sqrt_()
    # the first gradient is diagonal in its own basis: other entries are rounding errors and must stay small
    scale += group["eps"] * scale.max() + torch.finfo(scale.dtype).tiny
    move = _turned(state["mean"], state) / (1 - first**step) / scale
    if is_matrix:
        move = state["row_basis"] @ move @ state["column_basis"].T
    parameter.add_(move.view_as(parameter), alpha=-group["lr"])
    if is_matrix and step % group["refresh"] == 0:
        state["square"] = _refreshed(state, "row", 0)
        state["square"] = _refreshed(state, "column", 1)


def _begin(state: dict[str, Tensor], gradient: Tensor) -> None:
    state["step"] = torch.zeros((), dtype=torch.float32)
    state["mean"] = torch.zeros_like(gradient)
    state["square"] = torch.zeros_like(gradient)
    if gradient.ndim == 2:
        for side, matrix in (("row", gradient @ gradient.T), ("column", gradient.T @ gradient)):
            state[f"{side}s"] = matrix
            # double precision, because small eigenvalues of a single gradient are rounding errors
            state[f"{side}_basis"] = torch.linalg.eigh(matrix.double())[1].to(gradient.dtype).contiguous()


def _turned(gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Return Q_L^T G Q_R, or a vector unchanged."""
    if gradient.ndim == 1:
        return gradient
    return state["row_basis"].T @ gradient @ state["column_basis"]


def _refreshed(state: dict[str, Tensor], side: str, axis: int) -> Tensor:
    """Update a basis by one orthogonal iteration; return the mean squares in the order of the new basis.

    The eigenvectors are first sorted by decreasing Rayleigh quotient, so that QR starts with the largest.
    """
    matrix, basis = state[f"{side}s"], state[f"{side}_basis"]
    order = torch.argsort((basis * (matrix @ basis)).sum(0), descending=True, stable=True)
    # row-major, as restored from a checkpoint: products with LAPACK's column-major result round differently
    state[f"{side}_basis"] = torch.linalg.qr(matrix @ basis[:, order])[0].contiguous()
    return state["square"].index_select(axis, order)
