"""From spike trains to a tested model in one call: what ``calepin spikes`` does.

Models are trained on some of the trials and tested on the others: a constant rate, a regression (GLM) on
the velocity of the stimulus and on history, and the event model of `calepin.spikes.events`.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_integer, is_integer
from calepin.core.random import RandomState, numpy_generator
from calepin.likelihoods import Binomial, Poisson
from calepin.spikes.bands import EventBands, event_bands
from calepin.spikes.events import (
    ALPHA,
    CODER,
    N_ROUNDS,
    Coder,
    EventModel,
    NoEventsError,
    fit_event_model,
    link,
    without_events,
)
from calepin.spikes.goodness import bits_per_spike, log_likelihood, trial_log_likelihoods
from calepin.spikes.history import ORDERS, SpikeGLM, fit_spike_glm, select_order
from calepin.spikes.rescaling import KSTest, ks_test
from calepin.spikes.selection import KERNEL_SIZES, Choice, choose_events
from calepin.spikes.stimulus import check_stimulus
from calepin.spikes.trains import SpikeTrains

__all__ = ["Gain", "ModelFit", "SpikeSession", "analyse_spikes"]

Floats = NDArray[np.float64]

_LEARNED = 0.6  # fraction of the trials used for training
_SHARED = 0.01  # of the bins with spikes: more bins with several speak for Poisson
_REFINEMENTS = 2
_DRAWS = 2000  # of the bootstrap


@dataclass(frozen=True)
class ModelFit:
    """Goodness of fit of a model.

    Attributes
    ----------
    n_parameters
        Number of fitted parameters.
    deviance, aic
        On the training trials.
    bits_per_spike
        Gain over a constant rate on the test trials.
    test
        Kolmogorov-Smirnov test on the test trials.
    """

    n_parameters: int
    deviance: float
    aic: float
    bits_per_spike: float
    test: KSTest


@dataclass(frozen=True)
class Gain:
    """What events add to a model of history alone, on held-out trials.

    Attributes
    ----------
    bits_per_spike
        Gain of the log-likelihood.
    low, high
        95 % interval by the bootstrap over held-out trials; None without held-out trials.
    n_trials
        Number of held-out trials.
    """

    bits_per_spike: float
    low: float | None
    high: float | None
    n_trials: int


@dataclass(frozen=True)
class SpikeSession:
    """Result of `analyse_spikes`.

    Attributes
    ----------
    data
        All trials.
    n_train
        Number of training trials.
    likelihood
        `Binomial` for at most one spike in a bin, or `Poisson`.
    model
        The event model: onsets, amplitudes, filter, baseline and history. No onsets if no event was found.
    glm
        Regression on history, and on the stimulus: that given, or the velocity of that of the data.
    fits
        Goodness of fit of the models "constant", "GLM" and "events".
    gain
        What the events add to history alone.
    bands
        Confidence bands of filter and amplitudes; None with a single training trial, or without events.
    """

    data: SpikeTrains
    n_train: int
    likelihood: Binomial | Poisson
    model: EventModel
    glm: SpikeGLM
    fits: dict[str, ModelFit]
    gain: Gain
    bands: EventBands | None

    @property
    def has_events(self) -> bool:
        """Whether events predict held-out trials better than a constant rate, and than history alone."""
        low = self.gain.low
        return bool(low is not None and low > 0 and self.fits["events"].bits_per_spike > 0)

    @property
    def verdict(self) -> str:
        """In one line, whether there are events, and by which figures."""
        bits, gain = self.fits["events"].bits_per_spike, self.gain
        if not len(self.model.onsets):
            return f"no events: none was found in {self.n_train} training trials"
        if gain.low is None:
            return f"not tested, no trial is held out: {bits:+.3f} bits a spike on the training trials"
        if bits <= 0:
            held_out = f"on {gain.n_trials} held-out trials"
            return f"no events: {bits:.3f} bits a spike against a constant rate, {held_out}"
        over = (
            f"{gain.bits_per_spike:+.3f} bits a spike (95 %: {gain.low:.3f} to {gain.high:.3f}) over history "
            f"alone, on {gain.n_trials} held-out trials"
        )
        if not self.has_events:
            return f"no events: {over}"
        n = len(self.model.onsets)
        return f"{n} event{'s' * (n != 1)}: {over}"

    @property
    def fit_verdict(self) -> str:
        """In one line, whether the KS test rejects the models, events beside the GLM."""
        shown = [
            f"{name} {fit.test.statistic:.3f} {'not rejected' if fit.test.inside else 'rejected'}"
            for name in ("events", "GLM")
            for fit in (self.fits[name],)
        ]
        return f"KS distance: {', '.join(shown)} (95 % bound {self.fits['events'].test.band:.3f})"

    @property
    def stimulus_weights(self) -> list[tuple[str, float, float]]:
        """Name, weight and standard error of each covariate of the GLM, without history."""
        fit, p = self.glm.fit, len(self.glm.stimulus)
        errors = fit.standard_errors[1 : 1 + p].tolist()
        return list(zip(fit.names[1 : 1 + p], self.glm.stimulus.tolist(), errors, strict=True))

    def _repr_html_(self) -> str:
        """Return the goodness of fit and the filter as HTML for notebooks."""
        from calepin.report.figures import Curve, curves
        from calepin.report.notebook import snippet

        filter_ = Curve(np.arange(len(self.model.filter)), self.model.filter)
        figure = curves({"filter": filter_}, xlabel="bins after onset", ylabel="filter")
        values = {f"bits per spike of {name}": fit.bits_per_spike for name, fit in self.fits.items()}
        events = {"verdict": self.verdict, "trials": len(self.data.counts)}
        return snippet("SpikeSession", events | values, {"filter of the events": figure})

    def summary(self) -> dict[str, Any]:
        """Return the results as JSON; times are in seconds, and None where the width of bins is not known."""
        data, model, bands = self.data, self.model, self.bands
        n_trials, n_bins = data.counts.shape
        timed = data.bin_width is not None
        recorded = timed and data.cue_times is not None
        return {
            "verdict": self.verdict,
            "has_events": self.has_events,
            "fit_verdict": self.fit_verdict,
            "unit": data.unit,
            "cue": data.cue,
            "n_trials": n_trials,
            "n_train": self.n_train,
            "n_bins": n_bins,
            "bin_width": data.bin_width,
            "t0": data.t0,
            "n_spikes": int(data.counts.sum()),
            "likelihood": type(self.likelihood).__name__.lower(),
            "order": len(model.history),
            "kernel_size": len(model.filter),
            "baseline": model.baseline,
            "stimulus": {
                name: {"weight": weight, "standard_error": error}
                for name, weight, error in self.stimulus_weights
            },
            "onsets": model.onsets.tolist(),
            "onset_times": data.seconds(model.onsets).tolist() if timed else None,
            "event_times": data.recorded(model.onsets).tolist() if recorded else None,
            "amplitudes": model.amplitudes.tolist(),
            "amplitude_bands": None if bands is None else bands.amplitudes.tolist(),
            "gain": {
                "bits_per_spike": self.gain.bits_per_spike,
                "low": self.gain.low,
                "high": self.gain.high,
                "n_trials": self.gain.n_trials,
            },
            "models": {
                name: {
                    "n_parameters": fit.n_parameters,
                    "deviance": fit.deviance,
                    "aic": fit.aic,
                    "bits_per_spike": fit.bits_per_spike,
                    "ks": fit.test.statistic,
                    "ks_band": fit.test.band,
                }
                for name, fit in self.fits.items()
            },
        }


def analyse_spikes(
    data: SpikeTrains,
    *,
    stimulus: Any = None,
    names: Sequence[str] | None = None,
    kernel_size: int | None = None,
    n_events: int | None = None,
    train: tuple[int, int] | None = None,
    baseline: tuple[int, int] | None = None,
    order: int | None = None,
    likelihood: Binomial | Poisson | None = None,
    coder: Coder = CODER,
    alpha: float = ALPHA,
    n_rounds: int = N_ROUNDS,
    random_state: RandomState = 0,
    callback: Callable[[float, str], None] = lambda part, stage: None,
) -> SpikeSession:
    """Return the events that a neuron responds to, learned from some trials and tested on the others.

    The initial filter is the first movement of the stimulus; without a stimulus, a bump. There are events
    only if they predict the held-out trials better than a constant rate, and than history alone: see
    `SpikeSession.verdict`.

    Parameters
    ----------
    data : SpikeTrains
        Spike trains of one neuron; see `calepin.spikes.read_spikes`.
    stimulus : DataFrame or array of shape (n_bins, p), optional
        Covariates of the regression (GLM), the same in each trial. A DataFrame keeps its names. Default: the
        velocity of the stimulus of `data`, if it has one.
    names : sequence of str, optional
        Names of the covariates of an array.
    kernel_size : int, optional
        Bins of the filter. Default: of 25, 50, 100 and 200, at most half a trial, the length with which one
        half of the training trials predicts the other half best.
    n_events : int, optional
        Number of events in a trial; fewer if some have no positive amplitude. Default: the number with which
        one half of the training trials predicts the other half best.
    train : (int, int), optional
        Range of training trials: the first one, and the first one after them. Default: the first 60 %.
    baseline : (int, int), optional
        Range of bins before the first event: the initial baseline is their rate. Default: all bins.
    order : int, optional
        Bins of history. Default: the order from 5 to 40 with the smallest AIC.
    likelihood : Binomial or Poisson, optional
        ``Binomial()`` counts several spikes in a bin as one. Default: ``Binomial()``, but ``Poisson()`` if
        more than 1 % of the bins with spikes have several.
    coder : {"fista", "pursuit"}, default "fista"
        How onsets are found; see `fit_event_model`.
    alpha : float, default 0.05
        Weight of the l1 norm for coder "fista".
    n_rounds : int, default 3
        Rounds of finding onsets and updating the filter.
    random_state : default 0
        Seed of the times of spikes within their bins in the Kolmogorov-Smirnov test, and of the bootstrap.
    callback : callable, optional
        Called with the finished fraction of the work, and the stage: "history", "selection" or "events".

    Raises
    ------
    ValueError
        Ranges or a kernel beyond the data, no spikes in the training trials, fewer spikes than parameters, or
        settings out of range.

    Warns
    -----
    UserWarning
        All trials were used for training, and for the test, too; several spikes in a bin were counted as one.

    Examples
    --------
    >>> import numpy as np
    >>> from calepin.spikes import analyse_spikes, simulate_spikes
    >>> drive = np.zeros(300)
    >>> drive[100:120] = drive[200:220] = 2.5 * np.hanning(20)
    >>> session = analyse_spikes(simulate_spikes(60, 300, drive=drive), kernel_size=20, n_events=2, order=3)
    >>> session.has_events
    True
    """
    check_arguments(analyse_spikes, locals())
    n_trials, n_bins = data.counts.shape
    check_integer("kernel_size", kernel_size, most=n_bins, optional=True)
    check_integer("n_events", n_events, optional=True)
    likelihood = _family(data.counts, likelihood)
    counts = np.minimum(data.counts, 1) if isinstance(likelihood, Binomial) else data.counts
    most = (0, max(1, round(_LEARNED * n_trials)))
    rows = _range("train", most if train is None else train, n_trials)
    learned, test = _split(counts, data.mask, rows)
    quiet = _range("baseline", (0, n_bins) if baseline is None else baseline, n_bins)
    rate = learned.rate(quiet)
    if rate >= 1 and isinstance(likelihood, Binomial):
        raise ValueError(
            f"data: expected bins without spikes in {quiet.start}:{quiet.stop}, got a spike in each: no rate "
            "explains them"
        )
    if not 0 < rate < np.inf:
        raise ValueError(f"data: expected spikes in bins {quiet.start}:{quiet.stop}, got {rate:g} per bin")
    velocity = None if data.stimulus is None else _velocity(data.stimulus)
    covariates, labels = velocity, None if velocity is None else ("velocity",)
    if stimulus is not None:
        covariates, labels = check_stimulus(stimulus, names, (n_trials, n_bins))
    elif names is not None:
        raise ValueError("names: expected None without a stimulus of several covariates")
    sizes = _kernel_sizes(n_bins) if kernel_size is None else (kernel_size,)
    _check_enough(learned.counts, sizes[0], order)
    glm = _regression(
        learned, covariates, labels, order, likelihood, lambda part: callback(part / 4, "history")
    )
    choice = Choice(sizes[0], n_events or 0)
    if (kernel_size is None or n_events is None) and len(learned.counts) > 1:
        choice = choose_events(
            learned.counts,
            learned.mask,
            start=lambda size: _start(velocity, size),
            kernel_sizes=sizes,
            n_events=n_events,
            order=len(glm.history),
            likelihood=likelihood,
            coder=coder,
            alpha=alpha,
            callback=lambda part: callback(0.25 + part / 2, "selection"),
        )
        # without an event there is no model: one is fitted, and the verdict is that of the test
        choice = replace(choice, n_events=max(1, choice.n_events))
    constant = fit_spike_glm(learned.counts, likelihood=likelihood, mask=learned.mask)
    alone = glm if covariates is None else _history(learned, len(glm.history), likelihood)
    try:
        model = fit_event_model(
            learned.counts,
            _start(velocity, choice.kernel_size),
            n_events=choice.n_events or None,
            order=len(glm.history),
            coder=coder,
            likelihood=likelihood,
            baseline=link(rate, likelihood),
            n_rounds=n_rounds,
            alpha=alpha,
            n_refine=_REFINEMENTS,
            mask=learned.mask,
            callback=lambda done: callback(0.75 + 0.25 * done / n_rounds, "events"),
        )
    except NoEventsError:
        if alpha > ALPHA:
            raise
        model = without_events(alone, _start(velocity, choice.kernel_size), n_bins)
    model = replace(model, bin_width=data.bin_width, t0=data.t0)
    fits = _compare(test, constant, glm, model, covariates, random_state)
    gain = _gain(test, alone, model, random_state)
    bands = None
    if len(learned.counts) > 1 and len(model.onsets):
        bands = event_bands(model, learned.counts, mask=learned.mask, random_state=random_state)
    return SpikeSession(data, len(learned.counts), likelihood, model, glm, fits, gain, bands)


@dataclass(frozen=True)
class _Trials:
    """Counts and mask of some trials; `held_out` is False for a test on the training trials."""

    counts: Floats
    mask: NDArray[np.bool_] | None
    held_out: bool = True

    def rate(self, bins: slice) -> float:
        where = True if self.mask is None else self.mask[:, bins]
        return float(np.mean(self.counts[:, bins], where=where)) if np.any(where) else 0.0


def _family(counts: Floats, likelihood: Binomial | Poisson | None) -> Binomial | Poisson:
    """Return the given family, or the one that the bins with several spikes speak for."""
    shared, occupied = int((counts > 1).sum()), int((counts > 0).sum())
    if likelihood is None:
        likelihood = Poisson() if shared > _SHARED * occupied else Binomial()
    if isinstance(likelihood, Binomial) and likelihood != Binomial():
        raise ValueError(f"likelihood: expected Binomial() or Poisson(), got {likelihood}")
    if isinstance(likelihood, Binomial) and shared:
        warnings.warn(
            f"data: {shared} of {occupied} bins with spikes have several, counted as one: narrower bins or "
            "Poisson() keep them",
            stacklevel=3,
        )
    return likelihood


def _kernel_sizes(n_bins: int) -> tuple[int, ...]:
    return tuple(size for size in KERNEL_SIZES if size <= n_bins // 2) or (max(1, n_bins // 2),)


def _check_enough(counts: Floats, kernel_size: int, order: int | None) -> None:
    needed = 2 + kernel_size + (ORDERS[0] if order is None else order)
    if counts.sum() < needed:
        raise ValueError(
            f"data: expected at least as many spikes in the training trials as parameters, {needed} of "
            f"filter, history, baseline and event, got {int(counts.sum())}"
        )


def _range(name: str, wanted: tuple[int, int], n: int) -> slice:
    """Return a range within 0 to n as a slice."""
    first, stop = wanted
    if not is_integer(first) or not is_integer(stop) or not 0 <= first < stop <= n:
        raise ValueError(f"{name}: expected A:B with 0 <= A < B <= {n}, got {first}:{stop}")
    return slice(first, stop)


def _split(counts: Floats, mask: NDArray[np.bool_] | None, rows: slice) -> tuple[_Trials, _Trials]:
    """Return the training and the test trials; all of them for both if none are left to test."""
    train = _Trials(counts[rows], None if mask is None else mask[rows])
    if rows.stop - rows.start < len(counts):
        others = np.delete(np.arange(len(counts)), rows)
        return train, _Trials(counts[others], None if mask is None else mask[others])
    warnings.warn(
        "no trial is held out: the goodness of fit is measured on the training trials", stacklevel=3
    )
    return train, replace(train, held_out=False)


def _velocity(stimulus: Floats) -> Floats | None:
    """Return the first difference of a stimulus, None for a constant one."""
    velocity = np.diff(stimulus, prepend=stimulus[0])
    return velocity if velocity.any() else None


def _start(velocity: Floats | None, kernel_size: int) -> Floats:
    """Return the first movement of the stimulus, or a bump."""
    if velocity is None:
        return np.hanning(kernel_size + 2)[1:-1]
    first = min(int(np.flatnonzero(velocity)[0]), len(velocity) - kernel_size)
    moves = velocity[first : first + kernel_size]
    rising = np.maximum(moves, 0)
    return rising if rising.any() else np.abs(moves)


def _regression(
    train: _Trials,
    covariates: Floats | None,
    names: tuple[str, ...] | None,
    order: int | None,
    likelihood: Binomial | Poisson,
    callback: Callable[[float], None],
) -> SpikeGLM:
    given: dict[str, Any] = {"likelihood": likelihood, "names": names, "mask": train.mask}
    if order is not None:
        return fit_spike_glm(train.counts, covariates, order=order, **given)
    return select_order(train.counts, covariates, **given, callback=lambda done: callback(done / len(ORDERS)))


def _history(train: _Trials, order: int, likelihood: Binomial | Poisson) -> SpikeGLM:
    return fit_spike_glm(train.counts, order=order, likelihood=likelihood, mask=train.mask)


def _gain(test: _Trials, history: SpikeGLM, model: EventModel, random_state: RandomState) -> Gain:
    """Return the gain of the events over history alone, with its bootstrap interval over test trials."""
    given: dict[str, Any] = {"likelihood": model.glm.likelihood, "mask": test.mask}
    with_events, without = (
        trial_log_likelihoods(eta, test.counts, **given)
        for eta in (model.predictor(test.counts), history.predictor(test.counts))
    )
    gained, spikes = with_events - without, test.counts.sum(1)
    bits = bits_per_spike(float(gained.sum()), 0.0, float(spikes.sum()))
    if not test.held_out:
        return Gain(bits, None, None, 0)
    rng = numpy_generator(random_state)
    drawn = rng.multinomial(len(gained), np.full(len(gained), 1 / len(gained)), size=_DRAWS)
    bits_drawn = (drawn @ gained) / (np.maximum(drawn @ spikes, 1) * np.log(2))
    low, high = np.quantile(bits_drawn, [0.025, 0.975])
    return Gain(bits, float(low), float(high), len(gained))


def _compare(
    test: _Trials,
    constant: SpikeGLM,
    glm: SpikeGLM,
    model: EventModel,
    covariates: Floats | None,
    random_state: RandomState,
) -> dict[str, ModelFit]:
    likelihood, counts, seen = constant.likelihood, test.counts, ... if test.mask is None else test.mask
    if not counts.any():
        raise ValueError(f"data: expected spikes in the test trials, got none in {len(counts)}")
    reference = log_likelihood(constant.predictor(counts)[seen], counts[seen], likelihood=likelihood)
    entries = len(model.filter) - 1 if len(model.onsets) else 0
    fits = {}
    for name, fit, free, eta in (
        ("constant", constant.fit, 0, constant.predictor(counts)),
        ("GLM", glm.fit, 0, glm.predictor(counts, covariates)),
        ("events", model.glm.fit, entries, model.predictor(counts)),
    ):
        value = log_likelihood(eta[seen], counts[seen], likelihood=likelihood)
        fits[name] = ModelFit(
            len(fit.coefficients) + free,  # the entries of the filter, at unit norm, were fitted, too
            fit.deviance,
            fit.aic + 2 * free,
            bits_per_spike(value, reference, float(counts.sum())),
            ks_test(eta, counts, likelihood=likelihood, random_state=random_state, mask=test.mask),
        )
    return fits
