"""What an experiment is, and how one is run. `installed` finds those of all installed packages.

An experiment is a value: a name, what it shows, its settings at each scale (a small frozen
dataclass, so that a paper's setting is data) and a function from settings to findings. Running,
seeds, files, claims and exit status are the same for all.

This module holds no experiment. A package offers its own by an entry point of the group
``calepin.experiments``, which names a mapping ``{name: Experiment}``::

    [project.entry-points."calepin.experiments"]
    mine = "my_package:EXPERIMENTS"
"""

import fnmatch
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from calepin.core.files import atomic_write

__all__ = ["Claim", "Experiment", "Findings", "Run", "find", "installed", "perform"]

ENTRY_POINT = "calepin.experiments"

Scale = Literal["quick", "paper"]


@dataclass(frozen=True)
class Claim:
    """A number and the bar that it is compared with; of NaN and infinity no claim holds."""

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
    """What an experiment found: named numbers, claims about them, figure files in its folder."""

    values: Mapping[str, float]
    claims: Sequence[Claim]
    figures: Sequence[str] = ()


@dataclass(frozen=True)
class Run:
    """How an experiment is run.

    Attributes
    ----------
    seed
        The only source of randomness.
    device
        "cpu" or "cuda".
    folder
        Where its figures go; it exists.
    progress
        Call it with the fraction that is done, 0 to 1, and a few words.
    """

    seed: int
    device: str
    folder: Path
    progress: Callable[[float, str], None] = field(default=lambda part, text: None)


@dataclass(frozen=True)
class Experiment:
    """What can be run: a claim of a paper, with the settings to check it.

    Attributes
    ----------
    name
        Its name on the command line: ``classical-recovery``.
    shows
        One sentence.
    source
        The paper and its figure or table.
    quick, paper
        Settings, a frozen dataclass; quick ends within a minute on two cores.
    measure
        ``measure(settings, run) -> Findings``.
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


def installed() -> dict[str, Experiment]:
    """Return the experiments of all installed packages by name, packages in the order of their entry points.

    Warns
    -----
    RuntimeWarning
        An entry point that cannot be loaded, does not name a mapping of experiments, or repeats a name of
        another; the experiments of the others are returned.
    """
    found: dict[str, Experiment] = {}
    for entry in sorted(entry_points(group=ENTRY_POINT), key=lambda entry: entry.name):
        try:
            found |= _experiments(entry.load(), found)
        except Exception as error:  # whatever a foreign package raises while it is imported
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            message = f"experiments of {entry.name} ({entry.value}) are left out: {reason}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
    return found


def _experiments(offered: Any, known: Mapping[str, Experiment]) -> Mapping[str, Experiment]:
    """Return what an entry point offers, if it is new experiments by name."""
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
        A pattern that matches none; the message lists the names.
    """
    found: dict[str, Experiment] = {}
    for pattern in patterns:
        names = [name for name in experiments if fnmatch.fnmatchcase(name, pattern)]
        if not names:
            raise ValueError(f"no experiment is called {pattern!r}: there are {', '.join(experiments)}")
        found |= {name: experiments[name] for name in names}
    return list(found.values())


def perform(
    experiment: Experiment,
    out: Path,
    *,
    scale: Scale = "quick",
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[float, str], None] = lambda part, text: None,
) -> dict[str, Any]:
    """Run an experiment and write ``out/NAME/result.json`` beside its figures; return what it holds.

    The file holds experiment, scale, seed, device, seconds, settings, values {name: number}, claims
    [{claim, value, relation, bar, holds}] and figures. It is strict JSON: a value that is NaN or
    infinite is null, and its claim does not hold. An older result stays until the new one is complete.
    """
    folder = out / experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    settings = getattr(experiment, scale)
    begun = time.perf_counter()
    findings = experiment.measure(settings, Run(seed, device, folder, progress))
    result = {
        "experiment": experiment.name,
        "scale": scale,
        "seed": seed,
        "device": device,
        "seconds": round(time.perf_counter() - begun, 3),
        "settings": asdict(settings),
        "values": {name: _number(value) for name, value in findings.values.items()},
        "claims": [
            {
                "claim": claim.claim,
                "value": _number(claim.value),
                "relation": claim.relation,
                "bar": claim.bar,
                "holds": bool(claim.holds),
            }
            for claim in findings.claims
        ],
        "figures": list(findings.figures),
    }
    with atomic_write(folder / "result.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


def _number(value: float) -> float | None:
    value = float(value)
    return value if math.isfinite(value) else None
