import numpy as np
import pytest
import torch
from scipy import sparse

from calepin.learning import ArrayBatches, AtomSet, Batch, TrainState, train
from calepin.learning.rules import _statistics as statistics
from calepin.learning.rules.classical import KSVD, MOD, Online
from calepin.solvers.coders.encode import LassoCoder, PursuitCoder


@pytest.fixture
def problem(rng):
    atoms = AtomSet("sphere").project(rng.standard_normal((7, 5)))
    codes = rng.standard_normal((40, 7)) * (rng.random((40, 7)) < 0.4)
    X = codes @ atoms + 0.1 * rng.standard_normal((40, 5))
    return X, codes, atoms


def test_moments_are_the_sums_of_outer_products(problem):
    X, codes, atoms = problem
    A, B = statistics.moments(atoms)
    statistics.add_moments(A, B, sparse.csr_array(codes), X)
    statistics.add_moments(A, B, sparse.csr_array(codes), X, decay=0.25)
    np.testing.assert_allclose(A, 1.25 * codes.T @ codes)
    np.testing.assert_allclose(B, 1.25 * codes.T @ X)


def test_residuals_are_what_atoms_leave_over(problem):
    X, codes, atoms = problem
    np.testing.assert_allclose(
        statistics.residual(sparse.csr_array(codes), X, atoms), X - codes @ atoms, atol=1e-12
    )


@pytest.mark.parametrize("atom_set", [AtomSet("ball"), AtomSet("sphere"), AtomSet("ball", True)])
def test_each_atom_of_a_sweep_minimises_the_objective_given_the_others(problem, rng, atom_set):
    X, codes, atoms = problem
    A, B = codes.T @ codes, codes.T @ X
    swept = atom_set.project(atoms)
    statistics.descend(swept, A, B, atom_set)

    def objective(D):
        return 0.5 * np.trace(D.T @ A @ D) - np.trace(D.T @ B)

    assert objective(swept) < objective(atom_set.project(atoms))
    last = swept.copy()  # the last atom of the sweep saw all others as they are now
    for _ in range(200):
        last[-1] = swept[-1] + 0.1 * rng.standard_normal(5)
        assert objective(atom_set.project(last)) >= objective(swept) - 1e-12


@pytest.mark.parametrize("n_components", [7, 40, 70])
def test_many_sweeps_reach_the_constrained_minimum(rng, n_components):
    codes = rng.standard_normal((300, n_components))
    X = rng.standard_normal((300, 6))
    A, B = codes.T @ codes, codes.T @ X
    atoms = AtomSet().project(rng.standard_normal((n_components, 6)))
    statistics.descend(atoms, A, B, AtomSet(), n_sweeps=500)
    gradient_step = AtomSet().project(atoms - (A @ atoms - B) / np.linalg.eigvalsh(A)[-1])
    np.testing.assert_allclose(gradient_step, atoms, atol=1e-8)


def test_a_ksvd_update_is_a_power_step_on_the_atoms_residual(problem):
    X, codes, atoms = problem
    expected, coefficients = atoms.copy(), codes.copy()
    for j in range(7):
        users = codes[:, j] != 0
        rest = X[users] - coefficients[users] @ expected + np.outer(coefficients[users, j], expected[j])
        d = rest.T @ coefficients[users, j]
        expected[j] = d / np.linalg.norm(d)
        coefficients[users, j] = rest @ expected[j]
    E = X - codes @ atoms
    before = (E**2).sum()
    statistics.ksvd_update(atoms, sparse.csr_array(codes), E, AtomSet("sphere"), positive_code=False)
    np.testing.assert_allclose(atoms, expected)
    np.testing.assert_allclose(E, X - coefficients @ expected, atol=1e-12)
    assert (E**2).sum() < before


@pytest.mark.parametrize("positive", [False, True])
def test_tensors_move_as_arrays_do(problem, positive):
    X, codes, atoms = problem
    codes = np.abs(codes) if positive else codes
    atom_set = AtomSet("sphere", positive)
    atoms = atom_set.project(np.abs(atoms) if positive else atoms)
    tensors = [torch.as_tensor(value.copy()) for value in (X, codes, atoms)]
    for update in ("descend", "ksvd"):
        mine, theirs = atoms.copy(), tensors[2].clone()
        if update == "descend":
            A, B = statistics.moments(mine)
            statistics.add_moments(A, B, sparse.csr_array(codes), X)
            At, Bt = statistics.moments(theirs)
            statistics.add_moments(At, Bt, tensors[1], tensors[0])
            statistics.descend(mine, A, B, atom_set)
            statistics.descend(theirs, At, Bt, atom_set)
        else:
            E = statistics.residual(sparse.csr_array(codes), X, mine)
            Et = statistics.residual(tensors[1], tensors[0], theirs)
            statistics.ksvd_update(mine, sparse.csr_array(codes), E, atom_set, positive_code=positive)
            statistics.ksvd_update(theirs, tensors[1].clone(), Et, atom_set, positive_code=positive)
            np.testing.assert_allclose(Et.numpy(), E, atol=1e-10)
        np.testing.assert_allclose(theirs.numpy(), mine, atol=1e-10)


def test_mod_ends_a_pass_with_the_least_squares_atoms(problem):
    X, _, atoms = problem
    rule = MOD(PursuitCoder(2), AtomSet("sphere"))
    arrays = rule.init(atoms.copy())
    codes = rule.coder.encode(X, atoms).toarray()
    for rows in (slice(0, 15), slice(15, 40)):
        rule.step(arrays, Batch(X[rows]))
    np.testing.assert_array_equal(arrays["atoms"], atoms)
    rule.end_pass(arrays)
    solved = np.linalg.lstsq(codes, X, rcond=None)[0]
    np.testing.assert_allclose(
        arrays["atoms"], solved / np.linalg.norm(solved, axis=1, keepdims=True), atol=1e-6
    )
    assert not arrays["A"].any()


def test_online_forgets_the_past_by_its_exponent(problem):
    X, _, atoms = problem
    weights = {}
    for forgetting in (0.0, 2.0):
        rule = Online(LassoCoder(0.1), forgetting=forgetting)
        arrays = rule.init(atoms.copy())
        rule.step(arrays, Batch(X))
        first = arrays["A"].copy()
        arrays["atoms"][:] = atoms
        rule.step(arrays, Batch(X))
        weights[forgetting] = (arrays["A"] - first)[0, 0] / first[0, 0]
    assert weights[0.0] == pytest.approx(1)
    assert weights[2.0] == pytest.approx(0.25)


def test_unused_and_twin_atoms_are_replaced_by_the_worst_samples(rng):
    X = np.zeros((60, 6))
    X[:, 0] = rng.uniform(1, 2, 60)
    X[7] = [0, 0, 0, 3.0, 4.0, 0]
    X[40, :2] = [1.0, 0.1]
    atoms = np.eye(6)[[0, 0, 1]]
    rule = MOD(PursuitCoder(1))
    arrays = rule.init(atoms)
    rule.step(arrays, Batch(X[:30]))
    rule.step(arrays, Batch(X[30:]))
    assert rule.replace_idle(arrays) == 2
    directions = {tuple(np.round(np.abs(atom), 6)) for atom in arrays["atoms"]}
    assert (0, 0, 0, 0.6, 0.8, 0) in directions
    assert not arrays["usage"].any()


def test_idle_atoms_are_counted_in_the_history(rng):
    X = np.zeros((100, 8))
    X[:, :5] = rng.standard_normal((100, 5))
    atoms = np.eye(8)  # the last three meet no sample
    rule = Online(LassoCoder(0.3))
    state = train(rule, ArrayBatches(X, 20), TrainState(rule.init(atoms)), max_iter=3)
    assert [record["n_replaced"] for record in state.history] == [3, 0, 0]
    assert not state.arrays["atoms"][:, 5:].any()


@pytest.mark.parametrize(
    "rule",
    [
        Online(PursuitCoder(2), AtomSet("sphere")),
        MOD(PursuitCoder(2), AtomSet("sphere")),
        KSVD(PursuitCoder(2)),
    ],
    ids=lambda rule: rule.name,
)
def test_atoms_are_recovered_though_a_third_of_the_entries_is_missing(rule, rng):
    atoms = AtomSet("sphere").project(rng.standard_normal((12, 10)))
    codes = np.zeros((1500, 12))
    for row in codes:
        row[rng.choice(12, 2, replace=False)] = rng.uniform(1, 2, 2) * rng.choice([-1, 1], 2)
    X = codes @ atoms
    mask = rng.random(X.shape) > 0.33
    start = AtomSet("sphere").project(atoms + 0.15 * rng.standard_normal(atoms.shape))
    for name, hidden in (("nan", np.nan), ("outlier", 1e6)):
        data = ArrayBatches(np.where(mask, X, hidden), 500, mask=mask)
        state = train(rule, data, TrainState(rule.init(start.copy())), max_iter=40)
        match = np.abs(state.arrays["atoms"] @ atoms.T).max(axis=0)
        assert np.median(match) > 0.99, (name, np.sort(match))
        assert (match > 0.97).mean() > 0.8
