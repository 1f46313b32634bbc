"""
A blurred photograph and five priors
====================================

A photograph was blurred by a known Gaussian and has noise. How much of the detail comes back, and what does
the prior matter? A Wiener filter, which has none but a smooth spectrum, stands beside.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage.restoration import unsupervised_wiener

import calepin
from calepin.datasets import load_sample
from calepin.metrics import psnr
from calepin.operators import Blur

# %%
# The camera man's head, blurred by 1.6 pixels, with noise of 2 of 255.

clean = load_sample("camera").pixels[70:166, 180:276].astype(np.float64)
t = np.arange(-7, 8)
line = np.exp(-0.5 * (t / 1.6) ** 2)
psf = np.outer(line, line) / line.sum() ** 2
blur = Blur(torch.from_numpy(psf), clean.shape)

y = blur(torch.from_numpy(clean)[None])[0].numpy()
y += np.random.default_rng(0).normal(0, 2 / 255, y.shape)

# %%
# One call a prior. The level of the noise is known.

found = {"blurred": y, "Wiener": unsupervised_wiener(y, psf, clip=False, rng=0)[0]}
for prior in ("wavelet", "tv", "groups", "dictionary"):
    found[prior] = calepin.restore(y, blur, noise=calepin.GaussianNoise(2 / 255), prior=prior).image

inner = (slice(8, -8), slice(8, -8))
quality = {name: psnr(image[inner], clean[inner]) for name, image in found.items()}
figure, axes = plt.subplots(1, 7, figsize=(17, 3), layout="constrained")
for panel, (name, image) in zip(axes, {**found, "true": clean}.items(), strict=True):
    panel.imshow(image[inner], cmap="gray", vmin=0, vmax=1)
    panel.set_title(f"{name}, {quality[name]:.1f} dB" if name in quality else name)
    panel.set_axis_off()

# %%
# Each step lowers the level of the noise that the denoiser removes; the residual ends at the noise that was
# added.

result = calepin.restore(y, blur, noise=calepin.GaussianNoise(2 / 255), prior="tv")
figure, panel = plt.subplots(figsize=(6, 3.2), layout="constrained")
steps = np.arange(1, result.n_iter + 1)
for name in ("level", "residual"):
    panel.semilogy(steps, [255 * step[name] for step in result.history], marker="o", label=name)
panel.axhline(2, color="gray", linestyle=":", label="noise")
panel.set(xlabel="step", ylabel="of 255")
panel.legend()

# %%
# What was learned
# ----------------

print({name: f"{value:.2f} dB" for name, value in quality.items()})

# %%
# The priors that know that patches resemble each other are best, before total variation and wavelets. All are
# better than the Wiener filter, by two decibels or more.

assert min(quality["dictionary"], quality["groups"]) > max(quality["tv"], quality["wavelet"])
assert min(quality["tv"], quality["wavelet"]) > quality["Wiener"] + 2
