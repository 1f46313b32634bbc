"""Unfolded dictionary learning: recovery with 10, 20 and 40 nonzeros of 1000 features, and beside SPORCO.

Tolooshams and Ba 2022, figures 5 and 6: the rules of `calepin_papers.pudle.recovery` at three sparsities. The
quick scale has a tenth of the features and atoms, and 2, 3 and 4 nonzeros: 1 is too easy (an exact code of
one atom shows that atom), and 8 of 100 features are too many for all rules.

SPORCO (Wohlberg 2017) is the paper's alternating minimisation of the lasso's objective. It is not a
dependency of calepin and needs an environment of its own: the variable CALEPIN_PEERS names its Python. Its
learner sees the first samples alone, all of them in every iteration, from the same start.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calepin.datasets import SparseData
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.learning import AtomSet
from calepin.metrics import dictionary_error
from calepin_papers._common import spread
from calepin_papers._threads import single_threaded_torch
from calepin_papers.pudle._planted import draws
from calepin_papers.pudle.recovery import NAMES, PUDLE_RECOVERY, draw_errors, learn, rules
from calepin_papers.pudle.recovery import Settings as Recovery

__all__ = ["PUDLE_SPARSITY", "PUDLE_SPORCO", "PeerSettings", "Settings"]

PEER = "sporco_peer.py"


@dataclass(frozen=True)
class Settings:
    """Sparsities, and what is common to them.

    Attributes
    ----------
    recovery
        Sizes of the simulation and of the runs; its own `n_nonzero` is not used.
    n_nonzeros
        Numbers of nonzeros.
    """

    recovery: Recovery
    n_nonzeros: tuple[int, ...]

    def each(self) -> list[Recovery]:
        """Return the settings of every sparsity."""
        return [replace(self.recovery, n_nonzero=n) for n in self.n_nonzeros]


@dataclass(frozen=True)
class PeerSettings(Settings):
    """Sparsities, and the samples and iterations of SPORCO's learner.

    Attributes
    ----------
    n_samples, n_iter
        Samples that SPORCO sees, and its iterations.
    """

    n_samples: int = 2000
    n_iter: int = 200


@single_threaded_torch()  # a second thread slows products of this size down
def measure(settings: Settings, run: Run) -> Findings:
    """Learn by each rule at each sparsity in every draw, a piece each."""
    values: dict[str, float] = {}
    figures = []
    for sizes in settings.each():
        errors: dict[str, list[NDArray[np.float64]]] = {name: [] for name in NAMES}
        for draw, (data, atoms) in enumerate(_draws(sizes, run)):
            for name, rule in rules(sizes).items():
                compute = partial(learn, rule, data, atoms, sizes, run.device)
                piece = run.piece(f"s{sizes.n_nonzero}-draw{draw}-{name}", compute)
                errors[name].append(piece["errors"])
        for name, rows in errors.items():
            values |= spread(f"s{sizes.n_nonzero}_{name}", np.array(rows)[:, -1])
        figures.append(draw_errors(errors, sizes, run, f"recovery-{sizes.n_nonzero}.png"))
    claims = []
    for n in settings.n_nonzeros:
        ls = values[f"s{n}_ls"]
        claims += [
            Claim(f"{n} nonzeros, {NAMES[name]}: error over that of {NAMES['ls']}",
                  values[f"s{n}_{name}"] / ls, "<=", bar)
            for name, bar in (("decay", 1 / 2), ("ht", 1 / 10), ("noodl", 1.0))
        ]  # fmt: skip
        claims.append(
            Claim(f"{n} nonzeros, {NAMES['altmin']}: error over that of {NAMES['ls']}",
                  values[f"s{n}_altmin"] / ls, ">=", 1.0)
        )  # fmt: skip
    return Findings(values, claims, figures)


@single_threaded_torch()
def measure_sporco(settings: PeerSettings, run: Run) -> Findings:
    """Learn by ae-ls and by SPORCO at each sparsity in every draw, a piece each."""
    python = os.environ.get("CALEPIN_PEERS")
    if python is None:
        raise FileNotFoundError("sporco is needed: set CALEPIN_PEERS to the Python of an environment with it")
    values: dict[str, float] = {}
    claims = []
    for sizes in settings.each():
        found: dict[str, list[float]] = {"ls": [], "sporco": []}
        for draw, (data, atoms) in enumerate(_draws(sizes, run)):
            ours = partial(learn, rules(sizes)["ls"], data, atoms, sizes, run.device)
            theirs = partial(_sporco, python, data, atoms, settings)
            found["ls"].append(run.piece(f"s{sizes.n_nonzero}-draw{draw}-ls", ours)["errors"][-1])
            found["sporco"].append(float(run.piece(f"s{sizes.n_nonzero}-draw{draw}-sporco", theirs)["error"]))
        for name, numbers in found.items():
            values |= spread(f"s{sizes.n_nonzero}_{name}", numbers)
        ratio = values[f"s{sizes.n_nonzero}_sporco"] / values[f"s{sizes.n_nonzero}_ls"]
        text = f"{sizes.n_nonzero} nonzeros: ae-ls ends nearer to the truth than SPORCO: error over error"
        claims.append(Claim(text, ratio, ">=", 1.0))
    return Findings(values, claims)


def _sporco(
    python: str, data: SparseData, atoms: NDArray[np.float64], settings: PeerSettings
) -> dict[str, float]:
    """Return the relative error of the atoms that SPORCO learns, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        problem, result = Path(folder) / "problem.npz", Path(folder) / "atoms.npy"
        start = AtomSet("sphere").project(atoms)
        np.savez(
            problem, y=data.X[: settings.n_samples], atoms=start, alpha=settings.recovery.alpha,
            n_iter=settings.n_iter,
        )  # fmt: skip
        script = Path(__file__).parent / PEER
        subprocess.run([python, str(script), str(problem), str(result)], check=True)
        return {"error": dictionary_error(np.load(result), data.atoms)}


def _draws(sizes: Recovery, run: Run) -> Iterator[tuple[SparseData, NDArray[np.float64]]]:
    return draws(sizes, run, f"{sizes.n_nonzero} nonzeros", n_samples=sizes.n_updates * sizes.batch_size)


_QUICK = replace(PUDLE_RECOVERY.quick, n_nonzero=2, n_draws=1)
_PAPER = replace(PUDLE_RECOVERY.paper, n_draws=1)

PUDLE_SPARSITY = Experiment(
    name="pudle-sparsity",
    shows="recovery by ae-ls, decay, hard thresholds, NOODL and alternating minimisation at three sparsities",
    source="Tolooshams and Ba 2022, Fig. 6",
    quick=Settings(_QUICK, (2, 3, 4)),
    paper=Settings(_PAPER, (10, 20, 40)),
    measure=measure,
)

PUDLE_SPORCO = Experiment(
    name="pudle-sporco",
    shows="ae-ls ends nearer to the truth than SPORCO's alternating minimisation (needs CALEPIN_PEERS)",
    source="Tolooshams and Ba 2022, Fig. 5, 6",
    quick=PeerSettings(_QUICK, (2, 3, 4)),
    paper=PeerSettings(_PAPER, (10, 20, 40), n_samples=50_000),
    measure=measure_sporco,
)
