"""
Transfer from a generator
=========================

You have a few dozen samples of a new kind and a generative network that was trained on many samples
of a related kind. This tutorial keeps the first layers of the network, learns a new last layer, and
uses the model to remove noise. It also asks which part of the new layer the samples determine at
all.

The model: a sample is ``x = G(z) A``, with a latent z of few numbers, a known generator G and an
unknown matrix A. :class:`calepin.GenerativeDictionaryLearner` learns A and finds the latent of each
sample.
"""

# %%
# The generator and the new samples
# ---------------------------------
# calepin ships a variational auto-encoder of 8 x 8 digits, trained on the first 1500 digits of
# scikit-learn. Its generator is the decoder without the last layer, ``ReLU(W z)``, from 10 latents
# to 100 coefficients. The new samples are digits rotated by a quarter turn, with noise.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.decomposition import PCA

import calepin
from calepin.datasets import load_digits
from calepin.estimators import UnderdeterminedWarning
from calepin.generators import identifiability
from calepin.networks import pretrained
from calepin.report import sheet

BLUE, ORANGE = "#0072B2", "#D55E00"
generator = pretrained("vae-digits").generator()
digits, _ = load_digits()
clean = np.rot90(digits.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64)
noisy = clean + 0.25 * np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
new, test = (
    slice(0, 300),
    slice(1500, 1797),
)  # the network has not seen the last 297 digits in any orientation

# %%
# Learn the new layer
# -------------------
# Three passes suffice; more of them overfit few samples.

learner = calepin.GenerativeDictionaryLearner(generator, random_state=0).fit(noisy[new])
denoised = learner.inverse_transform(learner.transform(noisy[test]))


def distance(images):
    """Return the mean Euclidean distance to the clean test digits."""
    return np.linalg.norm(images - clean[test], axis=1).mean()


print(
    f"mean distance to the clean digits: noisy {distance(noisy[test]):.2f}, denoised {distance(denoised):.2f}"
)
tiles = {"noisy": noisy[test], "denoised": denoised, "clean": clean[test]}
plt.figure(sheet({title: images.reshape(-1, 8, 8) for title, images in tiles.items()}, n_rows=6))
plt.show()

# %%
# Look at the strokes: they should be those of the clean digit, not of an average one.
#
# Is it worth it?
# ---------------
# Compare with something simple: principal component analysis (PCA) with as many numbers per sample,
# learned from the same 1000 noisy samples. We do this for the digits, and for simulated samples
# that follow the model, ``G(z) A`` with a random A.

random = np.random.default_rng(1)
latents = torch.from_numpy(random.standard_normal((1297, 10)).astype(np.float32))
layer = random.standard_normal((100, 64)).astype(np.float32)
with torch.no_grad():
    follow = generator(latents).numpy() @ layer
follow *= clean.std() / follow.std()
kinds = {"rotated digits": clean[np.r_[0:1000, 1500:1797]], "samples that follow the model": follow}
levels = (0.05, 0.1, 0.2, 0.4)
figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
for axes, (kind, truth) in zip(panels, kinds.items(), strict=True):
    errors = {"generator, 10 latents": [], "PCA, 10 components": [], "noisy samples": []}
    for level in levels:
        seen = truth + level * random.standard_normal(truth.shape).astype(np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnderdeterminedWarning)  # the next section is about it
            transferred = calepin.GenerativeDictionaryLearner(generator, random_state=0).fit(seen[:1000])
        plain = PCA(10, random_state=0).fit(seen[:1000])
        found = [model.inverse_transform(model.transform(seen[1000:])) for model in (transferred, plain)]
        for values, images in zip(errors.values(), [*found, seen[1000:]], strict=True):
            values.append(np.linalg.norm(images - truth[1000:], axis=1).mean())
    for (name, values), style, colour in zip(
        errors.items(), ("o-", "s--", ":"), (BLUE, ORANGE, "0.4"), strict=True
    ):
        axes.plot(levels, values, style, color=colour, label=name)
        print(f"{kind}, {name}: {np.round(values, 2)}")
    axes.set(xlabel="noise per pixel (white = 1)", title=kind, ylim=(0, 3.4))
    axes.grid(color="0.9")
panels[0].set_ylabel("mean distance to the clean samples")
panels[0].legend(frameon=False, loc="upper left")
plt.show()

# %%
# Where the noise is small, the generator describes the samples by ten numbers better than PCA.
# Where it is large, PCA is better: it has fewer numbers to learn from the same noisy samples. And
# below the dotted line of the noisy samples is the only place where the model removes noise; with
# little noise, ten numbers are too few to hold a digit, and the noisy sample is nearer to the
# truth. Always compare with both.
#
# What the samples determine
# --------------------------
# The coefficients of n samples span at most n directions; in the others A keeps its initial, random
# values. ``fit`` warns:

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    few = calepin.GenerativeDictionaryLearner(generator, random_state=0).fit(noisy[:30])
for warning in caught:
    print(f"{warning.category.__name__}: {warning.message}")
print(f"determined: {few.n_determined_} of {few.n_directions_} directions")

# %%
# More data do not help everywhere. ``ReLU(W z)`` doubles if z doubles, so that A and 2 A are the
# same model: the scale of A can never be known. :func:`calepin.generators.identifiability` counts
# such directions:

print(identifiability(learner.components_, generator))

# %%
# Do not read meaning into the entries of A along such directions. Reconstructions do not depend on
# them.
#
# What goes wrong
# ---------------
# - **Too many passes**: A is fitted to the noise of few samples. Keep ``max_iter=3``, or watch the
#   error on samples kept aside.
# - **Latents that are not found**: the objective of a latent has many minima. Raise ``n_starts``
#   and see if the error falls.
# - **The generator does not fit**: if reconstructions all look like the old kind of data, the new
#   kind is too different.
#
# What was learned
# ----------------
# - A new linear layer on a trained network is learned in seconds; it cleans samples if it has seen
#   enough of them.
# - A warning says when the samples are too few, and ``identifiability`` what no data can determine.
# - Compare with PCA, and with the noisy samples themselves, before you trust a generator.
#
# On the command line: ``calepin transfer --generator vae-mnist --data new.npy -o
# model.safetensors``, then ``denoise-samples`` or ``compress``. Next:
# :doc:`/background/generative`.
