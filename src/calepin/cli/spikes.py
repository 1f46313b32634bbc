"""``calepin spikes``: events, and the response filter, learned from the spikes of a neuron."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.options import FIGURE_FILES, SEED, Default, Force, Writes, given, refuse
from calepin.cli.output import Debug, Json, Output, Quiet, peak_memory_mb
from calepin.cli.report import ReportOut, data_section, save_report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calepin.report.page import Section, Table
    from calepin.spikes.session import SpikeSession
    from calepin.spikes.trains import SpikeTrains
    from calepin.spikes.units import UnitResults

__all__ = ["EXAMPLES", "spikes"]

EXAMPLES = [
    ("calepin spikes neuron.mat -o neuron.safetensors --figure neuron.png", ""),
    ("calepin spikes trng.mat test.mat -o unit.safetensors --train 0:30 --baseline 0:500", "two files"),
    (
        "calepin spikes counts.npy -o unit.safetensors --kernel-size 80 --n-events 12 --json",
        "(n_trials, n_bins)",
    ),
    ("calepin spikes session.nwb -o unit.safetensors --unit 7 --align cue_time --window -0.5:1.5", ""),
    (
        "calepin spikes counts.npy -o unit.safetensors --stimulus covariates.csv",
        "a regression on them beside",
    ),
    ("calepin spikes session.nwb -o unit.safetensors --unit all --report units.html", "a table of units"),
    (
        "calepin spikes cells.mat -o unit.safetensors --variable spikes --lists units --unit 3 --align cues",
        "",
    ),
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
UNITS = "calepin.spikes.files:read_units"
ALL = "all"
WEIGHT_COLUMNS = ("covariate of the GLM", "weight", "standard error")
UNIT_COLUMNS = ("unit", "spikes", "bits/spike", "KS", "verdict")


class Family(StrEnum):
    """Distribution of the count in a bin."""

    binomial = "binomial"
    poisson = "poisson"


class ListsOf(StrEnum):
    """What a list of times is."""

    trials = "trials"
    units = "units"


class TimeUnits(StrEnum):
    """Units of time."""

    s = "s"
    ms = "ms"


class Coder(StrEnum):
    """How onsets are found."""

    fista = "fista"
    pursuit = "pursuit"


def spikes(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Spikes: .mat, .npy, .npz, .csv, .tsv, .nwb; trials of several files are joined.",
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
        typer.Option(metavar="NAME", help="Variable of a .mat or .npz file: spikes, or units.times."),
        Default(UNITS, "variable"),
    ] = None,
    unit: Annotated[
        str | None, typer.Option(metavar="NAME", help="Unit of a file with several, or 'all'.")
    ] = None,
    bin_width: Annotated[
        float | None,
        typer.Option(metavar="S", help="Bin width in seconds. [default for times: 0.001]"),
        Default(UNITS, "bin_width"),
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Times of the cues: a column of the trials of an .nwb file, a variable of .mat or .npz. "
            "[default in .nwb: start_time]",
        ),
        Default(UNITS, "align"),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Seconds around the cue. [default: from the cue to the next]"),
        Default(UNITS, "window"),
    ] = None,
    cues: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Times of the cues in seconds: .npy, or text with one a line."),
    ] = None,
    lists: Annotated[
        ListsOf | None,
        typer.Option(help="What each of several lists of times is."),
        Default(UNITS, "lists"),
    ] = None,
    time_unit: Annotated[
        TimeUnits | None,
        typer.Option(help="Values are times in this unit. [default: whole numbers are counts, else seconds]"),
        Default(UNITS, "time_unit"),
    ] = None,
    stimulus: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Covariates of the GLM, a row for each bin of a trial: .npy, or .csv with names on top.",
        ),
        Default(ANALYSIS, "stimulus"),
    ] = None,
    nwb: Annotated[
        Path | None,
        typer.Option(metavar="NWB", help="Write a copy of the .nwb file with the results as a module."),
        Writes(".nwb"),
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
    rate, and than history alone. A regression (GLM) on history, and on a stimulus or the velocity of that of
    the file, is tested beside them. Bits per spike are a gain over a constant rate.
    """
    from calepin.core.progress import progress_bar

    output = Output(quiet, as_json)
    if coder is Coder.pursuit:
        refuse({"--alpha": alpha}, "has no effect with --coder pursuit")
    if nwb is not None and (len(files) > 1 or files[0].suffix.lower() != ".nwb"):
        refuse({"--nwb": nwb}, "has an effect on one .nwb file only")
    units = _read(
        files,
        given(
            variable=variable,
            bin_width=bin_width,
            align=align,
            window=_pair(window, float, "--window"),
            cue_times=cues,
            lists=lists,
            time_unit=time_unit,
        ),
        unit,
    )
    from calepin.likelihoods import Binomial, Poisson
    from calepin.spikes.session import analyse_spikes
    from calepin.spikes.stimulus import read_stimulus

    families = {None: None, Family.binomial: Binomial(), Family.poisson: Poisson()}
    covariates, names = (None, None) if stimulus is None else read_stimulus(stimulus)
    settings = given(
        stimulus=covariates,
        names=names,
        kernel_size=kernel_size,
        n_events=n_events,
        train=_pair(train, int, "--train"),
        baseline=_pair(baseline, int, "--baseline"),
        order=order,
        likelihood=families[likelihood],
        coder=coder,
        alpha=alpha,
        n_rounds=n_rounds,
    )
    paths = _Paths(output_path, figure, report, nwb)
    if unit == ALL:
        _analyse_all(output, units, partial(analyse_spikes, **settings, random_state=seed), paths, files)
        return
    (data,) = units.values()
    begun = time.perf_counter()
    with progress_bar("spikes", total=1, shown=not quiet) as bar:
        session = analyse_spikes(data, **settings, random_state=seed, callback=bar.update)
    written = paths.save(session) + paths.save_nwb({data.unit or "": session}, files[0])
    seconds = time.perf_counter() - begun
    _show(output, session)
    output.line(f"{', '.join(written)}, {seconds:.1f} s")
    costs = {"seconds": round(seconds, 3), "peak_memory_mb": peak_memory_mb(), "written": written}
    result = session.summary() | costs
    output.result(result)
    if report is not None:
        title = f"Spikes of {', '.join(file.name for file in files)}"
        long = (
            "models",
            "event_times",
            "onset_times",
            "onsets",
            "amplitudes",
            "amplitude_bands",
            "stimulus",
        )  # in tables
        shown = {name: value for name, value in result.items() if name not in long}
        save_report(report, title, shown, [*_sections(session), data_section(files, {"counts": data.counts})])


@dataclass(frozen=True)
class _Paths:
    """Files that are written."""

    model: Path
    figure: Path | None
    report: Path | None
    nwb: Path | None

    def save_nwb(self, sessions: "dict[str, SpikeSession]", source: Path) -> list[str]:
        """Write the copy of the .nwb file with the results; return its name."""
        if self.nwb is None or not sessions:
            return []
        from calepin.spikes.nwb_results import save_nwb_results

        save_nwb_results(sessions, source, self.nwb)
        return [str(self.nwb)]

    def save(self, session: "SpikeSession", suffix: str = "") -> list[str]:
        """Write model and figure of a session; return the names of all files, the report's too."""
        written = [_renamed(self.model, suffix)]
        session.model.save(written[0])
        if self.figure is not None:
            from calepin.report.figures import save_figure
            from calepin.spikes.figures import session_figure

            written.append(_renamed(self.figure, suffix))
            save_figure(session_figure(session), written[1])
        return [str(path) for path in (*written, self.report) if path is not None]


def _renamed(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.stem}{suffix}{path.suffix}")


def _analyse_all(
    output: Output,
    units: dict[str, "SpikeTrains"],
    analyse: "Callable[[SpikeTrains], SpikeSession]",
    paths: _Paths,
    files: list[Path],
) -> None:
    """Analyse each unit: a model and a figure each, a table of verdicts, a section each in the report."""
    from calepin.core.progress import progress_bar
    from calepin.core.threads import n_threads
    from calepin.spikes.units import analyse_units

    begun = time.perf_counter()
    with progress_bar("units", total=len(units), shown=not output.quiet) as bar:
        results = analyse_units(
            units, analyse, n_jobs=n_threads(), callback=lambda done: bar.update(done, "")
        )
    # a name from a file decides no path: only plain ones become a part of it
    plain = all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in units)
    suffixes = {name: f"-{name if plain else i}" for i, name in enumerate(units, start=1)}
    written = [
        path for name, session in results.sessions.items() for path in paths.save(session, suffixes[name])
    ]
    written += paths.save_nwb(results.sessions, files[0])
    rows = [_unit_row(name, units[name], results) for name in units]
    output.table(UNIT_COLUMNS, [[str(cell) for cell in row] for row in rows])
    empty = [name for name, why in results.refused.items() if why.startswith("empty")]
    if empty:
        output.line(f"without spikes: {', '.join(empty)}")
    seconds = time.perf_counter() - begun
    output.line(f"{len(results.sessions)} of {len(units)} units, {seconds:.1f} s")
    result = {
        "units": {name: session.summary() for name, session in results.sessions.items()},
        "refused": results.refused,
        "seconds": round(seconds, 3),
        "peak_memory_mb": peak_memory_mb(),
        "written": list(dict.fromkeys(written)),
    }
    output.result(result)
    if paths.report is not None:
        _report_all(paths.report, files, units, results, rows, seconds)


def _unit_row(name: str, trains: "SpikeTrains", results: "UnitResults") -> tuple[Any, ...]:
    n_spikes = int(trains.counts.sum())
    if name in results.refused:
        return name, n_spikes, "", "", results.refused[name]
    session = results.sessions[name]
    fit = session.fits["events"]
    return name, n_spikes, f"{fit.bits_per_spike:.3f}", f"{fit.test.statistic:.3f}", session.verdict


def _report_all(
    path: Path,
    files: list[Path],
    units: dict[str, "SpikeTrains"],
    results: "UnitResults",
    rows: list[tuple[Any, ...]],
    seconds: float,
) -> None:
    from dataclasses import replace

    from calepin.report.page import Section, Table

    sections = [Section("Units", table=Table(UNIT_COLUMNS, rows))]
    for name, session in results.sessions.items():
        first, *others = _sections(session)
        sections += [replace(first, title=f"Unit {name}")]
        sections += [replace(other, title=f"Unit {name}: {other.title.lower()}") for other in others]
    title = f"Spikes of {', '.join(file.name for file in files)}"
    counts = {f"counts of unit {name}": trains.counts for name, trains in units.items()}
    shown = {"units": len(units), "analysed": len(results.sessions), "seconds": round(seconds, 1)}
    save_report(path, title, shown, [*sections, data_section(files, counts)])


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
    if session.stimulus_weights:
        sections.append(Section("Stimulus", table=Table(WEIGHT_COLUMNS, session.stimulus_weights)))
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


def _read(files: list[Path], settings: dict[str, Any], unit: str | None) -> dict[str, "SpikeTrains"]:
    """Return the chosen unit, or all, with the trials of all files."""
    from calepin.spikes.files import read_spikes, read_units
    from calepin.spikes.trains import join_trials

    kinds = {file.suffix.lower() for file in files}
    for option, name, suffixes in (
        ("--variable", "variable", {".mat", ".npz"}),
        ("--align", "align", {".mat", ".npz", ".nwb"}),
        ("--lists", "lists", {".mat", ".npy", ".npz"}),
        ("--time-unit", "time_unit", {".mat", ".npy", ".npz", ".csv", ".tsv"}),
    ):
        if not kinds & suffixes:
            refuse({option: settings.get(name)}, f"has an effect on {', '.join(sorted(suffixes))} files only")
    if "cue_times" in settings:
        refuse({"--align": settings.get("align")}, "has no effect with --cues")
        settings = settings | {"cue_times": _read_cues(settings["cue_times"])}
    if unit == ALL:
        parts = [read_units(file, **settings) for file in files]
        names = dict.fromkeys(name for part in parts for name in part)
        return {name: join_trials([part[name] for part in parts if name in part]) for name in names}
    trains = [read_spikes(file, unit=unit, **settings) for file in files]
    return {"": trains[0] if len(trains) == 1 else join_trials(trains)}


def _read_cues(path: Path) -> "NDArray[np.float64]":
    """Return the times of an .npy file, or of a text file with one a line."""
    import numpy as np

    from calepin.core.paths import check_input
    from calepin.core.reading import read_npy, reading

    check_input(path, "times of the cues")
    if path.suffix.lower() == ".npy":
        return np.ravel(read_npy(path)).astype(np.float64)
    with reading(path, "list of times"):
        return np.loadtxt(path, ndmin=1)


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
    if data.bin_width is not None and len(model.onsets):
        onsets = ", ".join(f"{onset:.3f}" for onset in data.seconds(model.onsets))
        output.line(f"onsets in seconds after {data.cue or 'time zero of the trials'}: {onsets}")
    formats = ("", "d", ".1f", ".1f", ".3f", ".4f", ".4f")
    rows = [[format(*cell) for cell in zip(row, formats, strict=True)] for row in _fit_rows(session)]
    output.table(_fit_columns(session), rows)
    if session.stimulus_weights:
        weights = [[name, f"{w:.3f}", f"{error:.3f}"] for name, w, error in session.stimulus_weights]
        output.table(WEIGHT_COLUMNS, weights)


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
