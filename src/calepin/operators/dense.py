"""The dense dictionary: a code times a matrix of atoms."""

import torch
from torch import Tensor, nn

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_tensor
from calepin.operators.base import LinearOperator

__all__ = ["Dense"]

_EXACT_NORM_SIZE = 256


class Dense(LinearOperator):
    """Synthesis by a matrix: ``x = z @ atoms``, each sample a sum of weighted atoms.

    A matrix A, as in ``y = A x``, is the operator ``Dense(A.T)``.

    Parameters
    ----------
    atoms : Tensor or nn.Parameter, shape (n_components, n_features)
        Rows are atoms, real or complex. A Parameter is learnable and appears in ``parameters()``; any
        other tensor is stored unchanged as a buffer, with its gradient history.
    """

    atoms: Tensor

    def __init__(self, atoms: Tensor) -> None:
        check_arguments(Dense.__init__, locals())
        check_tensor("atoms", atoms)
        if atoms.ndim != 2 or not atoms.numel():
            raise ValueError(
                "atoms: expected shape (n_components, n_features), neither of them 0, "
                f"got {tuple(atoms.shape)}"
            )
        if not (atoms.is_floating_point() or atoms.is_complex()):
            raise ValueError(f"atoms: expected a floating or complex dtype, got {atoms.dtype}")
        super().__init__((atoms.shape[0],), (atoms.shape[1],))
        if isinstance(atoms, nn.Parameter):
            self.atoms = atoms
        else:
            self.register_buffer("atoms", atoms)

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Map codes (n, n_components) to signals (n, n_features)."""
        self.check_input(x)
        return x @ self.atoms

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Correlate signals (n, n_features) with the atoms: (n, n_components)."""
        self.check_output(y)
        return y @ self.atoms.mH

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        if min(self.atoms.shape) > _EXACT_NORM_SIZE:
            return super()._compute_norm_squared(generator)
        wide = self.atoms.shape[0] <= self.atoms.shape[1]
        gram = self.atoms @ self.atoms.mH if wide else self.atoms.mH @ self.atoms
        return float(torch.linalg.eigvalsh(gram)[-1].clamp_min(0))
