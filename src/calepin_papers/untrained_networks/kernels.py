"""Figures 2 and 3: the trigonometric basis, and the weights that triangular kernels give it.

The closed form of eq. 11 is compared with the Jacobian of a generator of finitely many channels at random
coefficients.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.networks import TwoLayerGenerator, triangular_kernel
from calepin.reconstruction import kernel_weights, subspace_energy, trigonometric_basis
from calepin.report import Curve, curves, save_figure
from calepin_papers._common import spread
from calepin_papers._random import torch_generator

__all__ = ["CS_KERNELS", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Sizes of the generators.

    Attributes
    ----------
    n_draws
        Random coefficients for every number of channels.
    leading
        Singular values that are compared; an odd number is whole frequencies.
    """

    n_draws: int
    channels: tuple[int, ...] = (64, 256, 1024)
    n: int = 300
    width: int = 15
    widths: tuple[int, ...] = (3, 7, 15, 31)
    leading: int = 21
    functions: tuple[int, ...] = (1, 2, 6, 21)


def measure(settings: Settings, run: Run) -> Findings:
    """Compare singular values one by one and singular vectors as a subspace."""
    basis = trigonometric_basis(settings.n)[: settings.leading]
    closed = kernel_weights(triangular_kernel(settings.width).numpy(), settings.n)
    expected = np.sort(closed)[::-1][: settings.leading]
    errors, energies = {}, {}
    spectrum = closed
    for done, k in enumerate(settings.channels):
        run.progress(done / len(settings.channels), f"{k} channels")
        found = run.piece(f"k{k}", partial(_spectra, settings, k, run.seed))
        errors[k] = np.median(np.abs(found["values"][:, : settings.leading] / expected - 1), 1)
        energies[k] = [subspace_energy(vectors, basis) for vectors in found["vectors"]]
        spectrum = found["values"][0]
    last = settings.channels[-1]
    values = {}
    for k in settings.channels:
        name = "" if k == last else f"_k{k}"
        for what, of in (("median_top21", errors[k]), ("subspace_energy", energies[k])):
            values |= spread(what + name, of)
    for width in settings.widths:
        weights = kernel_weights(triangular_kernel(width).numpy(), settings.n)
        values[f"decay_exponent_width{width}"] = _decay_exponent(weights)
    claims = [
        Claim(f"eq. 11 gives the singular values at k = {last}: error", values["median_top21"], "<=", 0.03),
        Claim("the leading vectors span low frequencies: energy", values["subspace_energy"], ">=", 0.98),
    ]
    return Findings(values, claims, _figures(settings, closed, spectrum, run))


def _decay_exponent(weights: np.ndarray) -> float:
    """Return the slope of the logarithm of the weights in that of the frequency, from frequency 8 on."""
    cosines = weights[15::2]  # the order is constant, cos 1, sin 1, cos 2, ...
    return float(np.polyfit(np.log(8 + np.arange(len(cosines))), np.log(cosines), 1)[0])


def _spectra(settings: Settings, k: int, seed: int) -> dict[str, np.ndarray]:
    """Return all singular values and the leading left vectors of each draw, from Gram matrices in float64."""
    generator = torch_generator(np.random.default_rng([seed, k]))
    network = TwoLayerGenerator(settings.n, channels=k, kernel=triangular_kernel(settings.width))
    like = torch.zeros(0, dtype=torch.float64)
    values, leading = [], []
    for weights in network.initial(settings.n_draws, like=like, generator=generator):
        energy, vectors = torch.linalg.eigh(network.jacobian_gram(weights))
        values.append(energy.flip(0).clamp_min(0).sqrt().numpy())
        leading.append(vectors.T.flip(0).numpy()[: settings.leading])
    return {"values": np.array(values), "vectors": np.array(leading)}


def _figures(settings: Settings, closed: np.ndarray, spectrum: np.ndarray, run: Run) -> list[str]:
    place = np.arange(settings.n)
    rows = trigonometric_basis(settings.n)
    save_figure(
        curves(
            {f"function {i}": Curve(place, rows[i - 1]) for i in settings.functions},
            xlabel="entry",
            ylabel="value",
            title="Trigonometric basis (Fig. 2)",
        ),
        run.folder / "basis.png",
    )
    index = np.arange(1, settings.n + 1)
    lines = {
        f"width {width}": Curve(index, kernel_weights(triangular_kernel(width).numpy(), settings.n))
        for width in settings.widths
    }
    lines[f"Jacobian, width {settings.width}"] = Curve(index, spectrum)
    floor = 1e-4 * closed.max()
    for name, line in lines.items():
        lines[name] = Curve(line.x, np.maximum(line.y, floor))
    save_figure(
        curves(
            lines,
            xlabel="trigonometric function, by frequency",
            ylabel="weight",
            xscale="log",
            yscale="log",
            title="Weights of triangular kernels (Fig. 3)",
        ),
        run.folder / "kernels.png",
    )
    return ["basis.png", "kernels.png"]


CS_KERNELS = Experiment(
    name="cs-kernels",
    shows="kernels weigh trigonometric functions as eq. 11 says, and Jacobians agree",
    source="Heckel and Soltanolkotabi 2020, Figs. 2 and 3",
    quick=Settings(n_draws=3),
    paper=Settings(n_draws=20, channels=(64, 256, 1024, 4096)),
    measure=measure,
)
