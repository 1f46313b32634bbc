"""``calepin spikes``: events, and the filter that answers them, learned from the spikes of a neuron."""

import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.output import Debug, Json, Output, Quiet, peak_memory_mb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calepin.likelihoods import Binomial, Poisson
    from calepin.spikes.events import EventModel
    from calepin.spikes.files import SpikeTrains
    from calepin.spikes.history import SpikeGLM
    from calepin.spikes.rescaling import KSTest

__all__ = ["EXAMPLES", "spikes"]

EXAMPLES = [
    ("calepin spikes neuron.mat -o neuron.safetensors --figure neuron.png", ""),
    ("calepin spikes trng.mat test.mat -o unit.safetensors --trials 0:30 --baseline 0:500", "two files"),
    ("calepin spikes counts.npy -o unit.safetensors --kernel 80 --events 12 --json", "(n_trials, n_bins)"),
    ("calepin spikes session.nwb -o unit.safetensors --unit 7 --align cue_time --window -0.5:1.5", ""),
]


class Coder(StrEnum):
    """How events are found."""

    fista = "fista"
    pursuit = "pursuit"


@dataclass(frozen=True)
class Fit:
    """One row of the table: a model, its fit to what was learned from, and to what was held out."""

    parameters: int
    deviance: float
    aic: float
    bits: float
    test: "KSTest"


def spikes(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Spike trains of one neuron: .mat, .npy or .nwb; several are joined."
        ),
    ],
    output_path: Annotated[
        Path, typer.Option("--output", "-o", metavar="MODEL.safetensors", help="Where the model goes.")
    ],
    figure: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw raster, events, filter and KS plot.")
    ] = None,
    kernel: Annotated[int, typer.Option(metavar="N", help="Bins of the filter.")] = 125,
    events: Annotated[
        int | None,
        typer.Option(metavar="N", help="Largest number of events in a trial. [default: least BIC]"),
    ] = None,
    trials: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Trials to learn from; the others test. [default: the first 60 %]"),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="A:B",
            help="Bins before anything happens: the baseline starts at their rate. [default: all]",
        ),
    ] = None,
    order: Annotated[
        int | None,
        typer.Option(metavar="N", help="Bins of history. [default: least AIC of 5 to 40]"),
    ] = None,
    coder: Annotated[Coder, typer.Option(help="How events are found.")] = Coder.fista,
    alpha: Annotated[float, typer.Option(metavar="A", help="Weight of the l1 norm of coder fista.")] = 0.05,
    rounds: Annotated[int, typer.Option(metavar="N", help="Rounds of coding and learning.")] = 3,
    variable: Annotated[
        str | None, typer.Option(metavar="NAME", help="Variable of a .mat file, (n_trials, n_bins).")
    ] = None,
    unit: Annotated[int | None, typer.Option(metavar="ID", help="Unit of an .nwb file.")] = None,
    bin_width: Annotated[float, typer.Option(metavar="S", help="Seconds of a bin of an .nwb file.")] = 0.001,
    align: Annotated[
        str, typer.Option(metavar="COLUMN", help="Times of the trials of an .nwb file.")
    ] = "start_time",
    window: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Seconds around these times. [default: to the end of trials]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the KS test's correction.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn what a neuron answers to from its spikes in repeated trials.

    All trials share events of one filter, at unknown onsets with unknown amplitudes; each has its own
    history. Trials that are not learned from tell how well that fits, beside a regression (GLM) on the
    velocity of the stimulus, where the file has one, and history. Bits a spike are over a constant rate.
    """
    from calepin.core.paths import check_output
    from calepin.core.progress import progress_bar
    from calepin.likelihoods import Binomial, Poisson
    from calepin.spikes.events import fit_event_model, link
    from calepin.spikes.history import fit_spike_glm

    output = Output(quiet, as_json)
    check_output(output_path, ".safetensors")
    if figure is not None:
        check_output(figure)
    data = _read(files, variable, unit, bin_width, align, window)
    n_bins = data.counts.shape[1]
    if kernel > n_bins:
        raise typer.BadParameter(
            f"expected at most the {n_bins} bins of a trial, got {kernel}", param_hint="--kernel"
        )
    train, test = _split(data.counts, trials, output)
    likelihood = Binomial() if data.counts.max() <= 1 else Poisson()
    rest = _range(baseline, n_bins, "--baseline")
    quiet_rate = float(train[:, rest].mean())
    if not 0 < quiet_rate < (1 if isinstance(likelihood, Binomial) else float("inf")):
        raise ValueError(
            f"{files[0]}: expected spikes in bins {rest.start}:{rest.stop}, got {quiet_rate:g} a bin"
        )
    begun = time.perf_counter()
    velocity = None if data.stimulus is None else _velocity(data.stimulus)
    with progress_bar("spikes", total=1, shown=not quiet) as bar:
        glm = _regression(train, velocity, order, likelihood, lambda part: bar.update(part / 2, "history"))
        model = fit_event_model(
            train,
            _start(velocity, kernel),
            n_events=events,
            order=len(glm.history),
            coder=coder.value,
            likelihood=likelihood,
            baseline=link(quiet_rate, likelihood),
            n_rounds=rounds,
            alpha=alpha,
            callback=lambda done: bar.update(0.5 + 0.5 * done / rounds, "events"),
        )
    constant = fit_spike_glm(train, likelihood=likelihood)
    fits = _compare(test, constant, glm, model, velocity, seed)
    model.save(output_path)
    written = [str(output_path)]
    if figure is not None:
        _draw(figure, data, model, fits)
        written.append(str(figure))
    seconds = time.perf_counter() - begun
    _say(output, data, train, model, fits, likelihood)
    output.line(f"{', '.join(written)}, {seconds:.1f} s")
    output.result(_values(data, train, model, fits, likelihood, seconds, written))


def _read(
    files: list[Path],
    variable: str | None,
    unit: int | None,
    bin_width: float,
    align: str,
    window: str | None,
) -> "SpikeTrains":
    from calepin.spikes.files import join_trials, read_nwb_spikes, read_spikes

    around = None if window is None else _seconds(window)
    parts = [
        read_nwb_spikes(file, unit=unit, bin_width=bin_width, align=align, window=around)
        if file.suffix.lower() == ".nwb"
        else read_spikes(file, variable=variable)
        for file in files
    ]
    return parts[0] if len(parts) == 1 else join_trials(parts)


def _split(
    counts: "NDArray[np.float64]", trials: str | None, output: Output
) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    """Return the trials to learn from and the others; all of them twice where there are no others."""
    import numpy as np

    n = len(counts)
    chosen = slice(0, max(1, round(0.6 * n))) if trials is None else _range(trials, n, "--trials")
    train, test = counts[chosen], np.delete(counts, chosen, axis=0)
    if not len(test):
        output.note("no trial is held out: the fit is measured on the trials that were learned from")
        test = train
    return train, test


def _range(text: str | None, n: int, option: str) -> slice:
    """Parse A:B within 0 to n."""
    if text is None:
        return slice(0, n)
    try:
        low, high = (int(part) for part in text.split(":"))
    except ValueError:
        low = high = -1
    if not 0 <= low < high <= n:
        raise typer.BadParameter(f"expected A:B with 0 <= A < B <= {n}, got {text!r}", param_hint=option)
    return slice(low, high)


def _seconds(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise typer.BadParameter(f"expected A:B in seconds with A < B, got {text!r}", param_hint="--window")
    return low, high


def _velocity(stimulus: "NDArray[np.float64]") -> "NDArray[np.float64] | None":
    """Return the first difference of a stimulus, None of one that stands still."""
    import numpy as np

    velocity = np.diff(stimulus, prepend=stimulus[0])
    return velocity if velocity.any() else None


def _start(velocity: "NDArray[np.float64] | None", kernel: int) -> "NDArray[np.float64]":
    """Return the first movement of the stimulus, or a bump."""
    import numpy as np

    if velocity is not None:
        first = min(int(np.flatnonzero(velocity)[0]), len(velocity) - kernel)
        moves = velocity[first : first + kernel]
        rising = np.maximum(moves, 0)
        return rising if rising.any() else np.abs(moves)
    return np.hanning(kernel + 2)[1:-1]


def _regression(
    train: "NDArray[np.float64]",
    velocity: "NDArray[np.float64] | None",
    order: int | None,
    likelihood: "Binomial | Poisson",
    tell: Any,
) -> "SpikeGLM":
    from calepin.spikes.history import ORDERS, fit_spike_glm, select_order

    if order is not None:
        return fit_spike_glm(train, velocity, order=order, likelihood=likelihood)
    return select_order(
        train, velocity, likelihood=likelihood, callback=lambda done: tell(done / len(ORDERS))
    )


def _compare(
    test: "NDArray[np.float64]",
    constant: "SpikeGLM",
    glm: "SpikeGLM",
    model: "EventModel",
    velocity: "NDArray[np.float64] | None",
    seed: int,
) -> dict[str, Fit]:
    from calepin.spikes.goodness import bits_per_spike, log_likelihood
    from calepin.spikes.rescaling import ks_test

    likelihood = constant.likelihood
    reference = log_likelihood(constant.predictor(test), test, likelihood=likelihood)
    fits = {}
    for name, fit, free, eta in (
        ("constant", constant.fit, 0, constant.predictor(test)),
        ("GLM", glm.fit, 0, glm.predictor(test, velocity)),
        ("events", model.glm.fit, len(model.filter) - 1, model.predictor(test)),
    ):
        value = log_likelihood(eta, test, likelihood=likelihood)
        fits[name] = Fit(
            len(fit.coefficients) + free,  # the filter's entries at unit norm were fitted too
            fit.deviance,
            fit.aic + 2 * free,
            bits_per_spike(value, reference, float(test.sum())),
            ks_test(eta, test, likelihood=likelihood, random_state=seed),
        )
    return fits


def _draw(path: Path, data: "SpikeTrains", model: "EventModel", fits: dict[str, Fit]) -> None:
    from calepin.report.figures import save_figure
    from calepin.spikes.figures import Events, spike_figure

    drawn = spike_figure(
        data.counts,
        events={"events": Events(model.onsets, model.amplitudes)},
        filters={"filter": model.filter},
        tests={name: fit.test for name, fit in fits.items()},
        stimulus=data.stimulus,
        bin_width=data.bin_width,
    )
    save_figure(drawn, path)


def _say(
    output: Output,
    data: "SpikeTrains",
    train: "NDArray[np.float64]",
    model: "EventModel",
    fits: dict[str, Fit],
    likelihood: "Binomial | Poisson",
) -> None:
    n_trials, n_bins = data.counts.shape
    width = "" if data.bin_width is None else f" of {1000 * data.bin_width:g} ms"
    output.line(
        f"{n_trials} trials ({len(train)} learned from) of {n_bins} bins{width}, "
        f"{int(data.counts.sum())} spikes, {type(likelihood).__name__}\n"
        f"{len(model.onsets)} events, {len(model.history)} bins of history, baseline {model.baseline:.3f}"
    )
    rows = [
        [
            name,
            str(fit.parameters),
            f"{fit.deviance:.1f}",
            f"{fit.aic:.1f}",
            f"{fit.bits:.3f}",
            f"{fit.test.statistic:.4f}",
            f"{fit.test.band:.4f}",
        ]
        for name, fit in fits.items()
    ]
    output.table(["", "size", "deviance", "AIC", "bits/spike", "KS", "95 % bound"], rows)


def _values(
    data: "SpikeTrains",
    train: "NDArray[np.float64]",
    model: "EventModel",
    fits: dict[str, Fit],
    likelihood: "Binomial | Poisson",
    seconds: float,
    written: list[str],
) -> dict[str, Any]:
    n_trials, n_bins = data.counts.shape
    return {
        "n_trials": n_trials,
        "n_train": len(train),
        "n_bins": n_bins,
        "bin_width": data.bin_width,
        "n_spikes": int(data.counts.sum()),
        "likelihood": type(likelihood).__name__.lower(),
        "order": len(model.history),
        "baseline": model.baseline,
        "onsets": model.onsets.tolist(),
        "amplitudes": model.amplitudes.tolist(),
        "models": {
            name: {
                "parameters": fit.parameters,
                "deviance": fit.deviance,
                "aic": fit.aic,
                "bits_per_spike": fit.bits,
                "ks": fit.test.statistic,
                "ks_band": fit.test.band,
            }
            for name, fit in fits.items()
        },
        "seconds": round(seconds, 3),
        "peak_memory_mb": peak_memory_mb(),
        "written": written,
    }
