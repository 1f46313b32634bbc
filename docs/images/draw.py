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
from calepin.datasets import load_sample, simulate_convolutional
from calepin.metrics import match_filters, psnr
from calepin.operators import SubsampledHadamard
from calepin.report import atom_tiles

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
    """Draw spike counts of 25 trials, and two learned event shapes beside the true ones."""
    data = simulate_convolutional(600, (400,), n_components=2, kernel_size=(50,), offset=-3.0, random_state=0)
    learner = calepin.ConvolutionalDictionaryLearner(
        2, 50, likelihood="binomial", trials=25, random_state=0
    ).fit(data.X)
    figure = Figure(figsize=(9, 3), layout="constrained")
    counts, *shapes = figure.subplots(1, 3, width_ratios=[2, 1, 1])
    counts.bar(np.arange(400), data.X[0, 0], width=1, color="0.4")
    counts.set(title="spikes in 25 trials", xlabel="time (ms)", ylabel="count", xlim=(0, 400))
    learned = match_filters(learner.components_, data.atoms, max_shift=None).align(learner.components_)
    learned /= np.linalg.norm(learned, axis=(1, 2), keepdims=True)
    for i, axis in enumerate(shapes):
        axis.plot(data.atoms[i, 0], color=BLUE, linewidth=4, alpha=0.5, label="true")
        axis.plot(learned[i, 0], color=ORANGE, label="learned")
        axis.set(title=f"event {i + 1}", xlabel="time (ms)", ylabel="log-odds")
    figure.legend(*shapes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
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
