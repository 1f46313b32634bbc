"""Coverage of papers: each figure, table, theorem, algorithm and setting, and what of it was reproduced."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np

from calepin.core.checks import check_one_of
from calepin.experiments.experiment import Experiment, installed
from calepin.experiments.stored import stored

__all__ = ["Item", "Row", "coverage", "over_seeds", "rows", "stored_results"]

Verdict = Literal["holds", "holds in part", "does not hold", "differs", "quoted", "missing"]


@dataclass(frozen=True)
class Item:
    """One item of a paper: what the paper says, where it is reproduced, and whether it holds.

    Attributes
    ----------
    paper
        Short name of the paper, for example ``PUDLE``.
    item
        ``Fig. 3``, ``Table 1``, ``Thm. 4.1``, ``Alg. 1``, a setting, a data set, a baseline.
    says
        What the paper states, in a short sentence.
    where
        Name of an experiment; or a public name or a path of a test for what is no experiment; empty if it is
        missing.
    verdict
        ``holds``: every claim in `claims` holds for every stored seed. ``differs``: it was done in another
        way, which `because` names. ``quoted``: a figure of the paper stands beside ours, and was not
        computed again. ``missing``: there is nothing, for the reason in `because`.
    theirs
        The paper's numbers; empty if it gives none.
    values
        Names of values of the experiment that stand beside the paper's numbers.
    claims
        Beginnings of the experiment's claims that state the item.
    because
        The reason of every verdict but ``holds``.
    """

    paper: str
    item: str
    says: str
    where: str
    verdict: Verdict
    theirs: str = ""
    values: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    because: str = ""

    def __post_init__(self) -> None:
        check_one_of("verdict", self.verdict, get_args(Verdict))
        if self.verdict != "holds" and not self.because:
            raise ValueError(f"because: expected the reason of the verdict {self.verdict!r} on {self.item}")
        if (self.verdict == "missing") == bool(self.where):
            raise ValueError(f"where: expected a place, or nothing for what is missing, got {self.where!r}")


@dataclass(frozen=True)
class Row:
    """An item beside results of its experiment.

    Attributes
    ----------
    item
        The item.
    run
        Scale and seeds of the results; empty without any.
    ours
        The values of `Item.values`: median and range over the seeds.
    held, n_claims
        How many claims of the item hold, over all seeds, and how many there are.
    """

    item: Item
    run: str
    ours: str
    held: int
    n_claims: int


def coverage() -> list[Item]:
    """Return the items of the papers of all installed packages that provide experiments (``ITEMS``)."""
    packages = {one.package: None for one in installed().values()}
    return [item for name in packages for item in getattr(import_module(name), "ITEMS", ())]


def rows(items: Sequence[Item], results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Row]:
    """Return items beside results of runs, given as a list for each name of an experiment."""
    return [_row(item, results.get(item.where, ())) for item in items]


def stored_results(experiments: Iterable[Experiment]) -> dict[str, list[dict[str, Any]]]:
    """Return the stored results by name, those of the scale of the paper first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for experiment in experiments:
        for scale in ("paper", "quick"):
            kept = stored(experiment, scale)
            if kept:
                runs = [run | {"scale": scale} for run in kept["runs"]]
                found.setdefault(experiment.name, []).extend(runs)
    return found


def _row(item: Item, runs: Sequence[Mapping[str, Any]]) -> Row:
    by_scale: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        by_scale.setdefault(run["scale"], []).append(run)
    ran = [
        f"{scale}, seeds {', '.join(str(run['seed']) for run in same)}" for scale, same in by_scale.items()
    ]
    claims = [
        claim["holds"] for run in runs for claim in run["claims"] if claim["claim"].startswith(item.claims)
    ]
    ours = [f"{name} {_over_scales(name, by_scale)}" for name in item.values] if runs else []
    return Row(item, "; ".join(ran), "; ".join(ours), sum(claims), len(claims))


def _over_scales(name: str, by_scale: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return a value of each scale that has it, with the name of the scale if there are several scales."""
    found = {
        scale: [run["values"].get(name) for run in runs]
        for scale, runs in by_scale.items()
        if any(name in run["values"] for run in runs)
    }
    if len(by_scale) == 1:
        return "".join(over_seeds(values) for values in found.values())
    return ", ".join(f"{over_seeds(values)} [{scale}]" for scale, values in found.items())


def over_seeds(values: Iterable[float | None]) -> str:
    """Return the median of a value over runs, with the range if there are several runs."""
    seen = list(values)
    finite = [value for value in seen if value is not None]
    if not seen or len(finite) < len(seen):
        return "not finite"
    middle = f"{np.median(finite):.3g}"
    return middle if len(finite) == 1 else f"{middle} ({min(finite):.3g} to {max(finite):.3g})"
