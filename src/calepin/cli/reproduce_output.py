"""What ``calepin reproduce`` prints: lists, claims, and values beside the stored ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calepin.cli.output import Output

if TYPE_CHECKING:
    from calepin.experiments.experiment import Experiment

__all__ = ["Outcome", "compare", "list_experiments", "show"]


@dataclass
class Outcome:
    """What came of an experiment.

    Attributes
    ----------
    experiment
        The experiment.
    results
        The content of ``result.json`` of each seed.
    folders
        The folders with the figures of each; empty for stored results.
    error
        The error of the last run that failed.
    deviations
        A line for each value that deviates from the stored one.
    """

    experiment: "Experiment"
    results: list[dict[str, Any]] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    error: str = ""
    deviations: list[str] = field(default_factory=list)


def list_experiments(output: Output, experiments: Sequence["Experiment"]) -> None:
    """Print names, what they show, and sources."""
    rows = [(e.name, e.shows, e.source) for e in experiments]
    output.table(["name", "shows", "source"], rows)
    keys = ("name", "shows", "source")
    output.result({"experiments": [dict(zip(keys, row, strict=True)) for row in rows]})


def show(output: Output, result: dict[str, Any], folder: Path | None) -> None:
    """Print the claims of a result, and where its files are; None is a stored result."""
    rows = [
        (
            claim["claim"],
            "-" if claim["value"] is None else f"{claim['value']:.4g}",
            f"{claim['relation']} {claim['bar']:.4g}",
            "yes" if claim["holds"] else "NO",
        )
        for claim in result["claims"]
    ]
    title = f"{result['experiment']} ({result['scale']}, seed {result['seed']}, {result['device']})"
    output.table(["claim", "value", "bar", "holds"], rows, title=title)
    if folder is None:
        output.line(f"stored; commit {result['commit']}, {result['date']}, {result['seconds']:.1f} s")
        return
    files = ", ".join(["result.json", *result["figures"]])
    pieces = f", {result['n_resumed']} pieces from an earlier run" if result["n_resumed"] else ""
    output.line(f"{files} in {folder}, {result['seconds']:.1f} s{pieces}")


def compare(output: Output, experiment: "Experiment", result: dict[str, Any]) -> list[str]:
    """Print which values deviate from the stored ones; return a line for each."""
    from calepin.experiments.stored import differences, stored

    kept = stored(experiment, result["scale"])
    if kept is None:
        raise ValueError(f"{experiment.name}: no results are stored at {result['scale']} scale")
    found = differences(result, kept)
    far = [one for one in found if one.deviates]
    rows = [(one.name, _text(one.stored), _text(one.new), _text(one.tolerance)) for one in far]
    if rows:
        output.table(["deviates", "stored", "new", "tolerance"], rows)
    output.line(f"{len(found) - len(far)} of {len(found)} values and claims are as stored")
    return [
        f"{experiment.name}, seed {result['seed']}, {row[0]}: stored {row[1]}, new {row[2]}" for row in rows
    ]


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
