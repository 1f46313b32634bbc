import pytest
import torch

from calepin.core.errors import IncompatibleError
from calepin.likelihoods import Gaussian
from calepin.operators import Dense, Identity
from calepin.penalties import L1, GroupL1, HardThreshold, NonNegativeL1
from calepin.problem import Problem
from calepin.solvers import FISTA, IHT, ISTA, solve
from calepin.solvers.implicit import _solve_on_support

N, P, M = 6, 24, 16


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


@pytest.fixture
def atoms(generator):
    drawn = torch.randn(P, M, dtype=torch.float64, generator=generator)
    return drawn / drawn.norm(dim=1, keepdim=True)


@pytest.fixture
def y(atoms, generator):
    codes = torch.zeros(N, P, dtype=torch.float64)
    codes.scatter_(1, torch.rand(N, P, generator=generator).topk(3).indices, 2.0)
    return codes @ atoms + 0.1 * torch.randn(N, M, dtype=torch.float64, generator=generator)


@pytest.fixture
def weights(generator):
    return torch.randn(N, P, dtype=torch.float64, generator=generator)


def gradients(penalty, y, atoms, alpha, weights, *, offset=0.0, **how):
    """Gradients of a loss of the codes in y, the atoms and alpha."""
    leaves = [tensor.clone().requires_grad_() for tensor in (y, atoms, alpha)]
    problem = Problem(Dense(leaves[1]), Gaussian(), leaves[0], offset)
    z = solve(problem, ISTA(penalty(leaves[2])), n_iter=2000, **how).z
    return torch.autograd.grad((weights * z + z**2).sum(), leaves)


ALPHAS = {
    "number": torch.tensor(0.3, dtype=torch.float64),
    "one entry": torch.tensor([0.3], dtype=torch.float64),
    "per atom": torch.linspace(0.1, 0.6, P, dtype=torch.float64),
}


@pytest.mark.parametrize("alpha", ALPHAS.values(), ids=ALPHAS)
@pytest.mark.parametrize("penalty", [L1, NonNegativeL1])
def test_it_is_the_limit_of_the_unrolled_gradient(penalty, alpha, y, atoms, weights):
    implicit = gradients(penalty, y, atoms, alpha, weights, differentiate="implicit")
    unrolled = gradients(penalty, y, atoms, alpha, weights, differentiate="unroll")
    for one, other in zip(implicit, unrolled, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() < 1e-6 * other.norm()


def test_it_is_the_gradient_of_finite_differences(y, atoms, weights, generator):
    alpha = ALPHAS["per atom"]
    found = gradients(L1, y, atoms, alpha, weights, differentiate="implicit")
    moves = [torch.randn(t.shape, dtype=t.dtype, generator=generator) for t in (y, atoms, alpha)]

    def loss(h):
        moved = [t + h * move for t, move in zip((y, atoms, alpha), moves, strict=True)]
        problem = Problem(Dense(moved[1]), Gaussian(), moved[0])
        z = solve(problem, FISTA(L1(moved[2])), n_iter=1, differentiate="implicit").z
        return (weights * z + z**2).sum()

    numeric = (loss(1e-6) - loss(-1e-6)) / 2e-6
    slope = sum((g * move).sum() for g, move in zip(found, moves, strict=True))
    torch.testing.assert_close(slope, numeric, rtol=1e-7, atol=1e-8)


def test_supports_are_solved_one_way_for_few_samples_and_another_for_many(y, atoms, weights):
    alpha = ALPHAS["number"]
    few = [gradients(L1, y[[i]], atoms, alpha, weights[[i]], differentiate="implicit")[1] for i in range(N)]
    copies = 200
    many = gradients(
        L1, y.repeat(copies, 1), atoms, alpha, weights.repeat(copies, 1), differentiate="implicit"
    )
    torch.testing.assert_close(many[1], copies * sum(few))


def test_an_offset_is_taken_off_and_has_a_gradient(y, atoms):
    offset = torch.full((M,), 0.5, dtype=torch.float64, requires_grad=True)
    z = solve(
        Problem(Dense(atoms), Gaussian(), y, offset), ISTA(L1(0.2)), n_iter=1, differentiate="implicit"
    ).z
    plain = solve(
        Problem(Dense(atoms), Gaussian(), y - 0.5), ISTA(L1(0.2)), n_iter=1, differentiate="implicit"
    ).z
    assert torch.equal(z, plain)
    assert torch.autograd.grad(z.sum(), offset)[0].abs().max() > 0


@pytest.mark.parametrize("leaf", ["y", "atoms", "alpha"])
def test_second_derivatives_are_refused_never_zero(y, atoms, leaf):
    """The incoming gradient of a loss that is linear in the codes is a constant."""
    leaves = {"y": y, "atoms": atoms, "alpha": torch.full((len(atoms),), 0.2, dtype=y.dtype)}
    leaves = {name: values.clone().requires_grad_() for name, values in leaves.items()}
    problem = Problem(Dense(leaves["atoms"]), Gaussian(), leaves["y"])
    z = solve(problem, ISTA(L1(leaves["alpha"])), n_iter=1, differentiate="implicit").z
    (gradient,) = torch.autograd.grad(z.sum(), leaves["y"], create_graph=True)
    assert gradient.requires_grad
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(gradient.square().sum(), leaves[leaf])


def test_codes_that_are_all_zero_have_a_gradient_of_zero(y, atoms):
    atoms.requires_grad_()
    z = solve(Problem(Dense(atoms), Gaussian(), y), ISTA(L1(1e3)), n_iter=1, differentiate="implicit").z
    assert not z.any()
    assert not torch.autograd.grad(z.sum(), atoms)[0].any()


def test_the_codes_are_the_solvers_limit_and_rest(y, atoms):
    problem = Problem(Dense(atoms), Gaussian(), y)
    limit = solve(problem, FISTA(L1(0.2)), n_iter=5000, tol=1e-15).z
    solution = solve(problem, FISTA(L1(0.2)), n_iter=1, differentiate="implicit")
    torch.testing.assert_close(solution.z, limit, rtol=1e-9, atol=1e-10)
    assert solution.converged.all()
    assert solution.finite.all()
    assert solution.n_iter == 0


def test_float32_stays_float32(y, atoms):
    atoms = atoms.float().requires_grad_()
    z = solve(
        Problem(Dense(atoms), Gaussian(), y.float()), ISTA(L1(0.2)), n_iter=1, differentiate="implicit"
    ).z
    assert z.dtype == torch.autograd.grad(z.sum(), atoms)[0].dtype == torch.float32


def incompatible():
    atoms = torch.eye(4, dtype=torch.float64)
    y = torch.ones(2, 4, dtype=torch.float64)
    plain = Problem(Dense(atoms), Gaussian(), y)
    complex_y = Problem(Dense(atoms.to(torch.complex128)), Gaussian(), y.to(torch.complex128))
    return {
        "a Dense operator, got Identity": (Problem(Identity((4,)), Gaussian(), y), ISTA(L1(0.1))),
        "an L1 or NonNegativeL1 penalty, got GroupL1": (plain, ISTA(GroupL1(0.1, 2))),
        "an L1 or NonNegativeL1 penalty, got HardThreshold": (plain, IHT(0.1)),
        "float32 or float64, got torch.complex128": (complex_y, ISTA(L1(0.1))),
        "a penalty that does not decay, got ISTA with decay = 0.9": (plain, ISTA(L1(0.1), decay=0.9)),
    }


@pytest.mark.parametrize("message", incompatible())
def test_what_has_no_implicit_gradient_is_named(message):
    problem, solver = incompatible()[message]
    with pytest.raises(IncompatibleError, match=f"needs {message}"):
        solve(problem, solver, n_iter=3, differentiate="implicit")


def test_a_weight_of_zero_is_refused(y, atoms):
    with pytest.raises(ValueError, match="alpha: expected positive weights for 'implicit', got 0"):
        solve(Problem(Dense(atoms), Gaussian(), y), ISTA(L1(0.0)), n_iter=3, differentiate="implicit")


def test_a_support_of_dependent_atoms_is_named():
    atoms = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    z = torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match="dependent ones in that of sample 1"):
        _solve_on_support(z, atoms, z)


def test_hard_thresholds_do_not_decay():
    with pytest.raises(IncompatibleError, match="decay needs a penalty.prox that depends on its step"):
        ISTA(HardThreshold(0.1), decay=0.9)
