"""
A stack of a camera
===================

A microscope records a time series of cells with few photons. How much does it help to denoise all frames
together, and what does one have to know about the camera?
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

import calepin
from calepin.datasets import PoissonGaussianNoise, add_noise
from calepin.imaging import estimate_photon_transfer

plt.style.use("seaborn-v0_8-colorblind")

# %%
# Cells with filaments drift by half a pixel a frame. The camera has a gain of 2 units a photon, an offset of
# 100 and read noise of 3 units; the brightest pixels have 15 photons.

generator = np.random.default_rng(0)
side, n_frames = 80, 12
lines = np.zeros((side + 20, side + 20))
for _ in range(14):
    place, angle = generator.uniform(0, side + 20, 2), generator.uniform(0, 2 * np.pi)
    for _ in range(160):
        angle += generator.normal(0, 0.1)
        place = place + 0.5 * np.array([np.sin(angle), np.cos(angle)])
        if (place < 0).any() or (place >= side + 19).any():
            break
        lines[tuple(place.round().astype(int))] = 1
rows, columns = np.mgrid[: side + 20, : side + 20]
cells = sum(
    1 / (1 + np.exp(np.hypot(rows - y, columns - x) - r))
    for y, x, r in [(30, 30, 16), (65, 60, 20), (20, 75, 11)]
)
field = ndimage.gaussian_filter(lines, 1.2) / 0.35 + 0.4 * cells
scene = np.stack(
    [ndimage.shift(field, (0.3 * t, -0.4 * t), mode="nearest")[10:-10, 10:-10] for t in range(n_frames)]
)
camera = PoissonGaussianNoise(gain=2.0, offset=100.0, read=3.0)
clean = 100 + 2 * 15 * np.clip(scene / scene.max(), 0, 1)
stack = add_noise(clean, camera, random_state=0)

# %%
# **The camera.** The variance of the differences of successive frames grows with the brightness: its slope is
# the gain. Dark frames give offset and read noise.

dark = add_noise(np.full((8, side, side), 100.0), camera, random_state=1)
found = estimate_photon_transfer(stack, dark=dark)
print(f"gain {found.gain:.2f}, offset {found.offset:.1f}, read noise {found.read:.2f}")

# %%
# **All frames together**, with ``axes="TYX"``: time, height, width. Similar patches are found in other
# frames, too, where they follow what moves.

together = calepin.denoise(stack, noise=found, axes="TYX").image
alone = np.stack([calepin.denoise(frame, noise=found).image for frame in stack[5:7]])


def error(image, frame):
    """Return the root mean square error in photons."""
    return np.sqrt(np.mean((image - clean[frame]) ** 2)) / 2


figure, axes = plt.subplots(1, 4, figsize=(15, 4), layout="constrained")
panels = {
    "measured": stack[5],
    "one frame alone": alone[0],
    "all frames together": together[5],
    "clean": clean[5],
}
for panel, (name, image) in zip(axes, panels.items(), strict=True):
    shown = panel.imshow(image, cmap="gray", vmin=95, vmax=clean.max())
    panel.set_title(name if name == "clean" else f"{name}: {error(image, 5):.2f} photons", fontsize=11)
    panel.set(xticks=[], yticks=[])
figure.colorbar(shown, ax=axes, label="units of the camera", shrink=0.8)

# %%
# A line through time: a pixel's row of one column, frame by frame. Denoised alone, frames flicker.

columns_of = {"measured": stack[:, :, 40], "together": together[:, :, 40], "clean": clean[:, :, 40]}
figure, axes = plt.subplots(1, 3, figsize=(12, 3), layout="constrained", sharey=True)
for panel, (name, image) in zip(axes, columns_of.items(), strict=True):
    panel.imshow(image.T, cmap="gray", vmin=95, vmax=clean.max(), aspect="auto")
    panel.set(title=name, xlabel="frame")
axes[0].set_ylabel("row")

# %%
# What was learned
# ----------------

ratio = error(alone[0], 5) / error(together[5], 5)
print(f"The error of a frame is {ratio:.2f} times smaller if all frames are denoised together.")

# %%
# The stack itself tells the gain of the camera, and each frame helps to denoise the others, although the
# scene moves. A volume is denoised in the same way, with ``axes="ZYX"``. Where the scene changes from one
# frame to the next, frames have nothing in common, and each is denoised alone.
