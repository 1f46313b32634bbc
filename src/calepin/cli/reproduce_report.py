"""The report of ``calepin reproduce``: what the papers claim, and beside it what was found."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calepin.cli.report import write_page

if TYPE_CHECKING:
    from calepin.experiments.experiment import Experiment
    from calepin.report.page import Section

__all__ = ["Outcomes", "write_report"]

Outcomes = Mapping[str, "dict[str, Any] | str"]  # the result of each experiment that ran, or its error


def write_report(
    path: Path | None, known: Mapping[str, "Experiment"], outcomes: Outcomes, waiting: list[str], out: Path
) -> None:
    """Write the report of the experiments that have run so far.

    Parameters
    ----------
    path
        The file; with None nothing is done.
    known
        All experiments.
    outcomes
        Results, or errors, by the names of experiments.
    waiting
        Names of the experiments that were asked for and have not run yet.
    out
        Folder with a folder of figures for each experiment.
    """
    if path is None:
        return
    sections = [_overview(known, outcomes)]
    sections += [_experiment(known[name], outcome, out) for name, outcome in outcomes.items()]
    sections += _not_run(known, outcomes, waiting)
    write_page(path, "Experiments of papers, reproduced", sections)


def _overview(known: Mapping[str, "Experiment"], outcomes: Outcomes) -> "Section":
    from calepin.report.page import Section, Table

    rows, failed = [], []
    for i, (name, outcome) in enumerate(outcomes.items()):
        if isinstance(outcome, str):
            rows.append((name, known[name].source, "could not run", None, None))
            failed.append(i)
            continue
        held = sum(claim["holds"] for claim in outcome["claims"])
        n_claims = len(outcome["claims"])
        rows.append((name, known[name].source, f"{held} of {n_claims}", outcome["seed"], outcome["seconds"]))
        failed += [i] if held < n_claims else []
    results = [outcome for outcome in outcomes.values() if isinstance(outcome, dict)]
    claims = [claim["holds"] for result in results for claim in result["claims"]]
    broken = len(outcomes) - len(results)
    alerts = [f"{claims.count(False)} of {len(claims)} claims do NOT hold."] if not all(claims) else []
    alerts += [f"{broken} of {len(outcomes)} experiments could not run."] if broken else []
    return Section(
        "Overview",
        f"{len(outcomes)} of {len(known)} experiments ran; {sum(claims)} of {len(claims)} claims hold.",
        " ".join(alerts),
        table=Table(("experiment", "source", "claims that hold", "seed", "seconds"), rows, failed),
    )


def _experiment(experiment: "Experiment", outcome: "dict[str, Any] | str", out: Path) -> "Section":
    from calepin.report.page import Section, Table

    aside = f"The paper: {experiment.source}.\n\n{experiment.shows}"
    if isinstance(outcome, str):
        return Section(experiment.name, alert=f"It could not run: {outcome}", aside=aside)
    claims = outcome["claims"]
    failed = [i for i, claim in enumerate(claims) if not claim["holds"]]
    rows = [
        (
            claim["claim"],
            claim["value"],
            f"{claim['relation']} {claim['bar']:.6g}",
            "yes" if claim["holds"] else "NO",
        )
        for claim in claims
    ]
    figures, missing = _figures(outcome, out)
    run = f"{outcome['scale']} scale, seed {outcome['seed']}, {outcome['device']}, {outcome['seconds']:.1f} s"
    return Section(
        experiment.name,
        "\n\n".join([f"{run[0].upper()}{run[1:]}.", *missing]),
        f"{len(failed)} of {len(claims)} claims do NOT hold." if failed else "",
        aside,
        table=Table(("claim", "value", "bar", "holds"), rows, failed),
        details={"Values": outcome["values"], "Settings": outcome["settings"]},
        figures=figures,
    )


def _figures(outcome: dict[str, Any], out: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the figures of an experiment by their captions, and a line for each that cannot be shown."""
    from calepin.datasets.images import read_image

    figures, missing = {}, []
    for name in outcome["figures"]:
        try:
            figures[f"Ours: {name}"] = read_image(out / outcome["experiment"] / name).pixels
        except (OSError, ValueError) as error:  # the other experiments are worth a report
            missing.append(f"The figure {name} cannot be shown: {error}.")
    return figures, missing


def _not_run(known: Mapping[str, "Experiment"], outcomes: Outcomes, waiting: list[str]) -> list["Section"]:
    """Return a section that lists the experiments that did not run, if there are any."""
    from calepin.report.page import Section, Table

    rows = [
        (name, one.source, "asked for" if name in waiting else "not asked for")
        for name, one in known.items()
        if name not in outcomes
    ]
    if not rows:
        return []
    alert = f"Not finished: {len(waiting)} experiments that were asked for did not run." if waiting else ""
    return [Section("Not run", "", alert, table=Table(("experiment", "source", ""), rows))]
