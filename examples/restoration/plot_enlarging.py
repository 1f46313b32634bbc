"""
Twice the size: what lies between the pixels
============================================

A small image shows means of the pixels of a larger one. Interpolation makes it large and blurred. How much of
the detail comes back if the larger image has to give the small one again, and should look like an image?
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage.transform import resize

import calepin
from calepin.datasets import load_sample
from calepin.metrics import psnr
from calepin.operators import Downsample

# %%
# The camera man's head at half its size, with noise of 1 of 255. ``Downsample`` takes the mean of the pixels
# that become one; pass it a blur if your camera has another one.

clean = load_sample("camera").pixels[70:166, 180:276].astype(np.float64)
shrink = Downsample(clean.shape, 2)
small = shrink(torch.from_numpy(clean)[None])[0].numpy()
small += np.random.default_rng(0).normal(0, 1 / 255, small.shape)

# %%
# Bicubic interpolation, and ``calepin.restore`` with four priors.

found = {"bicubic": resize(small, clean.shape, order=3)}
for prior in ("tv", "groups", "dictionary", "network"):
    found[prior] = calepin.restore(small, shrink, noise=calepin.GaussianNoise(1 / 255), prior=prior).image

quality = {name: psnr(image, clean) for name, image in found.items()}
figure, axes = plt.subplots(1, 7, figsize=(17, 3), layout="constrained")
for panel, (name, image) in zip(axes, {"small": small, **found, "true": clean}.items(), strict=True):
    panel.imshow(image, cmap="gray", vmin=0, vmax=1)
    panel.set_title(f"{name}, {quality[name]:.1f} dB" if name in quality else name)
    panel.set_axis_off()
plt.show()

# %%
# What was learned
# ----------------

print({name: f"{value:.2f} dB" for name, value in quality.items()})

# %%
# - Every prior is better than interpolation. The network was trained on photographs and knows the most about
#   them; the dictionary and the groups find what this image repeats.
# - On the command line: ``calepin upscale small.png -o large.png``.

assert min(value for name, value in quality.items() if name != "bicubic") > quality["bicubic"] + 0.8
