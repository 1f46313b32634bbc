"""Windows of signals that no filter should be learned from: artefacts.

The loss of a window is half its squared residual plus the penalty of the codes in its middle. An event is an
artefact if the logarithm of the loss of its window is far above the median over events, in units of their
median absolute deviation. The idea of leaving out windows of large loss is that of Allain et al., "RoseCDL:
robust and scalable convolutional dictionary learning", 2025; logarithms make the test indifferent to
amplitudes that differ by nature, such as those of the waves of an electrocardiogram.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from calepin.learning.filters import window_sums
from calepin.solvers.coders.sparse_codes import SparseCodes

__all__ = ["Losses", "limit_of", "losses_of"]

_FEWEST = 20  # blocks from which a deviation can be told
_LEAST_SPREAD = 0.1  # of logarithms: equal events differ by rounding errors alone
_DEVIATION = 0.6745
_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


@dataclass(frozen=True, eq=False)
class Losses:
    """Losses of signals of one size.

    Attributes
    ----------
    windows : Tensor of float64, shape (n, *positions)
        The loss of each window.
    events : array, shape (n_blocks,)
        The largest loss of the window of an event, in each block of the size of a kernel that has an event.
    """

    windows: Tensor
    events: np.ndarray


def losses_of(
    codes: SparseCodes, residual: Tensor, penalties: np.ndarray, kernel: Sequence[int], stride: int = 1
) -> Losses:
    """Return the losses of signals with this residual; `penalties` are those of the nonzeros."""
    entries = 0.5 * residual.double().square().sum(1)
    start = stride * codes.place
    centre = start + np.array([size // 2 for size in kernel])
    place = torch.from_numpy(np.column_stack([codes.sample, centre])).to(entries.device)
    entries.index_put_(tuple(place.T), torch.from_numpy(penalties).to(entries), accumulate=True)
    windows = window_sums(entries, kernel)
    at = torch.from_numpy(np.column_stack([codes.sample, start])).to(entries.device)
    of_events = windows[tuple(at.T)].cpu().numpy()
    blocks = np.column_stack([codes.sample, start // np.array(kernel)])
    which, block = np.unique(blocks, axis=0, return_inverse=True)
    largest = np.zeros(len(which))
    np.maximum.at(largest, block.ravel(), of_events)
    return Losses(windows, largest)


def limit_of(losses: Sequence[Losses], deviations: float) -> float:
    """Return the largest loss of a window that is no artefact; infinity if events are too few to tell."""
    values = np.concatenate([of_group.events for of_group in losses])
    values = np.log(values[values > 0])
    if len(values) < _FEWEST:
        return float("inf")
    middle = np.median(values)
    spread = max(float(np.median(np.abs(values - middle))) / _DEVIATION, _LEAST_SPREAD)
    return float(np.exp(middle + deviations * spread))


def covered(windows: Tensor, kernel: Sequence[int]) -> Tensor:
    """Return the entries (n, *spatial) of the windows (n, *positions) that are marked."""
    pads = [pad for size in reversed(kernel) for pad in (size - 1, size - 1)]
    wide = F.pad(windows[:, None].float(), pads)
    return _MAX_POOL[len(kernel)](wide, tuple(kernel), stride=1)[:, 0] > 0
