"""Padding and cropping of signals for a dictionary with a stride, whose atoms are placed on a grid.

The grid covers a signal exactly if the last position of an atom ends with the signal, that is, if
``(size - kernel) % stride == 0`` along each axis.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["Shift", "continue_by_reflection", "cover", "drawn_shifts", "local_mean", "window"]

Shift = tuple[int, ...]


def drawn_shifts(shifts: list[Shift], n_shifts: int, generator: torch.Generator | None) -> list[Shift]:
    """Return `n_shifts` distinct random ones of the shifts of a grid."""
    if not 1 <= n_shifts <= len(shifts):
        raise ValueError(f"n_shifts: expected 1 to {len(shifts)}, got {n_shifts}")
    return [shifts[i] for i in torch.randperm(len(shifts), generator=generator)[:n_shifts].tolist()]


def cover(y: Tensor, kernel: tuple[int, ...], stride: int) -> Tensor:
    """Return signals (n, channels, *spatial) without the last entries, which no atom covers."""
    for axis, width in enumerate(kernel, start=2):
        y = y.narrow(axis, 0, y.shape[axis] - (y.shape[axis] - width) % stride)
    return y


def continue_by_reflection(y: Tensor, kernel: tuple[int, ...], stride: int, shift: Shift) -> Tensor:
    """Pad signals (n, channels, *spatial) by reflection at both ends, so that the grid covers them.

    Along each axis ``stride - shift`` entries are added before the signal and ``stride + rest + shift``
    after it, with ``rest = (kernel - size) % stride``. The padded size does not depend on the shift (authors'
    code of Tolooshams et al., "Convolutional dictionary learning based auto-encoders", 2020).
    """
    for axis, (width, moved) in enumerate(zip(kernel, shift, strict=True), start=2):
        size = y.shape[axis]
        rest = (width - size) % stride
        entries = torch.arange(size + 2 * stride + rest, device=y.device) - (stride - moved)
        y = y.index_select(axis, _reflected(entries, size))
    return y


def window(x: Tensor, before: Sequence[int], size: tuple[int, ...]) -> Tensor:
    """Return `size` entries of each spatial axis, starting at `before`, with zeros beyond the end of x."""
    ends = [
        (-begin, begin + length - old) for begin, length, old in zip(before, size, x.shape[2:], strict=True)
    ]
    return F.pad(x, [n for pair in reversed(ends) for n in pair])


def local_mean(y: Tensor, width: int) -> Tensor:
    """Return the moving average of signals (n, channels, *spatial) over centred windows of odd `width`.

    Signals are padded by reflection.
    """
    for axis in range(2, y.ndim):
        size = y.shape[axis]
        entries = torch.arange(size + width - 1, device=y.device) - width // 2
        rows = y.index_select(axis, _reflected(entries, size)).movedim(axis, -1)
        means = F.avg_pool1d(rows.flatten(0, -2).unsqueeze(1), width, stride=1)
        y = means.view(*rows.shape[:-1], size).movedim(-1, axis)
    return y


def _reflected(entries: Tensor, size: int) -> Tensor:
    """Return the indices, inside of a signal of `size` entries, that repeated reflection maps entries to."""
    if size == 1:
        return torch.zeros_like(entries)
    period = 2 * (size - 1)
    entries = entries % period
    return torch.minimum(entries, period - entries)
