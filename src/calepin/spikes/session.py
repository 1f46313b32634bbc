"""From spike trains to a tested model in one call: what ``calepin spikes`` does.

Models are trained on some of the trials and tested on the others: a constant rate, a regression (GLM) on
the velocity of the stimulus and on history, and the event model of `calepin.spikes.events`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_integer, is_integer
from calepin.core.random import RandomState
from calepin.likelihoods import Binomial, Poisson
from calepin.spikes.events import ALPHA, CODER, N_ROUNDS, Coder, EventModel, fit_event_model, link
from calepin.spikes.files import SpikeTrains
from calepin.spikes.goodness import bits_per_spike, log_likelihood
from calepin.spikes.history import ORDERS, SpikeGLM, fit_spike_glm, select_order
from calepin.spikes.rescaling import KSTest, ks_test

__all__ = ["ModelFit", "SpikeSession", "analyse_spikes"]

Floats = NDArray[np.float64]

_LEARNED = 0.6  # fraction of the trials used for training


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
class SpikeSession:
    """Result of `analyse_spikes`.

    Attributes
    ----------
    data
        All trials.
    n_train
        Number of training trials.
    likelihood
        `Binomial` if no bin has more than one spike, else `Poisson`.
    model
        The event model: onsets, amplitudes, filter, baseline and history.
    glm
        Regression on the velocity of the stimulus, if there is one, and on history.
    fits
        Goodness of fit of the models "constant", "GLM" and "events".
    """

    data: SpikeTrains
    n_train: int
    likelihood: Binomial | Poisson
    model: EventModel
    glm: SpikeGLM
    fits: dict[str, ModelFit]

    def _repr_html_(self) -> str:
        """Return the goodness of fit and the filter as HTML for notebooks."""
        from calepin.report.figures import Curve, curves
        from calepin.report.notebook import snippet

        filter_ = Curve(np.arange(len(self.model.filter)), self.model.filter)
        figure = curves({"filter": filter_}, xlabel="bins after onset", ylabel="filter")
        values = {f"bits per spike of {name}": fit.bits_per_spike for name, fit in self.fits.items()}
        events = {"events": len(self.model.onsets), "trials": len(self.data.counts)}
        return snippet("SpikeSession", events | values, {"filter of the events": figure})

    def summary(self) -> dict[str, Any]:
        """Return the results as JSON."""
        n_trials, n_bins = self.data.counts.shape
        return {
            "n_trials": n_trials,
            "n_train": self.n_train,
            "n_bins": n_bins,
            "bin_width": self.data.bin_width,
            "n_spikes": int(self.data.counts.sum()),
            "likelihood": type(self.likelihood).__name__.lower(),
            "order": len(self.model.history),
            "baseline": self.model.baseline,
            "onsets": self.model.onsets.tolist(),
            "amplitudes": self.model.amplitudes.tolist(),
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
    kernel_size: int = 125,
    n_events: int | None = None,
    train: tuple[int, int] | None = None,
    baseline: tuple[int, int] | None = None,
    order: int | None = None,
    coder: Coder = CODER,
    alpha: float = ALPHA,
    n_rounds: int = N_ROUNDS,
    random_state: RandomState = 0,
    callback: Callable[[float, str], None] = lambda part, stage: None,
) -> SpikeSession:
    """Return the events that a neuron responds to, learned from some trials and tested on the others.

    The initial filter is the first movement of the stimulus; without a stimulus, a bump.

    Parameters
    ----------
    data : SpikeTrains
        Spike trains of one neuron; see `calepin.spikes.read_spikes`.
    kernel_size : int, default 125
        Bins of the filter.
    n_events : int, optional
        Largest number of events in a trial. Default: the number with the smallest BIC.
    train : (int, int), optional
        Range of training trials: the first one, and the first one after them. Default: the first 60 %.
    baseline : (int, int), optional
        Range of bins before the first event: the initial baseline is their rate. Default: all bins.
    order : int, optional
        Bins of history. Default: the order from 5 to 40 with the smallest AIC.
    coder : {"fista", "pursuit"}, default "fista"
        How onsets are found; see `fit_event_model`.
    alpha : float, default 0.05
        Weight of the l1 norm for coder "fista".
    n_rounds : int, default 3
        Rounds of finding onsets and updating the filter.
    random_state : default 0
        Seed of the times of spikes within their bins, in the Kolmogorov-Smirnov test.
    callback : callable, optional
        Called with the finished fraction of the work, and the stage: "history" or "events".

    Raises
    ------
    ValueError
        Ranges or a kernel beyond the data, no spikes in the training trials, or settings out of range.

    Warns
    -----
    UserWarning
        All trials were used for training, and for the test, too.

    Examples
    --------
    >>> import numpy as np
    >>> from calepin.spikes import analyse_spikes, simulate_spikes
    >>> drive = np.zeros(300)
    >>> drive[100:120] = drive[200:220] = 2.5 * np.hanning(20)
    >>> session = analyse_spikes(simulate_spikes(40, 300, drive=drive), kernel_size=20, n_events=2, order=3)
    >>> bool(session.fits["events"].bits_per_spike > 0.1)
    True
    """
    check_arguments(analyse_spikes, locals())
    n_trials, n_bins = data.counts.shape
    check_integer("kernel_size", kernel_size, most=n_bins)
    most = (0, max(1, round(_LEARNED * n_trials)))
    learned, test = _split(data.counts, _range("train", most if train is None else train, n_trials))
    quiet = _range("baseline", (0, n_bins) if baseline is None else baseline, n_bins)
    likelihood = Binomial() if data.counts.max() <= 1 else Poisson()
    rate = float(learned[:, quiet].mean())
    if not 0 < rate < (1 if isinstance(likelihood, Binomial) else np.inf):
        raise ValueError(f"data: expected spikes in bins {quiet.start}:{quiet.stop}, got {rate:g} per bin")
    velocity = None if data.stimulus is None else _velocity(data.stimulus)
    glm = _regression(learned, velocity, order, likelihood, lambda part: callback(part / 2, "history"))
    model = fit_event_model(
        learned,
        _start(velocity, kernel_size),
        n_events=n_events,
        order=len(glm.history),
        coder=coder,
        likelihood=likelihood,
        baseline=link(rate, likelihood),
        n_rounds=n_rounds,
        alpha=alpha,
        callback=lambda done: callback(0.5 + 0.5 * done / n_rounds, "events"),
    )
    constant = fit_spike_glm(learned, likelihood=likelihood)
    fits = _compare(test, constant, glm, model, velocity, random_state)
    return SpikeSession(data, len(learned), likelihood, model, glm, fits)


def _range(name: str, wanted: tuple[int, int], n: int) -> slice:
    """Return a range within 0 to n as a slice."""
    first, stop = wanted
    if not is_integer(first) or not is_integer(stop) or not 0 <= first < stop <= n:
        raise ValueError(f"{name}: expected A:B with 0 <= A < B <= {n}, got {first}:{stop}")
    return slice(first, stop)


def _split(counts: Floats, rows: slice) -> tuple[Floats, Floats]:
    """Return the training and the test trials; all of them for both if none are left to test."""
    train, test = counts[rows], np.delete(counts, rows, axis=0)
    if len(test):
        return train, test
    warnings.warn(
        "no trial is held out: the goodness of fit is measured on the training trials", stacklevel=3
    )
    return train, train


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
    train: Floats,
    velocity: Floats | None,
    order: int | None,
    likelihood: Binomial | Poisson,
    callback: Callable[[float], None],
) -> SpikeGLM:
    if order is not None:
        return fit_spike_glm(train, velocity, order=order, likelihood=likelihood)
    return select_order(
        train, velocity, likelihood=likelihood, callback=lambda done: callback(done / len(ORDERS))
    )


def _compare(
    test: Floats,
    constant: SpikeGLM,
    glm: SpikeGLM,
    model: EventModel,
    velocity: Floats | None,
    random_state: RandomState,
) -> dict[str, ModelFit]:
    likelihood = constant.likelihood
    reference = log_likelihood(constant.predictor(test), test, likelihood=likelihood)
    fits = {}
    for name, fit, free, eta in (
        ("constant", constant.fit, 0, constant.predictor(test)),
        ("GLM", glm.fit, 0, glm.predictor(test, velocity)),
        ("events", model.glm.fit, len(model.filter) - 1, model.predictor(test)),
    ):
        value = log_likelihood(eta, test, likelihood=likelihood)
        fits[name] = ModelFit(
            len(fit.coefficients) + free,  # the entries of the filter, at unit norm, were fitted, too
            fit.deviance,
            fit.aic + 2 * free,
            bits_per_spike(value, reference, float(test.sum())),
            ks_test(eta, test, likelihood=likelihood, random_state=random_state),
        )
    return fits
