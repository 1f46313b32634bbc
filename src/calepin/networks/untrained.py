"""Untrained networks, whose weights are fitted to a single observation.

    x = N_w(fixed input)

The weights are an argument of the network, not stored in it. A batch of n problems is a batch of n weight
vectors, (n, n_parameters), that every layer processes together. The network itself consists of the fixed
parts: sizes, input and kernels. `calepin.reconstruction.fit_untrained` estimates the weights.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_floating, check_integer, check_tensor
from calepin.core.random import randn

__all__ = ["ComplexPair", "LinearGenerator", "UntrainedNetwork"]


class UntrainedNetwork(nn.Module):
    """Base class of untrained networks: a map from weight vectors to signals.

    A subclass gives the shapes of its weights and defines `forward`. It overrides `initial` unless its
    weights are initialised by a normal distribution of standard deviation 1 / sqrt(fan in).

    Parameters
    ----------
    out_shape : tuple of int
        Shape of one signal.
    shapes : mapping of str to tuple of int
        Name and shape of each weight tensor of one problem.
    """

    def __init__(self, out_shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        if any(size < 1 for size in out_shape):
            raise ValueError(f"out_shape: expected positive sizes, got {tuple(out_shape)}")
        self.out_shape = tuple(out_shape)
        self.shapes = dict(shapes)
        self._sizes = [math.prod(shape) for shape in self.shapes.values()]

    @property
    def n_parameters(self) -> int:
        """Number of weights of one problem."""
        return sum(self._sizes)

    @property
    def is_complex(self) -> bool:
        """Whether the signals are complex."""
        return False

    def forward(self, weights: Tensor) -> Tensor:
        """Map weight vectors (n, n_parameters) to signals (n, *out_shape)."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def initial(self, n: int, *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return random initial weights of n problems, (n, n_parameters).

        Parameters
        ----------
        n : int
            Number of problems; each has independent weights.
        like : Tensor
            A tensor with the precision and the device of the result.
        generator : torch.Generator, optional
            Random generator of the weights.
        """
        check_tensor("like", like)
        like = torch.empty(0, dtype=like.dtype.to_real(), device=like.device)
        drawn = [
            randn((n, math.prod(shape)), like=like, generator=generator) / math.sqrt(math.prod(shape[1:]))
            for shape in self.shapes.values()
        ]
        return torch.cat(drawn, 1)

    def jacobian_norm_squared(self) -> float | None:
        """Return a bound on the squared spectral norm of the Jacobian at any weights, or None if unknown."""
        return None

    def plain(self) -> "UntrainedNetwork":
        """Return the same network, built from operations that torch can differentiate in every mode."""
        return self

    def unpack(self, weights: Tensor) -> dict[str, Tensor]:
        """Return the weight tensors, each (n, *shape), as views of the vectors."""
        check_tensor("weights", weights)
        if weights.ndim != 2 or weights.shape[1] != self.n_parameters:
            raise ValueError(
                f"weights: {type(self).__name__} expected shape (n, {self.n_parameters}), "
                f"got {tuple(weights.shape)}"
            )
        parts = weights.split(self._sizes, 1)
        return {
            name: part.reshape(len(weights), *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def extra_repr(self) -> str:
        """Return the shape of the signal and the number of weights, for ``repr``."""
        return f"{self.n_parameters} weights -> {self.out_shape}"


class LinearGenerator(UntrainedNetwork):
    """A linear generator ``x = J c`` (Heckel and Soltanolkotabi 2020, section 3).

    Its coefficients c are initialised at zero, because gradient descent from zero converges to the solution
    of minimal norm.

    Parameters
    ----------
    matrix : Tensor, shape (n_features, n_coefficients)
        The matrix J.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        check_floating("matrix", matrix, real=True)
        if matrix.ndim != 2 or not matrix.numel():
            raise ValueError(
                f"matrix: expected shape (n_features, n_coefficients), got {tuple(matrix.shape)}"
            )
        super().__init__((matrix.shape[0],), {"coefficients": (matrix.shape[1],)})
        self.register_buffer("matrix", matrix)

    def forward(self, weights: Tensor) -> Tensor:
        """Map coefficients (n, n_coefficients) to signals (n, n_features)."""
        return self.unpack(weights)["coefficients"] @ self.matrix.to(weights).T

    def initial(self, n: int, *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return zero coefficients for n problems, (n, n_coefficients)."""
        check_tensor("like", like)
        check_integer("n", n)
        return torch.zeros(n, self.n_parameters, dtype=like.dtype.to_real(), device=like.device)

    def jacobian_norm_squared(self) -> float:
        """Return the squared spectral norm of the matrix."""
        return float(torch.linalg.matrix_norm(self.matrix, 2) ** 2)


class ComplexPair(UntrainedNetwork):
    """Complex signals from a real network, whose first channels are real and whose last are imaginary parts.

    Parameters
    ----------
    network : UntrainedNetwork
        A real network with an even number of channels, (2 c, *size). The complex signals are (c, *size).
    """

    def __init__(self, network: UntrainedNetwork) -> None:
        check_arguments(ComplexPair.__init__, locals())
        channels = network.out_shape[0]
        if channels % 2 or len(network.out_shape) < 2:
            raise ValueError(
                f"network: expected signals of an even number of channels, got {network.out_shape}"
            )
        super().__init__((channels // 2, *network.out_shape[1:]), network.shapes)
        self.network = network

    @property
    def is_complex(self) -> bool:
        """True."""
        return True

    def forward(self, weights: Tensor) -> Tensor:
        """Map weight vectors (n, n_parameters) to complex signals (n, *out_shape)."""
        return torch.complex(*self.network(weights).chunk(2, 1))

    def initial(self, n: int, *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw the weights of the real network."""
        return self.network.initial(n, like=like, generator=generator)

    def plain(self) -> "ComplexPair":
        """Return the complex pair of the plain real network."""
        return ComplexPair(self.network.plain())

    def jacobian_norm_squared(self) -> float | None:
        """Return the bound of the real network, since pairing channels preserves norms."""
        return self.network.jacobian_norm_squared()
