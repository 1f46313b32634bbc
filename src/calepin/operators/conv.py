"""The convolutional dictionary: small atoms, shifted over a signal of one, two or three dimensions.

    x[c, s t + k] = sum_m sum_t z[m, t] atoms[m, c, k]        t, k multi-indices, s the stride

The adjoint correlates the signal with each atom at the same positions. The number of kernel axes
gives the dimension; the code is the same for all dimensions.

Three implementations agree up to rounding, and `choose_implementation` selects one of them:

- "direct": torch's own convolution.
- "polyphase": a strided convolution is a convolution of stride one between the s^d interleaved
  phases of the signal (as channels) and of the atoms (Vaidyanathan, "Multirate systems and filter
  banks", 1993, section 4.3); for images known as pixel-unshuffle.
- "fft": products of spectra, stride one only.
"""

import math
import numbers

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_tensor
from calepin.operators.base import LinearOperator, Prepared

__all__ = ["ConvDictionary", "choose_implementation", "from_phases", "to_phases"]

BOUNDARIES = ("zero", "circular")
IMPLEMENTATIONS = ("direct", "polyphase", "fft")

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
# Smallest number of kernel entries per channel, by dimension, at which the FFT is faster: measured by
# ``python -m benchmarks.convolution``. With many channels, torch's convolution is a fast dense product.
_FFT_KERNEL = {1: 4, 2: 32, 3: 64}


class ConvDictionary(LinearOperator):
    """Synthesis with shifted atoms; the adjoint is the correlation with them.

    Parameters
    ----------
    atoms : Tensor or nn.Parameter, shape (n_components, channels, *kernel)
        Real, with one to three kernel axes. A Parameter is learnable and appears in ``parameters()``; any
        other tensor is stored unchanged as a buffer, with its gradient history.
    signal_shape : tuple of int
        Spatial shape of a signal: one number per kernel axis, at least the kernel's size.
    stride : int, default 1
        Distance between neighbouring positions of an atom, along every axis. At most the kernel's size,
        because otherwise some entries of the signal would be covered by no atom.
    boundary : {"zero", "circular"}, default "zero"
        "zero": atoms are placed only where they lie entirely inside the signal. The adjoint is the valid
        correlation, and a code has ``(signal - kernel) // stride + 1`` positions along an axis. The last
        ``(signal - kernel) % stride`` entries of a signal are covered by no atom.
        "circular": the signal is periodic, atoms are placed at every multiple of the stride, and a code has
        ``signal / stride`` positions along an axis. The stride must divide the signal's size.
    implementation : {"direct", "polyphase", "fft"}, optional
        By default the choice of `choose_implementation`.

    Notes
    -----
    Codes have shape (n, n_components, *code), signals (n, channels, *signal).
    """

    atoms: Tensor

    def __init__(
        self,
        atoms: Tensor,
        *,
        signal_shape: tuple[int, ...],
        stride: int = 1,
        boundary: str = "zero",
        implementation: str | None = None,
    ) -> None:
        check_arguments(ConvDictionary.__init__, locals())
        signal_shape = tuple(signal_shape)
        _check_atoms(check_tensor("atoms", atoms), stride)
        kernel = tuple(atoms.shape[2:])
        _check_geometry(kernel, signal_shape, stride, boundary)
        if implementation is None:
            implementation = choose_implementation(tuple(atoms.shape), stride)
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(f"implementation: expected one of {IMPLEMENTATIONS}, got {implementation!r}")
        if implementation == "fft" and stride != 1:
            raise ValueError(f"implementation: expected stride 1 for 'fft', got stride {stride}")
        if boundary == "circular":
            code_shape = tuple(size // stride for size in signal_shape)
        else:
            code_shape = tuple(
                (size - width) // stride + 1 for size, width in zip(signal_shape, kernel, strict=True)
            )
        super().__init__((atoms.shape[0], *code_shape), (atoms.shape[1], *signal_shape))
        self.stride = stride
        self.boundary = boundary
        self.implementation = implementation
        if isinstance(atoms, nn.Parameter):
            self.atoms = atoms
        else:
            self.register_buffer("atoms", atoms)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Spatial shape of an atom."""
        return tuple(self.atoms.shape[2:])

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Map codes (n, n_components, *code) to signals (n, channels, *signal)."""
        self.check_input(x)
        if self.implementation == "fft":
            return self._synthesise_fft(x, self._spectra())
        if self.implementation == "direct":
            x = _TRANSPOSED[len(self.kernel)](x, self.atoms, stride=self.stride)
        else:
            phases = _TRANSPOSED[len(self.kernel)](x, to_phases(self.atoms, self.stride))
            x = from_phases(phases, self.stride)
        if self.boundary == "circular":
            return _fold(x, self.out_shape[1:], self._overhang())
        return _fit(x, self.out_shape[1:])

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Correlate signals (n, channels, *signal) with the atoms: (n, n_components, *code)."""
        self.check_output(y)
        if self.implementation == "fft":
            return self._correlate_fft(y, self._spectra())
        if self.boundary == "circular":
            y = _unfold(y, self._overhang())
        if self.implementation == "direct":
            return _CONVOLVE[len(self.kernel)](y, self.atoms, stride=self.stride)
        atoms = to_phases(self.atoms, self.stride)
        reached = [
            (positions + width - 1) * self.stride
            for positions, width in zip(self.in_shape[1:], atoms.shape[2:], strict=True)
        ]
        return _CONVOLVE[len(self.kernel)](to_phases(_fit(y, reached), self.stride), atoms)

    def extra_repr(self) -> str:
        """Return the shapes and settings, for ``repr``."""
        return (
            f"{super().extra_repr()}, kernel={self.kernel}, stride={self.stride}, "
            f"boundary={self.boundary!r}, implementation={self.implementation!r}"
        )

    def _overhang(self) -> list[int]:
        """Return the number of entries by which the last atom extends beyond a periodic signal, per axis."""
        return [width - self.stride for width in self.kernel]

    def prepared(self) -> LinearOperator:
        """Return this dictionary with its current atoms, whose spectra are computed once."""
        if self.implementation != "fft":
            return self
        spectra = self._spectra().detach()
        return Prepared(
            self,
            lambda x: self._synthesise_fft(x, spectra),
            lambda y: self._correlate_fft(y, spectra),
        )

    def _spectra(self) -> Tensor:
        axes, size = self._fft_grid()
        return torch.fft.rfftn(self.atoms, size, axes)

    def _synthesise_fft(self, x: Tensor, spectra: Tensor) -> Tensor:
        axes, size = self._fft_grid()
        signal = torch.fft.irfftn(_mix(torch.fft.rfftn(x, size, axes), spectra), size, axes)
        return _fit(signal, self.out_shape[1:])

    def _correlate_fft(self, y: Tensor, spectra: Tensor) -> Tensor:
        axes, size = self._fft_grid()
        spectra = spectra.conj().transpose(0, 1)
        code = torch.fft.irfftn(_mix(torch.fft.rfftn(y, size, axes), spectra), size, axes)
        return _fit(code, self.in_shape[1:])

    def _fft_grid(self) -> tuple[tuple[int, ...], list[int]]:
        """Return the axes and the lengths of the transforms.

        Atoms inside the signal never wrap around, so the signal's own size is sufficient.
        """
        size = list(self.out_shape[1:])
        if self.boundary == "zero":
            size = [_smooth_size(length) for length in size]
        return tuple(range(-len(size), 0)), size

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        """Return the exact value for a circular boundary, where the operator is block diagonal in Fourier."""
        if self.boundary != "circular":
            return super()._compute_norm_squared(generator)
        size = list(self.in_shape[1:])
        axes = tuple(range(-len(size), 0))
        phases = _wrap(to_phases(self.atoms, self.stride), size)
        symbols = torch.fft.rfftn(phases, size, axes).flatten(2).permute(2, 0, 1)
        wide = symbols.shape[1] <= symbols.shape[2]
        gram = symbols @ symbols.mH if wide else symbols.mH @ symbols
        return float(torch.linalg.eigvalsh(gram).max().clamp_min(0))


def choose_implementation(atoms_shape: tuple[int, ...], stride: int) -> str:
    """Return the fastest implementation on a CPU for given sizes.

    Parameters
    ----------
    atoms_shape : tuple of int
        (n_components, channels, *kernel).
    stride : int
        Distance between neighbouring positions of an atom.

    Returns
    -------
    str
        One of "direct", "polyphase" and "fft".
    """
    if stride > 1:
        return "polyphase"
    channels, kernel = atoms_shape[1], atoms_shape[2:]
    return "fft" if math.prod(kernel) >= channels * _FFT_KERNEL[len(kernel)] else "direct"


def to_phases(x: Tensor, stride: int) -> Tensor:
    """Split (n, channels, *spatial) into its interleaved phases, (n, channels * stride^d, *coarse).

    Axes whose size is not a multiple of the stride are padded with zeros at the end. A strided ConvDictionary
    equals one of stride one on the phases of its atoms and signals.
    """
    if stride == 1:
        return x
    d = x.ndim - 2
    coarse = [-(-size // stride) for size in x.shape[2:]]
    x = _fit(x, [size * stride for size in coarse])
    x = x.reshape(*x.shape[:2], *[n for size in coarse for n in (size, stride)])
    # channels last in memory: the layout in which the convolution of many phases is fastest
    x = x.permute(0, *range(2, 2 + 2 * d, 2), 1, *range(3, 3 + 2 * d, 2))
    return x.flatten(1 + d).movedim(-1, 1)


def from_phases(x: Tensor, stride: int) -> Tensor:
    """Interleave phases (n, channels * stride^d, *coarse) again: (n, channels, *(stride * coarse))."""
    if stride == 1:
        return x
    d = x.ndim - 2
    x = x.unflatten(1, (-1, *[stride] * d))
    x = x.permute(0, 1, *[axis for i in range(d) for axis in (2 + d + i, 2 + i)])
    return x.reshape(*x.shape[:2], *[x.shape[2 + 2 * i] * stride for i in range(d)])


def _mix(spectrum: Tensor, atoms: Tensor) -> Tensor:
    """Multiply (n, a, *f) by (a, b, *f), one matrix per frequency: (n, b, *f)."""
    if spectrum.shape[1] == 1:
        return spectrum * atoms[0]
    if atoms.shape[1] == 1:
        return (spectrum * atoms[:, 0]).sum(1, keepdim=True)
    return torch.einsum("na...,ab...->nb...", spectrum, atoms)


def _fit(x: Tensor, size: list[int] | tuple[int, ...]) -> Tensor:
    """Cut the end of each spatial axis, or pad it with zeros."""
    missing = [new - old for new, old in zip(size, x.shape[2:], strict=True)]
    if not any(missing):
        return x
    return F.pad(x, [n for m in reversed(missing) for n in (0, m)])


def _unfold(y: Tensor, overhang: list[int]) -> Tensor:
    """Append the beginning of a periodic signal to its end."""
    for axis, length in enumerate(overhang, start=2):
        if length:
            y = torch.cat([y, y.narrow(axis, 0, length)], axis)
    return y


def _fold(x: Tensor, size: tuple[int, ...], overhang: list[int]) -> Tensor:
    """Add the entries beyond the end of a periodic signal to its beginning: the adjoint of `_unfold`."""
    x = _fit(x, [period + length for period, length in zip(size, overhang, strict=True)])
    for axis, (period, length) in enumerate(zip(size, overhang, strict=True), start=2):
        if length:
            head = x.narrow(axis, 0, length) + x.narrow(axis, period, length)
            x = torch.cat([head, x.narrow(axis, length, period - length)], axis)
    return x


def _wrap(x: Tensor, size: list[int]) -> Tensor:
    """Wrap a kernel around a period that is shorter than the kernel."""
    for axis, period in enumerate(size, start=2):
        turns = -(-x.shape[axis] // period)
        x = F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [0, turns * period - x.shape[axis]])
        x = x.unflatten(axis, (turns, period)).sum(axis)
    return x


def _smooth_size(size: int) -> int:
    """Return the smallest integer, at least `size`, without a prime factor above 5."""
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1


def _check_atoms(atoms: Tensor, stride: int) -> None:
    if not 3 <= atoms.ndim <= 5 or not atoms.numel():
        raise ValueError(
            "atoms: expected shape (n_components, channels, *kernel) with one to three kernel axes, "
            f"none of them 0, got {tuple(atoms.shape)}"
        )
    if not atoms.is_floating_point():
        raise ValueError(f"atoms: expected a floating dtype, got {atoms.dtype}")
    if not isinstance(stride, numbers.Integral) or stride < 1:
        raise ValueError(f"stride: expected a positive integer, got {stride!r}")
    if stride > min(atoms.shape[2:]):
        raise ValueError(
            f"stride: expected at most the kernel's size, {tuple(atoms.shape[2:])}, got {stride}: "
            "some entries would be covered by no atom"
        )


def _check_geometry(
    kernel: tuple[int, ...], signal_shape: tuple[int, ...], stride: int, boundary: str
) -> None:
    if boundary not in BOUNDARIES:
        raise ValueError(f"boundary: expected one of {BOUNDARIES}, got {boundary!r}")
    if len(signal_shape) != len(kernel):
        raise ValueError(
            f"signal_shape: expected {len(kernel)} axes like the kernel {kernel}, got {signal_shape}"
        )
    if any(size < width for size, width in zip(signal_shape, kernel, strict=True)):
        raise ValueError(f"signal_shape: expected at least the kernel's {kernel}, got {signal_shape}")
    if boundary == "circular" and any(size % stride for size in signal_shape):
        raise ValueError(
            f"signal_shape: expected multiples of the stride {stride} with a circular boundary, "
            f"got {signal_shape}"
        )
