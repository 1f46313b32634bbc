import json
import os
import signal

import numpy as np
import pytest

from calepin import FileFormatError
from calepin.core.files import load_arrays
from calepin.learning import (
    KSVD,
    MOD,
    NOODL,
    ArrayBatches,
    AtomSet,
    DivergedError,
    IterableBatches,
    Online,
    TrainState,
    initial_atoms,
    load_checkpoint,
    train,
)
from calepin.solvers import IHTCoder, LassoCoder, PursuitCoder

RULES = {
    "online": Online(LassoCoder(0.2)),
    "mod": MOD(PursuitCoder(2), AtomSet("sphere")),
    "ksvd": KSVD(PursuitCoder(2)),
    "noodl": NOODL(IHTCoder(0.3)),
}


@pytest.fixture(params=RULES)
def rule(request):
    return RULES[request.param]


@pytest.fixture
def X(rng):
    return rng.standard_normal((90, 8))


def fresh(rule, data, n_components=12):
    atoms = initial_atoms(
        n_components, data, init="data", atom_set=rule.atom_set, generator=np.random.default_rng(0)
    )
    return TrainState(rule.init(atoms))


def assert_same(a: TrainState, b: TrainState):
    mine, other = a.learned.tensors(), b.learned.tensors()
    assert mine.keys() == other.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], other[name], err_msg=name)
    assert a.learned.scalars() == b.learned.scalars()
    scalars = ("n_steps", "n_passes", "step_in_pass", "total", "n_samples")
    assert [getattr(a, s) for s in scalars] == [getattr(b, s) for s in scalars]
    keep = ("pass", "objective", "n_replaced")
    assert [[h[k] for k in keep] for h in a.history] == [[h[k] for k in keep] for h in b.history]


@pytest.mark.parametrize("stop_at", [2, 5, 6, 11])
def test_a_resumed_run_equals_an_uninterrupted_one(rule, X, tmp_path, stop_at):
    data = ArrayBatches(X, 25, seed=4)
    whole = train(rule, data, fresh(rule, data), max_iter=4)
    path = tmp_path / "run.safetensors"
    cut = train(
        rule,
        data,
        fresh(rule, data),
        max_iter=4,
        callbacks=[lambda state: state.n_steps == stop_at],
        checkpoint=path,
    )
    assert cut.n_steps == stop_at
    resumed = train(rule, data, load_checkpoint(path, rule, data), max_iter=4)
    assert_same(resumed, whole)


def test_a_finished_run_goes_on_when_more_passes_are_asked_for(X, tmp_path):
    rule, data = RULES["online"], ArrayBatches(X, 25)
    path = tmp_path / "run.safetensors"
    train(rule, data, fresh(rule, data), max_iter=2, checkpoint=path)
    longer = train(rule, data, load_checkpoint(path, rule, data), max_iter=5)
    assert_same(longer, train(rule, data, fresh(rule, data), max_iter=5))


def test_the_bits_do_not_depend_on_the_number_of_threads(rule, rng, with_threads):
    X = rng.standard_normal((1500, 8)).astype(np.float32)
    data = ArrayBatches(X, 700)
    one = with_threads(1, lambda: train(rule, data, fresh(rule, data), max_iter=2))
    two = with_threads(2, lambda: train(rule, data, fresh(rule, data), max_iter=2))
    assert_same(one, two)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interruption_ends_the_step_and_leaves_a_checkpoint_to_resume(rule, X, tmp_path, number):
    data = ArrayBatches(X, 25, seed=4)
    path = tmp_path / "run.safetensors"

    def press(state):
        if state.n_steps == 6:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        train(rule, data, fresh(rule, data), max_iter=4, callbacks=[press], checkpoint=path)
    assert signal.getsignal(number) is before
    resumed = load_checkpoint(path, rule, data)
    assert resumed.n_steps in (6, 7)
    assert_same(train(rule, data, resumed, max_iter=4), train(rule, data, fresh(rule, data), max_iter=4))


def test_an_interruption_at_the_end_of_the_last_pass_is_not_lost(X, tmp_path):
    class Terminated(Online):
        def end_pass(self, state):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().end_pass(state)

    rule, data, path = Terminated(LassoCoder(0.2)), ArrayBatches(X, 25), tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(rule, data, fresh(rule, data), max_iter=1, checkpoint=path)
    assert load_checkpoint(path, rule, data).n_passes == 1


def test_max_iter_counts_passes_and_history_has_one_entry_for_each(rule, X):
    data = ArrayBatches(X, 25)
    state = train(rule, data, fresh(rule, data), max_iter=3)
    assert (state.n_passes, state.n_steps) == (3, 12)
    assert [record["pass"] for record in state.history] == [1, 2, 3]
    json.dumps(state.history)


def test_tol_ends_a_run_that_no_longer_gains(X):
    rule, data = RULES["online"], ArrayBatches(X, 25)
    state = train(rule, data, fresh(rule, data), max_iter=200, tol=1e-3)
    assert state.converged
    before, last = (record["objective"] for record in state.history[-2:])
    assert abs(before - last) <= 1e-3 * before
    assert state.n_passes < 200
    again = train(rule, data, fresh(rule, data), max_iter=3, tol=0)
    assert not again.converged


def test_the_objective_falls(rule, rng):
    atoms = rng.standard_normal((12, 8))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = np.zeros((400, 12))
    for row in codes:
        row[rng.choice(12, 2, replace=False)] = rng.uniform(1, 2, 2)
    data = ArrayBatches(codes @ atoms, 100)
    history = train(rule, data, fresh(rule, data), max_iter=8).history
    assert history[-1]["objective"] < 0.9 * history[0]["objective"]


def test_divergence_is_an_error_and_the_last_checkpoint_stays(X, tmp_path):
    rule, data = RULES["online"], ArrayBatches(X, 25)
    path = tmp_path / "run.safetensors"
    train(rule, data, fresh(rule, data), max_iter=1, checkpoint=path)
    before = path.read_bytes()

    class Broken(Online):
        def step(self, state, batch):
            super().step(state, batch)
            return np.full(len(batch.X), np.nan)

    broken = Broken(LassoCoder(0.2))
    with pytest.raises(DivergedError, match="became nan in step 1 of pass 2"):
        train(broken, data, load_checkpoint(path, rule, data), max_iter=3, checkpoint=path)
    assert path.read_bytes() == before


def test_an_error_in_the_data_leaves_a_checkpoint(X, tmp_path):
    rule = RULES["online"]
    batches = [X[:30], X[30:60], X[60:] * np.nan]
    data = IterableBatches(batches)
    path = tmp_path / "run.safetensors"
    with pytest.raises(ValueError, match="NaN or infinity"):
        train(rule, data, fresh(rule, data), max_iter=1, checkpoint=path)
    assert load_checkpoint(path, rule, data).n_steps == 2


def test_checkpoints_of_other_runs_are_refused_by_name(X, tmp_path):
    rule, data = RULES["online"], ArrayBatches(X, 25, seed=1)
    path = tmp_path / "run.safetensors"
    train(rule, data, fresh(rule, data), max_iter=1, checkpoint=path)
    with pytest.raises(ValueError, match=r"of another run: its coder.alpha was 0.2, now 0.3"):
        load_checkpoint(path, Online(LassoCoder(0.3)), data)
    with pytest.raises(ValueError, match="of another run: its rule was 'online', now 'mod'"):
        load_checkpoint(path, RULES["mod"], data)
    with pytest.raises(ValueError, match="of another run: its data.seed was 1, now 2"):
        load_checkpoint(path, rule, ArrayBatches(X, 25, seed=2))
    with pytest.raises(ValueError, match="of another run: its data.checksum"):
        load_checkpoint(path, rule, ArrayBatches(X + 1, 25, seed=1))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileFormatError, match="not a readable"):
        load_checkpoint(path, rule, data)


def test_a_checkpoint_in_a_missing_folder_is_refused_before_the_work(X, tmp_path):
    rule, data = RULES["online"], ArrayBatches(X, 25)
    state = fresh(rule, data)
    with pytest.raises(FileNotFoundError, match="checkpoint: cannot write .*: the folder"):
        train(rule, data, state, max_iter=1, checkpoint=tmp_path / "no" / "run.safetensors")
    assert state.n_steps == 0


def test_data_in_a_file_mapped_read_only_learns_as_an_array_does(rule, X, tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    one, other = (ArrayBatches(source, None) for source in (X, mapped))
    assert_same(
        train(rule, one, fresh(rule, one), max_iter=2), train(rule, other, fresh(rule, other), max_iter=2)
    )


def test_checkpoints_are_no_pickles(X, tmp_path):
    rule, data = RULES["online"], ArrayBatches(X, 25)
    train(rule, data, fresh(rule, data), max_iter=1, checkpoint=tmp_path / "run.safetensors")
    arrays, parameters = load_arrays(tmp_path / "run.safetensors", "checkpoint")
    assert arrays["atoms"].shape == (12, 8)
    assert parameters["settings"]["rule"] == "online"
