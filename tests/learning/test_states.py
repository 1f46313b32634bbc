"""The state of every rule: it comes back from a file, resumes bit for bit, and owns what it holds."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from calepin.datasets import GaussianNoise, simulate_convolutional
from calepin.generators import Sine
from calepin.learning import (
    KSVD,
    MOD,
    NOODL,
    SOAP,
    Algorithm1,
    AltMin,
    ArrayBatches,
    AtomSet,
    Autodiff,
    Convolutional,
    ConvolutionalOnline,
    CosineDecay,
    LeastSquares,
    NetworkRule,
    Online,
    SignalBatches,
    State,
    TrainState,
    Unfolded,
    VAERule,
    load_checkpoint,
    save_checkpoint,
    train,
    train_steps,
)
from calepin.likelihoods import Gaussian
from calepin.networks import VAE, UnfoldedAutoencoder
from calepin.penalties import L1, NonNegativeL1
from calepin.solvers import ConvolutionalLassoCoder, IHTCoder, LassoCoder, ProximalCoder, PursuitCoder

ADAM = partial(torch.optim.Adam, lr=5e-3)
MOMENTUM = partial(torch.optim.SGD, lr=1e-2, momentum=0.9)
SINE = Sine(2, 8, dtype=torch.float64)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def samples():
    return ArrayBatches(draw(30, 8, seed=1).numpy(), 10, seed=4)


def signals():
    data = simulate_convolutional(
        9, (50,), n_components=2, kernel_size=(8,), likelihood="gaussian", random_state=0
    )
    return SignalBatches(data.X, 3, likelihood=Gaussian(), dtype=torch.float64, seed=4)


def images():
    return ArrayBatches(draw(9, 1, 12, 12, seed=2).numpy(), 3, seed=4)


def pixels():
    return ArrayBatches(draw(12, 12, seed=3).sigmoid().float().numpy(), 4, seed=4)


def network():
    return UnfoldedAutoencoder(
        0.3 * draw(6, 1, 4, 4), L1(0.05), stride=2, n_unfold=3, learn_threshold=True, tied=False
    )


def unit(*shape, seed=7):
    atoms = draw(*shape, seed=seed)
    return atoms / atoms.flatten(1).norm(dim=1).view(-1, *[1] * (atoms.ndim - 1))


@dataclass
class Case:
    """A rule, its data, and where it starts; `scalars` are the names of numbers of its state."""

    rule: Any
    data: Any
    atoms: Any
    scalars: tuple[str, ...]


IDLE = ("idle.n_checks", "idle.n_replaced", "idle.n_samples")
COUNTED = (*IDLE, "n_steps")
CLASSICAL = (*IDLE, "n_samples", "n_steps")
CASES = {
    "online": Case(Online(LassoCoder(0.2)), samples, unit(12, 8), CLASSICAL),
    "mod": Case(MOD(PursuitCoder(2), AtomSet("sphere")), samples, unit(12, 8), (*CLASSICAL, "solved")),
    "ksvd": Case(KSVD(PursuitCoder(2)), samples, unit(12, 8), CLASSICAL),
    "noodl": Case(NOODL(IHTCoder(0.3)), samples, unit(12, 8), COUNTED),
    "online, stream": Case(Online(LassoCoder(0.2), stream=True), samples, unit(12, 8), CLASSICAL),
    "mod, stream": Case(
        MOD(PursuitCoder(2), AtomSet("sphere"), stream=True), samples, unit(12, 8), (*CLASSICAL, "solved")
    ),
    "ksvd, stream": Case(KSVD(PursuitCoder(2), stream=True), samples, unit(12, 8), CLASSICAL),
    "unfolded": Case(Unfolded(L1(0.1), n_unfold=5, optimizer=ADAM), samples, unit(12, 8), ("n_steps",)),
    "unfolded, learned layers": Case(
        Unfolded(L1(0.1), n_unfold=5, optimizer=MOMENTUM, learn_step=True, learn_threshold=True),
        samples, unit(12, 8), ("n_steps",),
    ),
    "convolutional": Case(
        Convolutional(ProximalCoder(NonNegativeL1(0.2), n_iter=5, nonnegative=True), centre=True),
        signals, unit(2, 1, 8), IDLE,
    ),
    "convolutional, online": Case(
        ConvolutionalOnline(ConvolutionalLassoCoder(0.2), centre=True),
        signals, unit(2, 1, 8), (*IDLE, "n_steps", "n_samples", "n_trimmed"),
    ),
    "algorithm1": Case(Algorithm1(SINE, delta=0.5), samples, draw(8, 8, seed=5), ("n_steps",)),
    "altmin": Case(AltMin(SINE, n_iter=20), samples, draw(8, 8, seed=5), ("n_steps",)),
    "autodiff": Case(Autodiff(SINE, n_iter=20), samples, draw(8, 8, seed=5), ("n_steps",)),
    "least-squares": Case(LeastSquares(SINE, n_starts=2), samples, draw(8, 8, seed=5), ("n_steps",)),
    "network": Case(
        NetworkRule(
            network(), optimizer=ADAM, noise=GaussianNoise(0.1), schedule=CosineDecay(5), average=3, seed=3
        ),
        images, None, ("n_steps",),
    ),
    "network, soap": Case(
        NetworkRule(network(), optimizer=partial(SOAP, refresh=2)), images, None, ("n_steps",)
    ),
    "vae": Case(VAERule(VAE(2, 6, 12), optimizer=MOMENTUM, seed=1), pixels, None, ("n_steps",)),
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread(with_threads):
    """Tensors this small lose more than they gain by a second thread."""
    torch.set_num_threads(1)


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def run(case, max_iter, state=None, **how):
    state = state or TrainState(case.rule.init(case.atoms))
    return train(case.rule, case.data(), state, max_iter=max_iter, **how)


def assert_equal(mine, other):
    assert type(mine) is type(other)
    mine, other = ({**state.tensors(), **state.scalars()} for state in (mine, other))
    assert mine.keys() == other.keys()
    for name, value in mine.items():
        assert type(value) is type(other[name]), name
        if isinstance(value, torch.Tensor | np.ndarray):
            assert value.dtype == other[name].dtype, name
            assert value.shape == other[name].shape, name
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def copied(state):
    return {name: np.asarray(value).copy() for name, value in state.tensors().items()}


def test_a_file_gives_the_state_back(case, tmp_path):
    state = run(case, 2, callbacks=[lambda state: state.n_steps == 4])
    save_checkpoint(tmp_path / "run", case.rule, case.data(), state)
    again = load_checkpoint(tmp_path / "run", case.rule, case.data())
    assert set(state.learned.scalars()) == set(case.scalars)
    assert_equal(again.learned, state.learned)
    mine, other = (vars(s) | {"learned": None} for s in (state, again))
    assert mine == other


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(case, tmp_path):
    whole = run(case, 3)
    run(case, 3, callbacks=[lambda state: state.n_steps == 4], checkpoint=tmp_path / "run")
    resumed = load_checkpoint(tmp_path / "run", case.rule, case.data())
    assert (resumed.n_steps, resumed.step_in_pass) == (4, 1)
    run(case, 3, resumed)
    assert_equal(resumed.learned, whole.learned)
    assert [h["objective"] for h in resumed.history] == [h["objective"] for h in whole.history]


def test_nothing_is_restored_that_the_state_does_not_have(case):
    state = run(case, 1).learned
    tensors, scalars = state.tensors(), state.scalars()
    assert_equal(case.rule.restore(tensors, scalars), state)
    with pytest.raises(ValueError, match="expected no 'momentum', which it does not have"):
        case.rule.restore({**tensors, "momentum": np.zeros(3)}, scalars)
    with pytest.raises(ValueError, match="expected no 'temperature', which it does not have"):
        case.rule.restore(tensors, {**scalars, "temperature": 1.0})


def test_what_a_state_needs_is_missed_by_name(case):
    state = run(case, 1).learned
    tensors, scalars = state.tensors(), state.scalars()
    needed = [name for name in tensors if not name.startswith("optimizer.") and "memory." not in name]
    assert needed
    optional = {"step_size", "alpha"} if isinstance(case.rule, Unfolded) else set()
    for name in set(needed) - optional:
        rest = {key: value for key, value in tensors.items() if key != name}
        with pytest.raises(ValueError, match="expected a value for"):
            case.rule.restore(rest, scalars)
    with pytest.raises(ValueError, match="n_steps: expected a value|n_replaced"):
        case.rule.restore(tensors, {})


def test_a_restored_state_shares_no_memory_with_what_it_was_restored_from(case):
    first = run(case, 1).learned
    kept = copied(first)
    second = TrainState(case.rule.restore(first.tensors(), first.scalars()))
    run(case, 1, second)
    for name, value in first.tensors().items():
        np.testing.assert_array_equal(value, kept[name], err_msg=name)
    assert any(not np.array_equal(value, kept[name]) for name, value in second.learned.tensors().items())


def test_two_runs_of_one_rule_do_not_meet_and_leave_their_start_as_it_is(case):
    before = None if case.atoms is None else case.atoms.clone()
    first, second = (case.rule.init(case.atoms) for _ in range(2))
    fresh = copied(second)
    run(case, 1, TrainState(first))
    for name, value in second.tensors().items():
        np.testing.assert_array_equal(value, fresh[name], err_msg=name)
    assert before is None or torch.equal(case.atoms, before)
    # what the rule holds did not move either: a third run begins where the others did
    assert_equal(case.rule.init(case.atoms), second)


def test_atoms_are_tensors_whatever_they_begin_as(case):
    if case.atoms is None:
        pytest.skip("a network brings its own weights")
    array = case.atoms.numpy().copy()
    array.flags.writeable = False
    for atoms in (array, case.atoms, np.asfortranarray(array)):
        state = case.rule.init(atoms)
        assert isinstance(state.atoms, torch.Tensor)
        assert state.atoms.is_contiguous()
        assert torch.equal(state.atoms, case.atoms)


def test_to_another_device_go_tensors_and_not_counters(case):
    if case.atoms is None:
        pytest.skip("torch gives modules new parameters on the meta device")
    state = run(case, 1).learned
    shapes = {name: tuple(value.shape) for name, value in state.tensors().items()}
    assert state.to(None) is state
    scalars = state.scalars()
    moved = state.to("meta")
    assert moved.scalars() == scalars
    assert {name: tuple(value.shape) for name, value in moved.tensors().items()} == shapes
    for name, value in moved.tensors().items():
        if isinstance(value, np.ndarray):
            assert name in ("idle.usage", "idle.pool_error")
        elif value.ndim:
            assert value.device.type == "meta", name
        else:
            assert value.device.type == "cpu", name  # torch keeps an optimiser's count there


@dataclass
class Inner(State):
    x: torch.Tensor
    counts: np.ndarray
    n: int


@dataclass
class Nested(State):
    inner: Inner
    weights: dict[str, torch.Tensor]
    bias: torch.Tensor | None
    rate: float


@pytest.mark.parametrize("bias", [None, torch.ones(1)])
def test_a_nested_state_comes_back(bias):
    state = Nested(Inner(torch.ones(2), np.arange(3), 4), {"a.b": torch.zeros(1)}, bias, 0.5)
    assert list(state.tensors())[:3] == ["inner.x", "inner.counts", "weights.a.b"]
    assert state.scalars() == {"inner.n": 4, "rate": 0.5}
    again = Nested.restore(state.tensors(), state.scalars())
    assert_equal(again, state)
    assert_equal(again.inner, state.inner)
    assert (again.bias is None) == (bias is None)


def test_training_by_steps_ends_as_any_rule_says(tmp_path):
    for name in ("network", "vae"):
        case = CASES[name]
        whole = train_steps(case.rule, case.data(), 4)
        assert whole.n_steps == 4
        stopped = train_steps(
            case.rule, case.data(), 4, callbacks=[lambda state: state.n_steps == 2],
            checkpoint=tmp_path / name,
        )  # fmt: skip
        assert stopped.n_steps == 2
        resumed = train_steps(case.rule, case.data(), 4, checkpoint=tmp_path / name)
        assert_equal(resumed.learned, whole.learned)
        again = train_steps(case.rule, case.data(), 4, checkpoint=tmp_path / name)  # nothing is left to do
        assert_equal(again.learned, whole.learned)
