"""Spike trains of one neuron in repeated trials, and where their bins lie in time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_number

__all__ = ["SpikeTrains", "join_trials"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SpikeTrains:
    """Spikes of one neuron in repeated trials.

    Bin n of a trial begins ``t0 + n * bin_width`` seconds after the cue, which is time zero of the trial.

    Attributes
    ----------
    counts
        Spikes in each bin, (n_trials, n_bins); 0 where `mask` is False.
    bin_width
        Seconds; None if it is not known.
    stimulus
        Stimulus of all trials, (n_bins,), or None.
    trials
        Number of each trial in the experiment, (n_trials,).
    t0
        Start of the first bin in seconds after the cue.
    cue_times
        Time of the cue of each trial in seconds of the recording, (n_trials,), or None.
    cue
        Name of the cue, or None.
    unit
        Name of the unit, or None.
    mask
        True where a bin was observed, (n_trials, n_bins); None if all were. A bin that was not observed is
        not silent: models leave it out.
    """

    counts: Floats
    bin_width: float | None = None
    stimulus: Floats | None = None
    trials: NDArray[np.intp] | None = None
    t0: float = 0.0
    cue_times: Floats | None = None
    cue: str | None = None
    unit: str | None = None
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        shape = np.shape(self.counts)
        if len(shape) != 2:
            raise ValueError(f"counts: expected shape (n_trials, n_bins), got {shape}")
        check_number("bin_width", self.bin_width, above=0, optional=True)
        check_number("t0", self.t0)
        for name in ("cue", "unit"):
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"{name}: expected a name or None, got {getattr(self, name)!r:.60}")
        check_length("stimulus", self.stimulus, shape[1], "bins")
        for name in ("trials", "cue_times"):
            check_length(name, getattr(self, name), shape[0], "trials")
        if self.mask is not None and (self.mask.dtype != bool or self.mask.shape != shape):
            raise ValueError(f"mask: expected bool {shape}, got {self.mask.dtype} {self.mask.shape}")

    def seconds(self, bins: ArrayLike) -> Floats:
        """Return the start of bins in seconds after the cue, in the shape of `bins`.

        Raises
        ------
        ValueError
            The width of the bins is not known.
        """
        if self.bin_width is None:
            raise ValueError("bin_width: expected the width of a bin in seconds, got None")
        return self.t0 + self.bin_width * check_array("bins", bins, empty=True)

    def recorded(self, bins: ArrayLike) -> Floats:
        """Return the start of bins in seconds of the recording, (n_trials, n_bins).

        Raises
        ------
        ValueError
            The width of the bins, or the times of the cues, are not known.
        """
        if self.cue_times is None:
            raise ValueError("cue_times: expected times of the cues in the recording, got None")
        return self.cue_times[:, None] + self.seconds(np.ravel(bins))


def check_length(name: str, values: ArrayLike | None, n: int, what: str) -> None:
    """Raise ValueError unless there is one value for each of n bins or trials; a multiple is another rate."""
    if values is None or np.shape(values) == (n,):
        return
    size = np.size(values)
    hint = ""
    if what == "bins" and size > 1 and np.ndim(values) == 1:
        hint = f": {size / n:.3g} per bin, is its rate another one? resample it to the bins"
    raise ValueError(f"{name}: expected one value for each of {n} {what}, got shape {np.shape(values)}{hint}")


def join_trials(parts: Sequence[SpikeTrains]) -> SpikeTrains:
    """Return the trials of several files together, sorted by their numbers if they have any.

    Raises
    ------
    ValueError
        Trials of different length, bin width, time of the first bin, or stimulus.
    """
    check_arguments(join_trials, locals())
    if not parts:
        raise ValueError("parts: expected at least one, got none")
    first = parts[0]
    for part in parts[1:]:
        if part.counts.shape[1] != first.counts.shape[1] or part.bin_width != first.bin_width:
            raise ValueError(
                f"parts: expected trials of {first.counts.shape[1]} bins of {first.bin_width} s, "
                f"got {part.counts.shape[1]} of {part.bin_width} s"
            )
        if part.t0 != first.t0:
            raise ValueError(
                f"parts: expected trials that begin {first.t0:g} s after the cue, got {part.t0:g}"
            )
        if not _same(part.stimulus, first.stimulus):
            raise ValueError("parts: expected trials with one stimulus, got several")
    masks = [np.ones(p.counts.shape, bool) if p.mask is None else p.mask for p in parts]
    numbers = _together([part.trials for part in parts])
    counts = np.concatenate([part.counts for part in parts])
    order = np.arange(len(counts)) if numbers is None else np.argsort(numbers, kind="stable")
    cue_times = _together([part.cue_times for part in parts])
    return SpikeTrains(
        counts[order],
        first.bin_width,
        first.stimulus,
        None if numbers is None else numbers[order],
        first.t0,
        None if cue_times is None else cue_times[order],
        first.cue,
        first.unit,
        None if all(part.mask is None for part in parts) else np.concatenate(masks)[order],
    )


def _together(parts: list[NDArray | None]) -> NDArray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def _same(first: Floats | None, second: Floats | None) -> bool:
    if first is None or second is None:
        return first is second
    return bool(np.array_equal(first, second))
