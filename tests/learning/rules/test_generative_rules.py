"""Rules for generative priors: each lowers its loss, least squares is least squares, balls hold."""

import math
from itertools import pairwise

import pytest
import torch

from calepin.generators import PolynomialSine, Sine
from calepin.learning import (
    Algorithm1,
    AltMin,
    ArrayBatches,
    Autodiff,
    Batch,
    LeastSquares,
    TrainState,
    algorithm1_step,
    load_checkpoint,
    preconditioner,
    save_checkpoint,
    train,
)

F64 = torch.float64
SINE = Sine(2, 8, dtype=F64)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def planted(n=60, m=24, noise=0.0):
    """Return observations, and true atoms."""
    atoms = draw(8, m, seed=1)
    return SINE(draw(n, 2, seed=2)) @ atoms + noise * draw(n, m, seed=3), atoms


def distance(rule, atoms, y):
    """Return the mean residual of observations under some atoms, honestly decoded."""
    found = LeastSquares(SINE, n_starts=16).decode(atoms, y)
    return float((2 * found.objective).sqrt().mean())


@pytest.mark.parametrize(
    "rule",
    [
        Algorithm1(SINE, n_starts=8),
        AltMin(SINE, n_iter=100, learning_rate=1e-2),
        Autodiff(SINE, n_iter=300, learning_rate=1e-2),
        LeastSquares(SINE, n_starts=8),
        LeastSquares(SINE, n_starts=8, ridge="evidence"),
    ],
)
def test_every_rule_comes_to_explain_observations(rule):
    y, atoms = planted()
    start = 0.1 * draw(*atoms.shape, seed=4)
    kept = start.clone()
    state = TrainState(rule.init(start))
    train(rule, ArrayBatches(y.numpy(), 30), state, max_iter=1 if rule.name == "altmin" else 3)
    assert torch.equal(start, kept)
    assert distance(rule, state.learned.atoms, y) < 0.7 * distance(rule, start, y)


def test_least_squares_is_least_squares():
    """Without ridge and forgetting, two batches give what both at once would."""
    rule = LeastSquares(SINE, ridge=0.0, forgetting=1.0)
    G, Y = draw(40, 8), draw(40, 5, seed=1)
    state = rule.init(draw(8, 5, seed=2))
    for part in (slice(0, 25), slice(25, 40)):
        rule.move(state, G[part], Y[part])
    torch.testing.assert_close(state.atoms, torch.linalg.lstsq(G, Y).solution)


def test_least_squares_stays_near_where_nothing_is_seen():
    rule = LeastSquares(SINE)
    state = rule.init(draw(8, 5, seed=2))
    before = state.atoms.clone()
    G = draw(3, 8)
    rule.move(state, G, draw(3, 5, seed=1))
    unseen = torch.linalg.svd(G)[2][3:]
    torch.testing.assert_close(unseen @ state.atoms, unseen @ before)
    unmoved = rule.init(before)
    rule.move(unmoved, 0 * G, draw(3, 5))
    assert torch.equal(unmoved.atoms, before)


@pytest.mark.parametrize(("noise", "change"), [(0.01, 1.0), (3.0, 0.3)])
def test_evidence_trusts_atoms_as_far_as_data_is_noisy(noise, change):
    """The ridge found is near noise^2 / change^2, that of the prior the atoms were drawn from."""
    before = draw(8, 200, seed=1)
    G = draw(100, 8)
    Y = G @ (before + change * draw(8, 200, seed=2)) + noise * draw(100, 200, seed=3)
    rule = LeastSquares(SINE, ridge="evidence", forgetting=1.0)
    state = rule.init(before)
    rule.move(state, G, Y)
    ridge = (noise / change) ** 2
    expected = before + torch.linalg.solve(
        G.mT @ G + ridge * torch.eye(8, dtype=F64), G.mT @ (Y - G @ before)
    )
    error = (state.atoms - expected).norm() / (expected - before).norm()
    assert error < 0.1


def test_algorithm_1_converges_geometrically_from_true_latents():
    """Theorem 5.1 with a perfect oracle: with C^-1 the gradient is the error itself, on average."""
    _, atoms = planted()
    inverse = preconditioner(SINE, like=atoms)
    now = atoms + 0.1 * draw(*atoms.shape, seed=4)
    errors = []
    for t in range(8):
        G = SINE(draw(4000, 2, seed=10 + t))
        now = algorithm1_step(now, G, G @ atoms, inverse)
        errors.append(float((now - atoms).norm()))
    assert max(b / a for a, b in pairwise(errors)) < 0.2


def test_atoms_stay_in_their_balls():
    y, atoms = planted()
    rule = Algorithm1(SINE, delta=0.05)
    state = TrainState(rule.init(atoms + 0.3 * draw(*atoms.shape, seed=4)))
    train(rule, ArrayBatches(y.numpy(), 20), state, max_iter=2)
    away = (state.learned.atoms - state.learned.first).norm(dim=1)
    assert away.max() <= 0.05 + 1e-12
    assert away.max() > 0.05 - 1e-9


def test_the_preconditioner_inverts_the_second_moment():
    inverse = preconditioner(SINE, like=torch.empty(0, dtype=F64), n=50_000)
    G = SINE(draw(200_000, 2, seed=7))
    product = inverse @ (G.mT @ G / len(G))
    assert (product - torch.eye(8, dtype=F64)).abs().max() < 0.05


@pytest.mark.parametrize("rule", [LeastSquares(SINE, n_starts=2), Algorithm1(SINE)])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, rule):
    y, atoms = planted()
    data = ArrayBatches(y.numpy(), 20, seed=3)
    whole = train(rule, data, TrainState(rule.init(atoms + 0.1)), max_iter=2)
    part = train(rule, data, TrainState(rule.init(atoms + 0.1)), max_iter=1)
    save_checkpoint(tmp_path / "a.safetensors", rule, data, part)
    later = train(rule, data, load_checkpoint(tmp_path / "a.safetensors", rule, data), max_iter=2)
    assert torch.equal(later.learned.atoms, whole.learned.atoms)


def test_masks_are_refused():
    y, atoms = planted()
    rule = LeastSquares(SINE)
    with pytest.raises(ValueError, match="mask: expected None"):
        rule.step(rule.init(atoms), Batch(y, torch.ones(y.shape, dtype=torch.bool)))


def test_settings_are_json_and_tell_rules_apart():
    import json

    rules = [Algorithm1(SINE, delta=1.0), AltMin(SINE), Autodiff(SINE), LeastSquares(SINE)]
    texts = {json.dumps(rule.settings()) for rule in rules}
    assert len(texts) == 4
    assert not any(math.isnan(rule.seed) for rule in rules)
    assert LeastSquares(PolynomialSine(3)).settings() != LeastSquares(SINE).settings()


def test_more_sweeps_fit_a_batch_better_and_count_it_once():
    y, atoms = planted(noise=0.1)
    start = 0.5 * atoms
    objectives, sums = [], []
    for n_sweeps in (1, 8):
        rule = LeastSquares(SINE, n_starts=8, ridge=0.1, n_sweeps=n_sweeps)
        state = rule.init(start)
        rule.step(state, Batch(y.numpy(), None))
        objectives.append(distance(rule, state.atoms, y))
        sums.append(float(state.energy[0]))
    assert objectives[1] < 0.9 * objectives[0]
    assert sums[0] == sums[1]


def test_a_step_of_algorithm_1_is_the_formula_of_the_paper_for_any_preconditioner():
    rng = torch.Generator().manual_seed(0)
    A, C = torch.randn(5, 4, generator=rng).double(), torch.randn(4, 4, generator=rng).double()
    G, Y = torch.randn(4, 9, generator=rng).double(), torch.randn(5, 9, generator=rng).double()
    expected = A - 0.3 * (A @ G - Y) @ G.mT @ C / 9  # columns are samples, C need not be symmetric
    moved = algorithm1_step(A.mT, G.mT, Y.mT, C, step_size=0.3)
    torch.testing.assert_close(moved.mT, expected)
