"""
Compressive imaging with an untrained network
=============================================

A single-pixel camera measures sums of pixels with random signs: far fewer sums than pixels. What does
a network without any training recover from them, and is it better than wavelets?
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from calepin import Problem, UntrainedReconstructor, solve
from calepin.datasets import load_sample
from calepin.likelihoods import Gaussian
from calepin.metrics import psnr
from calepin.operators import SubsampledHadamard, Wavelet
from calepin.penalties import L1
from calepin.solvers import FISTA

BLUE, ORANGE = "#0072B2", "#D55E00"

# %%
# An image of 64 x 64 pixels: means of the pixels of a photograph.
photograph = load_sample("camera").pixels[60:316, 100:356]
image = photograph.reshape(64, 4, 64, 4).mean((1, 3)).astype(np.float32)
x = torch.from_numpy(image)[None, None]


# %%
# The network is fitted to the measurements alone: two random starts are averaged, then moved to the nearest
# image that agrees with the measurements. The wavelets (Haar, the best of four kinds here) are given an
# advantage: the weight that is best for the true image.
def by_network(operator, y):
    """Return the image of an untrained network."""
    reconstructor = UntrainedReconstructor(
        operator, max_iter=200, tol=1e-3, n_starts=2, consistent=True, random_state=0
    )
    with (
        warnings.catch_warnings()
    ):  # the number of iterations is chosen: more would fit the measurements better
        warnings.simplefilter("ignore", ConvergenceWarning)
        return reconstructor.reconstruct(y)[0, 0].numpy()


def by_wavelets(operator, y):
    """Return the best image of sparse wavelet coefficients over three weights."""
    wavelets = Wavelet((1, 64, 64), moments=1, levels=5)
    problem = Problem(operator @ wavelets, Gaussian(), y)
    images = [
        wavelets(solve(problem, FISTA(L1(alpha)), n_iter=100).z)[0, 0].numpy() for alpha in (0.003, 0.02, 0.1)
    ]
    return max(images, key=lambda found: psnr(found, image))


fractions = (0.1, 0.2, 0.4)
found = {"network": [], "wavelets": []}
for fraction in fractions:
    operator = SubsampledHadamard(
        (1, 64, 64), round(fraction * image.size), generator=torch.Generator().manual_seed(0)
    )
    y = operator(x)
    found["network"].append(by_network(operator, y))
    found["wavelets"].append(by_wavelets(operator, y))
quality = {name: [psnr(one, image) for one in images] for name, images in found.items()}
print({name: np.round(values, 1).tolist() for name, values in quality.items()})

# %%
# Images from a fifth of the measurements, and the quality at all three fractions.
figure = plt.figure(figsize=(10, 3.2), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[2.2, 1])
shown = {"true": image, "network": found["network"][1], "wavelets": found["wavelets"][1]}
for place, (name, pixels) in zip(left.subplots(1, 3), shown.items(), strict=True):
    place.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    place.set(xticks=[], yticks=[])
    place.set_title(name if name == "true" else f"{name}, m = n/5: {quality[name][1]:.1f} dB", fontsize=10)
axes = right.subplots()
for (name, values), colour, marker in zip(quality.items(), (BLUE, ORANGE), "os", strict=True):
    axes.plot(fractions, values, color=colour, marker=marker, label=name)
axes.set(xlabel="measurements per pixel", ylabel="PSNR (dB)", xticks=fractions)
axes.legend(frameon=False)
plt.show()

# %%
# What was learned
# ----------------
#
# - An architecture is prior knowledge: a network that has seen no image recovers one from a fifth as many
#   measurements as pixels, and is several decibels ahead of sparse wavelets.
# - The transform is orthogonal and has no redundancy; redundant wavelets or a learned dictionary would be a
#   stronger rival.
# - Averaging starts and agreeing with the measurements are cheap: ``n_starts`` and ``consistent``.
assert quality["network"][1] > quality["wavelets"][1]
