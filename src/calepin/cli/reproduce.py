"""``calepin reproduce``: run the experiments of papers and check their claims."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from calepin.cli.errors import FAILED, one_line
from calepin.cli.options import Default, Force, Writes, given, refuse
from calepin.cli.output import Debug, Json, Output, Quiet
from calepin.cli.report import check_report
from calepin.cli.reproduce_output import Outcome, compare, list_experiments, show
from calepin.cli.reproduce_report import write_report

__all__ = ["EXAMPLES", "reproduce"]

EXAMPLES = [
    ("calepin reproduce --list", "all experiments"),
    ("calepin reproduce classical-recovery", "within a minute, into results/classical-recovery/"),
    ("calepin reproduce --all --report report", "all, in one page with every item of the papers"),
    ("calepin reproduce --all --stored --report report", "the same page from the stored results, at once"),
    ("calepin reproduce 'classical-*' --seeds 5 --out runs", "goes on where an interrupted run was"),
    ("calepin reproduce pudle-gradients --check", "compares the values with the stored ones"),
]

RUN = "calepin.experiments.results:perform"


class Scale(StrEnum):
    """Names of the scales."""

    quick = "quick"
    paper = "paper"


class Device(StrEnum):
    """Names of the devices."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def _page(path: Path | None) -> Path | None:
    """Return the file of the report: a folder, which is created, gets index.html."""
    if path is None or (path.suffix and not path.is_dir()):
        return path
    path.mkdir(parents=True, exist_ok=True)
    return path / "index.html"


PageOut = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="DIR", callback=_page, help="Write DIR/index.html, or a file NAME.html: a report."
    ),
    Writes(".html", check=check_report),
]


def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Experiments; * and ? are wildcards.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Take all experiments.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the experiments.")] = False,
    scale: Annotated[
        Scale | None,
        typer.Option(help="quick: within a minute each; paper: the sizes of the paper."),
        Default(RUN, "scale"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Seed of all randomness."),
        Default(RUN, "seed"),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Run with N seeds, from --seed on, into OUT/seed-S/NAME/."),
    ] = None,
    device: Annotated[
        Device | None,
        typer.Option(help="Device; auto uses a GPU if there is one. [default: auto]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for NAME/result.json and figures. [default: results]"),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--no-resume", help="Compute everything, also pieces that DIR already has.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Compare values and claims with the stored results.")
    ] = False,
    keep: Annotated[
        bool,
        typer.Option("--store", help="Add the results to the stored ones (in a source tree of experiments)."),
    ] = False,
    from_store: Annotated[
        bool, typer.Option("--stored", help="Run nothing: show the stored results.")
    ] = False,
    report: PageOut = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run experiments of papers and check their claims.

    Writes OUT/NAME/result.json (values, claims, settings) and figures as PNG. An interrupted run goes on
    with the pieces that are in OUT/NAME/pieces. --report gathers all in one page, with a table of every
    figure, table and theorem of the papers. The exit status is 1 if a claim does not hold, an experiment
    fails, or a value deviates from the stored one (--check).
    """
    from calepin.experiments.experiment import find, installed

    output = Output(quiet, as_json)
    known = installed()
    running = {"--seed": seed, "--seeds": seeds, "--device": device, "--out": out, "--no-resume": anew}
    running |= {"--check": check, "--store": keep}
    if listing:
        others = {"--scale": scale, "--report": report, "--all": every, "--stored": from_store}
        refuse(running | others, "has no effect with --list")
        list_experiments(output, find(names, known) if names else list(known.values()))
        return
    if every == bool(names):
        wanted = "name experiments or use --all, not both" if every else "name at least one experiment"
        raise typer.BadParameter(f"{wanted}, or use --list", param_hint="NAME")
    chosen = list(known.values()) if every else find(names or [], known)
    outcomes = {experiment.name: Outcome(experiment) for experiment in chosen}
    if from_store:
        refuse(running, "has no effect with --stored")
        for outcome in outcomes.values():
            _take_stored(output, outcome, (scale or Scale.quick).value)
        write_report(report, known, outcomes)
    else:
        settings = given(scale=scale, device=_resolve(device or Device.auto)) | {"resume": not anew}
        folder = out or Path("results")
        if folder.exists() and not folder.is_dir():
            raise typer.BadParameter(f"expected a folder, got {folder}", param_hint="--out")
        each = range(seed or 0, (seed or 0) + (seeds or 1))
        runs = [(one, s, folder if seeds is None else folder / f"seed-{s}") for one in chosen for s in each]
        for experiment, s, place in runs:
            outcome = outcomes[experiment.name]
            try:
                _run(output, outcome, place, settings | {"seed": s}, check=check, keep=keep)
            except Exception as error:
                # an experiment without its data must not stop the others
                outcome.error = one_line(error)
                if debug or len(runs) == 1:
                    raise
                typer.echo(f"calepin: error: {experiment.name}: {outcome.error}", err=True)
            finally:  # after each, so that an interrupted run leaves a report
                write_report(report, known, outcomes)
    results = [result for outcome in outcomes.values() for result in outcome.results]
    deviating = [line for outcome in outcomes.values() for line in outcome.deviations]
    output.result({"results": results} | ({"deviations": deviating} if check else {}))
    holds = [claim["holds"] for result in results for claim in result["claims"]]
    if any(outcome.error for outcome in outcomes.values()) or deviating or not all(holds):
        raise typer.Exit(FAILED)


def _run(
    output: Output, outcome: Outcome, place: Path, settings: dict[str, Any], *, check: bool, keep: bool
) -> None:
    """Run an experiment, show its claims, and compare or keep its values."""
    from calepin.core.progress import progress_bar
    from calepin.experiments.results import perform
    from calepin.experiments.stored import store

    experiment = outcome.experiment
    place.mkdir(parents=True, exist_ok=True)
    with progress_bar(experiment.name, total=100, shown=not output.quiet) as bar:
        result = perform(
            experiment, place, progress=lambda part, text: bar.update(100 * part, text), **settings
        )
    outcome.results.append(result)
    outcome.folders.append(place / experiment.name)
    show(output, result, place / experiment.name)
    if check:
        outcome.deviations += compare(output, experiment, result)
    if keep:
        path = store(result, experiment)
        output.line(f"stored in {path}")


def _take_stored(output: Output, outcome: Outcome, scale: str) -> None:
    """Take the stored results of an experiment as its outcome."""
    from calepin.experiments.stored import stored

    experiment = outcome.experiment
    kept = stored(experiment, scale)
    if kept is None:
        outcome.error = f"no results are stored at {scale} scale"
        typer.echo(f"calepin: error: {experiment.name}: {outcome.error}", err=True)
        return
    common = {key: kept[key] for key in ("experiment", "scale", "settings")} | {"figures": []}
    for run in kept["runs"]:
        outcome.results.append(common | run)
        show(output, outcome.results[-1], None)


def _resolve(device: Device) -> str:
    import torch

    if device is Device.cuda and not torch.cuda.is_available():
        raise typer.BadParameter("no CUDA device is available here", param_hint="--device")
    if device is Device.auto:
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device.value
