"""Projections of an image along parallel rays: the Radon transform of computed tomography.

    y[a, t] = sum over pixels (i, j) of  x[i, j] w(t - s),     s = (j - c_j) cos(a) - (i - c_i) sin(a) + c_t

w is the triangle of width two: a pixel is split between the two detector elements nearest to its centre's
projection s, so that each projection sums to the sum of the image (Kak and Slaney, "Principles of
computerized tomographic imaging", 1988, section 7.2).
The adjoint reads the same two elements with the same weights.
"""

import math
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import all_finite, check_integer, check_shape, check_tensor
from calepin.operators.base import LinearOperator
from calepin.operators.sketch import Linear

__all__ = ["Radon"]

FEW = 3  # angles that may well lie within 2 pi degrees


class Radon(LinearOperator):
    """Map images to their parallel-beam projections, a sinogram.

    Parameters
    ----------
    shape : tuple of int
        Shape of one image, (height, width) or (channels, height, width). Pixels and detector elements have
        the same size.
    angles : Tensor, shape (n_angles,)
        Angles in degrees; 0 projects along the columns. For angle a, the detector is turned by a against the
        rows, as in `skimage.transform.radon`.
    n_detectors : int, optional
        Number of detector elements; the middle of the image projects to the element ``n_detectors // 2``.
        By default as many as the diagonal of the image needs. What falls beside the detector is lost.

    Raises
    ------
    ValueError
        Angles that are not real, not finite, or of another shape.

    Warns
    -----
    UserWarning
        More than three angles within 2 pi, as those in radians.

    Notes
    -----
    A sinogram has shape (n, n_angles, n_detectors), with the channels after n if there are any. The adjoint
    is the exact one: backprojection without a filter. Nothing is stored for a pair of pixel and angle.
    """

    angles: Tensor

    def __init__(self, shape: tuple[int, ...], angles: Tensor, *, n_detectors: int | None = None) -> None:
        check_arguments(Radon.__init__, locals())
        shape = check_shape("shape", shape)
        check_tensor("angles", angles)
        if len(shape) not in (2, 3):
            raise ValueError(f"shape: expected (height, width) or (channels, height, width), got {shape}")
        if angles.ndim != 1 or not len(angles) or not angles.is_floating_point() or not all_finite(angles):
            raise ValueError(
                "angles: expected a real tensor of finite angles, shape (n_angles,), "
                f"got {angles.dtype} of {tuple(angles.shape)}"
            )
        if len(angles) > FEW and float(angles.abs().max()) <= 2 * math.pi:
            warnings.warn(
                "angles: expected degrees, got angles within 2 pi, as those in radians", stacklevel=2
            )
        check_integer("n_detectors", n_detectors, least=1, optional=True)
        if n_detectors is None:
            n_detectors = 2 * math.ceil(math.hypot(*shape[-2:]) / 2) + 3
        super().__init__(shape, (*shape[:-2], len(angles), n_detectors))
        self.n_detectors = n_detectors
        self.register_buffer("angles", angles)

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, *in_shape) to sinograms (n, *out_shape)."""
        self.check_input(x)
        return Linear.apply(x, self._project, self._backproject)

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Map sinograms (n, *out_shape) to A^T y, (n, *in_shape)."""
        self.check_output(y)
        return Linear.apply(y, self._backproject, self._project)

    def _project(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, math.prod(self.in_shape[-2:]))
        y = flat.new_zeros(len(flat), len(self.angles), self.n_detectors + 3)
        for a, (element, upper) in enumerate(self._rays(x)):
            second = flat * upper
            y[:, a].index_add_(1, element, flat - second)
            y[:, a].index_add_(1, element + 1, second)
        return y[..., 1:-2].reshape(*x.shape[:-2], *self.out_shape[-2:])

    def _backproject(self, y: Tensor) -> Tensor:
        flat = torch.nn.functional.pad(y.reshape(-1, len(self.angles), self.n_detectors), (1, 2))
        x = flat.new_zeros(len(flat), math.prod(self.in_shape[-2:]))
        for a, (element, upper) in enumerate(self._rays(y)):
            row = flat[:, a]
            first = row.index_select(1, element)
            x += first + upper * (row.index_select(1, element + 1) - first)
        return x.reshape(*y.shape[:-2], *self.in_shape[-2:])

    def _rays(self, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, for each angle, the first of two detector elements of each pixel, and the other's weight.

        Elements count from one: before the first and after the last there are some that are not measured.
        """
        height, width = self.in_shape[-2:]
        real = torch.float64 if like.dtype in (torch.float64, torch.complex128) else torch.float32
        rows = torch.arange(height, dtype=real, device=like.device)[:, None] - height // 2
        columns = torch.arange(width, dtype=real, device=like.device) - width // 2
        for angle in torch.deg2rad(self.angles.to(real)):
            place = (columns * angle.cos() - rows * angle.sin()).flatten() + self.n_detectors // 2 + 1
            place.clamp_(0, self.n_detectors + 1)
            element = place.long()
            yield element, place.sub_(element)

    def extra_repr(self) -> str:
        """Return the shapes, for ``repr``."""
        return f"{super().extra_repr()}, {len(self.angles)} angles"
