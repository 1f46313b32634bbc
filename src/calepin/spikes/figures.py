"""Figures of spike trains: raster, events, filters, and Kolmogorov-Smirnov plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer, check_number
from calepin.report.figures import COLOURS
from calepin.spikes.rescaling import KSTest
from calepin.spikes.session import SpikeSession

__all__ = ["Events", "filter_panels", "ks_plot", "session_figure", "spike_figure"]

MOST_TRIALS = 100  # a raster of more trials would be a gray area
CUE_COLOUR = "#D55E00"
FILTER_LABEL = "change of the predictor"
SMOOTHED = 5  # bins: standard deviation of the Gaussian that smooths counted spikes


@dataclass(frozen=True)
class Events:
    """Onsets (in bins) and amplitudes of the events of a model, with bounds (2, n) of the amplitudes."""

    onsets: ArrayLike
    amplitudes: ArrayLike
    bands: ArrayLike | None = None


def ks_plot(tests: Mapping[str, KSTest]) -> Figure:
    """Return a plot of the quantiles of rescaled intervals against uniform ones, with 95 % bounds."""
    check_arguments(ks_plot, locals())
    _check_members("tests", tests, KSTest)
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    _draw_ks(figure.add_subplot(), tests)
    return figure


def session_figure(session: SpikeSession) -> Figure:
    """Return a figure of a session: raster, stimulus, rate, events, filter with its 95 % band, and KS plot.

    Times are in seconds after the cue, which a line marks. The rate is that of all trials, counted and
    smoothed over 5 bins, and as the model expects it. The KS plot is that of the held-out trials.
    """
    check_arguments(session_figure, locals())
    data, model, bands = session.data, session.model, session.bands
    found = len(model.onsets) > 0
    figure = spike_figure(
        data.counts,
        events={
            "events": Events(model.onsets, model.amplitudes, None if bands is None else bands.amplitudes)
        },
        filters={"events": model.filter} if found else {},
        tests={name: fit.test for name, fit in session.fits.items()},
        stimulus=data.stimulus,
        bin_width=data.bin_width,
        t0=data.t0,
        cue=data.cue,
        bands={} if bands is None else {"events": bands.filter},
        mask=data.mask,
        expected={"expected": model.mean(data.counts)},
    )
    figure.suptitle(("" if data.unit is None else f"unit {data.unit}: ") + session.verdict, fontsize=9)
    return figure


def filter_panels(panels: Mapping[str, Mapping[str, ArrayLike]], *, n_columns: int = 3) -> Figure:
    """Return a figure with one panel of named filters for each unit."""
    check_arguments(filter_panels, locals())
    check_integer("n_columns", n_columns)
    for title, filters in panels.items():
        _check_filters(f"panels[{title!r}]", filters)
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=(2.9 * n_columns, 1.6 * n_rows + 0.6), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True)
    for one in axes.flat[len(panels) :]:
        one.set_visible(False)
    for (title, filters), one in zip(panels.items(), axes.flat, strict=False):
        _draw_filters(one, filters)
        one.set_title(title, fontsize=9)
    for one in axes[-1]:
        one.set_xlabel("time after onset (bins)")
    figure.supylabel(FILTER_LABEL, fontsize=9)
    figure.legend(
        *axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False
    )
    return figure


def spike_figure(
    counts: NDArray[np.floating],
    *,
    events: Mapping[str, Events],
    filters: Mapping[str, ArrayLike],
    tests: Mapping[str, KSTest],
    stimulus: NDArray[np.floating] | None = None,
    bin_width: float | None = None,
    onsets: Sequence[float] | None = None,
    t0: float = 0.0,
    cue: str | None = None,
    bands: Mapping[str, ArrayLike] | None = None,
    mask: NDArray[np.bool_] | None = None,
    expected: Mapping[str, ArrayLike] | None = None,
) -> Figure:
    """Return a figure of one unit: raster, stimulus, rate, events, filters and KS plot.

    Parameters
    ----------
    counts
        (n_trials, n_bins); the first 100 trials are drawn.
    events, filters, tests
        Dictionaries whose keys are the names of the models.
    stimulus
        (n_bins,), or None.
    bin_width
        Seconds; None labels the axes in bins.
    onsets
        True onsets in bins, drawn as lines.
    t0
        Start of the first bin in seconds after the cue, which is marked by a line if it is within the trial.
    cue
        Name of the cue.
    bands
        Lower and upper bounds (2, kernel) of filters, by the names of `filters`.
    mask
        True where a bin was observed, (n_trials, n_bins): other bins are grey.
    expected
        Expected counts of models, (n_trials, n_bins): their mean over trials is drawn beside that of counts.
    """
    check_arguments(spike_figure, locals())
    check_array("counts", counts, ndim=2)
    check_number("bin_width", bin_width, above=0, optional=True)
    if stimulus is not None:
        check_array("stimulus", stimulus, ndim=1)
    _check_members("tests", tests, KSTest)
    _check_members("events", events, Events)
    _check_filters("filters", filters)
    check_number("t0", t0)
    means = {
        name: _mean_count(f"expected[{name!r}]", values, mask) for name, values in (expected or {}).items()
    }
    clock = _Clock(1.0, 0.0, "(bins)") if bin_width is None else _Clock(bin_width, t0, "(s)")
    figure = Figure(figsize=(9.6, 6.6), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.7, 1])[0]
    rows = 2 + (stimulus is not None) + bool(means)
    axes = left.subplots(rows, 1, sharex=True, height_ratios=[2, 1, 1, 1][:rows])
    _draw_raster(axes[0], counts[:MOST_TRIALS], clock, None if mask is None else mask[:MOST_TRIALS])
    if stimulus is not None:
        axes[1].plot(clock.times(np.arange(len(stimulus))), stimulus, color="0.15", linewidth=1)
        axes[1].set_ylabel("stimulus")
    if means:
        _draw_rates(axes[-2], _mean_count("counts", counts, mask), means, clock)
    _draw_events(axes[-1], events, () if onsets is None else onsets, clock)
    end = clock.times(counts.shape[1])
    if bin_width is not None and (t0 < 0 or cue is not None) and clock.first <= 0 < end:
        _draw_cue(axes, cue or "cue")
    since = "time" if cue is None and t0 == 0 else f"time after {cue or 'the cue'}"
    axes[-1].set(xlim=(clock.first, end), xlabel=f"{since} {clock.unit}")
    top, bottom = right.subplots(2, 1, height_ratios=[1, 1.6])
    _draw_filters(top, filters, clock.width, {} if bands is None else bands)
    top.set(
        xlabel=f"time after onset {clock.unit}",
        ylabel=FILTER_LABEL,
        title="response to an event",
    )
    if len(filters) > 1:
        top.legend(frameon=False, fontsize=8)
    _draw_ks(bottom, tests)
    for one in [*axes, top]:
        one.spines[["top", "right"]].set_visible(False)
    return figure


@dataclass(frozen=True)
class _Clock:
    """Width of a bin, time of the first one, and the unit of time in labels."""

    width: float
    first: float
    unit: str

    def times(self, bins: ArrayLike) -> Any:
        return self.first + np.asarray(bins) * self.width


def _mean_count(name: str, values: ArrayLike, mask: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Return the mean over trials, 0 where no trial was observed."""
    counts = check_array(name, values, ndim=2)
    if mask is None:
        return counts.mean(0)
    return np.where(mask, counts, 0).sum(0) / np.maximum(mask.sum(0), 1)


def _draw_raster(axes: Any, counts: NDArray[Any], clock: _Clock, mask: NDArray[np.bool_] | None) -> None:
    trial, bins = np.nonzero(counts)
    axes.plot(clock.times(bins), trial + 1, "|", color="0.15", markersize=2.5)
    axes.set(ylabel="trial", title="spikes", ylim=(0.4, len(counts) + 0.6))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    for row, seen in enumerate(() if mask is None else mask):
        edges = clock.times(np.arange(len(seen) + 1))
        axes.stairs(row + 0.5 + ~seen, edges, baseline=row + 0.5, fill=True, color="0.9", zorder=0)


def _draw_rates(axes: Any, counted: NDArray[Any], means: Mapping[str, NDArray[Any]], clock: _Clock) -> None:
    """Draw spikes a second, or a bin: counted ones as an area, those of models as lines."""
    time = clock.times(np.arange(len(counted)) + 0.5)
    smooth = {name: gaussian_filter1d(values, SMOOTHED) / clock.width for name, values in means.items()}
    counted = gaussian_filter1d(counted, SMOOTHED) / clock.width
    axes.fill_between(time, counted, color="0.8", linewidth=0, label="counted")
    for i, (name, values) in enumerate(smooth.items()):
        axes.plot(time, values, color=COLOURS[i], linewidth=1, label=name)
    axes.set(ylabel=f"spikes/{'s' if clock.unit == '(s)' else 'bin'}", title="rate", ylim=(0, None))
    # above the axes: nothing is hidden
    axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.97), ncols=1 + len(means))


def _draw_events(axes: Any, events: Mapping[str, Events], onsets: Sequence[float], clock: _Clock) -> None:
    for i, (name, found) in enumerate(events.items()):
        at, sizes = clock.times(found.onsets), np.asarray(found.amplitudes)
        axes.vlines(at, 0, sizes, color=COLOURS[i])
        # markers of different sizes: equal onsets of two models stay visible
        axes.plot(at, sizes, "o", color=COLOURS[i], markersize=max(2, 7 - 3 * i), label=name)
        if found.bands is not None:
            axes.vlines(at, *np.asarray(found.bands), color=COLOURS[i], linewidth=10, alpha=0.35)
    for onset in onsets:
        axes.axvline(clock.times(onset), color="0.8", linewidth=0.8, zorder=0)
    axes.set(ylabel="amplitude", title="events", ylim=(0, None))
    if len(events) > 1:
        axes.legend(frameon=False, fontsize=8, loc="lower right", ncols=len(events))


def _draw_cue(axes: Any, name: str) -> None:
    for one in axes:
        one.axvline(0, color=CUE_COLOUR, linewidth=1, zorder=0)
    at = ("data", "axes fraction")
    axes[0].annotate(name, (0, 1), xycoords=at, color=CUE_COLOUR, fontsize=8, va="bottom")


def _draw_filters(
    axes: Any,
    filters: Mapping[str, ArrayLike],
    width: float = 1,
    bands: Mapping[str, ArrayLike] = MappingProxyType({}),
) -> None:
    for i, (name, values) in enumerate(filters.items()):
        time = np.arange(np.size(values)) * width
        axes.plot(time, values, color=COLOURS[i], linewidth=1.5, label=name)
        if name in bands:
            lower, upper = np.asarray(bands[name])
            axes.fill_between(time, lower, upper, color=COLOURS[i], alpha=0.25, linewidth=0)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)


def _draw_ks(axes: Any, tests: Mapping[str, KSTest]) -> None:
    band = max((test.band for test in tests.values()), default=0.0)
    for sign in (-1, 1):
        axes.plot([0, 1], [sign * band, 1 + sign * band], ":", color="0.4", linewidth=1)
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    for i, ((name, test), colour) in enumerate(zip(tests.items(), COLOURS, strict=False)):
        label = f"{name}: distance {test.statistic:.3f}"
        # thinner from line to line: models that agree stay visible
        width = max(1.2, 3.6 - 0.8 * i)
        axes.plot(test.expected, test.quantiles, color=colour, linewidth=width, label=label)
    axes.set(
        xlabel="uniform quantile",
        ylabel="quantile of rescaled intervals",
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
        title="KS plot, 95 % bounds",
    )
    axes.legend(frameon=False, fontsize=8)


def _check_members(name: str, values: Mapping[str, Any], kind: type) -> None:
    for key, value in values.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name}[{key!r}]: expected a {kind.__name__}, got {value!r:.60}")


def _check_filters(name: str, filters: Mapping[str, ArrayLike]) -> None:
    if not isinstance(filters, Mapping):
        raise TypeError(f"{name}: expected a mapping of names to filters, got {filters!r:.60}")
    for key, values in filters.items():
        check_array(f"{name}[{key!r}]", values, ndim=1)
