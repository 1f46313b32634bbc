"""Figures of spikes show the spikes, events and distances they are given."""

import numpy as np
import pytest

from calepin.spikes import ks_test, simulate_spikes
from calepin.spikes.figures import Events, filter_panels, ks_plot, spike_figure

COUNTS = simulate_spikes(5, 300).counts
TEST = ks_test(np.full(COUNTS.shape, -4.0), COUNTS)


def test_the_ks_plot_has_quantiles_the_diagonal_and_its_bounds():
    (axes,) = ks_plot({"GLM": TEST}).axes
    lower, upper, _, line = axes.lines
    np.testing.assert_array_equal(line.get_ydata(), TEST.quantiles)
    assert f"{TEST.statistic:.3f}" in str(line.get_label())
    assert np.subtract(*(np.asarray(bound.get_ydata()) for bound in (upper, lower)))[0] == 2 * TEST.band


def test_every_spike_and_every_event_is_drawn_in_seconds():
    figure = spike_figure(
        COUNTS,
        events={"a": Events([10, 50], [1.0, 2.0]), "b": Events([70], [1.0])},
        filters={"a": np.ones(20)},
        tests={"a": TEST},
        stimulus=np.arange(300.0),
        bin_width=0.002,
        onsets=[10, 50],
    )
    raster, stimulus, events, filters, ks = figure.axes
    assert len(raster.lines[0].get_xdata()) == COUNTS.sum()
    assert np.max(np.asarray(stimulus.lines[0].get_xdata())) == pytest.approx(0.598)
    assert [len(c.get_segments()) for c in events.collections] == [2, 1]  # pyright: ignore[reportAttributeAccessIssue]
    assert events.get_xlabel() == "time (s)"
    assert np.max(np.asarray(filters.lines[0].get_xdata())) == pytest.approx(0.038)
    assert ks.get_xlabel() == "uniform quantile"
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in (events, filters, ks))


def test_trials_have_whole_numbers_and_a_single_model_needs_no_legend():
    figure = spike_figure(
        COUNTS, events={"a": Events([10], [1.0])}, filters={"a": np.ones(20)}, tests={"a": TEST}
    )
    raster, events, filters, _ = figure.axes
    figure.draw_without_rendering()
    ticks = np.asarray(raster.get_yticks())
    np.testing.assert_array_equal(ticks, np.round(ticks))
    assert events.get_legend() is None
    assert filters.get_legend() is None


def test_each_unit_has_a_panel():
    figure = filter_panels({f"unit {i}": {"a": np.ones(5), "b": np.zeros(5)} for i in range(4)})
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == [f"unit {i}" for i in range(4)]
