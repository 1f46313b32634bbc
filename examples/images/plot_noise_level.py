"""
How much noise is in this image?
================================

:func:`calepin.denoise` estimates the noise level unless it is given. How good is the estimate, and when
does it fail?
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage.restoration import estimate_sigma

from calepin.datasets import GaussianNoise, add_noise, load_sample
from calepin.imaging import estimate_noise

plt.style.use("seaborn-v0_8-colorblind")

# %%
# Four images, from smooth to texture everywhere. Noise of known levels is added, and estimated by
# :func:`calepin.imaging.estimate_noise` (covariance of flat patches) and by scikit-image's
# ``estimate_sigma`` (median of the finest wavelet coefficients).

names = ["moon", "camera", "coins", "grass"]
levels = np.array([2, 5, 10, 25, 50])
ratios = {"calepin": {}, "scikit-image": {}}
for name in names:
    clean = load_sample(name).pixels[:300, :300]
    noisy = [add_noise(clean, GaussianNoise(level / 255), random_state=0) for level in levels]
    ratios["scikit-image"][name] = [estimate_sigma(image) for image in noisy] / (levels / 255)
    ratios["calepin"][name] = [estimate_noise(image) for image in noisy] / (levels / 255)

figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
for panel, (method, found) in zip(axes, ratios.items(), strict=True):
    panel.axhline(1, color="0.6", linewidth=1)
    for (name, values), style in zip(found.items(), ("o-", "s--", "^:", "v-."), strict=True):
        panel.plot(levels, values, style, label=name)
    panel.set(xscale="log", yscale="log", title=method, xlabel="true noise level (white is 255)")
    panel.set_xticks(levels, levels)
    panel.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    panel.minorticks_off()
    panel.grid(alpha=0.3)
axes[0].set_ylabel("estimate / true level")
axes[1].legend()

# %%
# The images, with the noise of level 10:

figure, axes = plt.subplots(1, 4, figsize=(12, 3.3), layout="constrained")
for panel, name in zip(axes, names, strict=True):
    clean = load_sample(name).pixels[:300, :300]
    panel.imshow(add_noise(clean, GaussianNoise(10 / 255), random_state=0), cmap="gray", vmin=0, vmax=1)
    panel.set_title(name)
    panel.set_axis_off()

# %%
# What was learned
# ----------------

for method, found in ratios.items():
    print(method, {name: np.round(values, 2).tolist() for name, values in found.items()})

# %%
# On three of four images the estimate of calepin is within 5 % of the truth at all levels. The median of
# wavelet coefficients takes texture for noise, the more so the weaker the noise is. Where texture is
# everywhere, as in grass, both overestimate weak noise, since there is no flat patch to measure it in: then
# give the level.

smooth = np.array([ratios["calepin"][name] for name in ("moon", "camera", "coins")])
assert np.abs(smooth - 1).max() < 0.05
assert ratios["calepin"]["grass"][0] > 1.5
