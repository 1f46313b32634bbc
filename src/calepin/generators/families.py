"""Ready-to-use generators: those of the paper and of its theory.

"Dictionary learning under generative coefficient priors, with applications to compression", 2022,
section 6. Each is an ``nn.Module`` with fixed buffers and no parameters, so that it is never trained by
accident. Random generators take a `seed`. ``settings()`` and the buffers describe a generator completely.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_number, check_tensor
from calepin.generators._nonnegative import nonnegative_least_squares

if TYPE_CHECKING:
    from calepin.problem import Problem

__all__ = ["GroupSparse", "KSparse", "PolynomialSine", "ReLUNet", "Sine"]


class _Family(nn.Module):
    """Base class: a generator with a latent dimension and a number of coefficients."""

    def __init__(self, latent_dim: int, n_coefficients: int) -> None:
        super().__init__()
        for name, value in (("latent_dim", latent_dim), ("n_coefficients", n_coefficients)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a positive integer, got {value!r}")
        self.latent_dim, self.n_coefficients = latent_dim, n_coefficients

    def __call__(self, z: Tensor) -> Tensor:
        """Map latents (n, k) to coefficients (n, n_coefficients)."""
        return super().__call__(check_tensor("z", z))

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the constructor that the buffers do not determine, as JSON."""
        return {"latent_dim": self.latent_dim}

    def extra_repr(self) -> str:
        """Return the two dimensions, for ``repr``."""
        return f"{self.latent_dim} -> {self.n_coefficients}"


class PolynomialSine(_Family):
    """``G(z) = [z; z^2; sin z]``: dependent coefficients, none of them sparse (Fig. 1a).

    Parameters
    ----------
    latent_dim : int, default 3
        Latent dimension k; the generator has 3 k coefficients.
    """

    def __init__(self, latent_dim: int = 3) -> None:
        check_arguments(PolynomialSine.__init__, locals())
        super().__init__(latent_dim, 3 * latent_dim)

    @takes_tensors
    def forward(self, z: Tensor) -> Tensor:
        """Map latents (n, k) to (n, 3 k)."""
        return torch.cat([z, z * z, torch.sin(z)], dim=1)

    @takes_tensors
    def linearise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return G(z) and its Jacobian: three diagonals."""
        slopes = torch.stack([torch.ones_like(z), 2 * z, torch.cos(z)], dim=1)
        return self(z), torch.diag_embed(slopes).transpose(1, 2).flatten(2)


class GroupSparse(_Family):
    """``G(z) = ReLU(M z^2)``, M in {0, 1}: groups of coefficients of equal intensity (Fig. 1b).

    Since M has no negative entry, G is linear in z^2. With a dictionary A only the products A M are
    identifiable, and the best z^2 for an observation is the solution of a nonnegative least squares problem.
    Latent solvers start from this solution, since z = 0 is a stationary point.

    Parameters
    ----------
    latent_dim : int, default 5
        Latent dimension k, the number of groups.
    n_coefficients : int, default 300
        Number of coefficients.
    density : float, default 0.6
        Probability that a coefficient belongs to a group.
    seed : int, default 0
        Seed of the random groups.
    """

    groups: Tensor

    def __init__(
        self, latent_dim: int = 5, n_coefficients: int = 300, *, density: float = 0.6, seed: int = 0
    ) -> None:
        check_arguments(GroupSparse.__init__, locals())
        super().__init__(latent_dim, n_coefficients)
        if not 0 < density <= 1:
            raise ValueError(f"density: expected a probability above 0, got {density!r}")
        draws = torch.rand((latent_dim, n_coefficients), generator=torch.Generator().manual_seed(seed))
        self.register_buffer("groups", (draws < density).float())

    @takes_tensors
    def forward(self, z: Tensor) -> Tensor:
        """Map latents (n, k) to (n, n_coefficients)."""
        return (z * z) @ self.groups.to(z.dtype)

    @takes_tensors
    def linearise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return G(z) and its Jacobian ``2 diag(z) M^T``."""
        return self(z), 2 * z[:, :, None] * self.groups.to(z.dtype)

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the constructor that the groups do not determine."""
        return {"latent_dim": self.latent_dim, "n_coefficients": self.n_coefficients}

    def initial_latents(self, problem: "Problem") -> Tensor:
        """Return nonnegative latents (n, k) whose squares are the least squares fit to observations."""
        y = problem.y - problem.offset
        groups = self.groups.to(y.dtype).view(-1, *problem.operator.in_shape)
        atoms = problem.operator(groups).flatten(1)  # the groups are mapped like samples
        return nonnegative_least_squares(y.flatten(1), atoms).sqrt()


class KSparse(_Family):
    """Sparse vectors as a generator: ``G(z)_i = sum_j v_j ReLU(1 - 2 |t_j - i|)``, n_nonzero terms.

    For each term, z contains a standard normal number, which is mapped to a position t_j uniform over the
    coefficients, and a value v_j. With this generator, a generative prior is a sparsity prior (Kamath,
    Karmalkar and Price, "Lower bounds for compressed sensing with generative models", 2019). It is meant for
    theory and comparison: optimising over z is as hard as sparse coding.

    Parameters
    ----------
    n_nonzero : int
        Number of terms; the latent dimension is twice this number.
    n_coefficients : int
        Number of coefficients.
    """

    def __init__(self, n_nonzero: int, n_coefficients: int) -> None:
        check_arguments(KSparse.__init__, locals())
        super().__init__(2 * n_nonzero, n_coefficients)
        self.n_nonzero = n_nonzero

    @takes_tensors
    def forward(self, z: Tensor) -> Tensor:
        """Map latents (n, 2 n_nonzero), first the positions, then the values, to (n, n_coefficients)."""
        positions, values = z.chunk(2, dim=1)
        uniform = 0.5 * (1 + torch.erf(positions / math.sqrt(2)))
        t = self.n_coefficients * uniform - 0.5
        places = torch.arange(self.n_coefficients, dtype=z.dtype, device=z.device)
        bumps = torch.relu(1 - 2 * (t[:, :, None] - places).abs())
        return (values[:, :, None] * bumps).sum(1)

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {"n_nonzero": self.n_nonzero, "n_coefficients": self.n_coefficients}


class ReLUNet(_Family):
    """Random expansive network, ``ReLU(...ReLU(z W_1)...W_L)``, entries of W_i from N(0, 2 / width).

    This is the network of Theorem 5.3. A layer preserves the norm of its input on average; with entries from
    ``N(0, 1 / width)``, as in Hand and Voroninski, 2018, the squared norm is halved.

    Parameters
    ----------
    widths : sequence of int
        Latent dimension k, hidden widths and n_coefficients, such as ``(5, 100, 400)``.
    seed : int, default 0
        Seed of the random weights.
    dtype : torch.dtype, optional
        Dtype of the weights; by default torch's default dtype.
    """

    def __init__(self, widths: Sequence[int], *, seed: int = 0, dtype: torch.dtype | None = None) -> None:
        check_arguments(ReLUNet.__init__, locals())
        if len(widths) < 2:
            raise ValueError(f"widths: expected at least two, k and n_coefficients, got {tuple(widths)}")
        super().__init__(widths[0], widths[-1])
        draw = torch.Generator().manual_seed(seed)
        self.widths = tuple(widths)
        for i, (before, after) in enumerate(pairwise(widths)):
            weight = torch.randn((before, after), generator=draw, dtype=torch.float64) * (2 / after) ** 0.5
            self.register_buffer(f"weight_{i}", weight.to(dtype or torch.get_default_dtype()))

    @property
    def weights(self) -> list[Tensor]:
        """The weight matrices W_i, (width, next width), in order."""
        return [getattr(self, f"weight_{i}") for i in range(len(self.widths) - 1)]

    @takes_tensors
    def forward(self, z: Tensor) -> Tensor:
        """Map latents (n, k) to (n, n_coefficients)."""
        for weight in self.weights:
            z = torch.relu(z @ weight)
        return z

    @takes_tensors
    def linearise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return G(z) and its Jacobian, the product of the weights of the active units."""
        jacobian = None
        for weight in self.weights:
            z = torch.relu(z @ weight)
            jacobian = weight.expand(len(z), -1, -1) if jacobian is None else jacobian @ weight
            jacobian = jacobian * (z > 0)[:, None]
        assert jacobian is not None
        return z, jacobian

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the constructor that the weights do not determine."""
        return {"widths": list(self.widths)}


class Sine(_Family):
    """``G(z) = sin(z W + b)``: smooth, bounded and without symmetries, so that A is identifiable.

    Parameters
    ----------
    latent_dim, n_coefficients : int, default 2, 8
        Latent dimension k and number of coefficients.
    scale : float, default 2
        Standard deviation of the entries of W; those of b are uniform in [0, 2 pi).
    seed : int, default 0
        Seed of W and b.
    dtype : torch.dtype, optional
        Dtype of W and b; by default torch's default dtype.
    """

    weight: Tensor
    phase: Tensor

    def __init__(
        self,
        latent_dim: int = 2,
        n_coefficients: int = 8,
        *,
        scale: float = 2.0,
        seed: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_number("scale", scale, most=1e30)
        check_arguments(Sine.__init__, locals())
        super().__init__(latent_dim, n_coefficients)
        draw = torch.Generator().manual_seed(seed)
        kind = dtype or torch.get_default_dtype()
        weight = scale * torch.randn((latent_dim, n_coefficients), generator=draw, dtype=torch.float64)
        phase = 2 * math.pi * torch.rand(n_coefficients, generator=draw, dtype=torch.float64)
        self.register_buffer("weight", weight.to(kind))
        self.register_buffer("phase", phase.to(kind))

    @takes_tensors
    def forward(self, z: Tensor) -> Tensor:
        """Map latents (n, k) to (n, n_coefficients)."""
        return torch.sin(z @ self.weight + self.phase)

    @takes_tensors
    def linearise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return G(z) and its Jacobian ``W diag(cos(z W + b))``."""
        angles = z @ self.weight + self.phase
        return torch.sin(angles), self.weight * torch.cos(angles)[:, None]

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the constructor that W and b do not determine."""
        return {"latent_dim": self.latent_dim, "n_coefficients": self.n_coefficients}
