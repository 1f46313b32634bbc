"""
k-space along spokes
====================

A scanner may measure k-space along straight lines through its centre. Spokes forgive motion, and the centre
is measured again and again; but the samples lie on no grid, and there are few in the outer parts of k-space.
What becomes of an image with few spokes?
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage.data import shepp_logan_phantom

import calepin
from calepin.metrics import psnr
from calepin.operators import NonCartesianFourier, radial_trajectory

SIZE, SPOKES = 80, 32

# %%
# A quarter of the spokes that a full measurement needs, pi / 2 times the width of the image, and noise.

phantom = shepp_logan_phantom().reshape(SIZE, 5, SIZE, 5).mean((1, 3))
coordinates = radial_trajectory(phantom.shape, SPOKES)
fourier = NonCartesianFourier(phantom.shape, coordinates)
clean = fourier(torch.from_numpy(phantom + 0j)[None])[0]
rng = np.random.default_rng(0)
level = 0.005
y = clean.numpy() + level * (rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape))

# %%
# Gridding: each sample counts as much as the area of k-space that it stands for, the inverse of the density;
# then the adjoint. ``calepin.restore`` needs no such weights.

gridded = fourier.adjoint(torch.from_numpy(y)[None] / fourier.density())[0].numpy()
found = {"gridding": np.abs(gridded)}
for prior in ("tv", "groups"):
    result = calepin.restore(y, fourier, noise=calepin.GaussianNoise(level), prior=prior)
    found[prior] = np.abs(result.image)

quality = {name: psnr(image, phantom) for name, image in found.items()}
figure, axes = plt.subplots(1, 5, figsize=(14, 3), layout="constrained")
axes[0].plot(*coordinates.T.numpy(), ".", markersize=1)
axes[0].set(title="where k-space was measured", xlabel="cycles per field of view", aspect="equal")
for panel, (name, image) in zip(axes[1:], {**found, "true": phantom}.items(), strict=True):
    panel.imshow(image, cmap="gray", vmin=0, vmax=1)
    panel.set_title(f"{name}, {quality[name]:.1f} dB" if name in quality else name)
    panel.set_axis_off()
plt.show()

# %%
# What was learned
# ----------------

print({name: f"{value:.2f} dB" for name, value in quality.items()})

# %%
# - With a quarter of the spokes gridding has streaks, which the priors remove.
# - Several coils: ``NonCartesianFourier((n_coils, height, width), k) @ Sensitivities(maps)``.

assert min(quality["tv"], quality["groups"]) > quality["gridding"] + 3
