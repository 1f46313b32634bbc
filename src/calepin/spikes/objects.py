"""Units of objects of other libraries, known by what they can do: neither library is imported."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Units", "recording_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Units:
    """Spike times in seconds, and observed intervals (n, 2), by the names of units."""

    times: dict[str, Floats]
    observed: dict[str, Floats] | None = None


def recording_of(source: Any) -> Units:
    """Return the units of a TsGroup of pynapple, or of a sorting of spikeinterface.

    Raises
    ------
    TypeError
        Another object.
    ValueError
        A sorting with several segments.
    """
    if hasattr(source, "get_unit_ids") and hasattr(source, "get_unit_spike_train"):
        return _of_sorting(source)
    if hasattr(source, "time_support") and hasattr(source, "keys"):
        intervals = np.asarray(source.time_support.values, np.float64).reshape(-1, 2)
        times = {str(key): np.asarray(source[key].t, np.float64) for key in source.keys()}  # noqa: SIM118
        return Units(times, dict.fromkeys(times, intervals))
    raise TypeError(
        "source: expected a path, a TsGroup of pynapple or a sorting of spikeinterface, got a "
        f"{type(source).__name__}"
    )


def _of_sorting(sorting: Any) -> Units:
    segments = sorting.get_num_segments()
    if segments != 1:
        raise ValueError(f"source: expected a sorting with one segment, got {segments}: select one")
    rate = float(sorting.get_sampling_frequency())
    return Units(
        {
            str(unit): np.asarray(sorting.get_unit_spike_train(unit), np.float64) / rate
            for unit in sorting.get_unit_ids()
        }
    )
