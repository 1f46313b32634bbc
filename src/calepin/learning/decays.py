"""Kernels of autoregressive processes: an exponential decay, or one that rises before.

    order 1   w(t) = exp(-t / tau)                                           AR(1)
    order 2   w(t) = exp(-(t + 1) / tau) - exp(-(t + 1) / rise), rise < tau  AR(2) with two real poles

They are the responses of a calcium indicator to a spike (Vogelstein et al., "Fast nonnegative deconvolution
for spike train inference from population calcium imaging", 2010; Pnevmatikakis et al., "Simultaneous
denoising, deconvolution, and demixing of calcium imaging data", 2016). The nearest filter of a family is the
projection on the waveform of unit norm that has the largest correlation with it; its time constants are found
on a grid, and then by Newton's method with derivatives from differences, whose steps become ever smaller.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["nearest_decays", "waveforms"]

_SHORTEST = 0.2  # of the time constants, in samples
_LONGEST = 10.0  # in kernels
_GRID = 32  # values of each time constant
_EQUAL = 1e-4  # smallest difference of the logarithms of two constants
_ROUNDS = 24  # of steps, halved where no neighbour is better
_FARTHEST = 4.0  # Newton's step


def nearest_decays(filters: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Return the nearest filters whose channels are multiples of one waveform, and its time constants.

    Parameters
    ----------
    filters : Tensor, shape (n_components, channels, length)
    order : {1, 2}
        Number of time constants.

    Returns
    -------
    filters : Tensor, of the same shape
    constants : Tensor of float64, shape (n_components, order)
        In samples: the decay, then the rise.
    """
    h, length = filters.double(), filters.shape[2]
    places = _grid(length, order).to(h.device)
    best = places[_gains(h, places[None]).argmax(1)]
    around, quadratic = (matrix.to(h.device) for matrix in _stencil(order))
    step = h.new_full((len(h), 1, 1), math.log(_LONGEST * length / _SHORTEST) / (_GRID - 1))
    for _ in range(_ROUNDS):
        near = _admissible(best[:, None] + step * around, length)
        gains = _gains(h, near)
        newton = _admissible(best[:, None] + step * _newton(gains @ quadratic, order), length)
        near, gains = torch.cat([near, newton], 1), torch.cat([gains, _gains(h, newton)], 1)
        chosen = gains.argmax(1)
        best = near[torch.arange(len(h)), chosen]
        inside = (chosen == len(around) // 2) | (chosen == len(around))
        step = torch.where(inside[:, None, None], step / 2, step)
    constants = _constants(best)
    shape = waveforms(constants, length)
    return ((h @ shape[..., None]) * shape[:, None]).to(filters), constants


def waveforms(constants: Tensor, length: int) -> Tensor:
    """Return the waveforms (..., length), of unit norm, of time constants (..., order) in samples."""
    t = torch.arange(length, dtype=constants.dtype, device=constants.device)
    decay = constants[..., :1]
    if constants.shape[-1] == 1:
        shape = torch.exp(-t / decay)
    else:
        rise = constants[..., 1:]
        # a difference of exponentials, without the loss of digits where they are nearly equal
        shape = -torch.exp(-(t + 1) / decay) * torch.expm1((t + 1) * (1 / decay - 1 / rise))
    return shape / torch.linalg.vector_norm(shape, dim=-1, keepdim=True)


@lru_cache(maxsize=2)
def _stencil(order: int) -> tuple[Tensor, Tensor]:
    """Return a place and its neighbours, and the map from values there to a quadratic function near them."""
    axis = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    around = torch.cartesian_prod(*[axis] * order).view(-1, order)
    squares = torch.stack([around[:, i] * around[:, j] for i in range(order) for j in range(i + 1)], 1)
    columns = torch.cat([torch.ones_like(around[:, :1]), around, squares], 1)
    return around, torch.linalg.pinv(columns).T.contiguous()


def _newton(coefficients: Tensor, order: int) -> Tensor:
    """Return the steps (n, 1, order) to the stationary points of quadratic functions, of bounded length."""
    slope, bends = coefficients[:, 1 : 1 + order], coefficients[:, 1 + order :]
    curvature = 2 * bends[:, :, None] if order == 1 else bends[:, [0, 1, 1, 2]].view(-1, 2, 2)
    if order == 2:
        curvature = curvature * torch.tensor([[2.0, 1.0], [1.0, 2.0]]).to(curvature)
    step = -(torch.linalg.pinv(curvature) @ slope[:, :, None]).mT
    return step.clamp(-_FARTHEST, _FARTHEST)


def _gains(h: Tensor, places: Tensor) -> Tensor:
    """Return the squared norms of projections of filters on waveforms (n_components or 1, n, order)."""
    shapes = waveforms(_constants(places), h.shape[2])
    return (h @ shapes.mT).square().sum(1)


def _constants(places: Tensor) -> Tensor:
    """Return the time constants of places of the search: their mean logarithm, and the difference.

    Waveforms with equal constants change with the mean alone: the search goes along its axes.
    """
    if places.shape[-1] == 1:
        return places.exp()
    mean, half = places[..., 0], places[..., 1] / 2
    return torch.stack([(mean + half).exp(), (mean - half).exp()], -1)


def _admissible(places: Tensor, length: int) -> Tensor:
    """Return places whose mean is within bounds, and whose difference is positive."""
    shortest, longest = math.log(_SHORTEST), math.log(_LONGEST * length)
    mean = places[..., :1].clamp(shortest, longest)
    return torch.cat([mean, places[..., 1:].clamp(_EQUAL, longest - shortest)], -1)


@lru_cache(maxsize=8)
def _grid(length: int, order: int) -> Tensor:
    """Return the places (n, order) from which the search starts."""
    logs = torch.linspace(math.log(_SHORTEST), math.log(_LONGEST * length), _GRID, dtype=torch.float64)
    if order == 1:
        return logs[:, None]
    rise, decay = torch.combinations(logs).T
    return torch.stack([(rise + decay) / 2, decay - rise], -1)
