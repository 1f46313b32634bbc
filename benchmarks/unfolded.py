"""Unfolded learning: the implicit gradient beside unrolled ones, in time, in training and in memory."""

from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.runner import Comparison, Contender, peak_growth_mb
from calepin.datasets import SparseData, simulate_convolutional, simulate_sparse
from calepin.learning import ArrayBatches, Batch, TrainState, Unfolded, dictionary_gradient, train
from calepin.likelihoods import Binomial, Gaussian
from calepin.metrics import dictionary_error
from calepin.operators import ConvDictionary, Dense
from calepin.penalties import L1, HardThreshold, NonNegativeL1, Penalty
from calepin.problem import Problem
from calepin.solvers import FISTA, ISTA, ProximalCoder, solve

GOAL = 1e-2


def _start(data: SparseData, scale: float) -> np.ndarray:
    m = data.atoms.shape[1]
    noise = np.random.default_rng(1).standard_normal(data.atoms.shape) / np.sqrt(m)
    moved = data.atoms + scale / np.log(m) * noise
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def _gradients(n: int, m: int, p: int, s: int, layers: tuple[int, ...]) -> list[Contender]:
    data = simulate_sparse(n, m, p, n_nonzero=s, signs=False)
    y, atoms = (torch.from_numpy(a.astype(np.float32)) for a in (data.X, _start(data, 0.55)))
    find = partial(dictionary_gradient, y, atoms, penalty=L1(0.2), step_size=0.1, gradient="ae-ls")
    implicit = Contender(
        "implicit, exact codes included",
        lambda: find(n_unfold=1, differentiate="implicit"),
        lambda g: {"norm": float(g.norm())},
    )
    return [
        implicit,
        *(
            Contender(f"{t} layers unrolled", partial(find, n_unfold=t), lambda g: {"norm": float(g.norm())})
            for t in layers
        ),
    ]


def _unrolled(
    n: int, m: int, p: int, s: int, penalty: Penalty, layers: int, dtype: type[np.floating]
) -> list[Contender]:
    """Layers on the atoms in use, and the same ones by torch's automatic differentiation."""
    data = simulate_sparse(n, m, p, n_nonzero=s, signs=False)
    y, atoms = (torch.from_numpy(a.astype(dtype)) for a in (data.X, _start(data, 0.55)))

    def dense() -> torch.Tensor:
        leaf = atoms.clone().requires_grad_()
        problem = Problem(Dense(leaf), Gaussian(), y)
        z = solve(problem, ISTA(penalty, 0.2), n_iter=layers, differentiate="unroll").z
        return torch.autograd.grad(problem.nll(z).mean(), leaf)[0]

    find = partial(
        dictionary_gradient, y, atoms, penalty=penalty, step_size=0.2, gradient="ae-ls", n_unfold=layers
    )
    return [
        Contender(name, function, lambda g: {"norm": float(g.norm())})
        for name, function in (("on supports", find), ("automatic differentiation", dense))
    ]


def _unrolled_signals(
    n: int, filters: int, kernel: int, length: int, family: str, layers: int, dtype: torch.dtype
) -> list[Contender]:
    """Compiled layers of convolutional codes, and the same ones by torch's automatic differentiation."""
    data = simulate_convolutional(
        n, (length,), n_components=filters, kernel_size=(kernel,), n_events=5, amplitude=(5.0, 5.0),
        likelihood=family, trials=25, random_state=0,
    )  # fmt: skip
    likelihood, weight = (Binomial(25), 15.0) if family == "binomial" else (Gaussian(), 3.0)
    noise = np.random.default_rng(0).standard_normal(data.atoms.shape)
    y, atoms = (torch.from_numpy(a).to(dtype) for a in (data.X, data.atoms + 0.04 * noise))
    penalty = NonNegativeL1(weight)

    def gradient(*, compiled: bool) -> torch.Tensor:
        leaf = atoms.clone().requires_grad_()
        problem = Problem(ConvDictionary(leaf, signal_shape=(length,)), likelihood, y)
        if compiled:
            z = ProximalCoder(penalty, layers).encode(problem, gradient="ae-ls").dense()
        else:
            z = solve(problem, FISTA(penalty, restart=False), n_iter=layers, differentiate="unroll").z
        return torch.autograd.grad(problem.nll(z).mean(), leaf)[0]

    return [
        Contender(name, partial(gradient, compiled=compiled), lambda g: {"norm": float(g.norm())})
        for name, compiled in (("compiled", True), ("automatic differentiation", False))
    ]


def _updates(n: int, m: int, p: int, s: int) -> list[Contender]:
    """Whole steps of the rule: exact codes or layers, gradient, Adam, normalisation."""
    data = simulate_sparse(n, m, p, n_nonzero=s, signs=False)
    batch, start = Batch(data.X.astype(np.float32)), _start(data, 1.0).astype(np.float32)
    adam = partial(torch.optim.Adam, lr=1e-3, eps=1e-3)

    def contender(name: str, **how: Any) -> Contender:
        rule = Unfolded(L1(0.2), gradient="ae-ls", optimizer=adam, **how)
        state = rule.init(start)
        return Contender(
            name, lambda: rule.step(state, batch), lambda value: {"objective": float(value.mean())}
        )

    return [
        contender("implicit ae-ls", differentiate="implicit"),
        contender("ae-ls, 100 layers unrolled", n_unfold=100, step_size=0.1),
    ]


def _training() -> list[Contender]:
    data = simulate_sparse(20_000, 100, 150, n_nonzero=3, signs=False)
    X, start = data.X.astype(np.float32), _start(data, 1.0).astype(np.float32)

    def contender(name: str, **how: Any) -> Contender:
        adam = partial(torch.optim.Adam, lr=2e-3, eps=1e-3)
        rule = Unfolded(L1(0.2), gradient="ae-ls", optimizer=adam, **how)

        def learn() -> TrainState:
            def near(state: TrainState) -> bool:
                return state.n_steps % 10 == 0 and dictionary_error(state.learned.atoms, data.atoms) < GOAL

            state = TrainState(rule.init(start))
            return train(rule, ArrayBatches(X, 50), state, max_iter=2, callbacks=[near])

        def measure(state: TrainState) -> dict[str, float]:
            return {"error": dictionary_error(state.learned.atoms, data.atoms), "updates": state.n_steps}

        return Contender(name, learn, measure)

    return [
        contender("implicit ae-ls", differentiate="implicit"),
        contender("ae-ls, 50 layers unrolled", n_unfold=50, step_size=0.15),
    ]


def _memory() -> list[Contender]:
    def contender(name: str, how: str) -> Contender:
        # glibc keeps freed buffers that small ones have split, which hides what is really in use:
        # above this size (M_MMAP_THRESHOLD) it returns them
        code = (
            "import ctypes\nctypes.CDLL(None).mallopt(-3, 65536)\n"
            "import torch\nfrom calepin.learning import dictionary_gradient\n"
            "from calepin.penalties import L1\ntorch.manual_seed(0)\n"
            "D = torch.nn.functional.normalize(torch.randn(200, 100))\n"
            "y = torch.zeros(2048, 200).scatter_(1, torch.rand(2048, 200).topk(5).indices, 1.5) @ D\n"
            "def find(y=y, **how):\n"
            "    return dictionary_gradient(y, D, penalty=L1(0.2), gradient='ae-ls', **how)\n"
            "find(y[:2], n_unfold=4, checkpoint_every=2)\n"
            "find(y[:2], n_unfold=1, differentiate='implicit')\n"
            f"def main(): return find({how})\n"
        )
        return Contender(name, lambda: peak_growth_mb(code), lambda grown: {"MB": grown})

    return [
        contender("implicit", "n_unfold=1, differentiate='implicit'"),
        contender("1000 layers, checkpoint_every=20", "n_unfold=1000, checkpoint_every=20"),
        contender("10 layers unrolled", "n_unfold=10"),
        contender("1000 layers unrolled", "n_unfold=1000"),
    ]


COMPARISONS = [
    Comparison(
        "implicit",
        "a gradient of 256 samples, m=100, p=150, 10-sparse, float32",
        "implicit takes less than 5 layers",
        partial(_gradients, 256, 100, 150, 10, (5, 50)),
        rounds=10,
    ),
    Comparison(
        "unrolled",
        "a gradient through 200 layers, 5000 samples: m=50, p=100, 5-sparse, float64",
        "3 times faster than automatic differentiation",
        partial(_unrolled, 5000, 50, 100, 5, L1(0.2), 200, np.float64),
        rounds=3,
    ),
    Comparison(
        "unrolled-large",
        "a gradient through 100 layers, 50 samples: m=1000, p=1500, 20-sparse, float32",
        "3 times faster than automatic differentiation",
        partial(_unrolled, 50, 1000, 1500, 20, L1(0.2), 100, np.float32),
        rounds=3,
    ),
    Comparison(
        "unrolled-hard",
        "the same with a hard threshold",
        "3 times faster than automatic differentiation",
        partial(_unrolled, 50, 1000, 1500, 20, HardThreshold(0.1), 100, np.float32),
        rounds=3,
    ),
    Comparison(
        "unrolled-counts",
        "a gradient through 250 layers, 256 signals of 500 binomial counts: 3 filters of 50, float32",
        "3 times faster than automatic differentiation",
        partial(_unrolled_signals, 256, 3, 50, 500, "binomial", 250, torch.float32),
        rounds=3,
    ),
    Comparison(
        "unrolled-signals",
        "a gradient through 50 layers, 100 gaussian signals of 2000: 8 filters of 64, float64",
        "3 times faster than automatic differentiation",
        partial(_unrolled_signals, 100, 8, 64, 2000, "gaussian", 50, torch.float64),
        rounds=3,
    ),
    Comparison(
        "implicit-large",
        "an update of 50 samples, the optimiser's step included: m=1000, p=1500, 20-sparse, float32",
        "0.12 s an update",
        partial(_updates, 50, 1000, 1500, 20),
        rounds=3,
    ),
    Comparison(
        "unfolded-training",
        "time to relative error 1e-2: m=100, p=150, 3-sparse, batch 50",
        "implicit 5 times faster",
        _training,
        rounds=2,
    ),
    Comparison(
        "unfolded-memory",
        "growth of peak memory: batch 2048 (256 does not show), m=100, p=200",
        "1000 layers at most 4 times 10 layers, with checkpoints or implicit",
        _memory,
        rounds=1,
    ),
]
