"""
Noise with a pattern
====================

Lines of a scanner, hum of an amplifier, demosaicking: noise that is correlated between pixels. A denoiser
that takes it for white keeps it. What does it take to remove it?
"""

import matplotlib.pyplot as plt
import numpy as np

import calepin
from calepin.datasets import CorrelatedNoise, add_noise, load_sample
from calepin.metrics import psnr

plt.style.use("seaborn-v0_8-colorblind")

# %%
# The noise of this scanner is white noise, smeared along the rows: neighbours in a row are nearly equal.

clean = load_sample("camera").pixels[60:188, 180:308].astype(float)
scanner = CorrelatedNoise.from_kernel(np.ones((1, 9)), sigma=0.12)
noisy = add_noise(clean, scanner, random_state=0)

# %%
# **Taken for white.** The patterns are wider than those that a denoiser expects of noise.

white = calepin.denoise(noisy, noise=calepin.GaussianNoise(0.12)).image

# %%
# **A dark frame** shows the noise without a scene. Its power spectral density is all that is needed.

dark = [add_noise(np.full((128, 128), 0.1), scanner, random_state=k) for k in (1, 2)]
found = CorrelatedNoise.from_dark_frames(dark)
denoised = calepin.denoise(noisy, noise=found).image
print(f"sigma of the dark frames {found.sigma:.3f}, true .120")

# %%
# Noise of this kind has nearly all of its power in the frequencies of the columns, and hardly any in others:
# there the image shows through.

images = {
    "noisy": noisy,
    "taken for white": white,
    "density of dark frames": denoised,
    "clean": clean,
}
figure, axes = plt.subplots(2, 4, figsize=(11, 5.6), layout="constrained")
for (title, image), (top, bottom) in zip(images.items(), axes.T, strict=True):
    value = "" if title == "clean" else f"\n{psnr(image, clean):.1f} dB"
    top.imshow(image, cmap="gray", vmin=0, vmax=1)
    top.set_title(title + value)
    bottom.imshow(image[40:90, 30:80], cmap="gray", vmin=0, vmax=1)
    for place in (top, bottom):
        place.set_axis_off()

# %%
# What was learned
# ----------------

gain = psnr(denoised, clean) - psnr(white, clean)
print(f"Knowing the density of the noise gains {gain:.1f} dB.")

# %%
# Noise that looks like a pattern is removed if its power spectral density is known, and two dark frames tell
# it. Taken for white, most of it stays. On the command line: ``calepin denoise scan.tif -o clean.tif
# --dark-frame dark.tif``, or ``--psd`` for a density that is known.
