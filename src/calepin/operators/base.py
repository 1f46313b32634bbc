"""The linear map between a code and the linear predictor of its observation.

An operator maps (n, *in_shape) to (n, *out_shape), each sample on its own. A subclass passes its two
shapes to the constructor, defines `forward`, and overrides `adjoint` and `norm_squared` if it has something
better than the defaults. `calepin.testing.check_operator` tests a new operator.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_number, check_tensor
from calepin.core.random import randn
from calepin.core.samples import expand, inner, norm

__all__ = ["Compose", "LinearOperator"]

_LANCZOS_STEPS = 50


class LinearOperator(nn.Module):
    """A linear map A of samples, with its adjoint and its norm.

    Parameters
    ----------
    in_shape, out_shape : tuple of int
        Shape of one sample before and after the map.
    n_samples : int, optional
        Number of samples, for an operator that differs between samples (a mask per sample).

    Notes
    -----
    The inner product is the real part of ``sum(conj(a) * b)``, for real and for complex samples, so
    the adjoint of a complex map is its conjugate transpose. ``outer @ inner`` composes two operators.
    """

    # (versions of the tensors, the tensors, value); a class attribute: copies and pickles start with None
    _norm_cache: tuple[Any, list[Tensor], float] | None = None

    def __init__(
        self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], *, n_samples: int | None = None
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.out_shape = tuple(out_shape)
        self.n_samples = n_samples

    def forward(self, x: Tensor) -> Tensor:
        """Map x, (n, *in_shape), to A x, (n, *out_shape)."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y, (n, *out_shape), to A^H y, (n, *in_shape).

        By default this is the vector-Jacobian product of `forward`, for samples with the dtype of y. A map
        from real to complex samples must define its own adjoint.
        """
        self.check_output(y)
        vjp = torch.func.vjp(self.forward, y.new_zeros(y.shape[0], *self.in_shape))[1]
        return vjp(y)[0]

    def norm_squared(self, *, generator: torch.Generator | None = None) -> float:
        """Return the squared spectral norm of A, the largest eigenvalue of A^H A.

        By default this is a lower estimate by fifty steps of the Lanczos method with a random start
        (Golub and Van Loan, "Matrix computations", section 10.1), which needs a tenth of the steps of
        the power iteration. The value is cached until a parameter or buffer changes.

        Parameters
        ----------
        generator : torch.Generator, optional
            Draws the start; by default a generator with a fixed seed, so that the estimate is reproducible.
        """
        versions, aliases = self._tensor_versions()
        if self._norm_cache is None or self._norm_cache[0] != versions:
            with torch.no_grad():
                self._norm_cache = versions, aliases, self._compute_norm_squared(generator)
        return self._norm_cache[2]

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        tensors = (*self.parameters(), *self.buffers())
        like = next((t for t in tensors if t.is_floating_point() or t.is_complex()), torch.empty(0))
        generator = generator or torch.Generator().manual_seed(0)
        start = randn((self.n_samples or 1, *self.in_shape), like=like, generator=generator)
        return _largest_eigenvalue(lambda v: self.adjoint(self(v)), start)

    @takes_tensors
    def solve_gram(self, y: Tensor, weight: float) -> Tensor | None:
        """Return ``(A A^H + weight I)^-1 y``, or None if the operator has no closed form of it (the default).

        Parameters
        ----------
        y : Tensor, shape (n, *out_shape)
        weight : float
            Above 0.
        """
        self.check_gram(y, weight)
        return None

    def check_gram(self, y: Tensor, weight: float) -> None:
        """Raise ValueError unless y has the output shape, (n, *out_shape), and the weight is above 0."""
        self.check_output(y)
        check_number("weight", weight, above=0)

    def prepared(self) -> "LinearOperator":
        """Return this operator with its current tensors, and with repeated computations done once in advance.

        For loops that neither change the tensors of the operator nor differentiate with respect to them. By
        default, the operator itself is returned.
        """
        return self

    def __matmul__(self, inner: "LinearOperator") -> "LinearOperator":
        """Return the operator that applies `inner` first, then this one."""
        return Compose(self, inner) if isinstance(inner, LinearOperator) else NotImplemented

    def extra_repr(self) -> str:
        """Return the two shapes, for ``repr``."""
        return f"{self.in_shape} -> {self.out_shape}"

    def check_input(self, x: Tensor) -> None:
        """Raise TypeError unless x is a tensor, ValueError unless it has shape (n, *in_shape)."""
        self._check("x", x, self.in_shape)

    def check_output(self, y: Tensor) -> None:
        """Raise TypeError unless y is a tensor, ValueError unless it has shape (n, *out_shape)."""
        self._check("y", y, self.out_shape)

    def _check(self, name: str, samples: Tensor, shape: tuple[int, ...]) -> None:
        check_tensor(name, samples)
        n = "n" if self.n_samples is None else self.n_samples
        if samples.ndim == 0 or samples.shape[1:] != shape or n not in ("n", samples.shape[0]):
            expected = ", ".join(str(size) for size in (n, *shape))
            raise ValueError(
                f"{name}: {type(self).__name__} expected shape ({expected}), got {tuple(samples.shape)}"
            )

    def _tensor_versions(self) -> tuple[Any, list[Tensor]]:
        """Return a value that changes when a tensor of the operator changes, and aliases of the tensors.

        While the aliases exist, no other tensor can be allocated at the same address.
        """
        aliases = [tensor.detach() for tensor in (*self.parameters(), *self.buffers())]
        # inference tensors have no version counter: a new object differs from all earlier ones
        versions = [(a.data_ptr(), object() if a.is_inference() else a._version) for a in aliases]
        return versions, aliases

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_norm_cache"}


class Prepared(LinearOperator):
    """An operator with a given forward map and adjoint, and with the norm of another operator.

    Parameters
    ----------
    original : LinearOperator
        Operator that was prepared.
    forward, adjoint : callable
        Faster functions with the same results as those of the original.
    """

    def __init__(
        self,
        original: LinearOperator,
        forward: Callable[[Tensor], Tensor],
        adjoint: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(original.in_shape, original.out_shape, n_samples=original.n_samples)
        self.original = original
        self._forward, self._adjoint = forward, adjoint

    def forward(self, x: Tensor) -> Tensor:
        """Map x as the original did when it was prepared."""
        self.check_input(x)
        return self._forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y as the original's adjoint did when it was prepared."""
        self.check_output(y)
        return self._adjoint(y)

    def norm_squared(self, *, generator: torch.Generator | None = None) -> float:
        """Return the squared spectral norm of the original, which caches it."""
        return self.original.norm_squared(generator=generator)


def _largest_eigenvalue(apply: Callable[[Tensor], Tensor], start: Tensor) -> float:
    """Estimate the largest eigenvalue of a positive semidefinite map, over a batch of samples.

    Lanczos' three-term recurrence, without reorthogonalisation: a loss of orthogonality duplicates
    eigenvalues of the tridiagonal matrix, but none exceeds the true largest one.
    """
    tiny = torch.finfo(start.dtype).tiny
    v, w, beta = torch.zeros_like(start), start, norm(start)
    alphas, betas = [], []
    for _ in range(_LANCZOS_STEPS):
        v_before, v = v, w / expand(beta.clamp_min(tiny), like=w)
        w = apply(v) - expand(beta, like=w) * v_before
        alpha = inner(v, w)
        w = w - expand(alpha, like=w) * v
        beta = norm(w)
        alphas.append(alpha)
        betas.append(beta)
    upper = torch.diag_embed(torch.stack(betas[:-1], 1), offset=1)
    tridiagonal = torch.diag_embed(torch.stack(alphas, 1)) + upper + upper.mT
    return float(torch.linalg.eigvalsh(tridiagonal).max())


class Compose(LinearOperator):
    """The product of two operators, ``(outer @ inner)(x) = outer(inner(x))``.

    Parameters
    ----------
    outer, inner : LinearOperator
        The output shape of `inner` is the input shape of `outer`: a dictionary, then a measurement.
    """

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        check_arguments(Compose.__init__, locals())
        if outer.in_shape != inner.out_shape:
            raise ValueError(
                f"inner: expected an operator with output shape {outer.in_shape}, the input shape of "
                f"{type(outer).__name__}, got {type(inner).__name__} with output shape {inner.out_shape}"
            )
        counts = {op.n_samples for op in (outer, inner)} - {None}
        if len(counts) > 1:
            raise ValueError(
                f"inner: expected an operator of {outer.n_samples} samples, got {inner.n_samples}"
            )
        super().__init__(inner.in_shape, outer.out_shape, n_samples=next(iter(counts), None))
        self.outer = outer
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Apply `inner`, then `outer`."""
        return self.outer(self.inner(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint of `outer`, then that of `inner`."""
        return self.inner.adjoint(self.outer.adjoint(y))

    def prepared(self) -> LinearOperator:
        """Return the product of the prepared operators."""
        outer, inner = self.outer.prepared(), self.inner.prepared()
        if outer is self.outer and inner is self.inner:
            return self
        return Prepared(self, lambda x: outer(inner(x)), lambda y: inner.adjoint(outer.adjoint(y)))
