"""The constant of an image far from zero, without which it is restored.

    y = A (x + c),     y - A c = A x

Otherwise c dominates the norms to which tolerances are relative. There is one constant for each channel.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from calepin.imaging.result import far_level
from calepin.operators.base import LinearOperator

__all__ = ["far_constant"]

UNEXPLAINED = 0.25  # of the norm of measurements by constants, at most, for an image far from zero
ROUNDING = 16.0  # errors of a constant image, in those of a number
MARGIN = 0.25  # of the range of a first image, by which the constant of a positive rest is below it


@torch.no_grad()
def far_constant(
    operator: LinearOperator, y: Tensor, first: Callable[[Tensor], Tensor], *, positive: bool
) -> Tensor | None:
    """Return the constants (1, *in_shape) of an image far from zero, None of another or a complex one.

    They are those of least squares.

    Parameters
    ----------
    operator, y
        A, and measurements (1, *out_shape).
    first
        Returns a first image (1, *in_shape) of measurements.
    positive
        Whether the rest of the image must be positive: its first image then is.
    """
    if y.is_complex():
        return None
    shape = operator.in_shape
    n_channels = shape[0] if len(shape) == 3 else 1
    ones = torch.eye(n_channels, dtype=y.dtype, device=y.device)[:, :, None, None].expand(-1, -1, *shape[-2:])
    ones = ones.reshape(n_channels, *shape)
    measured = torch.stack([operator(one[None]).flatten() for one in ones], 1).double().cpu()
    values = y.flatten()[:, None].double().cpu()
    found = torch.linalg.lstsq(measured, values, driver="gelsd").solution
    rest = torch.linalg.vector_norm(values - measured @ found)
    if not rest <= UNEXPLAINED * torch.linalg.vector_norm(values):
        return None
    channels = first(y).reshape(n_channels, *shape[-2:]).movedim(0, -1)
    rounding = ROUNDING * torch.finfo(y.dtype).eps * float(channels.abs().max())
    flat = float((channels - channels.mean((0, 1))).abs().max()) <= rounding  # nothing is beside the constant
    if flat or far_level(channels.cpu().numpy(), colour=True) is None:
        return None
    constant = torch.tensordot(found[:, 0].to(y), ones, dims=1)[None]
    if positive:
        near = first(y - operator(constant))
        constant = constant + near.min() - MARGIN * (near.max() - near.min())
    return constant
