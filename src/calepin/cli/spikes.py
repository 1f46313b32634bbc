"""``calepin spikes``: events, and the response filter, learned from the spikes of a neuron."""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.options import FIGURE_FILES, SEED, Default, Force, Writes, given, refuse
from calepin.cli.output import Debug, Json, Output, Quiet, peak_memory_mb
from calepin.cli.report import ReportOut, data_section, save_report

if TYPE_CHECKING:
    from calepin.report.page import Section, Table
    from calepin.spikes.session import SpikeSession
    from calepin.spikes.trains import SpikeTrains

__all__ = ["EXAMPLES", "spikes"]

EXAMPLES = [
    ("calepin spikes neuron.mat -o neuron.safetensors --figure neuron.png", ""),
    ("calepin spikes trng.mat test.mat -o unit.safetensors --train 0:30 --baseline 0:500", "two files"),
    (
        "calepin spikes counts.npy -o unit.safetensors --kernel-size 80 --n-events 12 --json",
        "(n_trials, n_bins)",
    ),
    ("calepin spikes session.nwb -o unit.safetensors --unit 7 --align cue_time --window -0.5:1.5", ""),
]

FIT_COLUMNS = (
    "",
    "size",
    "deviance (training)",
    "AIC (training)",
    "bits/spike ({})",
    "KS ({})",
    "95 % bound",
)
ANALYSIS = "calepin.spikes.session:analyse_spikes"
NWB = "calepin.spikes.files:read_nwb_spikes"


class Family(StrEnum):
    """Distribution of the count in a bin."""

    binomial = "binomial"
    poisson = "poisson"


class Coder(StrEnum):
    """How onsets are found."""

    fista = "fista"
    pursuit = "pursuit"


def spikes(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Spike trains of one neuron: .mat, .npy, .nwb; several files are joined.",
        ),
    ],
    output_path: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="MODEL.safetensors", help="File for the model."),
        Writes(".safetensors"),
    ],
    figure: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Plot raster, events, filter and KS test."),
        Writes(*FIGURE_FILES),
    ] = None,
    kernel_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Length of the filter in bins. [default: largest held-out likelihood]"
        ),
        Default(ANALYSIS, "kernel_size"),
    ] = None,
    n_events: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of events in a trial. [default: largest held-out likelihood]"),
        Default(ANALYSIS, "n_events"),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            metavar="A:B", help="Training trials; the others are for testing. [default: the first 60 %]"
        ),
        Default(ANALYSIS, "train"),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="A:B",
            help="Bins before the first event: the initial baseline is their rate. [default: all]",
        ),
        Default(ANALYSIS, "baseline"),
    ] = None,
    order: Annotated[
        int | None,
        typer.Option(metavar="N", help="Bins of history. [default: smallest AIC of 5 to 40]"),
        Default(ANALYSIS, "order"),
    ] = None,
    likelihood: Annotated[
        Family | None,
        typer.Option(help="Family of the counts. [default: binomial, unless over 1 % of bins have several]"),
        Default(ANALYSIS, "likelihood"),
    ] = None,
    coder: Annotated[
        Coder | None, typer.Option(help="How events are found."), Default(ANALYSIS, "coder")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(metavar="A", help="Weight of the l1 norm for coder fista."),
        Default(ANALYSIS, "alpha"),
    ] = None,
    n_rounds: Annotated[
        int | None,
        typer.Option(metavar="N", help="Rounds of finding onsets and updating the filter."),
        Default(ANALYSIS, "n_rounds"),
    ] = None,
    variable: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Variable of a .mat file, (n_trials, n_bins)."),
        Default("calepin.spikes.files:read_spikes", "variable"),
    ] = None,
    unit: Annotated[
        int | None, typer.Option(metavar="ID", help="Unit of an .nwb file."), Default(NWB, "unit")
    ] = None,
    bin_width: Annotated[
        float | None,
        typer.Option(metavar="S", help="Bin width in seconds, for an .nwb file."),
        Default(NWB, "bin_width"),
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column with time zero of the trials, in an .nwb file."),
        Default(NWB, "align"),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Seconds around time zero. [default: from 0 to the end of trials]"),
        Default(NWB, "window"),
    ] = None,
    report: ReportOut = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the KS test's correction.")] = SEED,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn the events that a neuron responds to from its spikes in repeated trials.

    The events are the same in all trials: one filter at unknown onsets, with unknown amplitudes. Each trial
    has its own history. The first line says whether the events predict held-out trials better than a constant
    rate, and than history alone. A regression (GLM) on history, and on the velocity of the stimulus if the
    file has one, is tested beside them. Bits per spike are a gain over a constant rate.
    """
    from calepin.core.progress import progress_bar

    output = Output(quiet, as_json)
    if coder is Coder.pursuit:
        refuse({"--alpha": alpha}, "has no effect with --coder pursuit")
    data = _read(files, variable, unit, bin_width, align, window)
    from calepin.likelihoods import Binomial, Poisson
    from calepin.spikes.session import analyse_spikes

    families = {None: None, Family.binomial: Binomial(), Family.poisson: Poisson()}
    begun = time.perf_counter()
    with progress_bar("spikes", total=1, shown=not quiet) as bar:
        session = analyse_spikes(
            data,
            **given(
                kernel_size=kernel_size,
                n_events=n_events,
                train=_pair(train, int, "--train"),
                baseline=_pair(baseline, int, "--baseline"),
                order=order,
                likelihood=families[likelihood],
                coder=coder,
                alpha=alpha,
                n_rounds=n_rounds,
            ),
            random_state=seed,
            callback=bar.update,
        )
    session.model.save(output_path)
    written = [str(path) for path in (output_path, figure, report) if path is not None]
    if figure is not None:
        from calepin.report.figures import save_figure
        from calepin.spikes.figures import session_figure

        save_figure(session_figure(session), figure)
    seconds = time.perf_counter() - begun
    _show(output, session)
    output.line(f"{', '.join(written)}, {seconds:.1f} s")
    costs = {"seconds": round(seconds, 3), "peak_memory_mb": peak_memory_mb(), "written": written}
    result = session.summary() | costs
    output.result(result)
    if report is not None:
        title = f"Spikes of {', '.join(file.name for file in files)}"
        shown = {name: value for name, value in result.items() if name != "models"}  # they have a table
        save_report(report, title, shown, [*_sections(session), data_section(files, {"counts": data.counts})])


def _sections(session: "SpikeSession") -> list["Section"]:
    """Return the sections of a report: goodness of fit, figures, events, history of the neuron."""
    import numpy as np

    from calepin.report.figures import Curve, curves
    from calepin.report.page import Section, Table
    from calepin.spikes.figures import session_figure

    model = session.model
    names = [name for name, fit in session.fits.items() if fit.test.statistic > fit.test.band]
    alert = "" if session.has_events else f"{session.verdict}. "
    alert += f"Rejected by the KS test at 5 %: {', '.join(names)}." if names else ""
    tested = _tested(session)
    sections = [
        Section(
            "Goodness of fit",
            f"{session.verdict}. Deviance and AIC on the training trials; on the {tested} trials bits per "
            "spike, a gain over a constant rate, and the Kolmogorov-Smirnov distance of rescaled intervals.",
            alert,
            table=Table(_fit_columns(session), _fit_rows(session)),
            figures={"Spikes, events, filter with its 95 % band, and KS plot": session_figure(session)},
        ),
        Section("Events", table=_event_table(session)),
    ]
    if len(model.history):
        curve = Curve(np.arange(1, len(model.history) + 1), model.history)
        figure = curves({"history": curve}, xlabel="bins after a spike", ylabel="effect on the predictor")
        sections.append(Section("History", figures={"Effect of a spike on the bins after it": figure}))
    return sections


def _event_table(session: "SpikeSession") -> "Table":
    """Return the events: onset (in seconds after the cue if bins have a width), amplitude and its band."""
    from calepin.report.page import Table

    model, data = session.model, session.data
    timed = data.bin_width is not None
    onsets = data.seconds(model.onsets) if timed else model.onsets
    columns = ["event", f"onset ({'s after the cue' if timed else 'bins'})", "amplitude"]
    rows = [[i + 1, *event] for i, event in enumerate(zip(onsets, model.amplitudes, strict=True))]
    if session.bands is not None:
        columns += ["95 % from", "to"]
        rows = [[*row, *band] for row, band in zip(rows, session.bands.amplitudes.T.tolist(), strict=True)]
    return Table(columns, rows)


def _tested(session: "SpikeSession") -> str:
    """Return which trials test the goodness of fit."""
    return "training" if session.gain.low is None else "test"


def _fit_columns(session: "SpikeSession") -> list[str]:
    return [name.format(_tested(session)) for name in FIT_COLUMNS]


def _read(
    files: list[Path],
    variable: str | None,
    unit: int | None,
    bin_width: float | None,
    align: str | None,
    window: str | None,
) -> "SpikeTrains":
    from calepin.spikes.files import read_nwb_spikes, read_spikes
    from calepin.spikes.trains import join_trials

    kinds = {file.suffix.lower() for file in files}
    if ".mat" not in kinds:
        refuse({"--variable": variable}, "has an effect on .mat files only")
    if ".nwb" not in kinds:
        around_trials = {"--unit": unit, "--bin-width": bin_width, "--align": align, "--window": window}
        refuse(around_trials, "has an effect on .nwb files only")
    settings = given(unit=unit, bin_width=bin_width, align=align, window=_pair(window, float, "--window"))
    parts = [
        read_nwb_spikes(file, **settings)
        if file.suffix.lower() == ".nwb"
        else read_spikes(file, variable=variable)
        for file in files
    ]
    return parts[0] if len(parts) == 1 else join_trials(parts)


def _pair(text: str | None, kind: type, option: str) -> tuple[float, float] | None:
    """Read A:B."""
    if text is None:
        return None
    try:
        first, last = (kind(part) for part in text.split(":"))
    except ValueError:
        number = "whole numbers" if kind is int else "seconds"
        raise typer.BadParameter(
            f"expected A:B in {number} with A < B, got {text!r}", param_hint=option
        ) from None
    return first, last


def _show(output: Output, session: "SpikeSession") -> None:
    data, model = session.data, session.model
    n_trials, n_bins = data.counts.shape
    width = "" if data.bin_width is None else f" of {1000 * data.bin_width:g} ms"
    named = "" if data.unit is None else f"unit {data.unit}: "
    output.line(
        f"{named}{session.verdict}\n{session.fit_verdict}\n"
        f"{n_trials} trials ({session.n_train} for training) of {n_bins} bins{width}, "
        f"{int(data.counts.sum())} spikes, {type(session.likelihood).__name__}\n"
        f"{len(model.history)} bins of history, filter of {len(model.filter)} bins, "
        f"baseline {model.baseline:.3f}"
    )
    if data.bin_width is not None:
        onsets = ", ".join(f"{onset:.3f}" for onset in data.seconds(model.onsets))
        output.line(f"onsets in seconds after {data.cue or 'time zero of the trials'}: {onsets}")
    formats = ("", "d", ".1f", ".1f", ".3f", ".4f", ".4f")
    rows = [[format(*cell) for cell in zip(row, formats, strict=True)] for row in _fit_rows(session)]
    output.table(_fit_columns(session), rows)


def _fit_rows(session: "SpikeSession") -> list[tuple[Any, ...]]:
    """Return the rows of a table of models."""
    return [
        (
            name,
            fit.n_parameters,
            fit.deviance,
            fit.aic,
            fit.bits_per_spike,
            fit.test.statistic,
            fit.test.band,
        )
        for name, fit in session.fits.items()
    ]
