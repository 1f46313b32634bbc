"""Figures of spike trains: raster, events, filters, and Kolmogorov-Smirnov plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer, check_number
from calepin.report.figures import COLOURS
from calepin.spikes.rescaling import KSTest
from calepin.spikes.session import SpikeSession

__all__ = ["Events", "filter_panels", "ks_plot", "session_figure", "spike_figure"]

MOST_TRIALS = 100  # a raster of more trials would be a gray area


@dataclass(frozen=True)
class Events:
    """Onsets (in bins) and amplitudes of the events of a model."""

    onsets: ArrayLike
    amplitudes: ArrayLike


def ks_plot(tests: Mapping[str, KSTest]) -> Figure:
    """Return a plot of the quantiles of rescaled intervals against uniform ones, with 95 % bounds."""
    check_arguments(ks_plot, locals())
    _check_members("tests", tests, KSTest)
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    _draw_ks(figure.add_subplot(), tests)
    return figure


def session_figure(session: SpikeSession) -> Figure:
    """Return a figure of a session: raster, stimulus, events, filter and KS plot."""
    check_arguments(session_figure, locals())
    return spike_figure(
        session.data.counts,
        events={"events": Events(session.model.onsets, session.model.amplitudes)},
        filters={"filter": session.model.filter},
        tests={name: fit.test for name, fit in session.fits.items()},
        stimulus=session.data.stimulus,
        bin_width=session.data.bin_width,
    )


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
        one.set_xlabel("bins after onset")
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
) -> Figure:
    """Return a figure of one unit: raster, stimulus, events, filters and KS plot.

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
    """
    check_arguments(spike_figure, locals())
    check_array("counts", counts, ndim=2)
    check_number("bin_width", bin_width, above=0, optional=True)
    if stimulus is not None:
        check_array("stimulus", stimulus, ndim=1)
    _check_members("tests", tests, KSTest)
    _check_members("events", events, Events)
    _check_filters("filters", filters)
    unit, label = (1, "bins") if bin_width is None else (1000 * bin_width, "ms")
    figure = Figure(figsize=(9.6, 6.6), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.7, 1])[0]
    rows = 2 if stimulus is None else 3
    axes = left.subplots(rows, 1, sharex=True, height_ratios=[2, 1, 1][:rows])
    trial, bins = np.nonzero(counts[:MOST_TRIALS])
    axes[0].plot(bins * unit, trial + 1, "|", color="0.15", markersize=2.5)
    axes[0].set(ylabel="trial", title="spikes", ylim=(0, min(len(counts), MOST_TRIALS) + 1))
    axes[0].yaxis.set_major_locator(MaxNLocator(integer=True))
    if stimulus is not None:
        axes[1].plot(np.arange(len(stimulus)) * unit, stimulus, color="0.15", linewidth=1)
        axes[1].set_ylabel("stimulus")
    for i, (name, found) in enumerate(events.items()):
        at = np.asarray(found.onsets) * unit
        axes[-1].vlines(at, 0, found.amplitudes, color=COLOURS[i])
        # markers of different sizes: equal onsets of two models stay visible
        axes[-1].plot(at, found.amplitudes, "o", color=COLOURS[i], markersize=max(2, 7 - 3 * i), label=name)
    for onset in () if onsets is None else onsets:
        axes[-1].axvline(onset * unit, color="0.8", linewidth=0.8, zorder=0)
    axes[-1].set(xlabel=label, ylabel="event amplitude", ylim=(0, None))
    if len(events) > 1:
        axes[-1].legend(frameon=False, fontsize=8)
    top, bottom = right.subplots(2, 1, height_ratios=[1, 1.6])
    _draw_filters(top, filters, unit)
    top.set(xlabel=f"{label} after onset", ylabel="filter")
    if len(filters) > 1:
        top.legend(frameon=False, fontsize=8)
    _draw_ks(bottom, tests)
    for one in [*axes, top]:
        one.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_filters(axes: Any, filters: Mapping[str, ArrayLike], unit: float = 1) -> None:
    for i, (name, values) in enumerate(filters.items()):
        axes.plot(np.arange(np.size(values)) * unit, values, color=COLOURS[i], linewidth=1.5, label=name)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)


def _draw_ks(axes: Any, tests: Mapping[str, KSTest]) -> None:
    band = max((test.band for test in tests.values()), default=0.0)
    for sign in (-1, 1):
        axes.plot([0, 1], [sign * band, 1 + sign * band], ":", color="0.4", linewidth=1)
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    for (name, test), colour in zip(tests.items(), COLOURS, strict=False):
        label = f"{name}: {test.statistic:.3f}"
        axes.plot(test.expected, test.quantiles, color=colour, linewidth=1.6, label=label)
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
