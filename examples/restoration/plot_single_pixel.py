"""
A single-pixel camera: which patterns?
======================================

One detector measures the sum of the light that a pattern of mirrors lets through, pattern after pattern. How
many patterns does an image need, and which?
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import calepin
from calepin.datasets import load_sample
from calepin.metrics import psnr
from calepin.operators import Matrix, SubsampledHadamard

# %%
# The image has 64 x 64 = 4096 pixels: means of the pixels of a photograph. A fifth as many sums are measured,
# with noise of half a percent of their standard deviation.

photograph = load_sample("camera").pixels[60:316, 100:356]
clean = photograph.reshape(64, 4, 64, 4).mean((1, 3)).astype(np.float64)
x = torch.from_numpy(clean)[None]
n = clean.size // 5

# %%
# Random patterns of 0 and 1, and randomly chosen rows of a Hadamard matrix whose columns have random signs.
# These are patterns of +1 and -1, two measurements each with real mirrors, and they have a fast transform.

patterns = np.random.default_rng(0).integers(0, 2, (n, 4096)).astype(np.float64)
random = Matrix(torch.from_numpy(patterns), (64, 64))
hadamard = SubsampledHadamard((64, 64), n).double()

# %%
# Two priors, and beside them the least-squares solution of smallest norm, which has none.

found = {}
for name, camera in {"random": random, "Hadamard": hadamard}.items():
    y = camera(x)[0].numpy()
    level = 0.005 * y.std()
    y = y + np.random.default_rng(1).normal(0, level, y.shape)
    if name == "random":
        weights = np.linalg.solve(patterns @ patterns.T, y)
        found["random, least norm"] = (patterns.T @ weights).reshape(64, 64)
    noise = calepin.GaussianNoise(level)
    for prior in ("tv", "dictionary"):
        found[f"{name}, {prior}"] = calepin.restore(y, camera, noise=noise, prior=prior).image

quality = {name: psnr(image, clean) for name, image in found.items()}
figure, axes = plt.subplots(1, 6, figsize=(15, 3), layout="constrained")
for panel, (name, image) in zip(axes, {**found, "true": clean}.items(), strict=True):
    panel.imshow(image, cmap="gray", vmin=0, vmax=1)
    panel.set_title(f"{name}\n{quality[name]:.1f} dB" if name in quality else name)
    panel.set_axis_off()
plt.show()

# %%
# What was learned
# ----------------

print({name: f"{value:.2f} dB" for name, value in quality.items()})

# %%
# - Without a prior a fifth of the measurements gives no image that anyone would look at.
# - Both kinds of patterns do; those of Hadamard need no matrix in memory.
# - On the command line: ``calepin reconstruct counts.npy --matrix patterns.npy -o image.tif``.

priors = [value for name, value in quality.items() if "least norm" not in name]
assert min(priors) > quality["random, least norm"] + 5
