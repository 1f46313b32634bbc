"""The colour filter array of a camera: each pixel measures one of three colours.

y[i, j] = x[c(i, j), i, j]        c repeats every two rows and columns (Bayer, US patent 3971065, 1976)
"""

from typing import Literal

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_one_of, check_shape
from calepin.operators.base import LinearOperator

__all__ = ["PATTERNS", "Bayer"]

PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")
Pattern = Literal["RGGB", "BGGR", "GRBG", "GBRG"]


class Bayer(LinearOperator):
    """Keep one colour of each pixel.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    pattern : {"RGGB", "BGGR", "GRBG", "GBRG"}, default "RGGB"
        Colours of the first two pixels of the first row, then of the second row.

    Notes
    -----
    Images have shape (n, 3, height, width), measurements (n, height, width).

    Examples
    --------
    >>> import torch
    >>> from calepin.operators import Bayer
    >>> colours = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 2, 4)
    >>> Bayer((2, 4))(colours)[0]
    tensor([[1., 2., 1., 2.],
            [2., 3., 2., 3.]])
    """

    colour: Tensor

    def __init__(self, shape: tuple[int, int], *, pattern: Pattern = "RGGB") -> None:
        check_arguments(Bayer.__init__, locals())
        height, width = check_shape("shape", shape, ndim=2)
        check_one_of("pattern", pattern, PATTERNS)
        super().__init__((3, height, width), (height, width))
        self.pattern = pattern
        tile = torch.tensor(["RGB".index(letter) for letter in pattern]).view(2, 2)
        rows, columns = torch.arange(height) % 2, torch.arange(width) % 2
        self.register_buffer("colour", tile[rows[:, None], columns])

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Map colour images (n, 3, height, width) to measurements (n, height, width)."""
        self.check_input(x)
        return x.gather(1, self.colour.expand(len(x), 1, *self.out_shape))[:, 0]

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Map measurements to colour images, with zeros for the colours that were not measured."""
        self.check_output(y)
        empty = y.new_zeros(len(y), *self.in_shape)
        return empty.scatter(1, self.colour.expand(len(y), 1, *self.out_shape), y[:, None])

    @takes_tensors
    def solve_gram(self, y: Tensor, weight: float) -> Tensor:
        """Return ``(A A^T + weight I)^-1 y``; A A^T is the identity."""
        self.check_gram(y, weight)
        return y / (1 + weight)

    def extra_repr(self) -> str:
        """Return the shapes and the pattern, for ``repr``."""
        return f"{super().extra_repr()}, pattern={self.pattern!r}"

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        return 1.0
