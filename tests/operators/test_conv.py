import itertools

import numpy as np
import pytest
import torch

from calepin.likelihoods import Gaussian
from calepin.operators import ConvDictionary, Mask
from calepin.operators.conv import choose_implementation, from_phases, to_phases
from calepin.penalties import L1
from calepin.problem import Problem
from calepin.solvers import solve
from calepin.solvers.proximal import FISTA
from calepin.testing import check_operator


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small lose more than they gain by a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def randn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# atoms, signal, stride, boundary
GEOMETRIES = {
    "1-D": ((3, 1, 5), (17,), 1, "zero"),
    "1-D strided with a rest": ((4, 2, 5), (18,), 3, "zero"),
    "1-D circular": ((3, 2, 5), (12,), 1, "circular"),
    "1-D circular, kernel as long as the signal": ((2, 1, 6), (6,), 2, "circular"),
    "2-D": ((5, 1, 3, 4), (11, 9), 1, "zero"),
    "2-D strided": ((5, 2, 5, 7), (14, 13), 3, "zero"),
    "2-D stride as wide as the kernel": ((4, 1, 3, 3), (9, 11), 3, "zero"),
    "2-D circular": ((3, 3, 4, 4), (8, 10), 1, "circular"),
    "2-D circular strided": ((6, 2, 3, 5), (8, 10), 2, "circular"),
    "3-D": ((2, 2, 3, 2, 3), (6, 5, 7), 1, "zero"),
    "3-D strided": ((3, 1, 3, 3, 2), (7, 6, 5), 2, "zero"),
    "3-D circular strided": ((2, 1, 3, 2, 3), (6, 4, 8), 2, "circular"),
}
CASES = [
    (name, how)
    for name in GEOMETRIES
    for how in ("direct", "polyphase", "fft")
    if how != "fft" or GEOMETRIES[name][2] == 1
]


def build(name, implementation=None, atoms=None):
    shape, signal, stride, boundary = GEOMETRIES[name]
    return ConvDictionary(
        randn(*shape) if atoms is None else atoms,
        signal_shape=signal,
        stride=stride,
        boundary=boundary,
        implementation=implementation,
    )


def by_loops(operator, z):
    """Sum shifted atoms one entry at a time, as the definition says."""
    x = np.zeros((z.shape[0], *operator.out_shape))
    atoms, z, signal = operator.atoms.detach().numpy(), z.numpy(), operator.out_shape[1:]
    for t in itertools.product(*(range(size) for size in operator.in_shape[1:])):
        for k in itertools.product(*(range(size) for size in operator.kernel)):
            at = tuple((operator.stride * i + j) % size for i, j, size in zip(t, k, signal, strict=True))
            x[:, :, *at] += z[:, :, *t] @ atoms[:, :, *k]
    return torch.from_numpy(x)


@pytest.mark.parametrize(("name", "how"), CASES)
def test_convolutional_dictionaries_conform(name, how):
    check_operator(build(name, how))


@pytest.mark.parametrize(("name", "how"), CASES)
def test_synthesis_is_the_sum_of_shifted_atoms(name, how):
    operator = build(name, how)
    z = randn(2, *operator.in_shape, seed=1)
    torch.testing.assert_close(operator(z), by_loops(operator, z), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "how"), CASES)
def test_gradients_to_the_atoms_and_the_signal_do_not_depend_on_the_implementation(name, how):
    def gradients(how):
        atoms = torch.nn.Parameter(randn(*GEOMETRIES[name][0]))
        operator = build(name, how, atoms)
        assert next(iter(operator.parameters())) is atoms
        z = randn(2, *operator.in_shape, seed=1).requires_grad_()
        y = randn(2, *operator.out_shape, seed=2)
        loss = operator(z).sin().sum() + (operator.adjoint(y) ** 2).sum()
        return torch.autograd.grad(loss, [atoms, z])

    for mine, expected in zip(gradients(how), gradients("direct"), strict=True):
        assert expected.abs().min() > 0
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("how", ["direct", "polyphase", "fft"])
def test_the_gradient_to_the_atoms_is_that_of_finite_differences(how):
    atoms = randn(2, 2, 3, 2).requires_grad_()
    stride = 1 if how == "fft" else 2

    def synthesis(atoms):
        operator = ConvDictionary(atoms, signal_shape=(6, 5), stride=stride, implementation=how)
        return operator(randn(1, *operator.in_shape, seed=1))

    assert torch.autograd.gradcheck(synthesis, [atoms])


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_norm_is_the_largest_singular_value(name):
    operator = build(name)
    size = int(np.prod(operator.in_shape))
    columns = operator(torch.eye(size, dtype=torch.float64).reshape(size, *operator.in_shape)).flatten(1)
    expected = float(torch.linalg.matrix_norm(columns, 2) ** 2)
    exact = operator.boundary == "circular"
    assert operator.norm_squared() == pytest.approx(expected, rel=1e-12 if exact else 1e-6)


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_phases_are_joined_again(dimension, stride):
    x = randn(2, 3, *[6, 9, 3][:dimension])
    coarse = [-(-size // stride) for size in x.shape[2:]]
    phases = to_phases(x, stride)
    assert phases.shape == (2, 3 * stride**dimension, *coarse)
    filled = from_phases(phases, stride)
    assert torch.equal(filled[(..., *[slice(size) for size in x.shape[2:]])], x)


def test_the_choice_follows_the_sizes():
    assert choose_implementation((8, 1, 9, 9), 4) == "polyphase"
    assert choose_implementation((8, 1, 3, 3), 1) == "direct"
    assert choose_implementation((32, 1, 50), 1) == "fft"
    assert choose_implementation((32, 64, 50), 1) == "direct"
    assert ConvDictionary(randn(8, 1, 50), signal_shape=(500,)).implementation == "fft"


def test_a_sparse_code_is_found_through_a_mask():
    atoms = torch.nn.functional.normalize(randn(2, 1, 8).flatten(1), dim=1).view(2, 1, 8)
    operator = ConvDictionary(atoms, signal_shape=(64,))
    z = torch.zeros(1, *operator.in_shape, dtype=torch.float64)
    z[0, 0, 5], z[0, 1, 40] = 2.0, -3.0
    observed = torch.ones(1, 64, dtype=torch.bool)
    observed[0, 7] = False
    masked = Mask(observed) @ operator
    found = solve(Problem(masked, Gaussian(), masked(z)), FISTA(L1(1e-3)), n_iter=2000).z
    torch.testing.assert_close(found, z, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ConvDictionary(randn(3, 4), signal_shape=(9,)),
            r"atoms: expected shape \(n_components, channels",
        ),
        (lambda: ConvDictionary(randn(3, 0, 4), signal_shape=(9,)), "none of them 0"),
        (
            lambda: ConvDictionary(torch.ones(3, 1, 4).int(), signal_shape=(9,)),
            "atoms: expected a floating dtype",
        ),
        (
            lambda: ConvDictionary(randn(3, 1, 4), signal_shape=(9,), stride=5),
            "stride: expected at most the kernel",
        ),
        (
            lambda: ConvDictionary(randn(3, 1, 4), signal_shape=(9,), stride=0),
            "stride: expected a positive integer",
        ),
        (
            lambda: ConvDictionary(randn(3, 1, 4), signal_shape=(3,)),
            r"signal_shape: expected at least .* got \(3,\)",
        ),
        (lambda: ConvDictionary(randn(3, 1, 4), signal_shape=(9, 9)), "signal_shape: expected 1 axes"),
        (
            lambda: ConvDictionary(randn(3, 1, 4), signal_shape=(9,), boundary="same"),
            "boundary: expected one of",
        ),
        (
            lambda: ConvDictionary(randn(3, 1, 4), signal_shape=(9,), stride=2, boundary="circular"),
            "signal_shape: expected multiples of the stride 2",
        ),
        (
            lambda: ConvDictionary(randn(3, 1, 4), signal_shape=(9,), stride=2, implementation="fft"),
            "implementation: expected stride 1 for 'fft'",
        ),
        (
            lambda: ConvDictionary(randn(3, 1, 4), signal_shape=(9,), implementation="gemm"),
            "implementation: expected one of",
        ),
        (
            lambda: ConvDictionary(randn(3, 2, 4), signal_shape=(9,)).adjoint(randn(1, 3, 9)),
            r"y: ConvDictionary expected shape \(n, 2, 9\), got \(1, 3, 9\)",
        ),
        (
            lambda: ConvDictionary(randn(3, 2, 4), signal_shape=(9,))(randn(1, 2, 6)),
            r"x: ConvDictionary expected shape \(n, 3, 6\), got \(1, 2, 6\)",
        ),
    ],
)
def test_what_cannot_be_built_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
