"""Codes cluster around events, k-means finds these, and one filter for all units is not enough.

Tolooshams et al. 2020, appendix 9 and figures 6c and 7. The entries of an l1-regularised code cluster around
the events, since shifts of a filter are much alike. The paper takes the nonzero entries into as many clusters
as there are events by k-means, keeps the largest entry of each, and re-fits the amplitudes without the
penalty. The alternative are the highest peaks of the code, with a least distance between two of them.

Both are used on signals with known events, and on the recordings of the experiment `dcea-whisker`. There one
filter is learned for all units, as in the paper: back-propagation through the unfolded encoder, from the
velocity of the whisker, with the baseline of the time before the deflections. Then baseline, amplitudes and
history are fitted jointly. The same is done with a filter for each unit.
"""

from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.learning import Convolutional, SignalBatches, TrainState, initial_filters, train
from calepin.likelihoods import Binomial
from calepin.operators import ConvDictionary
from calepin.problem import Problem
from calepin.report import Curve, curves, save_figure
from calepin.solvers import refit_codes
from calepin.spikes import bits_per_spike, fit_spike_glm, log_likelihood
from calepin_papers._common import spread
from calepin_papers.dcea import whisker
from calepin_papers.dcea._planted import Planted, descent_coder
from calepin_papers.dcea.whisker import Unit, onset_recall

__all__ = ["DCEA_CLUSTERS", "Settings", "cluster_support", "peak_support"]

Floats = NDArray[np.float64]
SUPPORTS = ("kmeans", "peaks")
FILTERS = ("joint", "own")


@dataclass(frozen=True)
class Settings:
    """Sizes of both parts.

    Attributes
    ----------
    planted
        Signals with known events, of one filter.
    planted_threshold, planted_iter
        Weight of the l1 norm beside the likelihood of one trial, and iterations of FISTA, on these signals.
    near
        Samples within which an event is found.
    recordings
        Of which units, which trials to learn from, and when the deflections happened.
    order
        Bins of history of all units.
    threshold, n_iter
        As above for the recordings; the paper's are 0.119 and 5000.
    n_passes, learning_rate
        Of the filters, one unit a step.
    """

    planted: Planted = field(
        default_factory=lambda: Planted(n_signals=20, n_components=1, length=1500, n_events=8)
    )
    planted_threshold: float = 0.38
    planted_iter: int = 250
    near: int = 3
    recordings: whisker.Settings = field(default_factory=whisker.Settings)
    order: int = 30
    threshold: float = 0.119
    n_iter: int = 200
    n_passes: int = 4
    learning_rate: float = 0.02


def measure(settings: Settings, run: Run) -> Findings:
    """Post-process the codes of both kinds of data."""
    planted = run.piece("planted", lambda: _planted(settings, run))
    values = {f"planted_{name}": float(planted[name].mean()) for name in (*SUPPORTS, "within")}
    values |= {name: float(planted[name].mean()) for name in ("amplitude_before", "amplitude_after")}
    units = list(islice(whisker.units(settings.recordings, run.seed), settings.recordings.n_units))
    found: dict[str, list[dict[str, NDArray]]] = {}
    for i, kind in enumerate(FILTERS):
        run.progress((i + 1) / 3, f"whisker, {kind} filter")
        groups = [units] if kind == "joint" else [[unit] for unit in units]
        for n, group in enumerate(groups):
            piece = run.piece(f"{kind}-{n}", lambda group=group: _whisker(group, settings, run))
            found.setdefault(kind, []).append(piece)
    for kind, pieces in found.items():
        for support in SUPPORTS:
            for what in ("recall", "bits"):
                every = np.concatenate([piece[f"{support}_{what}"] for piece in pieces])
                values |= spread(f"{kind}_{support}_{what}", every)
            values[f"{kind}_{support}_all_found"] = float(
                np.mean(np.concatenate([piece[f"{support}_recall"] for piece in pieces]) >= 0.99)
            )
    figures = [
        _draw_planted(planted, run),
        _draw_filters(found, run),
        _draw_code(found, units, settings, run),
    ]
    return Findings(values, _claims(values), figures)


def _claims(values: dict[str, float]) -> list[Claim]:
    return [
        Claim(
            "known events: fraction of the code's mass within 5 samples of one",
            values["planted_within"], ">=", 0.9,
        ),
        Claim("known events: fraction found by k-means", values["planted_kmeans"], ">=", 0.9),
        Claim(
            "known events: amplitudes after the re-fit over those of the code",
            values["amplitude_after"] / values["amplitude_before"], ">=", 1.2,
        ),
        Claim(
            "whisker, one filter for all units: fraction of deflections found by k-means, median",
            values["joint_kmeans_recall"], ">=", 0.9,
        ),
        Claim(
            "whisker, a filter for each unit over one for all: median gain, bits a spike",
            values["own_kmeans_bits"] - values["joint_kmeans_bits"], ">=", 0.0,
        ),
    ]  # fmt: skip


def cluster_support(code: Floats, n_clusters: int, seed: int) -> NDArray[np.intp]:
    """Return the largest entry of each cluster of the positions of nonzero entries."""
    at = np.flatnonzero(code)
    if len(at) <= n_clusters:
        return at
    kmeans = KMeans(n_clusters, random_state=seed).set_params(n_init=10)
    labels = kmeans.fit_predict(at[:, None].astype(float))
    members = [at[labels == label] for label in range(n_clusters)]
    return np.sort([one[code[one].argmax()] for one in members if len(one)])


def peak_support(code: Floats, n_events: int, window: int) -> NDArray[np.intp]:
    """Return the highest entries that are more than `window` apart."""
    rest, found = code.copy(), []
    while len(found) < n_events and rest.max() > 0:
        peak = int(rest.argmax())
        found.append(peak)
        rest[max(0, peak - window) : peak + window + 1] = 0
    return np.sort(np.array(found, np.intp))


def _supports(code: Floats, n_events: int, window: int, seed: int) -> dict[str, NDArray[np.intp]]:
    return {
        "kmeans": cluster_support(code, n_events, seed),
        "peaks": peak_support(code, n_events, window),
    }


def _planted(settings: Settings, run: Run) -> dict[str, ArrayLike]:
    """Code signals with their true filter; return what is found of the events, and one signal's code."""
    planted = settings.planted
    data = planted.draw(np.random.default_rng([run.seed, 0]))
    atoms = torch.from_numpy(data.atoms)
    dictionary = ConvDictionary(atoms, signal_shape=(planted.length,))
    problem = Problem(dictionary, Binomial(planted.trials), torch.from_numpy(data.X), planted.baseline)
    coder = descent_coder(settings.planted_threshold, planted.trials, settings.planted_iter)
    codes = coder.encode(problem).dense()
    kept = torch.zeros_like(codes, dtype=torch.bool)
    result: dict[str, list[float]] = {"kmeans": [], "peaks": [], "within": []}
    for n, (code, truth) in enumerate(zip(codes[:, 0].numpy(), data.codes[:, 0], strict=True)):
        true = np.flatnonzero(truth)
        nearest = np.abs(np.arange(len(code))[:, None] - true).min(1)
        result["within"].append(code[nearest <= 5].sum() / code.sum())
        supports = _supports(code, planted.n_events, planted.kernel // 5, run.seed)
        for name, support in supports.items():
            near = np.abs(true[:, None] - support).min(1) <= settings.near
            result[name].append(near.mean())
        kept[n, 0, torch.from_numpy(supports["kmeans"])] = True
    refitted = refit_codes(
        problem.y, atoms, kept, likelihood=Binomial(planted.trials), offset=planted.baseline
    )
    shown = {"code": codes[0, 0], "refitted": refitted[0, 0], "truth": data.codes[0, 0]}
    amplitudes = {"amplitude_before": codes[kept].mean(), "amplitude_after": refitted[kept].mean()}
    return {**result, **shown, **amplitudes}


def _whisker(units: list[Unit], settings: Settings, run: Run) -> dict[str, ArrayLike]:
    """Learn one filter for units; return it, the codes, and what both supports find and gain."""
    recordings = settings.recordings
    train_counts = [unit.counts[: recordings.n_train] for unit in units]
    totals = np.array([counts.sum(0) for counts in train_counts])[:, None]
    offsets = [np.full((1, 1), _resting(counts, recordings)) for counts in train_counts]
    likelihood = Binomial(recordings.n_train)
    batches = SignalBatches(
        totals, 1, likelihood=likelihood, offset=offsets, seed=run.seed, device=run.device
    )
    coder = descent_coder(settings.threshold, recordings.n_train, settings.n_iter)
    rule = Convolutional(
        coder,
        gradient="ae-ls",
        optimizer=partial(torch.optim.Adam, lr=settings.learning_rate, eps=1e-3),
        replace=False,
    )
    velocity = units[0].velocity[recordings.first_onset :][: recordings.period]
    start = (velocity / np.linalg.norm(velocity))[None, None]
    rng = np.random.default_rng(run.seed)
    atoms = initial_filters(1, (recordings.period,), batches, init=start, generator=rng)
    state = TrainState(rule.init(atoms))
    train(rule, batches, state, max_iter=settings.n_passes)
    atoms = state.learned.atoms.detach()
    problem = Problem(
        ConvDictionary(atoms, signal_shape=totals.shape[2:]),
        likelihood,
        torch.as_tensor(totals).to(atoms),
        torch.as_tensor(np.array(offsets)).to(atoms),
    )
    codes = coder.encode(problem).dense()[:, 0].cpu().double().numpy()
    result: dict[str, ArrayLike] = {"filter": atoms[0, 0].cpu(), "codes": codes}
    for support in SUPPORTS:
        fits = [
            _judged(unit, code, atoms[0, 0].cpu().double().numpy(), support, settings, run.seed)
            for unit, code in zip(units, codes, strict=True)
        ]
        result |= {f"{support}_recall": [fit[0] for fit in fits], f"{support}_bits": [fit[1] for fit in fits]}
    return result


def _resting(counts: Floats, recordings: whisker.Settings) -> float:
    """Return the log-odds of a spike before the first deflection."""
    rate = max(counts[:, : recordings.first_onset].mean(), 1e-4)
    return float(np.log(rate / (1 - rate)))


def _judged(
    unit: Unit, code: Floats, h: Floats, support: str, settings: Settings, seed: int
) -> tuple[float, float]:
    """Return the onsets found, as a fraction, and the gain over the GLM on held-out trials, bits a spike."""
    recordings = settings.recordings
    onsets = _supports(code, recordings.n_events, recordings.window, seed)[support]
    if not len(onsets):
        return 0.0, 0.0
    counts, test = unit.counts[: recordings.n_train], unit.counts[recordings.n_train :]
    columns = np.stack([whisker.repeated(h, [onset], [1.0], counts.shape[1]) for onset in onsets], axis=1)
    events = fit_spike_glm(counts, columns, order=settings.order, ridge=1e-3)
    glm = fit_spike_glm(counts, unit.velocity, order=settings.order)
    mine, other = (
        log_likelihood(eta, test, likelihood=Binomial())
        for eta in (events.predictor(test, columns), glm.predictor(test, unit.velocity))
    )
    recall = onset_recall(
        onsets, recordings.onsets, tolerance=recordings.tolerance, longest_delay=recordings.period // 2
    )
    return recall, bits_per_spike(mine, other, float(test.sum()))


def _stems(code: Floats, scale: float = 1.0) -> Curve:
    """Return the nonzero entries of a code as lines from zero."""
    at = np.flatnonzero(code)
    heights = np.stack([np.zeros(len(at)), scale * code[at], np.zeros(len(at))], 1)
    return Curve(np.repeat(at, 3), heights.ravel())


def _draw_planted(planted: dict[str, NDArray], run: Run) -> str:
    """Figure 7: a code before and after, and the true one downwards."""
    lines = {
        "k-means and re-fit": _stems(planted["refitted"]),
        "code": _stems(planted["code"]),
        "true (downwards)": _stems(planted["truth"], -1),
    }
    title = "Output of the encoder before and after post-processing"
    figure = curves(lines, xlabel="time (samples)", ylabel="amplitude", title=title)
    save_figure(figure, run.folder / "planted.png")
    return "planted.png"


def _draw_filters(found: dict[str, list[dict[str, NDArray]]], run: Run) -> str:
    joint, own = found["joint"][0]["filter"], np.array([piece["filter"] for piece in found["own"]])
    x = np.arange(len(joint))
    lines = {"one for all units": Curve(x, joint)}
    lines["one for each unit"] = Curve(x, np.median(own, 0), own.min(0), own.max(0))
    figure = curves(lines, xlabel="time (ms)", ylabel="filter", title="Filters learned from spikes")
    save_figure(figure, run.folder / "whisker-filters.png")
    return "whisker-filters.png"


def _draw_code(
    found: dict[str, list[dict[str, NDArray]]], units: list[Unit], settings: Settings, run: Run
) -> str:
    """Figure 7 for the unit whose onsets the joint filter finds best."""
    joint, recordings = found["joint"][0], settings.recordings
    best = int(joint["kmeans_recall"].argmax())
    code, true = joint["codes"][best], np.zeros(len(joint["codes"][best]))
    support = np.zeros_like(code)
    kept = cluster_support(code, recordings.n_events, run.seed)
    support[kept] = code[kept]
    true[recordings.onsets] = -code.max() / 2
    lines = {"code": _stems(code), "kept by k-means": _stems(support), "deflections": _stems(true)}
    figure = curves(lines, xlabel="time (ms)", ylabel="amplitude", title=units[best].name)
    save_figure(figure, run.folder / "whisker-code.png")
    return "whisker-code.png"


DCEA_CLUSTERS = Experiment(
    name="dcea-clusters",
    shows="codes cluster around events and k-means finds these; a filter for each unit is better",
    source="Tolooshams et al. 2020, Fig. 7 and Fig. 6c",
    quick=Settings(),
    paper=Settings(n_iter=5000, n_passes=10),
    measure=measure,
)
