"""Draw the images of README (``make images``) from an image of scikit-image and simulated data, seeded."""

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

import calepin
from calepin.datasets import load_sample
from calepin.metrics import psnr
from calepin.operators import SubsampledHadamard
from calepin.report import atom_tiles
from calepin.spikes import SpikeTrains, analyse_spikes, simulate_spikes

HERE = Path(__file__).parent
BLUE, ORANGE = "#0072B2", "#D55E00"  # of Okabe and Ito: told apart by the colour-blind, too


def main() -> None:
    """Draw all of them."""
    for name, draw in (("denoise", denoise), ("events", events), ("measurements", measurements)):
        path = HERE / f"{name}.png"
        drawn = io.BytesIO()
        draw().savefig(drawn, dpi=80)
        Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def denoise() -> Figure:
    """Draw a photograph with noise of sigma 25, what its dictionary makes of it, and the dictionary."""
    clean = load_sample("camera").pixels[60:220, 150:310]
    noisy = clean + 25 / 255 * np.random.default_rng(0).standard_normal(clean.shape)
    result = calepin.denoise(noisy, noise=calepin.GaussianNoise(25 / 255), random_state=0)
    figure, axes = panels(3)
    show(axes[0], noisy, f"noisy: {psnr(noisy, clean):.1f} dB")
    show(axes[1], result.image, f"denoised: {psnr(result.image, clean):.1f} dB")
    show(axes[2], atom_tiles(result.atoms[:64], width=320), "atoms learned from the noisy image")
    return figure


def events() -> Figure:
    """Draw the spikes of a neuron, when events were found in them, and the learned response to an event."""
    time = np.arange(60)
    response = 3.2 * np.exp(-0.5 * ((time - 14) / 5) ** 2) - 1.5 * np.exp(-0.5 * ((time - 38) / 9) ** 2)
    onsets = np.array([90, 215, 390, 520, 705, 850])
    drive = np.zeros(1000)
    for onset in onsets:
        drive[onset : onset + 60] += response
    history = [-3.0, -3.0, -2.0]
    simulated = simulate_spikes(60, 1000, drive=drive, baseline=-4.2, history=history, random_state=0)
    trains = SpikeTrains(simulated.counts, bin_width=0.001)
    model = analyse_spikes(trains, kernel_size=60, order=5).model
    # counts determine onsets and response only up to a common shift
    delay = round(float(np.mean(model.onsets) - np.mean(onsets)))
    found, learned = model.onsets - delay, np.ravel(model.filter) / np.linalg.norm(model.filter)
    figure = Figure(figsize=(9, 3), layout="constrained")
    raster, shape = figure.subplots(1, 2, width_ratios=[3, 2])
    trial, bin_ = np.nonzero(trains.counts)
    raster.plot(bin_, trial, "|", color="0.3", markersize=2)
    raster.plot(onsets, np.full(len(onsets), 62.0), "v", color=BLUE, label="true events")
    raster.plot(found, np.full(len(found), -3.0), "^", color=ORANGE, label="found")
    raster.set(title="spikes of 60 trials", xlabel="time (ms)", ylabel="trial", xlim=(0, 1000), ylim=(-6, 65))
    raster.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False)
    shape.plot(time, response / np.linalg.norm(response), color=BLUE, linewidth=4, alpha=0.5, label="true")
    shape.plot(time + delay, learned, color=ORANGE, label="learned")
    shape.set(title="response to an event", xlabel="time after the event (ms)", ylabel="log-odds, norm 1")
    shape.legend(frameon=False)
    return figure


def measurements() -> Figure:
    """Draw reconstructions from n/4 measurements: by least squares, and by an untrained network."""
    image = load_sample("camera").pixels[60:188, 160:288].astype(np.float32)
    operator = SubsampledHadamard((1, 128, 128), 128 * 128 // 4, generator=torch.Generator().manual_seed(0))
    y = operator(torch.from_numpy(image)[None, None])
    # the rows are orthogonal and of equal norm: this is the solution of least norm
    least_squares = (operator.adjoint(y) / operator.norm_squared())[0, 0].numpy()
    found = calepin.UntrainedReconstructor(
        operator, max_iter=300, n_starts=2, tol=0, random_state=0
    ).reconstruct(y)
    found = found[0, 0].numpy()
    figure, axes = panels(3)
    show(axes[0], image, "image")
    show(axes[1], least_squares, f"least squares, m = n/4: {psnr(least_squares, image):.1f} dB")
    show(axes[2], found, f"untrained network, m = n/4: {psnr(found, image):.1f} dB")
    return figure


def panels(n: int) -> tuple[Figure, list[Axes]]:
    """Return a figure with n axes for images."""
    figure = Figure(figsize=(3 * n, 3.3), layout="constrained")
    return figure, list(figure.subplots(1, n))


def show(axis: Axes, image: NDArray, title: str) -> None:
    """Show an image in [0, 1] with its title."""
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=10)
    axis.axis("off")


if __name__ == "__main__":
    main()
