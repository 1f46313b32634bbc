from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from calepin.learning import KSVD, MOD, NOODL, ArrayBatches, AtomSet, Batch, Online, TrainState, train
from calepin.learning.rules import _statistics as statistics
from calepin.solvers import IHTCoder, LassoCoder, PursuitCoder, dense_problem

RULES_OF_STREAMS = (
    Online(LassoCoder(0.3)),
    MOD(LassoCoder(0.3)),
    KSVD(LassoCoder(0.3)),
    NOODL(IHTCoder(0.3)),
)


@pytest.fixture
def problem(rng):
    """Return X (40, 5), codes (40, 7) and atoms (7, 5), as tensors."""
    atoms = AtomSet("sphere").project(rng.standard_normal((7, 5)))
    codes = rng.standard_normal((40, 7)) * (rng.random((40, 7)) < 0.4)
    X = codes @ atoms + 0.1 * rng.standard_normal((40, 5))
    return torch.from_numpy(X), torch.from_numpy(codes), torch.from_numpy(atoms)


def sparse_codes(codes):
    return sparse.csr_array(codes.numpy())


@pytest.mark.parametrize("kind", [sparse_codes, torch.clone], ids=["csr", "tensor"])
def test_moments_are_the_sums_of_outer_products(problem, kind):
    X, codes, atoms = problem
    A, B = statistics.moments(atoms)
    statistics.add_moments(A, B, kind(codes), X)
    statistics.add_moments(A, B, kind(codes), X, decay=0.25)
    torch.testing.assert_close(A, 1.25 * codes.T @ codes)
    torch.testing.assert_close(B, 1.25 * codes.T @ X)


@pytest.mark.parametrize("kind", [sparse_codes, torch.clone], ids=["csr", "tensor"])
def test_residuals_are_what_atoms_leave_over(problem, kind):
    X, codes, atoms = problem
    found = statistics.residual(kind(codes), X, atoms)
    torch.testing.assert_close(found, X - codes @ atoms, rtol=0, atol=1e-12)


@pytest.mark.parametrize("atom_set", [AtomSet("ball"), AtomSet("sphere"), AtomSet("ball", True)])
def test_each_atom_of_a_sweep_minimises_the_objective_given_the_others(problem, rng, atom_set):
    X, codes, atoms = problem
    A, B = codes.T @ codes, codes.T @ X
    swept = atom_set.project(atoms)
    statistics.descend(swept, A, B, atom_set)

    def objective(D):
        return float(0.5 * torch.trace(D.T @ A @ D) - torch.trace(D.T @ B))

    assert objective(swept) < objective(atom_set.project(atoms))
    last = swept.clone()  # the last atom of the sweep saw all others as they are now
    for _ in range(200):
        last[-1] = swept[-1] + 0.1 * torch.from_numpy(rng.standard_normal(5))
        assert objective(atom_set.project(last)) >= objective(swept) - 1e-12


@pytest.mark.parametrize("n_components", [7, 40, 70])
def test_many_sweeps_reach_the_constrained_minimum(rng, n_components):
    codes = torch.from_numpy(rng.standard_normal((300, n_components)))
    X = torch.from_numpy(rng.standard_normal((300, 6)))
    A, B = codes.T @ codes, codes.T @ X
    atoms = AtomSet().project(torch.from_numpy(rng.standard_normal((n_components, 6))))
    statistics.descend(atoms, A, B, AtomSet(), n_sweeps=500)
    gradient_step = AtomSet().project(atoms - (A @ atoms - B) / torch.linalg.eigvalsh(A)[-1])
    torch.testing.assert_close(gradient_step, atoms, rtol=0, atol=1e-8)


def test_a_ksvd_update_is_a_power_step_on_the_atoms_residual(problem):
    X, codes, atoms = problem
    expected, coefficients = atoms.clone(), codes.clone()
    for j in range(7):
        users = codes[:, j] != 0
        rest = X[users] - coefficients[users] @ expected + torch.outer(coefficients[users, j], expected[j])
        d = rest.T @ coefficients[users, j]
        expected[j] = d / torch.linalg.vector_norm(d)
        coefficients[users, j] = rest @ expected[j]
    E = X - codes @ atoms
    before = (E**2).sum()
    statistics.ksvd_update(atoms, sparse_codes(codes), E, AtomSet("sphere"), nonnegative_codes=False)
    torch.testing.assert_close(atoms, expected)
    torch.testing.assert_close(E, X - coefficients @ expected, rtol=0, atol=1e-12)
    assert (E**2).sum() < before


@pytest.mark.parametrize("nonnegative", [False, True])
def test_dense_codes_move_atoms_as_sparse_ones_do(problem, nonnegative):
    X, codes, atoms = problem
    codes = codes.abs() if nonnegative else codes
    atom_set = AtomSet("sphere", nonnegative)
    atoms = atom_set.project(atoms.abs() if nonnegative else atoms)
    mine, theirs = atoms.clone(), atoms.clone()
    E, other = (statistics.residual(kind, X, atoms) for kind in (sparse_codes(codes), codes))
    statistics.ksvd_update(mine, sparse_codes(codes), E, atom_set, nonnegative_codes=nonnegative)
    statistics.ksvd_update(theirs, codes.clone(), other, atom_set, nonnegative_codes=nonnegative)
    torch.testing.assert_close(other, E, rtol=0, atol=1e-10)
    torch.testing.assert_close(theirs, mine, rtol=0, atol=1e-10)
    assert not torch.equal(mine, atoms)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_a_sweep_in_torch_is_the_compiled_one(problem, nonnegative):
    X, codes, atoms = problem
    atom_set = AtomSet("sphere", nonnegative)
    mine, theirs = atom_set.project(atoms), atom_set.project(atoms)
    A, B = codes.T @ codes, codes.T @ X
    statistics.descend(mine, A, B, atom_set)
    statistics._descend_tensor(theirs, A, B, atom_set)
    torch.testing.assert_close(theirs, mine, rtol=0, atol=1e-10)


def test_mod_ends_a_pass_with_the_least_squares_atoms(problem):
    X, _, atoms = problem
    rule = MOD(PursuitCoder(2), AtomSet("sphere"))
    state = rule.init(atoms)
    codes = rule.coder.encode(dense_problem(X, atoms)).dense()
    for rows in (slice(0, 15), slice(15, 40)):
        rule.step(state, Batch(X[rows]))
    assert torch.equal(state.atoms, atoms)
    rule.end_pass(state)
    solved = torch.linalg.lstsq(codes, X).solution
    expected = solved / torch.linalg.vector_norm(solved, dim=1, keepdim=True)
    torch.testing.assert_close(state.atoms, expected, rtol=0, atol=1e-6)
    new = rule.coder.encode(dense_problem(X[:15], state.atoms)).dense()
    rule.step(state, Batch(X[:15]))  # the next pass begins with empty moments
    torch.testing.assert_close(state.A, new.T @ new)


def test_online_forgets_the_past_by_its_exponent(problem):
    X, _, atoms = problem
    weights = {}
    for forgetting in (0.0, 2.0):
        rule = Online(LassoCoder(0.1), forgetting=forgetting)
        state = rule.init(atoms)
        rule.step(state, Batch(X))
        first = state.A.clone()
        state.atoms.copy_(atoms)
        rule.step(state, Batch(X))
        weights[forgetting] = float((state.A - first)[0, 0] / first[0, 0])
    assert weights[0.0] == pytest.approx(1)
    assert weights[2.0] == pytest.approx(0.25)


def test_unused_and_twin_atoms_are_replaced_by_the_worst_samples(rng):
    X = np.zeros((60, 6))
    X[:, 0] = rng.uniform(1, 2, 60)
    X[7] = [0, 0, 0, 3.0, 4.0, 0]
    X[40, :2] = [1.0, 0.1]
    rule = MOD(PursuitCoder(1))
    state = rule.init(np.eye(6)[[0, 0, 1]])
    rule.step(state, Batch(X[:30]))
    rule.step(state, Batch(X[30:]))
    assert rule.end_pass(state) == {"n_replaced": 2}
    directions = {tuple(np.round(np.abs(atom), 6)) for atom in state.atoms.numpy()}
    assert (0, 0, 0, 0.6, 0.8, 0) in directions
    assert not state.idle.usage.any()
    assert rule.end_pass(state) == {"n_replaced": 0}


def test_idle_atoms_are_looked_for_within_a_pass_too_and_their_moments_forgotten(rng):
    X = np.zeros((80, 8))
    X[:, :5] = rng.standard_normal((80, 5))
    start = np.eye(8)  # the last three meet no sample
    states = {}
    for every in (4, None):
        rule = Online(LassoCoder(0.3), replace_every=every)
        states[every] = state = rule.init(start)
        for k in range(0, 80, 20):
            rule.step(state, Batch(X[k : k + 20]))
    assert states[4].idle.n_replaced == 3
    assert not states[4].atoms[:, 5:].any()
    assert torch.equal(states[None].atoms[5:], torch.eye(8, dtype=torch.float64)[5:])
    moved = (states[4].atoms != states[None].atoms).any(1)
    for sums in (states[4].A[moved], states[4].A[:, moved], states[4].B[moved]):
        assert not sums.any()
    assert states[4].A[~moved][:, ~moved].any()


def test_idle_atoms_are_counted_in_the_history(rng):
    X = np.zeros((100, 8))
    X[:, :5] = rng.standard_normal((100, 5))
    atoms = np.eye(8)  # the last three meet no sample
    rule = Online(LassoCoder(0.3))
    state = train(rule, ArrayBatches(X, 20), TrainState(rule.init(atoms)), max_iter=3)
    assert [record["n_replaced"] for record in state.history] == [3, 0, 0]
    assert not state.learned.atoms[:, 5:].any()


def test_few_uses_at_the_end_of_a_pass_make_no_atom_idle(rng):
    """The last batch of a pass may be a single sample, counted after the last replacement."""
    X = rng.standard_normal((161, 8))
    rule = Online(LassoCoder(0.3), replace_every=4)
    state = rule.init(np.eye(8))
    for k in range(0, 161, 40):
        rule.step(state, Batch(X[k : k + 40]))
    assert state.idle.n_checks == 1
    counted = state.idle.usage.copy()
    assert (counted == 0).any()
    assert rule.end_pass(state)["n_replaced"] == 0
    np.testing.assert_array_equal(state.idle.usage, counted)


@pytest.mark.parametrize("rule", RULES_OF_STREAMS, ids=lambda rule: rule.name)
def test_in_a_stream_idle_atoms_wait_for_enough_uses(rule, rng):
    X = np.zeros((400, 8))
    X[:, :5] = rng.standard_normal((400, 5))
    stream = replace(rule, stream=True)
    state = stream.init(np.eye(8))  # the last three meet no sample
    replaced = []
    for sample in X:
        stream.step(state, Batch(sample[None]))
        replaced.append(stream.end_pass(state)["n_replaced"])
    first = np.flatnonzero(replaced)[0]
    assert replaced[first] == 3
    assert first + 1 >= 20 * 8 / 5  # 20 uses of each atom on average, at most 5 uses of a sample
    assert sum(replaced) <= 4


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
        state = train(rule, data, TrainState(rule.init(start)), max_iter=40)
        match = np.abs(state.learned.atoms.numpy() @ atoms.T).max(axis=0)
        assert np.median(match) > 0.99, (name, np.sort(match))
        assert (match > 0.97).mean() > 0.8
