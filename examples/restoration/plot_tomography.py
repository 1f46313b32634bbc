"""
Tomography from a few angles
============================

A tomograph measures sums along parallel lines, from several angles. Fewer angles mean less time and a smaller
dose. Filtered back-projection then leaves streaks. How far do few angles suffice with a prior?
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage.data import shepp_logan_phantom
from skimage.transform import iradon

import calepin
from calepin.metrics import psnr
from calepin.operators import Radon

SIZE = 80

# %%
# The phantom of scikit-image, and noise of half a percent of the largest sum.

phantom = shepp_logan_phantom().reshape(SIZE, 5, SIZE, 5).mean((1, 3))
sums = np.random.default_rng(0).standard_normal


def measure(n_angles):
    """Return the operator, the sinogram with noise, and the level of the noise."""
    radon = Radon(phantom.shape, torch.arange(n_angles, dtype=torch.float64) * 180 / n_angles)
    sinogram = radon(torch.from_numpy(phantom)[None])[0].numpy()
    level = 0.005 * sinogram.max()
    return radon, sinogram + level * sums(sinogram.shape), level


# %%
# Back-projection of scikit-image, with the best of its filters, beside ``calepin.restore``.


def back_projection(radon, sinogram):
    """Return the best back-projection of any filter."""
    angles = radon.angles.numpy()
    images = [
        iradon(sinogram.T, theta=angles, filter_name=name, output_size=SIZE)
        for name in ("ramp", "shepp-logan", "cosine", "hamming", "hann")
    ]
    return max(images, key=lambda image: psnr(image, phantom))


shown, quality = {}, {"back-projection": [], "tv": [], "groups": []}
counts = (10, 20, 40)
for n_angles in counts:
    radon, sinogram, level = measure(n_angles)
    found = {"back-projection": back_projection(radon, sinogram)}
    for prior in ("tv", "groups"):
        found[prior] = calepin.restore(sinogram, radon, noise=calepin.GaussianNoise(level), prior=prior).image
    shown[n_angles] = found
    for name, image in found.items():
        quality[name].append(psnr(image, phantom))

figure, axes = plt.subplots(1, 5, figsize=(14, 3), layout="constrained")
for panel, (name, image) in zip(axes, {**shown[20], "true": phantom}.items(), strict=False):
    panel.imshow(image, cmap="gray", vmin=0, vmax=1)
    panel.set_title(f"{name}, 20 angles" if name != "true" else name)
    panel.set_axis_off()
for name, values in quality.items():
    axes[4].plot(counts, values, marker="o", label=name)
axes[4].set(xlabel="angles", ylabel="PSNR (dB)", xticks=counts)
axes[4].legend()
plt.show()

# %%
# What was learned
# ----------------

print({name: [f"{value:.1f} dB" for value in values] for name, values in quality.items()})

# %%
# - Total variation suits a phantom of flat areas best. Anatomy is not flat: try "dictionary" or "groups" too.
# - On the command line, with a sinogram (angles, positions): ``calepin reconstruct sinogram.npy
#   --angles 0:180 -o image.tif``.

assert all(tv > back + 1 for tv, back in zip(quality["tv"], quality["back-projection"], strict=True))
assert quality["tv"][-1] > quality["back-projection"][-1] + 6
