"""Figure 4 and section 4.1: the Jacobian of a four-layer deep decoder before and during a fit.

For images, its spectrum: how fast it falls, and how far fitting moves it. For signals in one dimension also
its left singular vectors, beside the trigonometric functions of eq. 10.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.networks import DeepDecoder
from calepin.operators import SubsampledDCT, SubsampledHadamard
from calepin.reconstruction import (
    FitProgress,
    fit_untrained,
    jacobian_spectrum,
    spectral_drift,
    subspace_energy,
    trigonometric_basis,
)
from calepin.report import curves, save_figure
from calepin.solvers import Adam
from calepin_papers._common import band, fixed_iterations, spread
from calepin_papers._random import torch_generator
from calepin_papers.untrained_networks.image_pair import load_pair, sketch_shape

__all__ = ["CS_JACOBIAN", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Sizes of the decoders.

    Attributes
    ----------
    iterations
        Iterations after which the spectrum is computed, in order; 0 is the start.
    leading
        Fraction of the singular values, the largest ones, that rates and drifts are computed from; the
        smallest are rounding errors.
    line_size, line_in_size
        Entries of the signals in one dimension, and of the input of their decoder.
    n_vectors
        Leading singular vectors of the decoder of such signals.
    n_functions
        The signal is a combination of so many trigonometric functions of lowest frequency.
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
    line_size: int = 256
    line_in_size: int = 16
    n_vectors: int = 21
    n_functions: int = 15


def measure(settings: Settings, run: Run) -> Findings:
    """Fit art, and signals, from a quarter of their measurements, and linearise on the way."""
    planes, lines = [], []
    for draw, seed in enumerate(np.random.SeedSequence(run.seed).spawn(settings.n_draws)):
        run.progress(draw / settings.n_draws, f"draw {draw + 1}")
        planes.append(run.piece(f"image{draw}", partial(_image, settings, seed)))
        lines.append(run.piece(f"line{draw}", partial(_line, settings, seed)))
    sigma = np.array([one["spectra"] for one in planes])
    values = _of_spectra(settings, sigma) | spread("overlap", [float(one["overlap"]) for one in planes])
    for name in lines[0]:
        values |= spread(f"line_{name}", [float(one[name]) for one in lines])
    part = f"the leading {settings.leading:.0%}"
    r = settings.n_vectors
    claims = [
        Claim(f"{part} of the singular values fall: first over last", values["fall_min"], ">=", 10.0),
        Claim(
            f"{part} fall at least geometrically: largest over a sequence of their rate, median of spectra",
            values["over_geometric"],
            "<=",
            1.0,
        ),
        Claim(
            f"1-D: {r} leading vectors have low frequencies: energy in the first {2 * r} functions of eq. 10",
            min(values["line_energy_twice_start_min"], values["line_energy_twice_end_min"]),
            ">=",
            0.85,
        ),
    ]
    shown = {
        f"iteration {t}": band(np.arange(1, sigma.shape[2] + 1), sigma[:, i], floor=1e-6 * sigma.max())
        for i, t in enumerate(settings.iterations)
    }
    figure = curves(
        shown,
        xlabel="index",
        ylabel="singular value",
        yscale="log",
        title="Jacobian of a deep decoder (Fig. 4)",
    )
    save_figure(figure, run.folder / "jacobian.png")
    return Findings(values, claims, ["jacobian.png"])


def _of_spectra(settings: Settings, sigma: NDArray) -> dict[str, float]:
    """Return rates, falls and drifts of spectra (n_draws, iterations, m)."""
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
    late = [spectral_drift(*(one[:leading] / one[0] for one in (draw[-2], draw[-1]))) for draw in sigma]
    falls = [one[0] / one[-1] for one in leaders]
    values = {}
    for name, of in (
        ("decay_rate", rates), ("over_geometric", bounded), ("drift", drifts), ("late_drift", late),
        ("fall", falls),
    ):  # fmt: skip
        values |= spread(name, of)
    return values


def _image(settings: Settings, seed: np.random.SeedSequence) -> dict[str, NDArray | float]:
    """Return the spectra on the way, and how much of the first leading subspace the last one has."""
    image = load_pair(settings.size)[0]["art"]
    shape, m = sketch_shape(settings.size, settings.fraction)
    generator = torch_generator(np.random.default_rng(seed))
    operator = SubsampledHadamard(shape, m, generator=generator)
    network = _network(settings, shape[1:], settings.in_size)
    weights = _weights(network, operator, operator(image[None]), settings, generator)
    found = [jacobian_spectrum(network, w) for w in weights]
    n_leading = max(2, int(settings.leading * m))
    overlap = subspace_energy(found[-1].vectors[:n_leading], found[0].vectors[:n_leading])
    return {"spectra": np.array([one.values for one in found]), "overlap": overlap}


def _line(settings: Settings, seed: np.random.SeedSequence) -> dict[str, float]:
    """Return how much energy of the leading vectors is in the first trigonometric functions, and overlaps."""
    rng = np.random.default_rng(seed)
    generator = torch_generator(rng)
    n, r = settings.line_size, settings.n_vectors
    basis = trigonometric_basis(n)
    signal = rng.standard_normal(settings.n_functions) @ basis[: settings.n_functions]
    signal = 0.5 + 0.4 * signal / np.abs(signal).max()
    network = _network(settings, (n,), settings.line_in_size)
    operator = SubsampledDCT((1, n), round(settings.fraction * n), generator=generator)
    y = operator(torch.from_numpy(signal).float()[None, None])
    weights = _weights(network, operator, y, settings, generator)
    vectors = [jacobian_spectrum(network, w).vectors[:r] for w in weights]
    return {
        "energy_start": subspace_energy(vectors[0], basis[:r]),
        "energy_end": subspace_energy(vectors[-1], basis[:r]),
        "energy_twice_start": subspace_energy(vectors[0], basis[: 2 * r]),
        "energy_twice_end": subspace_energy(vectors[-1], basis[: 2 * r]),
        "overlap": subspace_energy(vectors[-1], vectors[0]),
        "late_overlap": subspace_energy(vectors[-1], vectors[-2]),
    }


def _network(settings: Settings, out_size: Sequence[int], in_size: int) -> DeepDecoder:
    return DeepDecoder(tuple(out_size), channels=settings.channels, depth=settings.depth, in_size=in_size)


def _weights(
    network: DeepDecoder,
    operator: SubsampledHadamard | SubsampledDCT,
    y: torch.Tensor,
    settings: Settings,
    generator: torch.Generator,
) -> list[torch.Tensor]:
    """Return the weights after the chosen iterations."""
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
    source="Heckel and Soltanolkotabi 2020, Fig. 4 and section 4.1",
    quick=Settings(n_draws=2, size=32, channels=32, in_size=4, iterations=(0, 50, 400)),
    paper=Settings(n_draws=5, size=32, channels=64, in_size=4, iterations=(0, 1, 50, 500, 3000)),
    measure=measure,
)
