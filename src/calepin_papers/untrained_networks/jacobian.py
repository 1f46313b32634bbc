"""Figure 4: the spectrum of a four-layer deep decoder's Jacobian falls fast, and how much it drifts."""

from dataclasses import dataclass

import numpy as np
import torch

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.networks import DeepDecoder
from calepin.operators import SubsampledHadamard
from calepin.reconstruction import (
    FitProgress,
    fit_untrained,
    jacobian_spectrum,
    spectral_drift,
    subspace_energy,
)
from calepin.report import curves, save_figure
from calepin.solvers import Adam
from calepin_papers._common import band, fixed_iterations, spread
from calepin_papers._random import torch_generator
from calepin_papers.untrained_networks.image_pair import load_pair, sketch_shape

__all__ = ["CS_JACOBIAN", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Sizes of the decoder.

    Attributes
    ----------
    iterations
        Iterations after which the spectrum is computed, in order; 0 is the start.
    leading
        Fraction of the singular values, the largest ones, that rates and drifts are computed from; the
        smallest are rounding errors.
    """

    n_draws: int
    size: int
    channels: int
    in_size: int
    iterations: tuple[int, ...]
    depth: int = 4
    fraction: float = 0.25
    learning_rate: float = 0.01
    leading: float = 0.25


def measure(settings: Settings, run: Run) -> Findings:
    """Fit art from a quarter of its measurements, and linearise on the way."""
    image = load_pair(settings.size)[0]["art"]
    shape, m = sketch_shape(settings.size, settings.fraction)
    spectra, overlaps = [], []
    for draw, seed in enumerate(np.random.SeedSequence(run.seed).spawn(settings.n_draws)):
        run.progress(draw / settings.n_draws, f"draw {draw + 1}")
        generator = torch_generator(np.random.default_rng(seed))
        operator = SubsampledHadamard(shape, m, generator=generator)
        weights = _weights(operator, operator(image[None]), settings, generator)
        network = _network(settings)
        found = [jacobian_spectrum(network, w) for w in weights]
        spectra.append([s.values for s in found])
        n_leading = max(2, int(settings.leading * m))
        overlaps.append(subspace_energy(found[-1].vectors[:n_leading], found[0].vectors[:n_leading]))
    sigma = np.array(spectra)
    leading = int(settings.leading * sigma.shape[2])
    index = np.arange(1, leading + 1)
    leaders = [one[:leading] for draw in sigma for one in draw]
    rates = [np.polyfit(index, np.log(one), 1)[0] for one in leaders]
    # over the geometric sequence of that rate from the first value: at most 1 if they fall at least so fast
    bounded = [
        float((one / (one[0] * np.exp(rate * (index - 1)))).max())
        for one, rate in zip(leaders, rates, strict=True)
    ]
    drifts = [
        spectral_drift(*(one[:leading] / one[0] for one in (draw[0], later)))
        for draw in sigma
        for later in draw[1:]
    ]
    falls = [one[0] / one[-1] for one in leaders]
    values = {}
    for name, of in (
        ("decay_rate", rates), ("over_geometric", bounded), ("drift", drifts), ("fall", falls),
        ("overlap", overlaps),
    ):  # fmt: skip
        values |= spread(name, of)
    part = f"the leading {settings.leading:.0%}"
    claims = [
        Claim(f"{part} of the singular values fall: first over last", values["fall_min"], ">=", 10.0),
        Claim(
            f"{part} fall at least geometrically: largest over a sequence of their rate from the first",
            values["over_geometric_max"],
            "<=",
            1.0,
        ),
    ]
    lines = {
        f"iteration {t}": band(np.arange(1, sigma.shape[2] + 1), sigma[:, i], floor=1e-6 * sigma.max())
        for i, t in enumerate(settings.iterations)
    }
    figure = curves(
        lines,
        xlabel="index",
        ylabel="singular value",
        yscale="log",
        title="Jacobian of a deep decoder (Fig. 4)",
    )
    save_figure(figure, run.folder / "jacobian.png")
    return Findings(values, claims, ["jacobian.png"])


def _network(settings: Settings) -> DeepDecoder:
    return DeepDecoder(
        (settings.size, settings.size),
        channels=settings.channels,
        depth=settings.depth,
        in_size=settings.in_size,
    )


def _weights(
    operator: SubsampledHadamard, y: torch.Tensor, settings: Settings, generator: torch.Generator
) -> list[torch.Tensor]:
    """Return the weights after the chosen iterations."""
    network = _network(settings)
    start = network.initial(1, like=y, generator=generator)
    kept = [start[0]]

    def watch(progress: FitProgress) -> None:
        if progress.n_iter in settings.iterations:
            kept.append(progress.weights[0])

    with fixed_iterations():  # the iterations on the way are what is measured
        fit_untrained(
            network,
            operator,
            y,
            start=start,
            optimizer=Adam(settings.learning_rate),
            max_iter=settings.iterations[-1],
            tol=0.0,
            patience=None,
            callback=watch,
        )
    return kept


CS_JACOBIAN = Experiment(
    name="cs-jacobian",
    shows="leading singular values of the Jacobian fall at least geometrically; how far fitting moves them",
    source="Heckel and Soltanolkotabi 2020, Fig. 4",
    quick=Settings(n_draws=2, size=32, channels=32, in_size=4, iterations=(0, 50, 400)),
    paper=Settings(n_draws=5, size=32, channels=64, in_size=4, iterations=(0, 1, 50, 500, 3000)),
    measure=measure,
)
