"""Convolution with a point spread function, with or without decimation.

    Blur         y[i] = sum_j psf[j] x[i + c - j]                    c = size // 2, the centre of the PSF
    Downsample   y[i] = sum_j psf[j] x[s i + (s - 1) // 2 + c - j]   s the factor

i and j are multi-indices over the axes of the PSF. What lies outside the image is given by the boundary. Both
are products of spectra; where the boundary is circular, or symmetric with a symmetric PSF, A A^T is too, so
that regularised least squares have a closed form (Zhao et al., "Fast single image super-resolution using a
new analytical solution for l2-l2 problems", 2016).
"""

import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import all_finite, check_integer, check_one_of, check_shape, check_tensor
from calepin.operators.base import LinearOperator

__all__ = ["Blur", "Downsample"]

BOUNDARIES = ("symmetric", "circular", "zero", "valid")
Boundary = Literal["symmetric", "circular", "zero", "valid"]
_SUM_TOLERANCE = 1e-3  # deviation of the sum of a PSF from 1 that is worth a warning
_SYMMETRY = 1e-6  # relative deviation of a PSF from its mirror image that is rounding


class _Filter(LinearOperator):
    """Convolution along the last axes, of which every `factor`-th entry is kept."""

    psf: Tensor
    spectrum: Tensor  # of the PSF, on the grid of `_grid`
    gram: Tensor | None  # eigenvalues of A A^T, if it is a circular convolution

    def __init__(self, psf: Tensor, shape: tuple[int, ...], boundary: str, factor: int) -> None:
        d = psf.ndim
        kernel = tuple(psf.shape)
        if len(shape) < d or any(n < k for n, k in zip(shape[len(shape) - d :], kernel, strict=True)):
            raise ValueError(
                f"psf: expected at most the size of the image, {tuple(shape)}, got {kernel}: cut it"
            )
        outside = [k - 1 if boundary == "valid" else 0 for k in kernel]
        lead, sides = tuple(shape[: len(shape) - d]), shape[len(shape) - d :]
        in_shape = (*lead, *(n + more for n, more in zip(sides, outside, strict=True)))
        super().__init__(in_shape, (*lead, *(n // factor for n in sides)))
        self.boundary, self.factor = boundary, factor
        self._sides = tuple(sides)
        self._axes = tuple(range(-d, 0))
        self.register_buffer("psf", psf)
        self.register_buffer("spectrum", self._spectrum(self._grid(), self._first()))
        self.register_buffer("gram", self._gram() if self._is_diagonal() else None)

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, *in_shape) to filtered ones, (n, *out_shape)."""
        self.check_input(x)
        return _by_parts(self._filter, x)

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Map filtered images (n, *out_shape) to A^T y, (n, *in_shape)."""
        self.check_output(y)
        return _by_parts(self._filter_transposed, y)

    @takes_tensors
    def solve_gram(self, y: Tensor, weight: float) -> Tensor | None:
        """Return ``(A A^T + weight I)^-1 y`` for a circular boundary or a symmetric PSF, else None."""
        self.check_gram(y, weight)
        return None if self.gram is None else _by_parts(lambda part: self._divide(part, weight), y)

    def extra_repr(self) -> str:
        """Return the shapes and settings, for ``repr``."""
        return f"{super().extra_repr()}, psf={tuple(self.psf.shape)}, boundary={self.boundary!r}"

    def _filter(self, x: Tensor) -> Tensor:
        grid = self._grid()
        x = self._extended(x)
        spectrum = torch.fft.rfftn(x, grid, self._axes) * self.spectrum.to(_complex(x))
        y = torch.fft.irfftn(spectrum, grid, self._axes)
        start = (self.factor - 1) // 2
        for axis, (first, n) in enumerate(zip(self._first(), self._sides, strict=True), start=-len(grid)):
            y = y.narrow(axis, first, n) if self.boundary != "circular" else y
            y = y.index_select(axis, torch.arange(start, n, self.factor, device=y.device))
        return y

    def _filter_transposed(self, y: Tensor) -> Tensor:
        grid = self._grid()
        start = (self.factor - 1) // 2
        for axis, (first, n, size) in enumerate(
            zip(self._first(), self._sides, grid, strict=True), start=-len(grid)
        ):
            first = 0 if self.boundary == "circular" else first
            places = torch.arange(start, n, self.factor, device=y.device) + first
            wide = y.new_zeros(*y.shape[:axis], size, *y.shape[axis:][1:])
            y = wide.index_copy(axis, places, y)
        spectrum = torch.fft.rfftn(y, grid, self._axes) * self.spectrum.to(_complex(y)).conj()
        return self._folded(torch.fft.irfftn(spectrum, grid, self._axes))

    def _grid(self) -> list[int]:
        """Return the lengths of the transforms: without wrapping around, unless the boundary is circular."""
        if self.boundary == "circular":
            return list(self._sides)
        return [n + k - 1 for n, k in zip(self._sides, self.psf.shape, strict=True)]

    def _first(self) -> list[int]:
        """Return where the filtered image begins in the periodic convolution of the extended one."""
        return [k // 2 if self.boundary == "circular" else k - 1 for k in self.psf.shape]

    def _spectrum(self, grid: list[int], first: list[int]) -> Tensor:
        """Return the spectrum of the PSF, moved so that a circular image stays where it is."""
        shifts = [-f if self.boundary == "circular" else 0 for f in first]
        return _transfer(self.psf, grid, shifts)

    def _extended(self, x: Tensor) -> Tensor:
        """Return the image with what lies outside of it, as far as the PSF reaches."""
        if self.boundary in ("circular", "valid"):
            return x
        reach = [(k - 1 - k // 2, k // 2) for k in self.psf.shape]
        if self.boundary == "zero":
            return F.pad(x, [n for pair in reversed(reach) for n in pair])
        for axis, (n, (before, after)) in enumerate(zip(self._sides, reach, strict=True), start=-len(reach)):
            x = x.index_select(axis, _mirrored(n, before, after, x.device))
        return x

    def _folded(self, x: Tensor) -> Tensor:
        """Return the transpose of `_extended`."""
        if self.boundary in ("circular", "valid"):
            return x
        reach = [(k - 1 - k // 2, k // 2) for k in self.psf.shape]
        for axis, (n, (before, after)) in enumerate(zip(self._sides, reach, strict=True), start=-len(reach)):
            if self.boundary == "zero":
                x = x.narrow(axis, before, n)
            else:
                out = x.new_zeros(*x.shape[:axis], n, *x.shape[axis:][1:])
                x = out.index_add(axis, _mirrored(n, before, after, x.device), x)
        return x

    def _is_diagonal(self) -> bool:
        """Return whether A A^T is a convolution of the periodic image, or of its mirrored double."""
        if self.boundary == "circular":
            return True
        # the mirrored image is filtered to a mirrored one if the PSF, around the centre of a block of
        # `factor` pixels, is its own mirror image
        centred = all((k - self.factor) % 2 == 0 for k in self.psf.shape)
        scale = _SYMMETRY * float(self.psf.abs().max())
        mirrors = [float((self.psf - self.psf.flip(axis)).abs().max()) for axis in range(self.psf.ndim)]
        return self.boundary == "symmetric" and centred and max(mirrors) <= scale

    def _gram(self) -> Tensor:
        """Return the mean of ``|spectrum|^2`` over frequencies that decimation cannot tell apart."""
        double = 1 if self.boundary == "circular" else 2
        sides = [double * n for n in self._sides]
        energy = torch.fft.fftn(self.psf.double(), sides, self._axes).abs().square()
        for axis, n in enumerate(sides):
            energy = energy.unflatten(axis, (self.factor, n // self.factor)).mean(axis)
        half = sides[-1] // self.factor // 2 + 1
        return energy[..., :half].to(self.psf.dtype).contiguous()

    def _divide(self, y: Tensor, weight: float) -> Tensor:
        assert self.gram is not None
        sides = list(y.shape[-len(self._axes) :])
        if self.boundary != "circular":
            for axis in self._axes:
                y = torch.cat([y, y.flip(axis)], axis)
        spectrum = torch.fft.rfftn(y, dim=self._axes) / (self.gram.to(y.dtype) + weight)
        y = torch.fft.irfftn(spectrum, y.shape[-len(sides) :], self._axes)
        for axis, n in zip(self._axes, sides, strict=True):
            y = y.narrow(axis, 0, n)
        return y

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        if self.boundary == "circular" and self.gram is not None:
            return float(self.gram.max())
        return super()._compute_norm_squared(generator)


class Blur(_Filter):
    """Convolve images with a point spread function (PSF).

    Parameters
    ----------
    psf : Tensor
        Real, with one axis for each axis of the image that is blurred: the last ones. Its centre is the entry
        ``size // 2`` along each axis. A PSF whose sum is not 1 changes the brightness, and warns.
    shape : tuple of int
        Shape of one blurred image, such as (height, width) or (channels, height, width).
    boundary : {"symmetric", "circular", "zero", "valid"}, default "symmetric"
        What lies outside the image: its mirror image (the edge pixel is repeated), its periodic continuation,
        or zeros. "valid": the blurred image is smaller than the sharp one, by the size of the PSF minus 1
        along each axis, so that nothing is assumed.

    Raises
    ------
    ValueError
        A PSF that is larger than the image, empty, zero everywhere, not real or not finite.

    Warns
    -----
    UserWarning
        The PSF does not sum to one.

    Notes
    -----
    `solve_gram` has a closed form for "circular", and for "symmetric" if the PSF has odd sides and is its own
    mirror image along every axis.

    Examples
    --------
    >>> import torch
    >>> from calepin.operators import Blur
    >>> blur = Blur(torch.full((3, 3), 1 / 9), (5, 5), boundary="zero")
    >>> point = torch.zeros(1, 5, 5)
    >>> point[0, 2, 2] = 9.0
    >>> blur(point)[0, 2].round().abs()
    tensor([0., 1., 1., 1., 0.])
    """

    def __init__(self, psf: Tensor, shape: tuple[int, ...], *, boundary: Boundary = "symmetric") -> None:
        check_arguments(Blur.__init__, locals())
        check_one_of("boundary", boundary, BOUNDARIES)
        super().__init__(check_psf(psf), check_shape("shape", shape), boundary, 1)


class Downsample(_Filter):
    """Reduce images by a whole factor, after a low-pass filter against aliasing.

    Parameters
    ----------
    shape : tuple of int
        Shape of one image before it is reduced; the sides that are reduced are multiples of the factor.
    factor : int
        The factor, at least 2, along the last two axes (or as many as a PSF has).
    antialias : {"bicubic", "box"} or Tensor, default "bicubic"
        The filter. "bicubic": Keys' cubic kernel, widened by the factor, as in `imresize` of MATLAB and in
        Pillow. "box": the mean of ``factor x factor`` pixels, as larger pixels of a sensor measure it. A
        tensor is a PSF of your own: with sides that are odd and even as the factor is, it is centred on a
        block of pixels; otherwise on the pixel ``(factor - 1) // 2`` of the block.
    boundary : {"symmetric", "circular", "zero"}, default "symmetric"
        What lies outside the image, as in `Blur`.

    Raises
    ------
    ValueError
        Sides that are no multiples of the factor, or a filter that is larger than the image.

    Examples
    --------
    >>> import torch
    >>> from calepin.operators import Downsample
    >>> Downsample((4, 6), 2, antialias="box")(torch.arange(24.0).view(1, 4, 6))
    tensor([[[ 3.5000,  5.5000,  7.5000],
             [15.5000, 17.5000, 19.5000]]])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        factor: int,
        *,
        antialias: str | Tensor = "bicubic",
        boundary: Literal["symmetric", "circular", "zero"] = "symmetric",
    ) -> None:
        check_arguments(Downsample.__init__, locals())
        shape = check_shape("shape", shape)
        check_integer("factor", factor, least=2)
        check_one_of("boundary", boundary, BOUNDARIES[:3])
        if isinstance(antialias, str):
            check_one_of("antialias", antialias, _KERNELS)
            psf = _KERNELS[antialias](factor)
        else:
            psf = check_psf(antialias)
        sides = shape[max(0, len(shape) - psf.ndim) :]
        if any(n % factor for n in sides):
            raise ValueError(f"shape: expected sides that are multiples of {factor}, got {shape}")
        super().__init__(psf, shape, boundary, factor)

    def extra_repr(self) -> str:
        """Return the shapes and settings, for ``repr``."""
        return f"{super().extra_repr()}, factor={self.factor}"


def check_psf(psf: Tensor) -> Tensor:
    """Return a point spread function; raise ValueError for none, and warn unless its sum is one."""
    check_tensor("psf", psf)
    if not psf.is_floating_point() or not 1 <= psf.ndim <= 3 or not psf.numel():
        raise ValueError(
            f"psf: expected a real tensor with one to three axes, got {psf.dtype} of {tuple(psf.shape)}"
        )
    if not all_finite(psf) or not bool(psf.any()):
        raise ValueError("psf: expected finite values that are not all zero")
    total = float(psf.double().sum())
    if not abs(total - 1) <= _SUM_TOLERANCE:
        warnings.warn(
            f"the PSF sums to {total:.4g}, not to 1: it changes the brightness; divide it by its sum unless "
            "that is meant",
            stacklevel=3,
        )
    return psf


def _bicubic(factor: int) -> Tensor:
    """Return Keys' cubic kernel (1981, a = -1/2), widened by a factor, as a separable PSF."""
    n = 4 * factor - factor % 2
    t = ((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / factor).abs()
    near = (1.5 * t - 2.5) * t**2 + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    line = torch.where(t <= 1, near, far.where(t < 2, torch.zeros_like(t)))
    line = line / line.sum()
    return line[:, None] * line


def _box(factor: int) -> Tensor:
    return torch.full((factor, factor), 1 / factor**2, dtype=torch.float64)


_KERNELS: dict[str, Callable[[int], Tensor]] = {"bicubic": _bicubic, "box": _box}


def _transfer(psf: Tensor, grid: list[int], shifts: list[int]) -> Tensor:
    """Return the half spectrum of a PSF on a grid, in the precision of the PSF."""
    padded = F.pad(
        psf.double(),
        [n for k, g in zip(reversed(psf.shape), reversed(grid), strict=True) for n in (0, g - k)],
    )
    moved = torch.roll(padded, shifts, list(range(psf.ndim)))
    return torch.fft.rfftn(moved).to(_complex(psf))


def _mirrored(n: int, before: int, after: int, device: Any) -> Tensor:
    """Return the indices of an axis of n entries that continues as its mirror image at both ends."""
    index = torch.arange(-before, n + after, device=device) % (2 * n)
    return torch.where(index < n, index, 2 * n - 1 - index)


def _complex(x: Tensor) -> torch.dtype:
    return torch.complex128 if x.dtype == torch.float64 else torch.complex64


def _by_parts(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a real map, to real and imaginary parts separately if there are both."""
    return torch.complex(function(x.real), function(x.imag)) if x.is_complex() else function(x)
