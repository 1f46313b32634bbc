"""Weighted measurements say the same of a signal, in another unit."""

import pytest
import torch

from calepin.operators import MultiCoilMRI, density_weights, variable_density_mask
from calepin.reconstruction import weighted

SIZE = (16, 12)


def test_exact_measurements_stay_exact_in_a_unit_of_one():
    generator = torch.Generator().manual_seed(0)
    x = 40 * torch.randn(1, 3, 1, *SIZE, generator=generator, dtype=torch.complex64)
    scanner = MultiCoilMRI(variable_density_mask(SIZE, acceleration=2, n_center=4, seed=0), n_coils=3)
    x = x.view(1, *scanner.in_shape)
    problem = weighted(scanner, scanner(x), density_weights(SIZE))
    torch.testing.assert_close(problem.operator(x / problem.scale), problem.y)
    begun = scanner.adjoint(problem.y)
    torch.testing.assert_close(begun.abs().square().mean(), torch.tensor(1.0))


def test_measurements_of_nothing_are_refused():
    scanner = MultiCoilMRI(torch.ones(SIZE, dtype=torch.bool), n_coils=1)
    with pytest.raises(ValueError, match="y: expected measurements that are not all zero"):
        weighted(scanner, torch.zeros(1, *scanner.out_shape, dtype=torch.complex64), density_weights(SIZE))
