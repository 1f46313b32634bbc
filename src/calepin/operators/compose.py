"""One operator after another."""

from torch import Tensor

from calepin.operators.base import LinearOperator, Prepared

__all__ = ["Compose"]


class Compose(LinearOperator):
    """The product of two operators, ``(outer @ inner)(x) = outer(inner(x))``.

    Parameters
    ----------
    outer, inner : LinearOperator
        What `inner` returns is what `outer` takes: a measurement of what a dictionary makes.
    """

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        if outer.in_shape != inner.out_shape:
            raise ValueError(
                f"inner: expected an operator onto {outer.in_shape}, the samples of "
                f"{type(outer).__name__}, got {type(inner).__name__} onto {inner.out_shape}"
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
        """Prepare both."""
        outer, inner = self.outer.prepared(), self.inner.prepared()
        if outer is self.outer and inner is self.inner:
            return self
        return Prepared(self, lambda x: outer(inner(x)), lambda y: inner.adjoint(outer.adjoint(y)))
