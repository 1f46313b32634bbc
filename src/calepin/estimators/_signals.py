"""Checks of the signals, offsets and trials that are passed to estimators."""

from typing import Any

import numpy as np

from calepin.learning.signals import SignalBatches, Signals
from calepin.likelihoods import Binomial, Poisson

__all__ = ["check_observations", "check_signals", "one_each"]

_BLOCK = 256  # signals checked together: bounds the memory


def check_signals(X: Any) -> tuple[Any, np.dtype]:
    """Return checked signals, and the dtype for the computation.

    The signals are an array (n, channels, *spatial) or a list of arrays (channels, *spatial). The dtype is
    float32 if all signals are float32, otherwise float64.
    """
    if isinstance(X, list | tuple):
        signals: Any = [np.asarray(x) for x in X]
        kinds = {(x.ndim, x.shape[:1]) for x in signals}
        if len(kinds) != 1 or not 2 <= signals[0].ndim <= 4:
            raise ValueError(
                "X: expected a list of arrays (channels, *spatial) with equal numbers of channels and axes, "
                f"got shapes {sorted({x.shape for x in signals})[:4]}"
            )
        dtypes = {x.dtype for x in signals}
    else:
        signals = X if isinstance(X, np.ndarray) else np.asarray(X)
        if not 3 <= signals.ndim <= 5:
            hint = ": X[:, None] has one channel" if signals.ndim == 2 else ""
            raise ValueError(
                "X: expected shape (n_signals, channels, *spatial) with one to three spatial axes, "
                f"got {signals.shape}{hint}"
            )
        dtypes = {signals.dtype}
    if len(signals) == 0 or any(0 in x.shape for x in signals[:1]):
        raise ValueError(f"X: expected at least one nonempty signal, got shape {np.shape(signals)}")
    for dtype in dtypes:
        if dtype.kind not in "fiub":
            raise ValueError(f"X: expected real numbers, got {dtype}")
    return signals, np.dtype(np.float32 if dtypes == {np.dtype(np.float32)} else np.float64)


def one_each(name: str, values: Any, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Return one array for each signal, with as many axes as the signal and broadcastable against it.

    Raises
    ------
    ValueError
        Unless there is a number, one number for each channel, or an array for each signal. The message
        starts with `name`.
    """
    found = [np.asarray(value, np.float64) for value in values] if np.ndim(values) or _is_list(values) else []
    if len(found) != len(shapes):
        raise ValueError(
            f"{name}: expected one value for each of the {len(shapes)} signals, got "
            f"{len(found) if found else repr(values)}"
        )
    for i, (value, shape) in enumerate(zip(found, shapes, strict=True)):
        value = value.reshape(value.shape + (1,) * (len(shape) - value.ndim))
        fits = value.ndim == len(shape) and all(
            n in (1, size) for n, size in zip(value.shape, shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"{name}: expected values that broadcast against signals of shape {shape}, got "
                f"shape {found[i].shape} for signal {i}"
            )
        if not np.isfinite(value).all():
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity for signal {i}")
        found[i] = value
    return found


def check_observations(data: SignalBatches, *, baseline: bool, learning: bool) -> None:
    """Raise ValueError about X if signals are impossible for their family, or cannot be learned from.

    For a signal without counts no baseline can be estimated: the likelihood has its supremum at minus
    infinity. If offsets are given, such a signal is allowed and has no event.
    """
    counts = isinstance(data.likelihood, Binomial | Poisson)
    empty = counts
    for start in range(0, len(data.signals), _BLOCK):
        for rows, signals in data.take(np.arange(start, min(start + _BLOCK, len(data.signals)))):
            try:
                signals.likelihood.check(signals.y)
            except ValueError as error:
                raise _located(error, data, rows) from None
            if counts:
                empty = empty and not bool(signals.y.any())
            if counts and baseline:
                _require_variation(rows, signals)
    if learning and empty:
        raise ValueError("X: expected at least one count, got zeros everywhere: no event can be learned")


def _require_variation(rows: np.ndarray, signals: Signals) -> None:
    constant = ~signals.y.flatten(2).any(2)
    if isinstance(signals.likelihood, Binomial):
        constant |= (signals.y == signals.likelihood.trials).flatten(2).all(2)
    if constant.any():
        row = int(rows[int(constant.any(1).nonzero()[0])])
        raise ValueError(
            "X: expected counts that vary in every channel of every signal, got only zeros or all "
            f"trials in signal {row}: no baseline can be estimated from it; remove it or pass offset"
        )


def _located(error: ValueError, data: SignalBatches, rows: np.ndarray) -> ValueError:
    """Return the error of a likelihood about y as an error about X, with the index of the signal."""
    for row in rows.tolist():
        ((_, signals),) = data.take(np.array([row]))
        try:
            signals.likelihood.check(signals.y)
        except ValueError as found:
            text = str(found).replace("at index (0,", f"at index ({row},")
            return ValueError("X" + text[1:] if text.startswith("y:") else text)
    return error


def _is_list(values: Any) -> bool:
    return isinstance(values, list | tuple)
