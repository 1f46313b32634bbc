"""
What do the layers of an unfolded denoiser do?
==============================================

Unfold seven steps of convolutional sparse coding, and train the filters of each step, and thresholds that
follow the level of the noise, on photographs: this is the network ``"bsd-gaussian"`` that calepin ships. What
do its filters look like, and what do its layers and the shifts of its grid contribute?
"""

import copy

import matplotlib.pyplot as plt
import numpy as np

from calepin import GaussianNoise, denoise
from calepin.datasets import add_noise, load_sample
from calepin.imaging import NetworkDenoiser
from calepin.metrics import psnr
from calepin.networks import pretrained
from calepin.report import atom_tiles

BLUE, ORANGE = "#0072B2", "#D55E00"

# %%
# A part of a photograph that was not used for the training, with noise of standard deviation 25/255.
clean = load_sample("camera").pixels[60:188, 180:308]
noise = GaussianNoise(25 / 255)
noisy = add_noise(clean, noise, random_state=0)
network = pretrained("bsd-gaussian")


def denoised(n_unfold, n_shifts):
    """Return the image denoised by some of the layers, averaged over some of the four shifts of the grid."""
    shorter = copy.deepcopy(network)
    shorter.n_unfold = n_unfold
    for name in ("analysis", "synthesis", "thresholds"):
        getattr(shorter, name).data = getattr(network, name).data[:n_unfold]
    return denoise(
        noisy, method=NetworkDenoiser(shorter, n_shifts=n_shifts, fallback=False), noise=noise
    ).image


# %%
# The network was trained with seven layers. With fewer, its output is that of an interrupted encoder.
layers, shifts = (1, 2, 3, 4, 5, 6, 7), (1, 2, 4)
by_layers = [psnr(denoised(n, 4), clean) for n in layers]
by_shifts = [psnr(denoised(7, n), clean) for n in shifts]
print("layers", dict(zip(layers, np.round(by_layers, 2).tolist(), strict=True)))
print("shifts", dict(zip(shifts, np.round(by_shifts, 2).tolist(), strict=True)))

figure = plt.figure(figsize=(10, 6.4), layout="constrained")
top, bottom = figure.subfigures(2, 1)
images = {
    f"noisy, {psnr(noisy, clean):.1f} dB": noisy,
    f"4 layers, {by_layers[3]:.1f} dB": denoised(4, 4),
    f"7 layers, {by_layers[-1]:.1f} dB": denoised(7, 4),
    "clean": clean,
}
for place, (name, pixels) in zip(top.subplots(1, 4), images.items(), strict=True):
    place.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    place.set(title=name, xticks=[], yticks=[])
left, middle, right = bottom.subplots(1, 3, width_ratios=[1, 1.1, 1.1])
left.imshow(atom_tiles(network.atoms.detach()[:, 0], width=500), cmap="gray", vmin=0, vmax=1)
left.set(title="64 filters of 8 x 8 pixels", xticks=[], yticks=[])
for place, x, values, label, colour in (
    (middle, layers, by_layers, "layers (with 4 shifts)", BLUE),
    (right, shifts, by_shifts, "shifts of the grid (with 7 layers)", ORANGE),
):
    place.plot(x, values, "o-", color=colour)
    place.axhline(psnr(noisy, clean), color="0.5", linestyle="--", label="noisy image")
    place.set(xlabel=label, ylabel="PSNR (dB)", xticks=x)
middle.legend(frameon=False)
plt.show()

# %%
# What was learned
# ----------------
#
# - The filters of the output are edges and gratings of several widths, and a few are smooth: gray levels are
#   coded, too.
# - The output is of no use before the last layers: the training was for seven layers, and only the last
#   output counted.
# - Filters are placed on a grid of every second pixel. The mean over the shifts of the grid is worth some
#   tenths of a decibel: use fewer only where time matters more (``n_shifts``).
assert by_shifts[-1] > by_shifts[0] + 0.1
assert by_layers[-1] > max(by_layers[:-1])
