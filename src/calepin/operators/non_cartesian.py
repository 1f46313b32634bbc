"""The Fourier transform of images at any frequencies: k-space along spokes, spirals or other trajectories.

    y_j = (h w)^(-1/2) sum over pixels (r, c) of  x[r, c] exp(-2 pi i (k_j1 r / h + k_j2 c / w))

r and c count from the pixel ``(h // 2, w // 2)``, k_j in cycles per field of view, first those along the
height; at whole numbers the samples are those of `calepin.operators.centred_fft`. The nonuniform fast Fourier
transform of FINUFFT computes the sums (Barnett, Magland and af Klinteberg, "A parallel nonuniform fast
Fourier transform library based on an 'exponential of semicircle' kernel", 2019), in double precision and
on one thread: results do not depend on the number of threads. The adjoint spreads with the kernel of the
interpolation, so that it is exact to rounding.
"""

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import all_finite, check_integer, check_shape, check_tensor
from calepin.operators.base import LinearOperator

__all__ = ["NonCartesianFourier", "radial_trajectory"]

TOLERANCES = {torch.complex64: 1e-7, torch.complex128: 1e-14}
DENSITY_STEPS = 10
SPARSE = 0.1  # of the samples
SHORT = 0.15  # of the largest frequency, which other units than cycles per field of view reach
BESIDE = 1 + 1e-6  # of the largest frequency, which single precision may have rounded up


class NonCartesianFourier(LinearOperator):
    """Map images to samples of their Fourier transform at given frequencies.

    Parameters
    ----------
    shape : tuple of int
        Shape of one image, (height, width) or (channels, height, width); channels, as coils, are transformed
        separately. ``NonCartesianFourier((n_coils, h, w), k) @ Sensitivities(maps)`` measures one image by
        several coils.
    coordinates : Tensor, shape (n_samples, 2)
        Frequencies in cycles per field of view, as those of BART and sigpy: along the height from
        ``-height / 2`` to ``height / 2``, along the width from ``-width / 2`` to ``width / 2``.

    Raises
    ------
    ValueError
        Coordinates that are not real, not finite, of another shape, or beyond half the height or width.
    ModuleNotFoundError
        finufft is missing, which the extra ``calepin[nufft]`` brings.

    Warns
    -----
    UserWarning
        Coordinates near zero alone, as those in radians or in parts of the sampling rate.

    Notes
    -----
    Samples have shape (n, n_samples), or (n, channels, n_samples). They are complex, as is what the adjoint
    returns. Single precision has an error of 1e-7 of the norm, double precision of 1e-13. The transform is
    computed on the CPU, also for tensors on another device.
    """

    def __init__(self, shape: tuple[int, ...], coordinates: Tensor) -> None:
        check_arguments(NonCartesianFourier.__init__, locals())
        shape = check_shape("shape", shape)
        check_tensor("coordinates", coordinates)
        if len(shape) not in (2, 3):
            raise ValueError(f"shape: expected (height, width) or (channels, height, width), got {shape}")
        if (
            coordinates.ndim != 2
            or coordinates.shape[1] != 2
            or not len(coordinates)
            or not coordinates.is_floating_point()
            or not all_finite(coordinates)
        ):
            raise ValueError(
                "coordinates: expected a real tensor of finite frequencies, shape (n_samples, 2), "
                f"got {coordinates.dtype} of {tuple(coordinates.shape)}"
                + ("" if all_finite(coordinates) else " with NaN or infinity")
            )
        reach = max(float(coordinates[:, a].abs().max()) / (side / 2) for a, side in enumerate(shape[-2:]))
        if 0 < reach < SHORT:
            warnings.warn(
                f"coordinates: they reach {reach:.1%} of the largest frequency: are they cycles per field of "
                f"view, up to {shape[-2] / 2:g} and {shape[-1] / 2:g}?",
                stacklevel=2,
            )
        for axis, side in enumerate(shape[-2:]):
            most = float(coordinates[:, axis].abs().max())
            if most > side / 2 * BESIDE:
                raise ValueError(
                    f"coordinates: expected cycles per field of view from {-side / 2:g} to {side / 2:g} "
                    f"along axis {axis}, got {most:.6g}"
                )
        _finufft()
        super().__init__(shape, (*shape[:-2], len(coordinates)))
        # no buffer: always on the CPU and in double precision, whatever that of the samples
        self.coordinates = coordinates.detach().to("cpu", torch.float64, copy=True)

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, *in_shape) to complex samples (n, *out_shape)."""
        self.check_input(x)
        return _Transform.apply(_complex(x), self, False)

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Map samples (n, *out_shape) to A^H y, (n, *in_shape), without weights of their density."""
        self.check_output(y)
        if not y.is_complex():
            raise ValueError(f"y: NonCartesianFourier expected complex samples, got {y.dtype}")
        _check_precision("y", y)
        return _Transform.apply(y, self, True)

    @torch.no_grad()
    def density(self) -> Tensor:
        """Return how densely k-space is sampled around each sample, (n_samples,), in samples per unit area.

        One is the density of the samples of a Cartesian transform. ``adjoint(y / density)`` is the image by
        gridding. Its inverse w is found by ten steps of ``w <- w / (K * w)`` (Pipe and Menon, "Sampling
        density compensation in MRI", 1999); the kernel K, the squared sinc of the field of view, is positive.

        Returns
        -------
        Tensor, shape (n_samples,), float32
            On the CPU.
        """
        window = self.window()
        weights = torch.ones(1, len(self.coordinates), dtype=torch.complex64)
        for _ in range(DENSITY_STEPS):
            spread = self.transformed(window * self.transformed(weights, True), False).real
            weights = weights / spread.clamp_min(torch.finfo(spread.dtype).eps)
        return 1 / weights.real[0]

    def window(self) -> Tensor:
        """Return the window (height, width) whose Fourier transform is the kernel of `density`."""
        rows, columns = (
            (1 - (torch.arange(n, dtype=torch.float32) - n // 2).abs() / (n / 2)).clamp_min(0)
            for n in self.in_shape[-2:]
        )
        return rows[:, None] * columns

    def transformed(self, values: Tensor, adjoint: bool) -> Tensor:
        """Return A x, or A^H y, for any number of leading axes, without a gradient."""
        height, width = self.in_shape[-2:]
        where = 2 * math.pi * self.coordinates.numpy()
        rows, columns = (np.ascontiguousarray(where[:, a] / side) for a, side in enumerate((height, width)))
        kept = 1 if adjoint else 2
        flat = values.detach().cpu().to(torch.complex128).flatten(0, -kept - 1)
        given = flat.resolve_conj().resolve_neg().contiguous().numpy()
        settings = {"eps": TOLERANCES[values.dtype], "isign": 1 if adjoint else -1, "nthreads": 1}
        if not len(given):
            found = np.empty((0, height, width) if adjoint else (0, len(where)), np.complex128)
        elif adjoint:
            found = _finufft().nufft2d1(rows, columns, given, (height, width), **settings)
        else:
            found = _finufft().nufft2d2(rows, columns, given, **settings)
        found = torch.from_numpy(found / math.sqrt(height * width)).to(values)
        return found.view(*values.shape[:-kept], *((height, width) if adjoint else (len(where),)))


class _Transform(torch.autograd.Function):
    """The transform or its adjoint, each the derivative of the other."""

    @staticmethod
    def forward(values: Tensor, operator: NonCartesianFourier, adjoint: bool) -> Tensor:
        """Return A x or A^H y."""
        return operator.transformed(values, adjoint)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Store the map."""
        _, ctx.operator, ctx.adjoint = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Apply the adjoint."""
        return _Transform.apply(gradients[0], ctx.operator, not ctx.adjoint), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Apply the map."""
        return _Transform.apply(tangents[0], ctx.operator, ctx.adjoint)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *args: Any) -> Any:
        """Take one more axis in front."""
        values, operator, adjoint = args
        return _Transform.apply(values.movedim(in_dims[0], 0), operator, adjoint), 0


def even_weights(scanner: NonCartesianFourier) -> Tensor:
    """Return weights ``w = max(d, d_0)^(-1/2)`` of samples of density d, (n_samples,), float32.

    The middle of k-space, where spokes for example lie densely, outweighs all other frequencies, and so the
    norm of the operator tells nothing about them. ``A^H w^2 A`` is near the identity where d is at least d_0,
    one sample per unit area, or the density of the sparsest tenth of the samples if it is larger.
    """
    density = scanner.density()
    return density.clamp_min(max(1.0, float(np.quantile(density.numpy(), SPARSE)))).rsqrt()


def radial_trajectory(shape: tuple[int, int], n_spokes: int, *, n_samples: int | None = None) -> Tensor:
    """Return the frequencies of spokes through the middle of k-space, at equal angles over half a turn.

    Parameters
    ----------
    shape : (height, width)
        Size of the image.
    n_spokes : int
        Number of spokes. ``pi / 2`` times the longer side is full sampling.
    n_samples : int, optional
        Samples of a spoke; by default twice the longer side.

    Returns
    -------
    Tensor, shape (n_spokes * n_samples, 2), float64
        In cycles per field of view, as `NonCartesianFourier` takes them; samples of a spoke are neighbours.

    Raises
    ------
    ValueError
        If a size or a number is below 1.
    """
    check_arguments(radial_trajectory, locals())
    height, width = check_shape("shape", shape, ndim=2)
    check_integer("n_spokes", n_spokes)
    check_integer("n_samples", n_samples, optional=True)
    n_samples = 2 * max(height, width) if n_samples is None else n_samples
    angles = math.pi / n_spokes * torch.arange(n_spokes, dtype=torch.float64)
    along = torch.arange(n_samples, dtype=torch.float64) / n_samples - n_samples // 2 / n_samples
    directions = torch.stack([height * angles.sin(), width * angles.cos()], 1)
    return (directions[:, None] * along[:, None]).flatten(0, 1)


def _complex(x: Tensor) -> Tensor:
    """Return samples in complex numbers of their precision, at least single."""
    if x.is_complex():
        _check_precision("x", x)
        return x
    return x.to(torch.complex128 if x.dtype == torch.float64 else torch.complex64)


def _check_precision(name: str, values: Tensor) -> None:
    if values.dtype not in TOLERANCES:
        raise TypeError(
            f"{name}: NonCartesianFourier expected torch.complex64 or torch.complex128, got {values.dtype}"
        )


def _finufft() -> Any:
    try:
        import finufft
    except ModuleNotFoundError:
        raise ModuleNotFoundError("NonCartesianFourier needs finufft: pip install 'calepin[nufft]'") from None
    return finufft
