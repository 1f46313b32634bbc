"""
A learned layer over a trained generator, from few samples
==========================================================

A network was trained on 1500 digits. The images of a new camera are upside down and dimmed. How many of
its images are needed to adapt the network, if only its last layer is learned again?

:class:`calepin.GenerativeDictionaryLearner` learns the layer A in ``x = G(z) A``; G is the network without
its last layer, and each image is described by ten numbers z.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA

from calepin import GenerativeDictionaryLearner
from calepin.datasets import load_digits
from calepin.estimators import UnderdeterminedWarning
from calepin.networks import pretrained

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"

# %%
# The network has seen the first 1500 digits of scikit-learn. The 297 others are for the test; the new camera
# has also taken some of the first ones, with noise of standard deviation 0.1.
digits, labels = load_digits()


def camera(images):
    """Return images upside down and dimmed."""
    return (0.8 * images.reshape(-1, 8, 8)[:, ::-1]).reshape(len(images), 64).astype(np.float32)


rng = np.random.default_rng(0)
taken = camera(digits[:1500])
taken = taken[rng.permutation(1500)] + 0.1 * rng.standard_normal(taken.shape).astype(np.float32)
clean = camera(digits[1500:])
noisy = clean + 0.1 * rng.standard_normal(clean.shape).astype(np.float32)

# %%
# For each number of samples: the error of test images, rebuilt from ten numbers each. Ten principal
# components of the same samples are the simplest alternative. ``prior`` is the variance of the noise. A
# warning of calepin says that few samples do not determine all of A.
generator = pretrained("vae-digits").generator()
numbers = (20, 40, 80, 160, 320)


def error(images):
    """Return the root mean squared error of a pixel."""
    return float(np.sqrt(np.mean((images - clean) ** 2)))


errors, learners = {"generator": [], "PCA": []}, {}
for n in numbers:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnderdeterminedWarning)
        learner = GenerativeDictionaryLearner(generator, prior=0.1**2, random_state=0).fit(taken[:n])
    learners[n] = learner
    errors["generator"].append(error(learner.inverse_transform(learner.transform(noisy))))
    pca = PCA(10).fit(taken[:n])
    errors["PCA"].append(error(pca.inverse_transform(pca.transform(noisy))))
    print(
        f"{n} samples: {learner.n_determined_} of {learner.n_directions_} directions determined, "
        f"error {errors['generator'][-1]:.3f}, PCA {errors['PCA'][-1]:.3f}"
    )

# %%
# Some test images, and the curves. The dashed line is the error of the noisy images themselves.
figure = plt.figure(figsize=(9.5, 3.4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.5, 1])
rows = {"clean": clean, "noisy": noisy}
rows |= {f"{n} samples": learners[n].inverse_transform(learners[n].transform(noisy[:8])) for n in (20, 320)}
for line, (name, images) in zip(left.subplots(4, 8), rows.items(), strict=True):
    for place, image in zip(line, images, strict=False):
        place.imshow(image.reshape(8, 8), cmap="gray", vmin=0, vmax=0.8)
        place.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
axes = right.subplots()
for (name, values), colour, marker in zip(errors.items(), (BLUE, ORANGE), "os", strict=True):
    axes.plot(numbers, values, color=colour, marker=marker, label=name)
axes.axhline(error(noisy), color="0.5", linestyle="--", label="noisy images")
axes.set(
    xlabel="samples of the new camera", ylabel="error of a pixel (of 1)", xscale="log", ylim=(0.05, None)
)
axes.set_xticks(numbers, numbers)
axes.minorticks_off()
axes.legend(frameon=False)
plt.show()

# %%
# What was learned
# ----------------
#
# - The error falls as the samples determine more directions of the 100 coefficients of G.
# - Ten numbers cannot describe all of a digit: the rebuilt images lose detail as well as noise, and have a
#   larger error than images of so little noise.
# - Ten principal components of the same samples do as well or better on these small images. A generator has
#   to be tried against them; it has more to offer where images are larger and have less in common linearly.
# - :func:`calepin.generators.identifiability` says what no number of samples can determine; see the next
#   example.
assert errors["generator"][-1] < errors["generator"][0]
