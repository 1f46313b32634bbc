"""
Denoise your images
===================

You have an image with noise and want a better one. This tutorial removes noise of known and of
unknown level from gray and colour images, checks the result without a clean image, and shows two
cases that go wrong.

The model: each pixel is the clean pixel plus normal noise of one standard deviation, sigma.
:func:`calepin.denoise` learns a dictionary from patches of the noisy image itself, so no training
data are needed.
"""

# %%
# An image with noise
# -------------------
# Pixels are floats. Images from files have black at 0 and white at 1, whatever their bit depth:
# ``calepin.datasets.read_image("photo.png").pixels``. Here we take a photograph from scikit-image
# and add noise ourselves, so that the truth is known.

import warnings

import matplotlib.pyplot as plt
from scipy.ndimage import gaussian_filter

import calepin
from calepin.datasets import GaussianNoise, PoissonNoise, add_noise, load_sample
from calepin.metrics import psnr
from calepin.report import atom_tiles, before_after

clean = load_sample("camera").pixels[::2, ::2]  # 256 x 256
sigma = 25 / 255  # a tenth of the range from black to white
noisy = add_noise(clean, GaussianNoise(sigma), random_state=0)

# %%
# Denoise it
# ----------
# Without a noise model, white Gaussian noise is assumed and its level is estimated.

result = calepin.denoise(noisy, random_state=0)
print(f"estimated sigma {result.sigma:.4f}, true {sigma:.4f}")


def caption(image):
    """Return the PSNR of an image as text."""
    return f"{psnr(clean, image):.1f} dB"


plt.figure(
    before_after(
        {"noisy": noisy, "denoised": result.image, "clean": clean},
        captions={"noisy": caption(noisy), "denoised": caption(result.image)},
    )
)
plt.show()

# %%
# The numbers are the peak signal-to-noise ratio (PSNR); 3 dB more is half of the squared error.
# Look at the enlarged detail: edges should be sharp, and flat areas should be flat.
#
# The atoms
# ---------
# The dictionary has 256 atoms of 8 x 8 pixels. Edges in several directions and smooth patches are
# good signs. Atoms that look like noise mean that the image is small, or that the noise dominates
# it.

figure, axes = plt.subplots(figsize=(6, 6.2), layout="constrained")
axes.imshow(atom_tiles(result.atoms), cmap="gray", vmin=0, vmax=1)
axes.set(title="256 atoms of 8 x 8 pixels", xticks=[], yticks=[])
plt.show()

# %%
# Check without a clean image
# ---------------------------
# With your own image there is no PSNR. Look at what was removed instead, noisy minus denoised. It
# should look like noise: its standard deviation is near sigma, and its spectrum is flat. Where you
# see your image in it, the method removed detail.

removed = noisy - result.image
print(f"standard deviation of what was removed: {removed.std():.4f}, sigma: {result.sigma:.4f}")
too_much = noisy - calepin.denoise(noisy, noise=GaussianNoise(2 * sigma), random_state=0).image

figure, panels = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
for axes, image, title in zip(
    panels, (removed, too_much), ("sigma estimated", "sigma twice too large"), strict=True
):
    shown = axes.imshow(image, cmap="gray", vmin=-3 * sigma, vmax=3 * sigma)
    axes.set(title=title, xticks=[], yticks=[])
figure.colorbar(shown, ax=panels, label="noisy minus denoised (white = 1)", shrink=0.8)
plt.show()

# %%
# On the right, edges of the tripod and the skyline are visible in what was removed: sigma was too
# large.
#
# Colour
# ------
# Colour images have shape (h, w, 3). They are transformed so that the noise stays white, and
# denoised together.

colour = load_sample("astronaut").pixels[:200, 120:320]
noisy_colour = add_noise(colour, GaussianNoise(sigma), random_state=1)
denoised_colour = calepin.denoise(noisy_colour, noise=GaussianNoise(sigma), random_state=0).image
plt.figure(before_after({"noisy": noisy_colour, "denoised": denoised_colour, "clean": colour}))
plt.show()

# %%
# Few photons
# -----------
# In low light, pixels are counts: their noise grows with the signal, and sigma does not describe
# it. Pass the counts as they are, with :class:`calepin.PoissonNoise`. The result is the expected
# count of each pixel. Do not scale counts first: scaled counts no longer have the variance of a
# Poisson distribution.

counts = add_noise(clean, PoissonNoise(peak=10), random_state=2)  # the brightest pixel has 10 photons
expected = calepin.denoise(counts, noise=PoissonNoise(), random_state=0).image
truth = clean / PoissonNoise(peak=10).unit(clean)

figure, panels = plt.subplots(1, 3, figsize=(9.5, 3.6), layout="constrained")
for axes, image, title in zip(
    panels, (counts, expected, truth), ("counts", "denoised", "truth"), strict=True
):
    shown = axes.imshow(image, cmap="gray", vmin=0, vmax=12)
    axes.set(title=title, xticks=[], yticks=[])
figure.colorbar(shown, ax=panels, label="photons per pixel", shrink=0.8)
plt.show()

# %%
# What goes wrong, and how calepin reports it
# -------------------------------------------
# **The noise is not white.** After demosaicking, JPEG compression or resizing, neighbouring pixels
# have similar noise. The estimate of sigma is then far too low, and too little is removed. calepin
# warns:

correlated = gaussian_filter(noisy - clean, 1.0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    result = calepin.denoise(clean + correlated, random_state=0)
print(f"estimated {result.sigma:.4f}, true {correlated.std():.4f}")
for warning in caught:
    print(f"{warning.category.__name__}: {warning.message}")

# %%
# **There is nothing to remove.** A drawing or a screenshot without noise comes back unchanged, with
# a warning.
#
# **Counts with a Gaussian model.** The estimate is one level for dark and bright areas alike, so
# bright areas stay noisy. If your values are whole numbers that start at zero, use
# ``PoissonNoise()``.
#
# **Masked pixels and NaN** are an error that says so. Fill them first.
#
# What was learned
# ----------------
# - Leave sigma out if you do not know it; give it if you do, in the units of the pixels.
# - Look at noisy minus denoised. It should look like noise, with standard deviation sigma.
# - Counts need ``PoissonNoise()``.
#
# On the command line: ``calepin denoise photo.png -o clean.png``. Next:
# :doc:`/how-to/denoise-images` has 16-bit files, floats with units of their own, and trained
# networks; :doc:`/background/denoising` has the method.
