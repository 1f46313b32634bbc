"""SOAP: Adam in the eigenbasis of what the gradients of a matrix have in common.

A weight's gradient G is a matrix, (atoms, entries of an atom). Its statistics

    L = mean of G G^T over steps,     R = mean of G^T G

have eigenvectors Q_L, Q_R in which the entries of ``Q_L^T G Q_R`` are nearly uncorrelated: there Adam's
division by each entry's own size is Newton's step as far as a diagonal can be one. Filters of images
gain from it, since all their pixels pull the same way where a grey level is concerned (Vyas et al.,
"SOAP: improving and stabilizing Shampoo using Adam", 2024, algorithm 3). The bases follow the statistics
by one orthogonal iteration every few steps, a matrix product and a QR decomposition.

An axis of thousands would cost its cube: this is meant for dictionaries, not for large layers.
"""

import numbers
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["SOAP"]


class SOAP(torch.optim.Optimizer):
    """Adam in the eigenbasis of Shampoo's statistics; parameters with one axis get Adam itself.

    Parameters
    ----------
    params : iterable of Tensor
        The first axis of each makes the rows, all others the columns.
    lr : float, default 2e-3
        Rate, like Adam's.
    betas : pair of float, default (0.9, 0.99)
        Forgetting of the mean and of the mean square.
    statistics : float, default 0.95
        Forgetting of L and R.
    eps : float, default 1e-6
        Added to the root of the mean square, as a part of its largest entry: the unit of the loss is
        of no account.
    refresh : int, default 10
        Steps from one update of the bases to the next.

    Raises
    ------
    ValueError
        A rate that is not above 0, a forgetting outside of [0, 1), a refresh that is no positive integer;
        a closure given to ``step``.

    Notes
    -----
    All that it remembers are tensors, so that `calepin.learning.train` can checkpoint it.
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
        """Move all parameters that have a gradient."""
        if closure is not None:
            raise ValueError("closure: expected None, SOAP needs one gradient a step")
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
    # in its own basis the first gradient is diagonal: the other entries are rounding errors, and stay small
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
            # in double precision: the small eigenvalues of one gradient are rounding errors
            state[f"{side}_basis"] = torch.linalg.eigh(matrix.double())[1].to(gradient.dtype).contiguous()


def _turned(gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Return Q_L^T G Q_R; a vector as it is."""
    if gradient.ndim == 1:
        return gradient
    return state["row_basis"].T @ gradient @ state["column_basis"]


def _refreshed(state: dict[str, Tensor], side: str, axis: int) -> Tensor:
    """Take one orthogonal iteration of a basis, and return the squares in its new order.

    The eigenvectors are sorted by their present value first, so that QR begins with the largest.
    """
    matrix, basis = state[f"{side}s"], state[f"{side}_basis"]
    order = torch.argsort((basis * (matrix @ basis)).sum(0), descending=True, stable=True)
    # by rows, as a checkpoint returns it: LAPACK's order by columns would round products differently
    state[f"{side}_basis"] = torch.linalg.qr(matrix @ basis[:, order])[0].contiguous()
    return state["square"].index_select(axis, order)
