"""What an experiment is; `installed` finds the experiments of all installed packages."""

import fnmatch
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from importlib.metadata import entry_points
from typing import Any, Literal

from calepin.experiments.run import Run

__all__ = ["Claim", "Experiment", "Findings", "find", "installed"]

ENTRY_POINT = "calepin.experiments"

Scale = Literal["quick", "paper"]


@dataclass(frozen=True)
class Claim:
    """A number and the bar that it is compared with. A claim about NaN or infinity never holds."""

    claim: str
    value: float
    relation: Literal["<=", ">="]
    bar: float

    @property
    def holds(self) -> bool:
        """Whether the value is on the right side of the bar."""
        if not math.isfinite(self.value):
            return False
        return self.value <= self.bar if self.relation == "<=" else self.value >= self.bar


@dataclass(frozen=True)
class Findings:
    """The results of an experiment: named numbers, claims about them, and figure files in its folder."""

    values: Mapping[str, float]
    claims: Sequence[Claim]
    figures: Sequence[str] = ()


@dataclass(frozen=True)
class Experiment:
    """An experiment: a claim of a paper, with the settings to check it.

    Attributes
    ----------
    name
        Name on the command line, such as ``classical-recovery``.
    shows
        What the experiment shows, in one sentence.
    source
        The paper, and its figure or table.
    quick, paper
        Settings, each a frozen dataclass; a quick run takes at most a minute on two cores.
    measure
        The function ``measure(settings, run) -> Findings``.
    """

    name: str
    shows: str
    source: str
    quick: Any
    paper: Any
    measure: Callable[[Any, Run], Findings]

    def __post_init__(self) -> None:
        for settings in (self.quick, self.paper):
            if not is_dataclass(settings) or isinstance(settings, type):
                raise TypeError(f"{self.name}: settings: expected dataclass values, got {settings!r}")

    @property
    def package(self) -> str:
        """Name of the top-level package that provides the experiment."""
        return self.measure.__module__.partition(".")[0]


def installed() -> dict[str, Experiment]:
    """Return the experiments of all installed packages by name, packages in the order of their entry points.

    Warns
    -----
    RuntimeWarning
        If an entry point cannot be loaded, does not name a mapping of experiments, or repeats a name. The
        experiments of the other entry points are returned.
    """
    found: dict[str, Experiment] = {}
    for entry in sorted(entry_points(group=ENTRY_POINT), key=lambda entry: entry.name):
        try:
            found |= _experiments(entry.load(), found)
        except Exception as error:  # importing another package may raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            message = f"experiments of {entry.name} ({entry.value}) are left out: {reason}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
    return found


def _experiments(offered: Any, known: Mapping[str, Experiment]) -> Mapping[str, Experiment]:
    """Return the experiments of an entry point, after checking types and names."""
    if not isinstance(offered, Mapping):
        raise TypeError(f"expected a mapping of experiments by name, got {type(offered).__name__}")
    for name, experiment in offered.items():
        if not isinstance(experiment, Experiment) or experiment.name != name:
            raise TypeError(f"{name!r}: expected an Experiment of this name, got {experiment!r:.80}")
    repeated = sorted(offered.keys() & known.keys())
    if repeated:
        raise ValueError(f"{', '.join(repeated)}: another package has an experiment of this name")
    return offered


def find(patterns: Sequence[str], experiments: Mapping[str, Experiment]) -> list[Experiment]:
    """Return the experiments whose names match one of the patterns (``pudle-*``), each once, in order.

    Raises
    ------
    ValueError
        If a pattern matches no experiment; the message lists all names.
    """
    found: dict[str, Experiment] = {}
    for pattern in patterns:
        names = [name for name in experiments if fnmatch.fnmatchcase(name, pattern)]
        if not names:
            raise ValueError(f"no experiment is called {pattern!r}: there are {', '.join(experiments)}")
        found |= {name: experiments[name] for name in names}
    return list(found.values())
