"""Whisker deflections found in the spikes of thalamic neurons, with unknown times.

Twelve units (four neurons under three stimuli) of 50 trials, 16 deflections each. From 30 trials one filter
and the onsets of 16 events are learned, with baseline and history (`calepin.spikes.fit_event_model`); the
other 20 are for testing. Compared are the regression on the whisker's velocity, that on the velocity
delayed by up to 30 ms (the delay chosen on the 30 trials), and events whose onsets are known.

Where CALEPIN_DATA does not hold the recordings, simulated neurons take their place: a latency of some
milliseconds, a burst, and suppression afterwards.

Here each unit has its own filter. The paper learns one for all, and finds onsets by k-means on the codes:
see `clusters`.

The order of the history is chosen by AIC among the paper's, 5 to 100. Some units take 100, which nearly
reaches back to the deflection before: their history explains a part of the response, and the gain over the
GLM is smaller than with short histories. The KS statistics of both models are values: that of the events is
not lower for every unit, nor at the median.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.datasets import data_path, has_data
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.likelihoods import Binomial
from calepin.report import save_figure
from calepin.spikes import (
    Events,
    KSTest,
    SpikeGLM,
    bits_per_spike,
    filter_panels,
    fit_event_model,
    fit_spike_glm,
    join_trials,
    ks_test,
    log_likelihood,
    read_spikes,
    select_order,
    simulate_spikes,
    spike_figure,
)
from calepin_papers._common import spread

__all__ = ["DCEA_WHISKER", "Settings", "Unit", "onset_recall", "repeated", "units"]

FOLDER = "spikes/whisker_thalamus"
NEURONS = ("Dir3_Neuron1", "Dir3_Neuron2", "Dir16_Neuron1", "Dir16_Neuron2")
STIMULI = (1, 2, 3)
NAMES = ("DCEA", "BCOMP", "known onsets", "GLM", "delayed GLM")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """Sizes of the data, and what the fits are given.

    Attributes
    ----------
    n_units
        At most the twelve.
    n_train
        First trials, which are learned from; the others test.
    first_onset, period, n_events
        When the deflections happened, in bins of 1 ms. The fit is given their number; the length of the
        kernel is the period.
    alpha, n_iter, window, ridge, n_rounds
        See `calepin.spikes.fit_event_model`.
    orders
        Of history, of which AIC takes one; the paper's are 5 to 100.
    longest_delay
        Of the velocity.
    tolerance
        Bins within which an onset is found, after one delay for each unit.
    """

    n_units: int = 12
    n_train: int = 30
    first_onset: int = 500
    period: int = 125
    n_events: int = 16
    alpha: float = 0.05
    n_iter: int = 300
    window: int = 60
    ridge: float = 0.3
    n_rounds: int = 3
    orders: tuple[int, ...] = tuple(range(5, 101, 5))
    longest_delay: int = 30
    tolerance: int = 10

    @property
    def onsets(self) -> NDArray[np.intp]:
        """First bins of the deflections."""
        return self.first_onset + self.period * np.arange(self.n_events)


@dataclass(frozen=True)
class Unit:
    """Spikes (n_trials, n_bins) and the whisker's position (n_bins,)."""

    name: str
    counts: Floats
    position: Floats

    @property
    def velocity(self) -> Floats:
        """First difference of the position."""
        return np.diff(self.position, prepend=self.position[0])


@dataclass(frozen=True)
class Outcome:
    """One unit under all models: what was found, and how well it fits held-out trials.

    Attributes
    ----------
    found
        By the name of a model and ``.onsets``, ``.amplitudes``, ``.filter`` (models of events),
        ``.log_likelihood``, ``.quantiles``, ``.statistic``, ``.band`` (all models); ``n_spikes`` of the
        held-out trials and ``order`` of the history.
    """

    unit: Unit
    found: dict[str, NDArray]

    def gain(self, name: str, reference: str) -> float:
        """Bits for each spike that one model is better than another."""
        mine, other = (float(self.found[f"{one}.log_likelihood"]) for one in (name, reference))
        return bits_per_spike(mine, other, float(self.found["n_spikes"]))

    def test(self, name: str) -> KSTest:
        """Test of the model by time rescaling."""
        quantiles, statistic, band = (
            self.found[f"{name}.{what}"] for what in ("quantiles", "statistic", "band")
        )
        return KSTest(quantiles, float(statistic), float(band))

    def events(self, name: str) -> Events:
        """Onsets and amplitudes of a model of events."""
        return Events(self.found[f"{name}.onsets"], self.found[f"{name}.amplitudes"])


def measure(settings: Settings, run: Run) -> Findings:
    """Fit all models to all units."""
    outcomes = []
    for i, unit in enumerate(islice(units(settings, run.seed), settings.n_units)):
        run.progress(i / settings.n_units, f"unit {unit.name}")
        name = f"unit-{unit.name.replace(' ', '-')}"
        outcomes.append(Outcome(unit, run.piece(name, lambda unit=unit: _fit(unit, settings, run.seed))))
    values = _values(outcomes, settings, run.seed)
    claims = [
        Claim("deflections found within 10 ms", values["onset_recall"], ">=", 0.9),
        Claim("units more likely than under the GLM", values["nll_better_than_glm"], ">=", 0.8),
        Claim(
            "units more likely than under the GLM with delayed velocity",
            values["nll_better_than_lagged_glm"],
            ">=",
            0.75,
        ),
        Claim("median gain over the GLM, bits a spike", values["median_gain_bits"], ">=", 0.25),
    ]
    return Findings(values, claims, _draw(outcomes, settings, run))


def onset_recall(found: ArrayLike, true: ArrayLike, *, tolerance: int, longest_delay: int) -> float:
    """Return the fraction of true onsets near a found one, the largest over one delay common to all."""
    found, true = np.asarray(found), np.asarray(true)
    delays = np.arange(-longest_delay, longest_delay + 1)
    distances = np.abs(true[None, :, None] + delays[:, None, None] - found[None, None, :]).min(2)
    return float((distances <= tolerance).mean(1).max())


def units(settings: Settings, seed: int) -> Iterator[Unit]:
    """Yield the recorded units, or simulated ones where there are no recordings."""
    if not has_data(FOLDER):
        yield from _simulated(settings, seed)
        return
    folder = data_path(FOLDER)
    for neuron in NEURONS:
        for stimulus in STIMULI:
            name = f"{neuron}_Stim{stimulus}"
            parts = [read_spikes(folder / f"{name}_{part}dataBis.mat") for part in ("trng", "test")]
            trains = join_trials(parts)
            if trains.stimulus is None:
                raise ValueError(f"{folder / name}: expected one stimulus in all trials")
            yield Unit(name.replace("_", " "), trains.counts, trains.stimulus)


def _simulated(settings: Settings, seed: int) -> Iterator[Unit]:
    """Yield neurons that respond to a deflection late, with a burst and then suppression."""
    n_bins = settings.first_onset + settings.period * settings.n_events + settings.first_onset
    lags = np.arange(settings.period)
    for neuron, seeds in enumerate(np.random.SeedSequence(seed).spawn(len(NEURONS))):
        rng = np.random.default_rng(seeds)
        latency, width = rng.uniform(8, 20), rng.uniform(3, 6)
        burst = np.exp(-0.5 * ((lags - latency) / width) ** 2)
        silence = rng.uniform(0.2, 0.5) * np.exp(-0.5 * ((lags - latency - 30) / 12) ** 2)
        response = (burst - silence) / np.linalg.norm(burst - silence)
        history = [-4, -2.5, *-np.exp(-np.arange(8) / 3.0)]
        for stimulus in STIMULI:
            amplitudes = (20 - 3 * stimulus) * rng.uniform(0.8, 1.2, settings.n_events)
            drive = repeated(response, settings.onsets, amplitudes, n_bins)
            trains = simulate_spikes(
                50, n_bins, drive=drive, baseline=-4.2, history=history, random_state=rng
            )
            rise = 10 * stimulus
            pulse = np.sin(np.pi * np.minimum(lags / (2 * rise), 1))
            position = repeated(pulse, settings.onsets, np.ones(settings.n_events), n_bins)
            yield Unit(f"simulated {neuron + 1} stimulus {stimulus}", trains.counts, position)


def repeated(shape: Floats, onsets: Iterable[int], amplitudes: Iterable[float], n_bins: int) -> Floats:
    """Return the sum of a shape at each onset, times its amplitude; what passes the end is cut off."""
    total = np.zeros(n_bins)
    for onset, amplitude in zip(onsets, amplitudes, strict=True):
        part = shape[: n_bins - onset]
        total[onset : onset + len(part)] += amplitude * part
    return total


def _fit(unit: Unit, settings: Settings, seed: int) -> dict[str, ArrayLike]:
    """Return what an `Outcome` holds."""
    train, test = unit.counts[: settings.n_train], unit.counts[settings.n_train :]
    glm = select_order(train, unit.velocity, orders=settings.orders)
    order = len(glm.history)
    delayed, delay = _delayed(train, unit.velocity, glm, settings)
    start = unit.velocity[settings.first_onset :][: settings.period]
    variants = {
        "DCEA": {"coder": "fista"},
        "BCOMP": {"coder": "pursuit"},
        "known onsets": {"onsets": settings.onsets},
    }
    events = {
        name: fit_event_model(
            train,
            np.maximum(start, 0),
            n_events=settings.n_events,
            order=order,
            n_rounds=settings.n_rounds,
            alpha=settings.alpha,
            window=settings.window,
            ridge=settings.ridge,
            n_iter=settings.n_iter,
            **variant,
        )
        for name, variant in variants.items()
    }
    predictors = {name: model.predictor(test) for name, model in events.items()}
    predictors["GLM"] = glm.predictor(test, unit.velocity)
    predictors["delayed GLM"] = delayed.predictor(test, _late(unit.velocity, delay))
    found: dict[str, ArrayLike] = {"n_spikes": test.sum(), "order": order}
    for name, model in events.items():
        found |= {f"{name}.onsets": model.onsets, f"{name}.amplitudes": model.amplitudes}
        found[f"{name}.filter"] = model.filter
    for name, eta in predictors.items():
        tested = ks_test(eta, test, random_state=seed)
        found |= {f"{name}.quantiles": tested.quantiles, f"{name}.statistic": tested.statistic}
        found[f"{name}.band"] = tested.band
        found[f"{name}.log_likelihood"] = log_likelihood(eta, test, likelihood=Binomial())
    return found


def _delayed(train: Floats, velocity: Floats, glm: SpikeGLM, settings: Settings) -> tuple[SpikeGLM, int]:
    """Return the regression on the velocity at its most likely delay, and the delay."""
    fits, last = [], glm
    for delay in range(settings.longest_delay + 1):
        last = fit_spike_glm(train, _late(velocity, delay), order=len(glm.history), start=last)
        fits.append(last)
    delay = int(np.argmax([fit.fit.log_likelihood for fit in fits]))
    return fits[delay], delay


def _late(velocity: Floats, delay: int) -> Floats:
    return np.concatenate([np.zeros(delay), velocity[: len(velocity) - delay]])


def _values(outcomes: list[Outcome], settings: Settings, seed: int) -> dict[str, float]:
    values = {}
    for name, prefix in (("DCEA", ""), ("BCOMP", "bcomp_"), ("known onsets", "known_")):
        for reference, short in (("GLM", "glm"), ("delayed GLM", "lagged_glm")):
            gains = np.array([outcome.gain(name, reference) for outcome in outcomes])
            values[f"{prefix}nll_better_than_{short}"] = float(np.mean(gains > 0))
            what = f"{prefix}median_gain_bits" + ("" if short == "glm" else "_lagged")
            values |= spread(what, gains)
        recalls = [_recall(outcome.events(name).onsets, settings) for outcome in outcomes]
        values |= spread(f"{prefix}onset_recall", recalls, np.mean)
    del values["known_onset_recall"], values["known_onset_recall_min"], values["known_onset_recall_max"]
    rng = np.random.default_rng(seed)
    last = outcomes[0].unit.counts.shape[1] - settings.period
    drawn = [rng.choice(last, settings.n_events, replace=False) for _ in range(100)]
    values["onset_recall_chance"] = float(np.mean([_recall(onsets, settings) for onsets in drawn]))
    shorts = ("model", "bcomp", "known", "glm", "lagged_glm")
    for name, short in zip(NAMES, shorts, strict=True):
        tests = [outcome.test(name) for outcome in outcomes]
        values |= spread(f"ks_{short}", [test.statistic for test in tests])
        values[f"ks_{short}_inside"] = float(sum(test.inside for test in tests))
    for outcome in outcomes:
        unit = outcome.unit.name.replace(" ", "_")
        values[f"{unit}_order"] = float(outcome.found["order"])
        values[f"{unit}_bits"] = outcome.gain("DCEA", "GLM")
        values[f"{unit}_ks"] = outcome.test("DCEA").statistic
        values[f"{unit}_ks_glm"] = outcome.test("GLM").statistic
    closer = [outcome.test("DCEA").statistic < outcome.test("GLM").statistic for outcome in outcomes]
    values["ks_better_than_glm"] = float(np.mean(closer))
    values["n_units"] = float(len(outcomes))
    return values


def _recall(onsets: ArrayLike, settings: Settings) -> float:
    return onset_recall(
        onsets, settings.onsets, tolerance=settings.tolerance, longest_delay=settings.period // 2
    )


def _draw(outcomes: list[Outcome], settings: Settings, run: Run) -> list[str]:
    """Draw Figure 6 for the unit of the median gain, and the filters of all."""
    gains = [outcome.gain("DCEA", "GLM") for outcome in outcomes]
    shown = outcomes[int(np.argsort(gains)[len(gains) // 2])]
    filters = {outcome.unit.name: _filters(outcome, settings) for outcome in outcomes}
    figures = {
        "unit.png": spike_figure(
            shown.unit.counts,
            events={name: shown.events(name) for name in ("DCEA", "BCOMP")},
            filters=_filters(shown, settings),
            tests={name: shown.test(name) for name in NAMES},
            stimulus=shown.unit.position,
            bin_width=0.001,
            onsets=settings.onsets.tolist(),
        ),
        "filters.png": filter_panels(filters),
    }
    for name, figure in figures.items():
        save_figure(figure, run.folder / name)
    return list(figures)


def _filters(outcome: Outcome, settings: Settings) -> dict[str, Floats]:
    velocity = outcome.unit.velocity[settings.first_onset :][: settings.period]
    learned = {name: outcome.found[f"{name}.filter"] for name in ("DCEA", "BCOMP")}
    return learned | {"velocity": velocity / np.linalg.norm(velocity)}


DCEA_WHISKER = Experiment(
    name="dcea-whisker",
    shows="whisker deflections and a filter learned from spikes fit held-out trials better than a GLM",
    source="Tolooshams et al. 2020, Fig. 6",
    quick=Settings(),
    paper=Settings(n_iter=5000, orders=tuple(range(5, 101))),
    measure=measure,
)
