import copy

import numpy as np
import pytest
import torch

from calepin.operators import Compose, Dense, Identity, LinearOperator, Mask
from calepin.testing import check_operator


def randn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def rand_mask(*shape):
    return randn(*shape) > 0


class Scale(LinearOperator):
    """An operator that leaves adjoint and norm to the base class."""

    def __init__(self, factors):
        super().__init__(tuple(factors.shape), tuple(factors.shape))
        self.register_buffer("factors", factors)

    def forward(self, x):
        self.check_input(x)
        return x * self.factors


OPERATORS = {
    "dense": lambda: Dense(randn(7, 4)),
    "dense wide": lambda: Dense(randn(3, 9)),
    "dense large": lambda: Dense(randn(300, 280)),
    "dense complex": lambda: Dense(randn(5, 4, dtype=torch.complex128)),
    "parameter": lambda: Dense(torch.nn.Parameter(randn(7, 4))),
    "identity": lambda: Identity((2, 3)),
    "mask": lambda: Mask(rand_mask(3, 5)),
    "mask per sample": lambda: Mask(rand_mask(6, 4), per_sample=True),
    "empty mask": lambda: Mask(torch.zeros(4, dtype=torch.bool)),
    "masked dictionary": lambda: Mask(rand_mask(6, 4), per_sample=True) @ Dense(randn(7, 4)),
    "base class defaults": lambda: Scale(randn(3, 4)),
    "three composed": lambda: Scale(randn(4)) @ Scale(randn(4, seed=1)) @ Dense(randn(7, 4)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_conform(name):
    check_operator(OPERATORS[name]())


@pytest.mark.parametrize("name", [n for n in OPERATORS if "per sample" not in n and "masked" not in n])
def test_the_norm_is_the_largest_singular_value(name):
    operator = OPERATORS[name]()
    size = int(np.prod(operator.in_shape))
    dtype = torch.complex128 if "complex" in name else torch.float64
    columns = operator(torch.eye(size, dtype=dtype).reshape(size, *operator.in_shape)).flatten(1)
    expected = float(torch.linalg.matrix_norm(columns.detach(), 2) ** 2)
    assert operator.norm_squared() == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_the_norm_follows_the_atoms():
    operator = Dense(torch.nn.Parameter(randn(7, 4)))
    before = operator.norm_squared()
    with torch.no_grad():
        operator.atoms.mul_(2)
    assert operator.norm_squared() == pytest.approx(4 * before)
    twin = copy.deepcopy(operator)
    with torch.no_grad():
        twin.atoms.mul_(2)
    assert twin.norm_squared() == pytest.approx(16 * before)
    assert operator.norm_squared() == pytest.approx(4 * before)


def test_the_norm_follows_atoms_that_are_replaced():
    operator = Dense(torch.nn.Parameter(randn(7, 4)))
    for factor in (1.0, 2.0, 3.0, 4.0):
        operator.norm_squared()
        for _ in range(2):  # freed memory is soon reused: an address alone tells nothing
            operator.atoms.data = factor * randn(7, 4)
        expected = Dense(factor * randn(7, 4)).norm_squared()
        assert operator.norm_squared() == pytest.approx(expected, rel=1e-12)


def test_dense_synthesises_with_rows_as_atoms():
    atoms = randn(7, 4)
    z = torch.zeros(2, 7, dtype=torch.float64)
    z[0, 3], z[1, 5] = 2.0, -1.0
    torch.testing.assert_close(Dense(atoms)(z), torch.stack([2 * atoms[3], -atoms[5]]))


def test_gradients_reach_the_atoms():
    atoms = torch.nn.Parameter(randn(7, 4))
    operator = Mask(rand_mask(4)) @ Dense(atoms)
    operator(randn(3, 7)).square().sum().backward()
    assert atoms.grad is not None
    assert atoms.grad.abs().sum() > 0
    assert next(iter(operator.parameters())) is atoms


def test_masked_entries_are_zero_whatever_stood_there():
    observed = torch.tensor([True, False])
    x = torch.tensor([[1.0, torch.nan]])
    torch.testing.assert_close(Mask(observed)(x), torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dense(randn(3)), r"atoms: expected shape \(n_components, n_features\)"),
        (lambda: Dense(torch.zeros(0, 3)), "neither of them 0"),
        (lambda: Dense(torch.ones(2, 3, dtype=torch.int64)), "atoms: expected a floating or complex dtype"),
        (lambda: Mask(torch.ones(3)), "observed: expected dtype torch.bool"),
        (lambda: Mask(torch.tensor(True), per_sample=True), "observed: expected shape"),
        (
            lambda: Compose(Identity((3,)), Dense(randn(2, 4))),
            "inner: expected an operator with output shape",
        ),
        (
            lambda: Mask(rand_mask(3, 4), per_sample=True) @ Mask(rand_mask(2, 4), per_sample=True),
            "inner: expected an operator of 3 samples, got 2",
        ),
    ],
)
def test_what_cannot_be_built_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_only_operators_compose():
    with pytest.raises(TypeError):
        Identity((3,)) @ 2
