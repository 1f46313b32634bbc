"""``calepin reproduce``: run the experiments of papers and check their claims."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from calepin.cli.errors import FAILED, one_line
from calepin.cli.options import Default, Force, given, refuse
from calepin.cli.output import Debug, Json, Output, Quiet
from calepin.cli.report import ReportOut
from calepin.cli.reproduce_report import write_report

__all__ = ["EXAMPLES", "reproduce"]

EXAMPLES = [
    ("calepin reproduce --list", "all experiments"),
    ("calepin reproduce classical-recovery", "within a minute, into results/classical-recovery/"),
    ("calepin reproduce '*' --report report.html", "all, in one page"),
    ("calepin reproduce 'classical-*' --scale paper --seed 1 --out runs", ""),
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


def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Experiments; * and ? are wildcards.")
    ] = None,
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
    device: Annotated[
        Device | None,
        typer.Option(help="Device; auto uses a GPU if there is one. [default: auto]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for NAME/result.json and figures. [default: results]"),
    ] = None,
    report: ReportOut = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run experiments of papers and check their claims.

    Writes OUT/NAME/result.json (values, claims, settings) and figures as PNG; --report gathers all in one
    page, which also lists the experiments that did not run. The exit status is 1
    if a claim does not hold or an experiment fails.
    """
    from calepin.core.progress import progress_bar
    from calepin.experiments.experiment import find, installed
    from calepin.experiments.results import perform

    output = Output(quiet, as_json)
    known = installed()
    if listing:
        running = {"--scale": scale, "--seed": seed, "--device": device, "--out": out, "--report": report}
        refuse(running, "has no effect with --list")
        _list(output, find(names, known) if names else list(known.values()))
        return
    if not names:
        raise typer.BadParameter("name at least one experiment, or use --list", param_hint="NAME")
    chosen = find(names, known)
    settings = given(scale=scale, seed=seed, device=_resolve(device or Device.auto))
    out = out or Path("results")
    out.mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, dict[str, Any] | str] = {}
    for i, experiment in enumerate(chosen):
        try:
            with progress_bar(experiment.name, total=100, shown=not quiet) as bar:
                result = perform(
                    experiment,
                    out,
                    progress=lambda part, text, bar=bar: bar.update(100 * part, text),
                    **settings,
                )
        except Exception as error:
            # An experiment without its data must not stop the others.
            outcomes[experiment.name] = one_line(error)
            if debug or len(chosen) == 1:
                write_report(report, known, outcomes, [], out)
                raise
            typer.echo(f"calepin: error: {experiment.name}: {one_line(error)}", err=True)
        else:
            outcomes[experiment.name] = result
            _show(output, result, out)
        # after each, so that an interrupted run leaves a report
        write_report(report, known, outcomes, [one.name for one in chosen[i + 1 :]], out)
    results = [outcome for outcome in outcomes.values() if isinstance(outcome, dict)]
    output.result({"results": results})
    holds = [claim["holds"] for result in results for claim in result["claims"]]
    if len(results) < len(chosen) or not all(holds):
        raise typer.Exit(FAILED)


def _list(output: Output, experiments: list[Any]) -> None:
    rows = [(e.name, e.shows, e.source) for e in experiments]
    output.table(["name", "shows", "source"], rows)
    keys = ("name", "shows", "source")
    output.result({"experiments": [dict(zip(keys, row, strict=True)) for row in rows]})


def _show(output: Output, result: dict[str, Any], out: Path) -> None:
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
    files = ", ".join(["result.json", *result["figures"]])
    output.line(f"{files} in {out / result['experiment']}, {result['seconds']:.1f} s")


def _resolve(device: Device) -> str:
    import torch

    if device is Device.cuda and not torch.cuda.is_available():
        raise typer.BadParameter("no CUDA device is available here", param_hint="--device")
    if device is Device.auto:
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device.value
