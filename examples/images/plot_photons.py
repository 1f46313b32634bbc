"""
Photon counts
=============

An image of few photons is not an image plus noise: the variance of a count is its mean. How few photons are
enough, and what is lost if they are denoised as if the noise were Gaussian?
"""

import matplotlib.pyplot as plt
import numpy as np

import calepin
from calepin.datasets import GaussianNoise, PoissonNoise, add_noise, load_sample
from calepin.metrics import psnr

plt.style.use("seaborn-v0_8-colorblind")

# %%
# The *peak* is the expected count at the brightest pixel. With a peak of 1, most pixels have no photon at
# all.

clean = load_sample("camera").pixels[20:212, 120:312]
peaks = [1, 4, 16, 64]


def denoised(counts, peak):
    """Return the counts, denoised in several ways, in the units of the clean image."""
    unit = PoissonNoise(peak).unit(clean)
    found = {"counts": counts * unit}
    level = GaussianNoise(float(np.sqrt(counts.mean())))  # the mean variance of the counts
    found["as Gaussian noise"] = calepin.denoise(counts, noise=level).image * unit
    for method in ("dictionary", "network", "best"):
        if method != "network" or peak <= 5:
            found[method] = calepin.denoise(counts, noise=PoissonNoise(), method=method).image * unit
    return found


images = {peak: denoised(add_noise(clean, PoissonNoise(peak), random_state=0), peak) for peak in peaks}

# %%
# ``PoissonNoise()`` without a peak estimates it. The networks that calepin ships are for peaks from 1 to 4.

figure, axes = plt.subplots(2, 5, figsize=(15, 6.6), layout="constrained")
for row, peak in zip(axes, (1, 4), strict=True):
    for panel, (name, image) in zip(row, images[peak].items(), strict=True):
        panel.imshow(image, cmap="gray", vmin=0, vmax=1)
        panel.set_title(f"{name}, {psnr(image, clean):.1f} dB", fontsize=11)
        panel.set(xticks=[], yticks=[])
    row[0].set_ylabel(f"peak {peak}", fontsize=12)

# %%

figure, axes = plt.subplots(figsize=(7, 4.3), layout="constrained")
styles = {"counts": "v-.", "as Gaussian noise": "^:", "dictionary": "s--", "network": "o-", "best": "D-"}
for name, style in styles.items():
    points = [(peak, psnr(found[name], clean)) for peak, found in images.items() if name in found]
    axes.plot(*np.transpose(points), style, label=name)
axes.set(xscale="log", xlabel="peak: expected photons at the brightest pixel", ylabel="PSNR in dB")
axes.set_xticks(peaks, peaks)
axes.minorticks_off()
axes.legend(loc="lower right")
axes.grid(alpha=0.3)

# %%
# What was learned
# ----------------

for peak, found in images.items():
    print(
        f"peak {peak:2}:", ", ".join(f"{name} {psnr(image, clean):.1f} dB" for name, image in found.items())
    )

# %%
# Treated as Gaussian noise of one level, the dark parts are smoothed too much and bright parts too little;
# more than two decibels are lost even at a peak of 64 photons, and more than six at a peak of 1. The
# dictionary works on counts that were transformed to a variance of one, several times from coarse to fine
# where photons are few. The network was trained on counts of other photographs. "best", the default of
# :func:`calepin.denoise` for counts, guides the dictionary by a network for Gaussian noise, and from .75 to 5
# photons takes a mean with the network for counts.

table = {peak: {name: psnr(image, clean) for name, image in found.items()} for peak, found in images.items()}
assert all(row["dictionary"] > row["as Gaussian noise"] + 2 for row in table.values())
assert all(row["best"] > max(row.get("network", 0), row["dictionary"]) for row in table.values())
