"""Cartesian magnetic resonance imaging: undersampled Fourier transforms measured by several coils.

    y_c = M F (s_c * x)            c = 1 .. n_coils

F is the orthonormal two-dimensional Fourier transform with the zero frequency in the middle of the
grid, M keeps the acquired samples, and s_c is the sensitivity of coil c at each pixel (Pruessmann et al.,
"SENSE: sensitivity encoding for fast MRI", 1999). Without sensitivities, the images of the coils are
separate unknowns, and the final image is the root of their sum of squares (Roemer et al., "The NMR phased
array", 1990).
"""

import math

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_tensor
from calepin.operators.base import LinearOperator

__all__ = [
    "MultiCoilMRI",
    "column_mask",
    "density_weights",
    "estimate_sensitivities",
    "root_sum_of_squares",
    "variable_density_mask",
]

_AXES = (-2, -1)
_NEAREST = 0.02  # keeps the weight at the middle of k-space above zero


class MultiCoilMRI(LinearOperator):
    """Map images to the k-space samples of every coil, with zeros where nothing was acquired.

    Parameters
    ----------
    acquired : bool Tensor, shape (height, width)
        True where k-space is sampled, the zero frequency at ``(height // 2, width // 2)``.
    sensitivities : complex Tensor, shape (n_coils, height, width), optional
        Sensitivities of the coils: one image, (n, 1, height, width), gives the k-space of ``n_coils`` coils.
    n_coils : int, optional
        Number of coils without sensitivities, by default 1. The images of the coils,
        (n, n_coils, height, width), are then transformed separately.

    Raises
    ------
    ValueError
        If the mask is not boolean, is not two-dimensional or has no sample; or if the sensitivities have
        another shape, are real, or contain NaN or infinity.
    """

    acquired: Tensor
    sensitivities: Tensor | None

    def __init__(
        self, acquired: Tensor, *, sensitivities: Tensor | None = None, n_coils: int | None = None
    ) -> None:
        check_arguments(MultiCoilMRI.__init__, locals())
        check_tensor("acquired", acquired)
        if acquired.dtype != torch.bool or acquired.ndim != 2:
            raise ValueError(
                "acquired: expected a boolean tensor of shape (height, width), "
                f"got {acquired.dtype} of {tuple(acquired.shape)}"
            )
        if not acquired.any():
            raise ValueError("acquired: expected at least one sample, got none")
        size = tuple(acquired.shape)
        if sensitivities is not None:
            if n_coils is not None:
                raise ValueError(f"n_coils: expected None with sensitivities, got {n_coils}")
            _check_sensitivities(check_tensor("sensitivities", sensitivities), size)
        coils = (n_coils or 1) if sensitivities is None else sensitivities.shape[0]
        super().__init__((coils if sensitivities is None else 1, *size), (coils, *size))
        self.register_buffer("acquired", acquired)
        self.register_buffer("sensitivities", sensitivities)

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 1 or n_coils, height, width) to k-space (n, n_coils, height, width)."""
        self.check_input(x)
        if self.sensitivities is not None:
            x = x * self.sensitivities
        return centred_fft(x).masked_fill(~self.acquired, 0)

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Map k-space to images: the zero-filled reconstruction, weighted by the sensitivities."""
        self.check_output(y)
        if not y.is_complex():
            raise ValueError(f"y: MultiCoilMRI expected complex k-space, got {y.dtype}")
        x = centred_ifft(y.masked_fill(~self.acquired, 0))
        if self.sensitivities is None:
            return x
        return (x * self.sensitivities.conj()).sum(1, keepdim=True)

    @takes_tensors
    def solve_gram(self, y: Tensor, weight: float) -> Tensor | None:
        """Return ``(A A^H + weight I)^-1 y`` without sensitivities, None with them."""
        self.check_gram(y, weight)
        return None if self.sensitivities is not None else y / (self.acquired.to(y.dtype) + weight)

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        if self.sensitivities is None:
            return 1.0
        return super()._compute_norm_squared(generator)


@takes_tensors
def centred_fft(x: Tensor) -> Tensor:
    """Return the orthonormal Fourier transform over the last two axes, zero frequency in the middle."""
    check_arguments(centred_fft, locals())
    spectrum = torch.fft.fft2(torch.fft.ifftshift(x, dim=_AXES), norm="ortho")
    return torch.fft.fftshift(spectrum, dim=_AXES)


@takes_tensors
def centred_ifft(y: Tensor) -> Tensor:
    """Return the inverse, and adjoint, of `centred_fft`."""
    check_arguments(centred_ifft, locals())
    image = torch.fft.ifft2(torch.fft.ifftshift(y, dim=_AXES), norm="ortho")
    return torch.fft.fftshift(image, dim=_AXES)


@takes_tensors
def root_sum_of_squares(images: Tensor) -> Tensor:
    """Return the magnitude (n, 1, height, width) of the images of all coils, (n, n_coils, ...)."""
    check_arguments(root_sum_of_squares, locals())
    return torch.linalg.vector_norm(images, dim=1, keepdim=True)


def estimate_sensitivities(kspace: Tensor, *, n_center: int | tuple[int, int], floor: float = 0.02) -> Tensor:
    """Estimate sensitivities from the fully sampled middle of k-space.

    The low-resolution image of each coil (a Hann window over the middle) is divided by the root of the sum of
    squares over coils. The result is correct up to a phase that all coils share and that the reconstructed
    image then contains. Where the signal is weak, sensitivities fade to zero (McKenzie et al.,
    "Self-calibrating parallel imaging with automatic coil sensitivity extraction", 2002).

    Parameters
    ----------
    kspace : complex Tensor, shape (n_coils, height, width)
        Samples of every coil, with the zero frequency in the middle.
    n_center : int or pair of int
        Size of the fully sampled middle, one number for both axes or one per axis. The window is zero
        outside it.
    floor : float, default 0.02
        Signal level, relative to the maximum, below which sensitivities fade to zero.

    Returns
    -------
    Tensor, shape of `kspace`
        The sum of ``|s_c|^2`` over coils is at most one.

    Raises
    ------
    ValueError
        If k-space is real, not finite, all zero or of another shape, or if the middle is larger than it.
    """
    check_arguments(estimate_sensitivities, locals())
    if kspace.ndim != 3 or not kspace.is_complex():
        raise ValueError(
            "kspace: expected a complex tensor of shape (n_coils, height, width), "
            f"got {kspace.dtype} of {tuple(kspace.shape)}"
        )
    if not torch.isfinite(kspace).all() or not kspace.any():
        raise ValueError("kspace: expected finite samples that are not all zero")
    size = tuple(kspace.shape[1:])
    center = (n_center, n_center) if isinstance(n_center, int) else tuple(n_center)
    if any(not 1 <= c <= s for c, s in zip(center, size, strict=True)):
        raise ValueError(f"n_center: expected 1 to {size}, got {center}")
    window = torch.zeros(size, dtype=kspace.real.dtype, device=kspace.device)
    rows, columns = (
        # one entry more on either side: the window is zero at its ends, which are cut off
        torch.hann_window(length + 2, periodic=False, dtype=window.dtype, device=window.device)[1:-1]
        for length in center
    )
    middle(window, center).copy_(rows[:, None] * columns)
    low = centred_ifft(kspace * window)
    magnitude = root_sum_of_squares(low[None])[0]
    fading = floor * magnitude.max()
    return low / (magnitude.square() + fading.square()).sqrt()


def column_mask(
    shape: tuple[int, int],
    *,
    acceleration: float,
    n_center: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Return a mask of whole columns: those in the middle, and others drawn uniformly at random.

    The fraction of acquired columns is 1 / `acceleration`, rounded to a whole number of columns (Zbontar et
    al., "fastMRI", 2018, section 4.2).

    Parameters
    ----------
    shape : (height, width)
        Size of k-space.
    acceleration : float
        Number of columns divided by the number of acquired columns, at least 1.
    n_center : int, optional
        Number of columns in the middle that are all acquired; by default a third of the acquired columns.
    seed : int, default 0
        Seed of the random columns.

    Returns
    -------
    bool Tensor, shape (height, width)

    Raises
    ------
    ValueError
        If a size or the acceleration is below 1, or the middle has more columns than are acquired.
    """
    check_arguments(column_mask, locals())
    height, width = _check_size(shape)
    n_columns = _n_acquired(width, acceleration)
    n_center = max(1, n_columns // 3) if n_center is None else n_center
    if not 0 <= n_center <= n_columns:
        raise ValueError(f"n_center: expected 0 to the {n_columns} acquired columns, got {n_center}")
    weights = torch.ones(width, dtype=torch.float64)
    columns = _draw(weights, (n_center,), n_columns, seed)
    return columns.expand(height, width).clone()


def variable_density_mask(
    shape: tuple[int, int],
    *,
    acceleration: float,
    n_center: int = 24,
    power: float = 2.0,
    seed: int = 0,
) -> Tensor:
    """Return a mask of single samples: all in the middle, and fewer with growing distance from it.

    Samples are drawn without replacement with weights ``(1 - r)^power``, r the distance from the middle
    relative to that of the corners (Lustig, Donoho and Pauly, "Sparse MRI", 2007, section III.C).

    Parameters
    ----------
    shape : (height, width)
        Size of k-space.
    acceleration : float
        Number of samples divided by the number of acquired samples, including the middle; at least 1.
    n_center : int, default 24
        Side length of the fully sampled middle.
    power : float, default 2
        Exponent of the density, at least 0; 0 gives a uniform density.
    seed : int, default 0
        Seed of the random samples.

    Returns
    -------
    bool Tensor, shape (height, width)

    Raises
    ------
    ValueError
        If a size or the acceleration is below 1, the power is below 0, or the middle has more samples than
        are acquired.
    """
    check_arguments(variable_density_mask, locals())
    height, width = _check_size(shape)
    if not 0 <= power < math.inf:
        raise ValueError(f"power: expected a finite number of at least 0, got {power!r}")
    n_samples = _n_acquired(height * width, acceleration)
    center = (min(n_center, height), min(n_center, width))
    if n_center < 0 or math.prod(center) > n_samples:
        raise ValueError(
            f"n_center: expected a middle of at most the {n_samples} acquired samples, got {n_center}"
        )
    radius = _radius((height, width)).clamp_max(1)
    # the corners keep a small weight, so that a full mask can be drawn too
    return _draw((1 - radius).clamp_min(1e-3) ** power, center, n_samples, seed)


def density_weights(shape: tuple[int, int], *, power: float = 0.5) -> Tensor:
    """Return weights that grow with the distance r from the middle of k-space, ``(r + .02)^power``.

    Most of the energy of k-space lies in its middle, so a gradient-based fit recovers the middle early and
    the edges of an image late. With ``Diagonal(weights) @ A``, fitted to ``weights * y``, both are recovered
    at the same time.

    Parameters
    ----------
    shape : (height, width)
        Size of k-space.
    power : float, default 0.5
        Exponent, at least 0; 0 gives weights of one.

    Returns
    -------
    Tensor, shape (height, width)
        Weights in single precision; the largest, in the farthest corner, is 1.

    Raises
    ------
    ValueError
        If a size is below 1 or the power is below 0.
    """
    check_arguments(density_weights, locals())
    if not 0 <= power < math.inf:
        raise ValueError(f"power: expected a finite number of at least 0, got {power!r}")
    weights = (_radius(_check_size(shape)) + _NEAREST) ** power
    if not float(weights.max()) < math.inf or not float(weights.max()) > 0:
        raise ValueError(f"power: expected a smaller number, got {power:g}: the weights overflow")
    return (weights / weights.max()).float()


def _radius(size: tuple[int, int]) -> Tensor:
    """Return the distance of every entry from the zero frequency, relative to that of the corners."""
    rows, columns = (
        (torch.arange(length, dtype=torch.float64) - length // 2) / max(length // 2, 1) for length in size
    )
    return (rows[:, None].square() + columns.square()).div(2).sqrt()


def _draw(weights: Tensor, center: tuple[int, ...], n_acquired: int, seed: int) -> Tensor:
    """Return a mask of `n_acquired` entries: the middle, and others drawn by weight without replacement.

    Every entry gets an exponential random number with rate `weights`; the entries with the smallest numbers
    are such a draw (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
    """
    from calepin.core.random import torch_generator

    clocks = torch.empty_like(weights).exponential_(generator=torch_generator(seed)) / weights
    middle(clocks, center).fill_(-1.0)
    chosen = clocks.flatten().topk(n_acquired, largest=False).indices
    return torch.zeros(weights.numel(), dtype=torch.bool).index_fill(0, chosen, True).view(weights.shape)


def middle(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return a view of the entries around the zero frequency."""
    for axis, length in enumerate(size):
        values = values.narrow(axis, values.shape[axis] // 2 - length // 2, length)
    return values


def _n_acquired(n: int, acceleration: float) -> int:
    if not 1 <= acceleration <= n:
        raise ValueError(f"acceleration: expected a number from 1 to {n}, got {acceleration!r}")
    return max(1, round(n / acceleration))


def _check_size(shape: tuple[int, int]) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape: expected (height, width), got {tuple(shape)}")
    return int(shape[0]), int(shape[1])


def _check_sensitivities(sensitivities: Tensor, size: tuple[int, ...]) -> None:
    if not sensitivities.is_complex() or sensitivities.ndim != 3 or sensitivities.shape[1:] != size:
        raise ValueError(
            f"sensitivities: expected a complex tensor of shape (n_coils, {size[0]}, {size[1]}), "
            f"got {sensitivities.dtype} of {tuple(sensitivities.shape)}"
        )
    if not torch.isfinite(sensitivities).all():
        raise ValueError("sensitivities: expected finite values, got NaN or infinity")
