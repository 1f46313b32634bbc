"""Stored results: what runs of an experiment gave, kept in its package, one small file for each scale."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from calepin.core.files import atomic_write
from calepin.experiments.experiment import Experiment

__all__ = ["Difference", "differences", "store", "stored"]

OF_A_RUN = ("seed", "device", "date", "commit", "machine", "seconds", "values", "claims")


@dataclass(frozen=True)
class Difference:
    """A value of a new run beside the stored one of the same seed.

    Attributes
    ----------
    name
        Name of the value, or the claim.
    stored, new
        The values; 1 for a claim that holds and 0 for others. None: missing, or not finite.
    tolerance
        Largest difference that is no deviation: the range over the stored seeds, and 5 % of the stored value.
    """

    name: str
    stored: float | None
    new: float | None
    tolerance: float

    @property
    def deviates(self) -> bool:
        """Whether the new value is farther from the stored one than the tolerance."""
        if self.stored is None or self.new is None:
            return self.stored is not self.new
        return abs(self.new - self.stored) > self.tolerance


def stored(experiment: Experiment, scale: str) -> dict[str, Any] | None:
    """Return the stored results of an experiment at a scale, or None.

    Returns
    -------
    dict or None
        The keys are experiment, scale, settings and runs, a list with one dict for each seed: seed, device,
        date, commit, machine, seconds, values and claims as in ``result.json`` (see `perform`).
    """
    path = _path(experiment, scale)
    return json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else None


def store(result: Mapping[str, Any], experiment: Experiment) -> Path:
    """Add a result to the stored ones, in place of that of the same seed; return the file.

    Runs with other settings are removed: they are runs of another experiment.

    Raises
    ------
    ValueError
        If the experiment is of a module that is no package, which has no place for results.
    """
    path = _path(experiment, result["scale"])
    if path is None:
        raise ValueError(f"{experiment.name}: its package {experiment.package} is a single file")
    runs = []
    if path.is_file():
        old = json.loads(path.read_text(encoding="utf-8"))
        if old["settings"] == json.loads(json.dumps(result["settings"])):
            runs = [run for run in old["runs"] if run["seed"] != result["seed"]]
    runs = sorted([*runs, {key: result[key] for key in OF_A_RUN}], key=lambda run: run["seed"])
    content = {key: result[key] for key in ("experiment", "scale", "settings")} | {"runs": runs}
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def differences(result: Mapping[str, Any], kept: Mapping[str, Any]) -> list[Difference]:
    """Return each value and claim of a result beside the stored ones of the same seed.

    Values whose names begin with ``seconds`` depend on the machine and are left out.

    Raises
    ------
    ValueError
        If there is no stored run of the same seed, or it had other settings.
    """
    where = f"{result['experiment']}, {result['scale']} scale"
    if kept["settings"] != json.loads(json.dumps(result["settings"])):
        raise ValueError(f"{where}: the stored results had other settings, so they cannot be compared")
    (same, *_) = [run for run in kept["runs"] if run["seed"] == result["seed"]] or [None]
    if same is None:
        seeds = ", ".join(str(run["seed"]) for run in kept["runs"])
        raise ValueError(f"{where}: no results are stored for seed {result['seed']}, there are {seeds}")
    old, new = _numbers(same), _numbers(result)
    every = [_numbers(run) for run in kept["runs"]]
    return [
        Difference(name, old.get(name), new.get(name), _tolerance(name, old.get(name), every))
        for name in {**old, **new}
        if not name.startswith("seconds")
    ]


def _path(experiment: Experiment, scale: str) -> Path | None:
    """Return the file of the stored results; a module that is no package has none."""
    spec = find_spec(experiment.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "results" / f"{experiment.name}-{scale}.json"


def _numbers(run: Mapping[str, Any]) -> dict[str, float | None]:
    claims = {f"holds: {claim['claim']}": float(claim["holds"]) for claim in run["claims"]}
    return {**run["values"], **claims}


def _tolerance(name: str, value: float | None, every: list[dict[str, float | None]]) -> float:
    if value is None or name.startswith("holds: "):
        return 0.0
    seen = [seed for run in every if (seed := run.get(name)) is not None]
    return float(max(seen) - min(seen)) + 0.05 * abs(value)
