"""What recordings say besides their values: sampling rate, channel names, dimensions, times.

Objects of MNE, pandas, xarray and pynapple are recognised by their attributes; none of these packages is
imported.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.core.arrays import as_array

__all__ = ["Recording", "names_in_short", "read_recording", "same_rate"]

TIMES = ("time", "times", "t")  # dimensions of xarray
CHANNELS = ("channel", "channels", "ch", "sensor", "sensors", "electrode", "electrodes")
UNITS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
SAME_RATE = 1e-3  # relative: a rate that is read from rounded times is not exact


@dataclass(frozen=True)
class Recording:
    """Signals, and what their recording says about them.

    Attributes
    ----------
    signals : array (n_signals, channels, *spatial), list of arrays, or iterable of batches
        The values.
    sampling_rate : float, optional
        In Hz; None if the recording does not say it.
    channel_names : tuple of str, optional
        Names of the channels.
    starts : tuple of float, default ()
        Time of the first sample of each signal, in seconds. Empty: 0 for all.
    label : callable, optional
        Gives codes (n_signals, n_components, positions) with a stride the dimensions of the recording.
    """

    signals: Any
    sampling_rate: float | None = None
    channel_names: tuple[str, ...] | None = None
    starts: tuple[float, ...] = ()
    label: Callable[[Any, int], Any] | None = None


def read_recording(X: Any) -> Recording:
    """Return the signals of a recording, or of a list of recordings, with what it says about them.

    Anything else, such as an array, is returned unchanged as signals that say nothing.

    Raises
    ------
    ValueError
        If times are not evenly spaced, or recordings of a list differ in sampling rate or channel names.
    """
    if isinstance(X, Recording):
        return X
    if isinstance(X, list | tuple) and any(_reader(x) is not None for x in X):
        return _joined(X)
    read = _reader(X)
    return Recording(X) if read is None else read(X)


def _reader(X: Any) -> Callable[[Any], Recording] | None:
    """Return the function that reads an object of another library, or None if X is none of these."""
    if isinstance(X, np.ndarray | torch.Tensor | type):
        return None
    for names, read in (
        (("info", "ch_names", "get_data", "times"), _of_mne),
        (("dims", "coords", "isel"), _of_xarray),
        (("time_support",), _of_pynapple),
        (("iloc", "index"), _of_pandas),
    ):
        if all(hasattr(X, name) for name in names):
            return read
    return None


def _joined(X: Sequence[Any]) -> Recording:
    """Return the signals of several recordings, which have one sampling rate and the same channels."""
    parts = []
    for i, x in enumerate(X):
        if _reader(x) is None:
            raise ValueError(f"X: expected a list of recordings, got {type(x).__name__} at index {i}")
        parts.append(read_recording(x))
    first = parts[0]
    for i, part in enumerate(parts):
        if not same_rate(part.sampling_rate, first.sampling_rate):
            raise ValueError(
                "X: expected one sampling rate, got "
                f"{_hertz(first.sampling_rate)} in recording 0, {_hertz(part.sampling_rate)} in recording {i}"
            )
        if part.channel_names != first.channel_names:
            raise ValueError(
                f"X: expected the same channels, got {names_in_short(first.channel_names)} in recording 0, "
                f"{names_in_short(part.channel_names)} in recording {i}"
            )
    signals = [signal for part in parts for signal in part.signals]
    return Recording(
        signals, first.sampling_rate, first.channel_names, tuple(t for part in parts for t in part.starts)
    )


def _of_mne(X: Any) -> Recording:
    """Read Raw, Epochs or Evoked: channels that are not marked as bad, NaN where annotations say "bad"."""
    good = [i for i, name in enumerate(X.ch_names) if name not in X.info["bads"]]
    types = X.get_channel_types()
    kinds = sorted({types[i] for i in good})
    if len(kinds) != 1:
        hint = f"; X.copy().pick({kinds[0]!r}) picks one" if kinds else ""
        raise ValueError(f"X: expected good channels of one type, got {' and '.join(kinds) or 'none'}{hint}")
    gaps = {"reject_by_annotation": "NaN"} if hasattr(X, "first_samp") else {}
    values = X.get_data(picks=good, **gaps)
    values = values if values.ndim == 3 else values[None]
    names = tuple(X.ch_names[i] for i in good)
    return Recording(values, float(X.info["sfreq"]), names, (float(X.times[0]),) * len(values))


def _of_pandas(X: Any) -> Recording:
    """Read a DataFrame, whose columns are channels and whose index is time, or a Series."""
    values = as_array(X)
    names = _names(X.columns if hasattr(X, "columns") else [X.name])
    index = X.index if getattr(X.index, "tz", None) is None else X.index.tz_convert(None)
    index = np.asarray(index)
    return _of_rows(values, _seconds(index, "index"), names, index)


def _of_pynapple(X: Any) -> Recording:
    """Read Tsd or TsdFrame: each interval of the time support is a signal."""
    if not hasattr(X, "d") or np.ndim(X.d) > 2:
        raise ValueError(f"X: expected Tsd or TsdFrame of pynapple, got {type(X).__name__}")
    values, times = np.asarray(X.d), np.asarray(X.t, np.float64)
    names = _names(X.columns) if hasattr(X, "columns") else None
    support = X.time_support
    spans = [
        slice(np.searchsorted(times, start, "left"), np.searchsorted(times, end, "right"))
        for start, end in zip(support.start, support.end, strict=True)
    ]
    parts = [
        _of_rows(values[span], times[span], names, times[span]) for span in spans if span.start < span.stop
    ]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        raise ValueError("X: expected at least one sample, got none")
    rates = [part.sampling_rate for part in parts if part.sampling_rate is not None]
    if not all(same_rate(rate, rates[0]) for rate in rates):
        raise ValueError(f"X: expected one sampling rate, got {_hertz(min(rates))} to {_hertz(max(rates))}")
    return Recording(
        [part.signals[0] for part in parts], rates[0], names, tuple(t for part in parts for t in part.starts)
    )


def _of_rows(
    values: NDArray[Any],
    times: NDArray[np.float64] | None,
    names: tuple[str, ...] | None,
    index: NDArray[Any],
) -> Recording:
    """Return one recording whose samples are rows, of one or several channels."""
    rate = None if times is None else _rate(times)
    if times is None and len(index) > 1 and len(set(np.diff(index).tolist())) > 1:
        raise ValueError("X: expected an index of evenly spaced numbers of samples, some are missing")
    start = 0.0 if times is None else float(times[0])
    return Recording(values.reshape(len(values), -1).T[None], rate, names, (start,))


def _of_xarray(X: Any) -> Recording:
    """Read a DataArray with a dimension "time"; without one it is an array like any other."""
    if hasattr(X, "data_vars"):
        raise ValueError("X: expected a DataArray, got a Dataset; X.to_dataarray('channel') makes one")
    time = next((dim for dim in X.dims if dim in TIMES), None)
    if time is None or X.ndim > 3:
        return Recording(X)
    others = [dim for dim in X.dims if dim != time]
    channel = next((dim for dim in others if dim in CHANNELS), others[1] if len(others) == 2 else None)
    if len(others) == 1 and channel is None:
        raise ValueError(
            f"X: expected a dimension 'channel' beside {time!r}, got {others[0]!r}; "
            "X.rename or X.expand_dims('channel') makes one"
        )
    signal = next((dim for dim in others if dim != channel), None)
    values = X.transpose(*(dim for dim in (signal, channel, time) if dim is not None)).values
    shape = (X.sizes.get(signal, 1), X.sizes.get(channel, 1), X.sizes[time])
    times = None
    if time in X.coords:
        unit = str(X.coords[time].attrs.get("units", "s"))
        if unit not in UNITS:
            raise ValueError(f"X: expected units {', '.join(UNITS)} of {time!r}, got {unit!r}")
        times = _seconds(X.coords[time].values, repr(time))
        times = times if times is None or X.coords[time].dtype.kind != "f" else times * UNITS[unit]
    names = _names(X.coords[channel].values) if channel in X.coords else None

    def label(codes: Any, stride: int) -> Any:
        kept = X if channel is None else X.isel({channel: 0}, drop=True)
        kept = kept.isel({time: slice(0, stride * codes.shape[2], stride)})
        dims = ("signal" if signal is None else signal, "component", time)
        return type(X)(codes, coords=kept.coords, dims=dims, name="code")

    return Recording(
        values.reshape(shape),
        None if times is None else _rate(times),
        names,
        (0.0 if times is None else float(times[0]),) * shape[0],
        label,
    )


def _seconds(index: NDArray[Any], name: str) -> NDArray[np.float64] | None:
    """Return times in seconds, from the first for dates; None for integers, which count samples."""
    kind = index.dtype.kind
    if kind in "iu":
        return None
    if kind == "M":
        index, kind = index - index[:1], "m"
    if kind == "m":
        return index / np.timedelta64(1, "s")
    if kind != "f":
        raise ValueError(f"X: expected seconds, dates or numbers of samples as {name}, got {index.dtype}")
    return index.astype(np.float64)


def _rate(times: NDArray[np.float64]) -> float:
    """Return the sampling rate of times that lie within half a step of an even grid."""
    n = len(times)
    if n < 2:
        raise ValueError(f"X: expected times of at least two samples, got {n}")
    step = (times[-1] - times[0]) / (n - 1)
    off = np.abs(times - times[0] - step * np.arange(n)).max()
    if not (step > 0 and off < step / 2):
        steps = np.diff(times)
        raise ValueError(
            f"X: expected evenly spaced times, got steps of {steps.min():.4g} to {steps.max():.4g} s"
        )
    return float(f"{1 / step:.9g}")  # 250, not 249.99999999999


def _names(columns: Any) -> tuple[str, ...] | None:
    """Return the names of channels if they are words; numbers of columns are no names."""
    names = tuple(columns)
    return tuple(map(str, names)) if all(isinstance(name, str) for name in names) else None


def same_rate(rate: float | None, other: float | None) -> bool:
    """Return whether two sampling rates are equal, as far as rounded times can tell, or both unknown."""
    if rate is None or other is None:
        return rate is other
    return abs(rate - other) <= SAME_RATE * other


def _hertz(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:g} Hz"


def names_in_short(names: Sequence[str] | None) -> str:
    """Return the first names of channels as a text."""
    if names is None:
        return "none"
    return ", ".join(names[:6]) + (f" ... ({len(names)})" if len(names) > 6 else "")
