"""Checks of the signals, offsets and trials that are passed to estimators."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from calepin.core.arrays import StoredRows, as_array, is_stored
from calepin.core.checkpoint import describe
from calepin.core.checks import check_scale
from calepin.estimators._samples import tensor_of_dataset
from calepin.learning.batches import Batch, IterableBatches
from calepin.learning.signals import SignalBatches, Signals, detrended, signals_of
from calepin.learning.trend import Trend
from calepin.likelihoods import Binomial, Poisson

__all__ = ["SignalStream", "check_observations", "check_signals", "groups_of", "one_each", "shapes_of"]

_BLOCK = 256  # signals checked together: bounds the memory


class SignalStream:
    """Batches of signals of one size from an iterable of arrays (n, channels, *spatial).

    Parameters
    ----------
    batches : iterable of arrays, or function that returns one
        The batches; see `IterableBatches`.
    likelihood : Likelihood
        Family of all signals.
    offset : float
        Known part of the linear predictor.
    baseline : bool
        Whether a baseline of each signal is estimated, which needs counts that vary.
    device : str, optional
        The device of the batches. Default: the CPU.
    """

    def __init__(
        self, batches: Any, *, likelihood: Any, offset: float, baseline: bool, device: str | None
    ) -> None:
        known = isinstance(batches, IterableBatches)
        self.batches = batches if known else IterableBatches(batches, device=device or "cpu")
        self.likelihood, self.offset, self.baseline = likelihood, offset, baseline
        self.n_steps: int | None = self.batches.n_steps
        self.dtype: torch.dtype | None = None  # by default that of the batches
        self.trend: Trend | None = None

    def walk(self, n_pass: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of a new iteration, without the first `skip` of them."""
        for batch in self.batches.walk(n_pass, skip):
            yield self._signals(batch)

    def head(self, n_samples: int, generator: np.random.Generator) -> Batch:
        """Return at most `n_samples` signals of the first batches."""
        return self._signals(self.batches.head(n_samples, generator))

    def check_passes(self, n_passes: int) -> None:
        """Raise ValueError if the batches cannot be iterated over so often."""
        self.batches.check_passes(n_passes)

    def fingerprint(self) -> dict[str, Any]:
        """Return the number of batches, which is known without reading them, and the model."""
        return {
            **self.batches.fingerprint(), "likelihood": describe(self.likelihood), "offset": self.offset,
            "trend": None if self.trend is None else self.trend.kind,
        }  # fmt: skip

    def _signals(self, batch: Batch) -> Batch:
        y = torch.as_tensor(batch.X, dtype=self.dtype)
        _check_axes(tuple(y.shape))
        signals = signals_of(y, self.likelihood, self.offset)
        if self.trend is not None:
            signals, _ = detrended(signals, self.trend)
        try:
            self.likelihood.check(signals.y)
        except ValueError as error:
            raise _named(error) from None
        if self.baseline and isinstance(self.likelihood, Binomial | Poisson):
            _require_variation(np.arange(len(y)), signals)
        return Batch([signals])


def shapes_of(signals: Any) -> list[tuple[int, ...]]:
    """Return the shape of each signal, without reading signals of a file."""
    if hasattr(signals, "shape"):
        return [tuple(signals.shape[1:])] * signals.shape[0]
    return [tuple(signal.shape) for signal in signals]


def groups_of(data: SignalBatches | SignalStream) -> Iterator[tuple[np.ndarray, Signals]]:
    """Yield the signals of the same size that are coded together, each group with the rows of its signals."""
    if isinstance(data, SignalBatches):
        n = len(data.signals)
        for start in range(0, n, data.batch_size):
            yield from data.take(np.arange(start, min(start + data.batch_size, n)))
        return
    n = 0
    for batch in data.walk(0):
        (signals,) = batch.X
        yield np.arange(n, n + len(signals.y)), signals
        n += len(signals.y)


def check_signals(X: Any) -> tuple[Any, np.dtype]:
    """Return checked signals, and the dtype for the computation.

    The signals are an array (n, channels, *spatial) or a list of arrays (channels, *spatial). The dtype is
    float32 if all signals are float32, otherwise float64.
    """
    X = tensor_of_dataset(X)
    if isinstance(X, list | tuple):
        signals: Any = [_with_nan(as_array(x)) for x in X]
        kinds = {(x.ndim, x.shape[:1]) for x in signals}
        if len(kinds) != 1 or not 2 <= signals[0].ndim <= 4:
            raise ValueError(
                "X: expected a list of arrays (channels, *spatial) with equal numbers of channels and axes, "
                f"got shapes {sorted({x.shape for x in signals})[:4]}"
            )
        dtypes = {x.dtype for x in signals}
    else:
        signals = StoredRows(X) if is_stored(X) else _with_nan(as_array(X))
        _check_axes(signals.shape)
        dtypes = {np.dtype(np.float32) if signals.dtype == np.float16 else signals.dtype}
    if len(signals) == 0 or any(0 in x.shape for x in signals[:1]):
        raise ValueError(f"X: expected at least one nonempty signal, got shape {np.shape(signals)}")
    for dtype in dtypes:
        if dtype.kind not in "fiub":
            raise ValueError(f"X: expected real numbers, got {dtype}")
    return signals, np.dtype(np.float32 if dtypes == {np.dtype(np.float32)} else np.float64)


def _with_nan(values: np.ndarray) -> np.ndarray:
    """Return an array with NaN for the masked entries of a masked array."""
    if not np.ma.isMaskedArray(values):
        return values
    return np.ma.filled(values.astype(np.result_type(values.dtype, np.float32)), np.nan)


def _check_axes(shape: tuple[int, ...]) -> None:
    if not 3 <= len(shape) <= 5:
        hint = ": X[:, None] has one channel" if len(shape) == 2 else ""
        raise ValueError(
            "X: expected shape (n_signals, channels, *spatial) with one to three spatial axes, "
            f"got {shape}{hint}"
        )


def one_each(name: str, values: Any, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Return one array for each signal, with as many axes as the signal and broadcastable against it.

    Raises
    ------
    ValueError
        Unless there is a number, one number for each channel, or an array for each signal. The message
        starts with `name`.
    """
    found = [np.asarray(value, np.float64) for value in values] if _is_list(values) or np.ndim(values) else []
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


def check_masks(mask: Any, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Return the mask of each signal, True where it is observed."""
    masks = [as_array(of_signal) for of_signal in mask] if _is_list(mask) or np.ndim(mask) else []
    if len(masks) != len(shapes):
        raise ValueError(
            f"mask: expected one for each of the {len(shapes)} signals, got {len(masks) or repr(mask)}"
        )
    for i, (of_signal, shape) in enumerate(zip(masks, shapes, strict=True)):
        if of_signal.dtype != bool or of_signal.shape != shape:
            raise ValueError(
                f"mask: expected a boolean array of the signal's shape {shape}, got {of_signal.dtype} "
                f"{of_signal.shape} for signal {i}"
            )
    return masks


def check_observations(
    data: SignalBatches, *, baseline: bool, learning: bool, names: Sequence[str] | None = None
) -> None:
    """Raise ValueError about X if signals are impossible for their family, or cannot be learned from.

    For a signal without counts no baseline can be estimated: the likelihood has its supremum at minus
    infinity. If offsets are given, such a signal is allowed and has no event.
    """
    counts = isinstance(data.likelihood, Binomial | Poisson)
    empty, seen = counts, np.zeros(0, bool)
    low: Any = np.inf  # of each channel
    high: Any = -np.inf
    for start in range(0, len(data.signals), _BLOCK):
        for rows, signals in data.take(np.arange(start, min(start + _BLOCK, len(data.signals)))):
            try:
                signals.likelihood.check(signals.y)
            except ValueError as error:
                raise _located(error, data, rows) from None
            known = _observed_channels(signals, rows)
            seen = known if not len(seen) else seen | known
            lowest, highest = _extremes(signals)
            low, high = np.fmin(low, lowest), np.fmax(high, highest)
            if counts:
                empty = empty and not bool(signals.y.any())
            if counts and baseline:
                _require_variation(rows, signals)
    if not seen.all():
        raise ValueError(
            f"X: expected observed entries in every channel, channel {int(np.argmin(seen))} has none"
        )
    peak = float(max(np.max(high), -np.min(low)))
    check_scale("X", peak, np.float32 if data.dtype == torch.float32 else np.float64)
    if learning and empty:
        raise ValueError("X: expected at least one count, got zeros everywhere: no event can be learned")
    if learning and not counts and (low == high).any():
        channel = int((low == high).argmax())
        named = "" if names is None else f", {names[channel]!r}"
        raise ValueError(
            f"X: expected channels that vary, got {low[channel]:g} everywhere in channel {channel}{named}; "
            "remove it"
        )


def _extremes(signals: Signals) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest observed value of each channel."""
    gaps = torch.zeros_like(signals.y, dtype=torch.bool) if signals.observed is None else ~signals.observed
    lowest = signals.y.masked_fill(gaps, float("inf")).transpose(0, 1).flatten(1).amin(1)
    highest = signals.y.masked_fill(gaps, float("-inf")).transpose(0, 1).flatten(1).amax(1)
    return lowest.cpu().numpy(), highest.cpu().numpy()


def _observed_channels(signals: Signals, rows: np.ndarray) -> np.ndarray:
    """Return which channels are observed; raise ValueError if none is in some signal."""
    if signals.observed is None:
        return np.ones(signals.y.shape[1], bool)
    known = signals.observed.flatten(2).any(2).cpu().numpy()
    if not known.any(1).all():
        row = int(rows[int(np.argmin(known.any(1)))])
        raise ValueError(f"X: expected observed entries in every signal, signal {row} has none; remove it")
    return np.asarray(known.any(0))


def _require_variation(rows: np.ndarray, signals: Signals) -> None:
    known = torch.ones_like(signals.y, dtype=torch.bool) if signals.observed is None else signals.observed
    constant = ~(signals.y * known).flatten(2).any(2)
    if isinstance(signals.likelihood, Binomial):
        constant |= ((signals.y == signals.likelihood.trials) | ~known).flatten(2).all(2)
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
            return _named(ValueError(str(found).replace("at index (0,", f"at index ({row},")))
    return error


def _named(error: ValueError) -> ValueError:
    """Return an error about y, the name of signals in a problem, as an error about X."""
    return ValueError("X" + str(error)[1:]) if str(error).startswith("y:") else error


def _is_list(values: Any) -> bool:
    return isinstance(values, list | tuple)
