"""The report of ``calepin reproduce``: what the papers claim, and beside it what was found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calepin.cli.report import write_page
from calepin.cli.reproduce_output import Outcome

if TYPE_CHECKING:
    from calepin.experiments.coverage import Item, Row
    from calepin.experiments.experiment import Experiment
    from calepin.report.page import Section, Table

__all__ = ["write_report"]

BAD = {"does not hold", "missing"}


def write_report(
    path: Path | None, known: Mapping[str, "Experiment"], outcomes: Mapping[str, Outcome]
) -> None:
    """Write the report of the experiments that have run so far.

    Parameters
    ----------
    path
        The file; with None nothing is done.
    known
        All experiments.
    outcomes
        What came of the experiments that were asked for, by name.
    """
    from calepin.experiments.coverage import coverage, rows, stored_results

    if path is None:
        return
    results: dict[str, Sequence[Mapping[str, Any]]] = {**stored_results(known.values())}
    results |= {name: outcome.results for name, outcome in outcomes.items() if outcome.results}
    covered = rows([item for item in coverage() if _belongs(item, known, outcomes)], results)
    ran = [outcome for outcome in outcomes.values() if outcome.results or outcome.error]
    sections = [_overview(known, ran), *_coverage(covered)]
    sections += [
        _experiment(one, [row for row in covered if row.item.where == one.experiment.name]) for one in ran
    ]
    sections += _not_run(known, outcomes)
    write_page(path, "Experiments of papers, reproduced", sections)


def _belongs(item: "Item", known: Mapping[str, "Experiment"], outcomes: Mapping[str, Outcome]) -> bool:
    """Return whether an item is shown: those of experiments that were asked for, and all with all of them."""
    return item.where in outcomes or len(outcomes) == len(known)


def _overview(known: Mapping[str, "Experiment"], ran: Sequence[Outcome]) -> "Section":
    from calepin.report.page import Section, Table

    rows, failed = [], []
    for i, one in enumerate(ran):
        claims = [claim["holds"] for result in one.results for claim in result["claims"]]
        held = f"{sum(claims)} of {len(claims)}" if one.results else "could not run"
        seeds = ", ".join(str(result["seed"]) for result in one.results)
        seconds = round(sum(result["seconds"] for result in one.results), 1) if one.results else None
        rows.append((one.experiment.name, one.experiment.source, held, seeds, seconds))
        failed += [i] if one.error or one.deviations or not all(claims) else []
    results = [result for one in ran for result in one.results]
    claims = [claim["holds"] for result in results for claim in result["claims"]]
    broken = sum(not one.results for one in ran)
    deviations = sum(len(one.deviations) for one in ran)
    alerts = [f"{claims.count(False)} of {len(claims)} claims do NOT hold."] if not all(claims) else []
    alerts += [f"{broken} of {len(ran)} experiments could not run."] if broken else []
    alerts += [f"{deviations} values deviate from the stored ones."] if deviations else []
    return Section(
        "Overview",
        f"{len(ran)} of {len(known)} experiments ran; {sum(claims)} of {len(claims)} claims hold.",
        " ".join(alerts),
        table=Table(("experiment", "source", "claims that hold", "seeds", "seconds"), rows, failed),
    )


def _coverage(covered: Sequence["Row"]) -> list["Section"]:
    """Return a section for each paper, with a row for each of its items."""
    from calepin.report.page import Section

    sections = []
    for paper in dict.fromkeys(row.item.paper for row in covered):
        mine = [row for row in covered if row.item.paper == paper]
        counts = Counter(row.item.verdict for row in mine)
        text = ", ".join(f"{verdict}: {count}" for verdict, count in counts.items())
        sections.append(
            Section(f"Items of the paper: {paper}", f"{len(mine)} items; {text}.", table=_items(mine))
        )
    return sections


def _items(rows: Sequence["Row"]) -> "Table":
    from calepin.report.page import Table

    cells = [
        (
            row.item.item,
            row.item.says,
            row.item.where,
            row.item.theirs,
            row.ours,
            row.run,
            row.item.verdict + (f"; {row.held} of {row.n_claims} claims" if row.n_claims else ""),
            row.item.because,
        )
        for row in rows
    ]
    failed = [i for i, row in enumerate(rows) if row.item.verdict in BAD or row.held < row.n_claims]
    columns = ("item", "the paper says", "where", "theirs", "ours", "run", "verdict", "because")
    return Table(columns, cells, failed)


def _experiment(one: Outcome, items: Sequence["Row"]) -> "Section":
    from calepin.report.page import Section

    aside = f"The paper: {one.experiment.source}.\n\n{one.experiment.shows}"
    alerts = [f"It could not run: {one.error}"] if one.error else []
    if not one.results:
        return Section(one.experiment.name, alert=alerts[0], aside=aside)
    claims = [claim["holds"] for result in one.results for claim in result["claims"]]
    alerts += [f"{claims.count(False)} of {len(claims)} claims do NOT hold."] if not all(claims) else []
    alerts += [f"Deviates from the stored results: {line}." for line in one.deviations]
    figures, missing = _figures(one)
    details = {"Items of the paper": _items(items)} if items else {}
    return Section(
        one.experiment.name,
        "\n\n".join([*map(_run_text, one.results), *missing]),
        "\n\n".join(alerts),
        aside,
        table=_claims(one.results),
        details=details | {"Values": _values(one.results), "Settings": one.results[0]["settings"]},
        figures=figures,
    )


def _run_text(result: Mapping[str, Any]) -> str:
    resumed = f", {result['n_resumed']} pieces from an earlier run" if result.get("n_resumed") else ""
    return (
        f"{result['scale'].capitalize()} scale, seed {result['seed']}, {result['device']}, "
        f"{result['seconds']:.1f} s{resumed}; {result['date']}, commit {result['commit']}; "
        f"{result['machine']}."
    )


def _claims(results: Sequence[Mapping[str, Any]]) -> "Table":
    """Return the claims with the values of all seeds."""
    from calepin.experiments.coverage import over_seeds
    from calepin.report.page import Table

    rows, failed = [], []
    for i, claim in enumerate(results[0]["claims"]):
        same = [one for result in results for one in result["claims"] if one["claim"] == claim["claim"]]
        held = sum(one["holds"] for one in same)
        value = same[0]["value"] if len(same) == 1 else over_seeds(one["value"] for one in same)
        answer = {len(same): "yes", 0: "NO"}.get(held, f"{held} of {len(same)}")
        rows.append((claim["claim"], value, f"{claim['relation']} {claim['bar']:.6g}", answer))
        failed += [i] if held < len(same) else []
    return Table(("claim", "value", "bar", "holds"), rows, failed)


def _values(results: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    from calepin.experiments.coverage import over_seeds

    if len(results) == 1:
        return results[0]["values"]
    return {
        name: over_seeds(result["values"].get(name) for result in results) for name in results[0]["values"]
    }


def _figures(one: Outcome) -> tuple[dict[str, Any], list[str]]:
    """Return the figures of the first seed by their captions, and a line for each that cannot be shown."""
    from calepin.datasets.images import read_image

    figures, missing = {}, []
    for folder, result in list(zip(one.folders, one.results, strict=False))[:1]:
        for name in result["figures"]:
            try:
                figures[f"Ours: {name}"] = read_image(folder / name).pixels
            except (OSError, ValueError) as error:  # the other experiments are worth a report
                missing.append(f"The figure {name} cannot be shown: {error}.")
    return figures, missing


def _not_run(known: Mapping[str, "Experiment"], outcomes: Mapping[str, Outcome]) -> list["Section"]:
    """Return a section that lists the experiments that did not run, if there are any."""
    from calepin.report.page import Section, Table

    waiting = {name for name, one in outcomes.items() if not one.results and not one.error}
    rows = [
        (name, one.source, "asked for" if name in waiting else "not asked for")
        for name, one in known.items()
        if name in waiting or name not in outcomes
    ]
    if not rows:
        return []
    alert = f"Not finished: {len(waiting)} experiments that were asked for did not run." if waiting else ""
    return [Section("Not run", "", alert, table=Table(("experiment", "source", ""), rows))]
