from functools import partial

import numpy as np
import pytest
import torch

from calepin.core.errors import IncompatibleError
from calepin.datasets.simulate import simulate_sparse
from calepin.learning import (
    ArrayBatches,
    AtomSet,
    Batch,
    DivergedError,
    TrainState,
    Unfolded,
    dictionary_gradient,
    load_checkpoint,
    train,
)
from calepin.learning.gradients import unfolded_loss
from calepin.likelihoods import Gaussian
from calepin.metrics.atoms import dictionary_error
from calepin.penalties import L1, HardThreshold, NonNegativeL1

ADAM = partial(torch.optim.Adam, lr=5e-3)


@pytest.fixture(scope="module")
def data():
    return simulate_sparse(400, 24, 32, n_nonzero=2, random_state=1)


@pytest.fixture
def start(data):
    moved = data.atoms + np.random.default_rng(2).standard_normal(data.atoms.shape) * 0.3 / np.sqrt(24)
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def run(rule, data, start, n_passes=3, **how):
    return train(
        rule, ArrayBatches(data.X, 50, seed=3), TrainState(rule.init(start)), max_iter=n_passes, **how
    )


def assert_equal(mine, other):
    mine, other = mine.tensors(), other.tensors()
    assert mine.keys() == other.keys()
    for name, value in mine.items():
        assert torch.equal(value, other[name]), name


def test_a_step_of_gradient_descent_is_what_it_says(data, start):
    rule = Unfolded(
        L1(0.1),
        n_unfold=12,
        step_size=0.1,
        optimizer=partial(torch.optim.SGD, lr=0.3),
        atom_set=AtomSet("sphere"),
    )
    state = rule.init(start)
    objective = rule.step(state, Batch(data.X[:50]))
    gradient = dictionary_gradient(
        data.X[:50], start, penalty=L1(0.1), n_unfold=12, step_size=0.1, gradient="ae-ls"
    )
    moved = start - 0.3 * gradient
    np.testing.assert_allclose(state.atoms, moved / np.linalg.norm(moved, axis=1, keepdims=True), rtol=1e-12)
    assert objective.shape == (50,)


@pytest.mark.parametrize(
    ("rule", "bar"),
    [
        (Unfolded(L1(0.1), optimizer=ADAM, differentiate="implicit"), 0.06),
        (Unfolded(L1(0.1), optimizer=ADAM, n_unfold=30, solver="fista", gradient="ae-lasso"), 0.1),
        (Unfolded(L1(0.1), optimizer=ADAM, n_unfold=30, gradient="dec"), 0.1),
        (Unfolded(L1(0.2), optimizer=ADAM, n_unfold=30, decay=1.0, decay_drop=0.005), 0.12),
        (Unfolded(HardThreshold(0.2), optimizer=ADAM, n_unfold=30, tangent=True), 0.03),
    ],
    ids=["implicit", "ae-lasso", "dec", "decay", "hard"],
)
def test_a_planted_dictionary_is_recovered(data, start, rule, bar):
    found = run(rule, data, start, n_passes=20).learned.atoms.numpy()
    assert dictionary_error(found, data.atoms) < bar < 0.5 * dictionary_error(start, data.atoms)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)


@pytest.mark.parametrize(
    "optimizer",
    [
        ADAM,
        partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        partial(torch.optim.RMSprop, lr=1e-3),
        torch.optim.NAdam,
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(data, start, tmp_path, optimizer):
    rule = Unfolded(L1(0.1), n_unfold=8, optimizer=optimizer, decay=0.99, decay_drop=0.01, decay_every=7)
    whole = run(rule, data, start)
    file = tmp_path / "run.safetensors"
    batches = ArrayBatches(data.X, 50, seed=3)
    run(rule, data, start, checkpoint=file, callbacks=[lambda state: state.n_steps == 11])
    resumed = train(rule, batches, load_checkpoint(file, rule, batches), max_iter=3)
    assert_equal(resumed.learned, whole.learned)
    history = [[record["objective"] for record in s.history] for s in (whole, resumed)]
    assert history[0] == history[1]


def test_a_checkpoint_of_other_settings_is_refused(data, start, tmp_path):
    file = tmp_path / "run.safetensors"
    run(Unfolded(L1(0.1), n_unfold=3, optimizer=ADAM), data, start, n_passes=1, checkpoint=file)
    batches = ArrayBatches(data.X, 50, seed=3)
    for other, name in (
        (Unfolded(L1(0.2), n_unfold=3, optimizer=ADAM), "penalty.alpha was 0.1, now 0.2"),
        (
            Unfolded(L1(0.1), n_unfold=3, optimizer=partial(torch.optim.Adam, lr=1e-3)),
            "optimizer.lr was 0.005, now 0.001",
        ),
        (
            Unfolded(NonNegativeL1(0.1), n_unfold=3, optimizer=ADAM),
            "penalty.name was 'L1', now 'NonNegativeL1'",
        ),
    ):
        with pytest.raises(ValueError, match=f"of another run: its {name}"):
            load_checkpoint(file, other, batches)


def test_tensors_and_arrays_learn_alike(data, start):
    rule = Unfolded(L1(0.1), n_unfold=8, optimizer=ADAM)
    arrays, tensors = rule.init(start), rule.init(torch.from_numpy(start))
    for i in range(0, 200, 50):
        rule.step(arrays, Batch(data.X[i : i + 50]))
        rule.step(tensors, Batch(torch.from_numpy(data.X[i : i + 50])))
    assert_equal(tensors, arrays)
    assert set(arrays.atoms_memory) == {"step", "exp_avg", "exp_avg_sq"}


def test_float32_atoms_stay_float32_and_in_the_ball(data, start):
    rule = Unfolded(L1(0.1), n_unfold=8, optimizer=ADAM, atom_set=AtomSet("ball"))
    atoms = run(rule, data, 3 * start.astype("f"), n_passes=1).learned.atoms
    assert atoms.dtype == torch.float32
    assert torch.linalg.vector_norm(atoms, dim=1).max() <= 1 + 1e-6


def test_with_the_tangent_only_directions_move(data, start):
    settings = {"n_unfold": 8, "optimizer": partial(torch.optim.SGD, lr=1e-4)}
    moves = []
    for tangent in (False, True):
        rule = Unfolded(L1(0.1), tangent=tangent, **settings)
        state = rule.init(start)
        rule.step(state, Batch(data.X[:50]))
        moves.append(state.atoms.numpy() - start)
    # a short step, normalised, is the same to first order
    assert np.abs(moves[0] - moves[1]).max() < 1e-3 * np.abs(moves[1]).max()
    assert np.abs((moves[1] * start).sum(1)).max() < 1e-6


def test_beta_falls_by_its_schedule():
    rule = Unfolded(L1(0.1), decay=1.0, decay_drop=0.005, decay_every=30)
    assert [rule.decay_at(t) for t in (0, 29, 30, 60)] == [1.0, 1.0, 0.995, 0.99]
    assert rule.decay_at(10**9) > 0


def test_codes_that_vanish_are_warned_of(data, start):
    rule = Unfolded(L1(1e3), n_unfold=3)
    with pytest.warns(RuntimeWarning, match="all codes of a batch are zero"):
        rule.step(rule.init(start), Batch(data.X[:20]))


def test_a_long_step_is_warned_of_and_a_longer_one_refused(data, start):
    long, longer = (Unfolded(L1(0.1), n_unfold=3, step_size=step_size) for step_size in (0.3, 3.0))
    with pytest.warns(RuntimeWarning, match="above 1 / L"):
        long.step(long.init(start), Batch(data.X))
    with pytest.raises(ValueError, match="step_size: expected less than 2 / L"):
        longer.step(longer.init(start), Batch(data.X))


def test_divergence_stops_and_keeps_the_last_good_checkpoint(data, start, tmp_path):
    X = data.X.copy()
    file = tmp_path / "run.safetensors"
    rule = Unfolded(L1(0.1), n_unfold=3, optimizer=partial(torch.optim.SGD, lr=0.1))
    run(rule, data, start, n_passes=1, checkpoint=file)
    kept = file.read_bytes()
    state = load_checkpoint(file, rule, ArrayBatches(data.X, 50, seed=3))
    state.learned.atoms[0, 0] = np.nan
    with pytest.raises(DivergedError, match="the atoms became NaN"):
        train(rule, ArrayBatches(X, 50, seed=3), state, max_iter=2, checkpoint=file)
    assert file.read_bytes() == kept


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": 0.0}, r"decay: expected a number in \(0, 1\]"),
        ({"decay_drop": -0.1}, "decay_drop: expected at least 0"),
        ({"tangent": True, "atom_set": AtomSet("ball")}, "atom_set: expected the sphere"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Unfolded(L1(0.1), **settings)


def test_missing_entries_and_strange_optimisers_are_refused(data, start):
    rule = Unfolded(L1(0.1), n_unfold=3)
    with pytest.raises(ValueError, match="mask: expected None"):
        rule.step(rule.init(start), Batch(data.X, np.ones(data.X.shape, bool)))

    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            self.state[self.param_groups[0]["params"][0]]["calls"] = [1]

    with pytest.raises(IncompatibleError, match="which Counting does not have: calls is list"):
        Unfolded(L1(0.1), n_unfold=3, optimizer=Counting).step(rule.init(start), Batch(data.X))


@pytest.mark.parametrize("solver", ["ista", "fista"])
def test_the_gradient_in_a_learned_step_and_learned_thresholds_is_right(data, start, solver):
    atoms = torch.from_numpy(start)
    y = torch.from_numpy(data.X[:20])
    step = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    alpha = torch.full((32,), 0.15, dtype=torch.float64, requires_grad=True)

    def loss(step, alpha):
        return unfolded_loss(
            y, atoms, penalty=L1(alpha), n_unfold=6, step_size=step, gradient="ae-ls", solver=solver,
            differentiate="unroll", likelihood=Gaussian(),
        )[0]  # fmt: skip

    assert torch.autograd.gradcheck(loss, (step, alpha))


def test_a_run_with_learned_layers_resumes_bit_for_bit(data, start, tmp_path):
    rule = Unfolded(L1(0.1), n_unfold=8, optimizer=ADAM, learn_step=True, learn_threshold=True)
    whole = run(rule, data, start)
    learned = whole.learned
    assert learned.step_size[0] < 2 / torch.linalg.matrix_norm(learned.atoms, 2) ** 2
    assert learned.alpha.std() > 0
    file = tmp_path / "run.safetensors"
    batches = ArrayBatches(data.X, 50, seed=3)
    run(rule, data, start, checkpoint=file, callbacks=[lambda state: state.n_steps == 11])
    resumed = train(rule, batches, load_checkpoint(file, rule, batches), max_iter=3)
    assert_equal(resumed.learned, learned)


@pytest.mark.parametrize("differentiate", ["unroll", "implicit"])
def test_encode_gives_the_codes_of_the_step(data, start, differentiate):
    rule = Unfolded(L1(0.1), n_unfold=9, step_size=0.1, differentiate=differentiate)
    state = rule.init(start)
    codes, objective = rule.encode(state, data.X[:30])
    residual = torch.from_numpy(data.X[:30]) - codes @ torch.from_numpy(start)
    by_hand = 0.5 * residual.square().sum(1) + 0.1 * codes.abs().sum(1)
    np.testing.assert_allclose(objective, by_hand)
    np.testing.assert_allclose(objective, rule.step(state, Batch(data.X[:30])))
