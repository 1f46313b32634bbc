"""Spikes evoked by events: onsets, amplitudes and the response to one event.

    y[m, n] ~ family( mean = f^{-1}(eta[m, n]) )
    eta[m, n] = a + sum_k x_k h[n - t_k] + sum_{l=1}^{L} g_l y[m, n - l]

for trial m and bin n: one filter h, shifted to the onsets t_k with amplitudes x_k > 0, the same in all
trials, a baseline a and the history of each trial. This is the convolutional model a + H x + Y x_H of
Tolooshams et al. ("Convolutional dictionary learning based auto-encoders for natural exponential-family
distributions", 2020, eq. 108) for one neuron, with unknown onsets and filter. It is fitted in rounds:

1. Code: onsets are the highest peaks of a sparse nonnegative code of the sum over trials, found by FISTA or
   by a greedy pursuit (BCOMP, the paper's Algorithm 2).
2. Refit a, x and g jointly on all trials, by iteratively reweighted least squares. Events whose
   amplitude is not positive are dropped.
3. Update the filter by one Newton step with a ridge, and scale it to unit norm.

The joint fit of step 2 is necessary: with a fixed baseline, or with the history replaced by its mean over
trials, the onsets are not found.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer, check_number, check_one_of
from calepin.core.files import load_arrays, save_arrays
from calepin.core.reading import reading
from calepin.core.threads import single_threaded_blas
from calepin.likelihoods import Binomial, Poisson
from calepin.operators.conv import ConvDictionary
from calepin.penalties import NonNegativeL1
from calepin.problem import Problem
from calepin.solvers.coders.convolutional_pursuit import convolutional_pursuit
from calepin.solvers.proximal import FISTA
from calepin.solvers.solve import solve
from calepin.spikes.glm import GLMFit
from calepin.spikes.goodness import check_counts, moments, trial_log_likelihoods
from calepin.spikes.history import HISTORY_RIDGE, SpikeGLM, fit_spike_glm, observed_counts
from calepin.spikes.refine import moved_onsets

__all__ = [
    "Coder",
    "EventModel",
    "NoEventsError",
    "event_path",
    "fit_event_model",
    "link",
    "shifted",
    "spread",
    "without_events",
]

Floats = NDArray[np.float64]
Coder = Literal["fista", "pursuit"]
KIND = "event model"
CODER: Coder = "fista"
ALPHA = 0.05
N_ROUNDS = 3
FILTER_RIDGE = 0.3
_NEVER = -60.0  # predictor of a bin without spikes, whatever the drive
_PATIENCE = 3  # stop after so many events in a row that do not lower the criterion


class NoEventsError(ValueError):
    """No event was found."""


@dataclass(frozen=True)
class EventModel:
    """A fitted model of spikes evoked by events.

    Attributes
    ----------
    filter
        Contribution of an event of amplitude 1 to the predictor, (kernel,), unit norm.
    onsets
        First bin of each event, ascending.
    code
        Code whose peaks are the onsets of the last round, (n_bins - kernel + 1,).
    glm
        Baseline, amplitudes (as its stimulus) and history, with standard errors and log-likelihood.
    n_bins
        Bins of a trial.
    bin_width, t0
        Width of a bin, and start of the first one after the cue, in seconds; the width is None if unknown.
    """

    filter: Floats
    onsets: NDArray[np.intp]
    code: Floats
    glm: SpikeGLM
    n_bins: int
    bin_width: float | None = None
    t0: float = 0.0

    @property
    def baseline(self) -> float:
        """Predictor without events and history."""
        return self.glm.baseline

    @property
    def amplitudes(self) -> Floats:
        """Strength of each event, (n_events,)."""
        return self.glm.stimulus

    @property
    def history(self) -> Floats:
        """Coefficients of the history, latest bin first, (order,)."""
        return self.glm.history

    @property
    def log_likelihood(self) -> float:
        """Log-likelihood of the training trials."""
        return self.glm.fit.log_likelihood

    @property
    def onset_times(self) -> Floats:
        """Onsets in seconds after the cue, (n_events,).

        Raises
        ------
        ValueError
            The width of the bins is not known.
        """
        if self.bin_width is None:
            raise ValueError("bin_width: expected the width of a bin in seconds, got None")
        return np.asarray(self.t0 + self.bin_width * self.onsets, np.float64)

    @property
    def drive(self) -> Floats:
        """Contribution of all events to the predictor, (n_bins,)."""
        return shifted(self.filter, self.onsets, self.n_bins) @ self.amplitudes

    def predictor(self, counts: ArrayLike) -> Floats:
        """Return the predictor eta (n_trials, n_bins) of any trials, also held-out ones."""
        return self.glm.predictor(counts, shifted(self.filter, self.onsets, self.n_bins))

    def mean(self, counts: ArrayLike) -> Floats:
        """Return the expected count of each bin given the spikes before it."""
        return self.glm.mean(counts, shifted(self.filter, self.onsets, self.n_bins))

    def save(self, path: str | os.PathLike) -> None:
        """Write the model as a safetensors file."""
        fit, likelihood = self.glm.fit, self.glm.likelihood
        arrays = {
            "filter": self.filter,
            "onsets": self.onsets,
            "code": self.code,
            "coefficients": fit.coefficients,
            "covariance": fit.covariance,
        }
        parameters = {
            "n_bins": self.n_bins,
            "bin_width": self.bin_width,
            "t0": self.t0,
            "order": len(self.history),
            "likelihood": "poisson" if isinstance(likelihood, Poisson) else "binomial",
            "trials": None if isinstance(likelihood, Poisson) else int(likelihood.trials),
            "log_likelihood": fit.log_likelihood,
            "deviance": fit.deviance,
            "n_iter": fit.n_iter,
            "names": list(fit.names),
        }
        save_arrays(path, KIND, arrays, parameters)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "EventModel":
        """Read a model that `save` wrote."""
        arrays, parameters = load_arrays(path, KIND)
        with reading(path, "model of events"):
            is_poisson = parameters["likelihood"] == "poisson"
            likelihood = Poisson() if is_poisson else Binomial(parameters["trials"])
            fit = GLMFit(
                arrays["coefficients"],
                arrays["covariance"],
                tuple(parameters["names"]),
                parameters["log_likelihood"],
                parameters["deviance"],
                parameters["n_iter"],
            )
            a, x, g = np.split(fit.coefficients, [1, len(fit.coefficients) - parameters["order"]])
            glm = SpikeGLM(float(a[0]), x, g, fit, likelihood)
            time = parameters.get("bin_width"), parameters.get("t0", 0.0)  # files of version 0.2 lack them
            return cls(arrays["filter"], arrays["onsets"], arrays["code"], glm, parameters["n_bins"], *time)


@dataclass(frozen=True)
class _Settings:
    n_events: int | None
    order: int
    coder: Coder
    onsets: NDArray[np.intp] | None
    likelihood: Binomial | Poisson
    alpha: float
    window: int
    ridge: float
    history_ridge: float
    n_iter: int
    mask: NDArray[np.bool_] | None


def fit_event_model(
    counts: ArrayLike,
    start: ArrayLike,
    *,
    n_events: int | None = None,
    order: int = 0,
    coder: Coder = CODER,
    onsets: Sequence[int] | NDArray[np.integer] | None = None,
    likelihood: Binomial | Poisson | None = None,
    baseline: float | None = None,
    n_rounds: int = N_ROUNDS,
    alpha: float = ALPHA,
    window: int | None = None,
    ridge: float = FILTER_RIDGE,
    history_ridge: float = HISTORY_RIDGE,
    n_iter: int = 300,
    n_refine: int = 0,
    mask: NDArray[np.bool_] | None = None,
    callback: Callable[[int], None] | None = None,
) -> EventModel:
    """Return the filter, onsets and amplitudes of events, learned from spike trains of one neuron.

    Parameters
    ----------
    counts : array of shape (n_trials, n_bins)
        Spikes, aligned so that events happen in the same bins of all trials.
    start : array of shape (kernel,)
        Initial filter. Amplitudes are nonnegative, so its sign must be that of the response; mostly positive,
        for example ``numpy.maximum(velocity, 0)`` for a stimulus.
    n_events : int, optional
        Largest number of events. Default: in each round the number with the smallest Bayesian information
        criterion (BIC). Akaike's criterion selects too many, since it does not count the search for onsets.
    order : int, default 0
        Bins of history; see `calepin.spikes.select_order`.
    coder : {"fista", "pursuit"}, default "fista"
        How onsets are found: by FISTA, or by a greedy pursuit (BCOMP).
    onsets : array of int, optional
        Known onsets, which are then not estimated.
    likelihood : Binomial or Poisson, optional
        ``Binomial()`` by default: at most one spike in a bin.
    baseline : float, optional
        Initial value of the predictor without events; by default that of the mean count.
    n_rounds : int, default 3
    alpha : float, default 0.05
        Weight of the l1 norm for coder "fista", relative to the mean of the likelihood over trials.
    window : int, optional
        Onsets are more than this many bins apart. Default: half the kernel.
    ridge : float, default 0.3
        Ridge of the filter's Newton step, as a fraction of the mean diagonal of its information matrix.
    history_ridge : float
        See `calepin.spikes.fit_spike_glm`.
    n_iter : int, default 300
        Iterations of coder "fista".
    n_refine : int, default 0
        After the rounds, how often onsets are moved bin by bin to where the likelihood is largest, and all
        else is refitted.
    mask : bool array of shape (n_trials, n_bins), optional
        True where a bin was observed; by default all.
    callback : callable, optional
        Called with the number of finished rounds.

    Raises
    ------
    ValueError
        A kernel longer than a trial, no spikes, no counts, settings out of range, or no event found.
    """
    check_arguments(fit_event_model, locals())
    y = observed_counts(counts, mask)
    likelihood = Binomial() if likelihood is None else likelihood
    check_counts(y, likelihood=likelihood, name="counts")
    if isinstance(likelihood, Binomial) and isinstance(likelihood.trials, torch.Tensor):
        raise ValueError("likelihood: expected one number of trials for all bins, got a tensor")
    h = _check_filter(start, y.shape[1])
    settings = _Settings(
        n_events,
        order,
        coder,
        None if onsets is None else _check_onsets(onsets, y.shape[1]),
        likelihood,
        alpha,
        len(h) // 2 if window is None else window,
        ridge,
        history_ridge,
        n_iter,
        mask,
    )
    _check_settings(settings, n_rounds, n_refine)
    base = (
        link(float(y.mean(where=True if mask is None else mask)), likelihood)
        if baseline is None
        else baseline
    )
    model = None
    for done in range(n_rounds):
        model = _round(y, h, base, model, settings)
        h, base = model.filter, model.baseline
        if callback is not None:
            callback(done + 1)
    assert model is not None
    for _ in range(n_refine if onsets is None else 0):
        model = _refined(y, model, settings)
    return model


def without_events(glm: SpikeGLM, start: ArrayLike, n_bins: int) -> EventModel:
    """Return the model without any event: that of history alone."""
    h = _check_filter(start, n_bins)
    return EventModel(h, np.zeros(0, np.intp), np.zeros(n_bins - len(h) + 1), glm, n_bins)


def shifted(h: Floats, onsets: NDArray[np.intp], n_bins: int) -> Floats:
    """Return the filter shifted to each onset, as columns (n_bins, n_events); the end is cut off."""
    columns = np.zeros((n_bins, len(onsets)))
    for k, onset in enumerate(onsets):
        part = h[: n_bins - onset]
        columns[onset : onset + len(part), k] = part
    return columns


def _round(y: Floats, h: Floats, base: float, before: EventModel | None, settings: _Settings) -> EventModel:
    """Find onsets, refit jointly, update the filter, and refit with the new one."""
    if settings.onsets is not None:
        code, candidates = np.zeros(0), settings.onsets
    else:
        code = (_sparse_code if settings.coder == "fista" else _pursue)(y, h, base, settings)
        candidates = _peaks(code, settings)
    if not len(candidates):
        raise NoEventsError(
            "alpha: expected a weight with which events are found, got none; try less or another start"
        )
    glm = None if before is None else before.glm
    onsets, glm = _refit_some(y, h, candidates, glm, settings)
    h = _improved(y, h, onsets, glm, settings)
    onsets, glm = _refit(y, h, onsets, glm, settings)
    return EventModel(h, onsets, code, glm, y.shape[1])


def _refined(y: Floats, model: EventModel, settings: _Settings) -> EventModel:
    """Move onsets to where the likelihood is largest, update the filter, and refit."""
    onsets = moved_onsets(
        y,
        model.predictor(y),
        model.filter,
        model.onsets,
        model.amplitudes,
        reach=max(1, settings.window // 4),
        likelihood=settings.likelihood,
        mask=settings.mask,
    )
    onsets, glm = _refit(y, model.filter, onsets, None, settings)
    h = _improved(y, model.filter, onsets, glm, settings)
    onsets, glm = _refit(y, h, onsets, glm, settings)
    return EventModel(h, onsets, model.code, glm, y.shape[1])


def _sparse_code(y: Floats, h: Floats, base: float, settings: _Settings) -> Floats:
    """Minimise the negative log-likelihood of the sum over trials plus the l1 norm, over codes >= 0."""
    problem, likelihood = _summed(y, h, base, settings)
    step = "backtracking" if isinstance(likelihood, Poisson) else None
    solver = FISTA(NonNegativeL1(settings.alpha * len(y)), step)
    return solve(problem, solver, n_iter=settings.n_iter).z[0, 0].numpy()


def _summed(y: Floats, h: Floats, base: float, settings: _Settings) -> tuple[Problem, Binomial | Poisson]:
    """Return the problem of the sum over trials: binomial with more trials, or Poisson with a higher rate."""
    dictionary = ConvDictionary(torch.from_numpy(h).view(1, 1, -1), signal_shape=(y.shape[1],))
    total = torch.from_numpy(y.sum(0)).view(1, 1, -1)
    if settings.mask is not None:
        return _summed_observed(dictionary, total, base, settings.mask, settings.likelihood)
    if isinstance(settings.likelihood, Poisson):
        problem = Problem(dictionary, settings.likelihood, total, base + float(np.log(len(y))))
        return problem, settings.likelihood
    summed = Binomial(len(y) * int(settings.likelihood.trials))
    return Problem(dictionary, summed, total, base), summed


def _summed_observed(
    dictionary: ConvDictionary,
    total: torch.Tensor,
    base: float,
    mask: NDArray[np.bool_],
    likelihood: Binomial | Poisson,
) -> tuple[Problem, Binomial | Poisson]:
    """Return the problem where the number of observed trials differs from bin to bin."""
    n = torch.from_numpy(mask.sum(0).astype(np.float64)).view(1, 1, -1)
    offset = torch.where(n > 0, base, _NEVER)  # a bin that no trial observed says nothing
    if isinstance(likelihood, Poisson):
        return Problem(dictionary, likelihood, total, offset + n.clamp_min(1).log()), likelihood
    summed = Binomial(n.clamp_min(1) * int(likelihood.trials))
    return Problem(dictionary, summed, total, offset), summed


def _peaks(code: Floats, settings: _Settings) -> NDArray[np.intp]:
    """Return the positions of the highest peaks of a code, highest first, more than the window apart."""
    rest, found = code.copy(), []
    while settings.n_events is None or len(found) < settings.n_events:
        peak = int(rest.argmax())
        if rest[peak] <= 0:
            break
        found.append(peak)
        rest[max(0, peak - settings.window) : peak + settings.window + 1] = 0
    return np.array(found, np.intp)


def _pursue(y: Floats, h: Floats, base: float, settings: _Settings) -> Floats:
    """Add events one by one where the filter correlates most with the residual; refit all after each."""
    problem, likelihood = _summed(y, h, base, settings)
    most = settings.n_events or -(-problem.operator.in_shape[1] // (settings.window + 1))
    code = convolutional_pursuit(
        problem.y,
        torch.from_numpy(h).view(1, 1, -1),
        n_nonzero=most,
        likelihood=likelihood,
        offset=problem.offset,
    )
    return code[0, 0].numpy()


def _refit_some(
    y: Floats, h: Floats, candidates: NDArray[np.intp], glm: SpikeGLM | None, settings: _Settings
) -> tuple[NDArray[np.intp], SpikeGLM]:
    """Refit with the number of candidates that minimises BIC; with all if their number is given."""
    if settings.n_events is not None or settings.onsets is not None:
        return _refit(y, h, candidates, glm, settings)
    best = None
    waited = 0
    n_observed = y.size if settings.mask is None else int(settings.mask.sum())
    onsets = np.zeros(0, np.intp)
    for n in range(1, len(candidates) + 1):
        start = _from(glm, onsets, np.sort(candidates[:n])) if n > 1 else glm
        onsets, glm = _refit(y, h, candidates[:n], start, settings)
        if best is None or _bic(glm, n_observed) < _bic(best[1], n_observed):
            best, waited = (onsets, glm), 0
        else:
            waited += 1
        if waited == _PATIENCE:
            break
    assert best is not None
    return best


def event_path(
    model: EventModel,
    counts: Floats,
    held_out: Floats,
    *,
    alone: Floats,
    window: int,
    most: int | None = None,
    mask: NDArray[np.bool_] | None = None,
    held_out_mask: NDArray[np.bool_] | None = None,
) -> list[Floats]:
    """Return the log-likelihood of each held-out trial with 0, 1, 2, ... events, as far as their sum rises.

    That without events, `alone`, is known. The filter is that of the model, the events are the highest peaks
    of its code, and all else is refitted to `counts`. The last values are those of `_PATIENCE` events that
    did not help.
    """
    likelihood, order = model.glm.likelihood, len(model.history)
    settings = _Settings(
        most, order, CODER, None, likelihood, ALPHA, window, FILTER_RIDGE, HISTORY_RIDGE, 0, mask
    )
    values = [alone]
    candidates = _peaks(model.code, settings)
    glm, onsets = model.glm, model.onsets
    for n in range(1, len(candidates) + 1):
        before, onsets = onsets, np.sort(candidates[:n])
        drive = shifted(model.filter, onsets, counts.shape[1])
        glm = fit_spike_glm(
            counts,
            drive,
            order=order,
            likelihood=likelihood,
            ridge=1e-6,
            start=_from(glm, before, onsets),
            mask=mask,
        )
        eta = glm.predictor(held_out, drive)
        values.append(trial_log_likelihoods(eta, held_out, likelihood=likelihood, mask=held_out_mask))
        if len(values) - 1 - int(np.argmax(np.sum(values, axis=1))) >= _PATIENCE:
            break
    return values


def _bic(glm: SpikeGLM, n: int) -> float:
    return len(glm.stimulus) * float(np.log(n)) - 2 * glm.fit.log_likelihood


def _refit(
    y: Floats, h: Floats, onsets: NDArray[np.intp], start: SpikeGLM | None, settings: _Settings
) -> tuple[NDArray[np.intp], SpikeGLM]:
    """Fit baseline, amplitudes and history to all trials, without events whose amplitude is not positive."""
    onsets = np.sort(onsets)
    while True:
        glm = fit_spike_glm(
            y,
            shifted(h, onsets, y.shape[1]),
            order=settings.order,
            likelihood=settings.likelihood,
            ridge=1e-6,  # the amplitude of an event in bins without spikes is not finite
            history_ridge=settings.history_ridge,
            start=start,
            names=[f"event at {onset}" for onset in onsets],
            mask=settings.mask,
        )
        if settings.onsets is not None or (glm.stimulus > 0).all():
            return onsets, glm
        if not (glm.stimulus > 0).any():
            raise NoEventsError("start: expected a filter that raises the rate somewhere, got none")
        positive = glm.stimulus > 0
        start = _from(glm, onsets, onsets[positive])
        onsets = onsets[positive]


def _from(glm: SpikeGLM | None, onsets: NDArray[np.intp], wanted: NDArray[np.intp]) -> SpikeGLM | None:
    """Return a fit with the amplitudes of other onsets, to start from: zero where they are not known."""
    if glm is None:
        return None
    known = dict(zip(onsets.tolist(), glm.stimulus.tolist(), strict=True))
    return replace(glm, stimulus=np.array([known.get(onset, 0.0) for onset in wanted.tolist()]))


def _improved(y: Floats, h: Floats, onsets: NDArray[np.intp], glm: SpikeGLM, settings: _Settings) -> Floats:
    """Return the filter after one Newton step that does not lower the likelihood, at unit norm."""
    n_bins, kernel = y.shape[1], len(h)
    moves = spread(onsets, glm.stimulus, kernel, n_bins)
    eta = glm.predictor(y, shifted(h, onsets, n_bins))
    given: dict[str, Any] = {"likelihood": settings.likelihood, "mask": settings.mask}
    value, mean, weight = moments(eta, y, **given)
    with single_threaded_blas():
        information = (moves.T * weight.sum(0)) @ moves
        damping = settings.ridge * max(np.trace(information) / kernel, np.finfo(float).tiny)
        step = np.linalg.solve(information + damping * np.eye(kernel), moves.T @ (y - mean).sum(0))
    for _ in range(30):
        if moments(eta + moves @ step, y, **given)[0] >= value:
            break
        step = step / 2
    moved = h + step
    return moved / np.linalg.norm(moved)


def spread(onsets: NDArray[np.intp], amplitudes: Floats, kernel: int, n_bins: int) -> Floats:
    """Return the matrix (n_bins, kernel) that maps the filter to the predictor."""
    matrix = np.zeros((n_bins, kernel))
    for onset, amplitude in zip(onsets, amplitudes, strict=True):
        lags = np.arange(min(kernel, n_bins - onset))
        matrix[onset + lags, lags] += amplitude
    return matrix


def link(mean: float, likelihood: Binomial | Poisson) -> float:
    """Return the predictor whose mean is `mean`."""
    if isinstance(likelihood, Poisson):
        return float(np.log(mean))
    return float(np.log(mean / (int(likelihood.trials) - mean)))


def _check_filter(start: ArrayLike, n_bins: int) -> Floats:
    h = check_array("start", start)
    if h.ndim != 1 or not h.any():
        raise ValueError(f"start: expected a filter (kernel,) that is finite and not zero, got {h.shape}")
    if len(h) > n_bins:
        raise ValueError(f"start: expected a kernel of at most the {n_bins} bins of a trial, got {len(h)}")
    h = h / np.abs(h).max() if np.abs(h).max() < 1e-140 else h  # squares of such numbers are zero
    return h / np.linalg.norm(h)


def _check_onsets(onsets: ArrayLike, n_bins: int) -> NDArray[np.intp]:
    t = np.asarray(onsets)
    if t.ndim != 1 or not t.size or t.dtype.kind not in "iu" or t.min() < 0 or t.max() >= n_bins:
        raise ValueError(f"onsets: expected bins from 0 to {n_bins - 1}, got {onsets!r}")
    return np.unique(t).astype(np.intp)


def _check_settings(settings: _Settings, n_rounds: int, n_refine: int) -> None:
    check_one_of("coder", settings.coder, get_args(Coder))
    check_integer("n_rounds", n_rounds)
    check_integer("n_events", settings.n_events, optional=True)
    check_integer("window", settings.window, least=0)
    check_integer("n_iter", settings.n_iter)
    check_integer("n_refine", n_refine, least=0)
    check_number("alpha", settings.alpha, above=0)
    check_number("ridge", settings.ridge, above=0)
    check_number("history_ridge", settings.history_ridge, least=0)
