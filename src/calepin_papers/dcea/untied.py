"""Tied weights recover the filters by back-propagation through the encoder, untied weights do not.

Tolooshams et al. 2020, figure 4. DCEA-UC frees the encoder's two dictionaries H and W_e and the decoder's
W_d. Here both networks are trained alike: the same layers, loss, optimiser and start, without the number of
events. They differ in their ties alone.

From filters near the true ones the paper finds all three dictionaries of DCEA-UC farther from the truth than
they began. That is claimed for H. In the median W_e and W_d end farther too at the scale of the paper; at
quick scale W_e stays about where it began, and W_d mostly ends nearer. Their errors are values.
Away from the truth (windows of the data with much energy) no dictionary of the untied network comes as near
as the filters of the tied one.
"""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from calepin.datasets import ConvolutionalData
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.learning import (
    ArrayBatches,
    CosineDecay,
    NetworkRule,
    SignalBatches,
    TrainState,
    initial_filters,
    train,
)
from calepin.likelihoods import Binomial
from calepin.metrics import filter_error
from calepin.networks import UnfoldedAutoencoder
from calepin.operators import ConvDictionary
from calepin.penalties import NonNegativeL1
from calepin.report import Curve, curves, save_figure
from calepin_papers._common import spread
from calepin_papers.dcea._planted import Planted, perturbed

__all__ = ["DCEA_UNTIED", "Settings"]

TIED = {"tied": "atoms"}
UNTIED = {"H": "atoms", "We": "encoder_atoms", "Wd": "decoder_atoms"}
STARTS = ("near", "windows")


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation and of the runs.

    Attributes
    ----------
    planted
        The simulation.
    n_draws
        Independent simulations.
    threshold
        Weight of the l1 norm beside the likelihood of one trial. The loss has no penalty: with a small
        weight filters bend away from the truth.
    n_unfold
        Layers of both networks.
    n_passes
        Passes over the signals from the near start, and from windows.
    batch_size, learning_rate
        Of Adam with eps 1e-3, whose rate decays to a hundredth.
    """

    planted: Planted = field(default_factory=Planted)
    n_draws: int = 3
    threshold: float = 0.6
    n_unfold: int = 40
    n_passes: tuple[int, int] = (8, 20)
    batch_size: int = 50
    learning_rate: float = 0.02


def measure(settings: Settings, run: Run) -> Findings:
    """Train both networks from both starts in every draw."""
    names = [f"{start}_{name}" for start in STARTS for name in (*TIED, *UNTIED)]
    errors: dict[str, list[float]] = {name: [] for name in names}
    shown: dict[str, np.ndarray] = {}
    for draw, seeds in enumerate(np.random.SeedSequence(run.seed).spawn(settings.n_draws)):
        run.progress(draw / settings.n_draws, f"draw {draw + 1}")
        rng = np.random.default_rng(seeds)
        data = settings.planted.draw(rng)
        for start in STARTS:
            filters = _start(start, data, settings, rng, draw)

            def compute(start: str = start, draw: int = draw, data=data, filters=filters) -> dict:
                return {
                    **_train(data, filters, settings, start, draw, run.device, tied=True),
                    **_train(data, filters, settings, start, draw, run.device, tied=False),
                }

            found = run.piece(f"draw{draw}-{start}", compute)
            shift = 0 if start == "near" else settings.planted.kernel // 2
            for name, weights in found.items():
                errors[f"{start}_{name}"].append(
                    float(filter_error(weights, data.atoms, max_shift=shift).mean())
                )
            shown = shown or {"true": data.atoms, **found}
    values = {"err_start": settings.planted.start_error}
    for name, found in errors.items():
        values |= spread(f"err_{name}", found)
    best = np.min([errors[f"windows_{name}"] for name in UNTIED], axis=0)
    values |= spread("windows_untied_over_tied", best / errors["windows_tied"])
    return Findings(values, _claims(values), [_draw(shown, run)])


def _claims(values: dict[str, float]) -> list[Claim]:
    start = values["err_start"]
    return [
        Claim("tied, from near filters: nearer than they began", values["err_near_tied_max"], "<=", start),
        Claim(
            "untied, from near filters: H ends farther than it began", values["err_near_H_min"], ">=", start
        ),
        Claim("tied, from windows of the data: recovered, median", values["err_windows_tied"], "<=", start),
        Claim(
            "untied, from windows: error of the best dictionary over that of the tied one, median",
            values["windows_untied_over_tied"],
            ">=",
            1.5,
        ),
    ]


def _start(
    start: str, data: ConvolutionalData, settings: Settings, rng: np.random.Generator, seed: int
) -> np.ndarray:
    """Return filters near the true ones, or windows of the data."""
    planted = settings.planted
    if start == "near":
        return perturbed(data.atoms, planted.start_error, rng)
    batches = SignalBatches(data.X, settings.batch_size, likelihood=Binomial(planted.trials), seed=seed)
    size = (planted.kernel,)
    return initial_filters(planted.n_components, size, batches, init="data", generator=rng).numpy()


def _train(
    data: ConvolutionalData,
    start: np.ndarray,
    settings: Settings,
    kind: str,
    seed: int,
    device: str,
    *,
    tied: bool,
) -> dict[str, np.ndarray]:
    """Return the dictionaries of the trained network."""
    trials = settings.planted.trials
    filters = torch.as_tensor(start, dtype=torch.float32, device=device)
    curvature = ConvDictionary(filters, signal_shape=data.X.shape[2:]).norm_squared() * trials / 4
    network = UnfoldedAutoencoder(
        filters,
        NonNegativeL1(settings.threshold * trials),
        n_unfold=settings.n_unfold,
        step_size=1 / curvature,
        likelihood=Binomial(trials),
        tied=tied,
        padding="none",
    )
    batches = ArrayBatches(data.X.astype(np.float32), settings.batch_size, seed=seed, device=device)
    n_passes = settings.n_passes[STARTS.index(kind)]
    rule = NetworkRule(
        network,
        optimizer=partial(torch.optim.Adam, lr=settings.learning_rate, eps=1e-3),
        schedule=CosineDecay(n_passes * (batches.n_steps or 1)),
        target="observed",
        unit_norm=True,
    )
    state = train(rule, batches, TrainState(rule.init()), max_iter=n_passes)
    trained = state.learned.network
    weights = TIED if tied else UNTIED
    return {name: getattr(trained, w).detach().cpu().numpy() for name, w in weights.items()}


def _draw(shown: dict[str, np.ndarray], run: Run) -> str:
    """Draw the first filter from the near start, as in figure 4, with that of the tied network."""
    x = np.arange(shown["true"].shape[2])
    labels = {
        "true": "true",
        "tied": "tied",
        "H": "untied, $H$",
        "We": "untied, $W_e$",
        "Wd": "untied, $W_d$",
    }
    lines = {labels.get(name, name): Curve(x, filters[0, 0]) for name, filters in shown.items()}
    save_figure(curves(lines, xlabel="time (samples)", ylabel="filter"), run.folder / "filters.png")
    return "filters.png"


DCEA_UNTIED = Experiment(
    name="dcea-untied",
    shows="trained alike, a tied network recovers the filters and an untied one does not",
    source="Tolooshams et al. 2020, Fig. 4",
    quick=Settings(),
    paper=Settings(planted=Planted(n_signals=1000), n_draws=5, n_unfold=250),
    measure=measure,
)
