"""The same analysis for all units of a recording."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_integer
from calepin.spikes.session import SpikeSession, analyse_spikes
from calepin.spikes.trains import SpikeTrains

__all__ = ["UnitResults", "analyse_units"]


@dataclass(frozen=True)
class UnitResults:
    """Result of `analyse_units`.

    Attributes
    ----------
    sessions
        Results by the name of the unit.
    refused
        Why a unit could not be analysed, by its name: no spikes, or fewer than parameters.
    """

    sessions: dict[str, SpikeSession]
    refused: dict[str, str]


def analyse_units(
    units: Mapping[str, SpikeTrains],
    analyse: Callable[[SpikeTrains], SpikeSession] = analyse_spikes,
    *,
    n_jobs: int = 1,
    callback: Callable[[int], None] = lambda done: None,
) -> UnitResults:
    """Return the analysis of each unit, and why others could not be analysed.

    Parameters
    ----------
    units : mapping of str to SpikeTrains
        See `calepin.spikes.read_units`.
    analyse : callable
        The analysis: ``functools.partial(analyse_spikes, kernel_size=60)`` for settings of your own.
    n_jobs : int, default 1
        Number of processes.
    callback : callable, optional
        Called with the number of finished units.

    Raises
    ------
    ValueError
        No unit, or units that are no SpikeTrains.
    TypeError
        An analysis that is no function.
    """
    check_arguments(analyse_units, locals())
    check_integer("n_jobs", n_jobs)
    if not units:
        raise ValueError("units: expected at least one, got none")
    for name, trains in units.items():
        if not isinstance(trains, SpikeTrains):
            raise ValueError(f"units: expected SpikeTrains for {name!r}, got {trains!r:.60}")
    if not callable(analyse) or isinstance(analyse, type):
        raise TypeError(f"analyse: expected a function of SpikeTrains, got {analyse!r:.60}")
    results = []
    for result in _each(units, analyse, min(n_jobs, len(units))):
        results.append(result)
        callback(len(results))
    found = dict(zip(units, results, strict=True))
    return UnitResults(
        {name: value for name, value in found.items() if isinstance(value, SpikeSession)},
        {name: value for name, value in found.items() if isinstance(value, str)},
    )


def _each(
    units: Mapping[str, SpikeTrains], analyse: Callable[[SpikeTrains], SpikeSession], n_jobs: int
) -> Any:
    if n_jobs == 1:
        return (_analysed(trains, analyse) for trains in units.values())
    import joblib

    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    return parallel(joblib.delayed(_analysed)(trains, analyse) for trains in units.values())


def _analysed(trains: SpikeTrains, analyse: Callable[[SpikeTrains], SpikeSession]) -> SpikeSession | str:
    """Return the result, or why there is none."""
    if not trains.counts.any():
        return "empty: no spikes in the trials"
    try:
        return analyse(trains)
    except ValueError as error:
        return f"not analysed: {error}"
