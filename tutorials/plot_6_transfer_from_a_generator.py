"""
Transfer from a generator
=========================

You have a few dozen samples of a new kind and a generative network that was trained on many samples of a related kind. This
tutorial keeps the first layers of the network, learns a new last layer, and uses the model to remove noise. It also asks which part of
the new layer the samples determine at all.

The model: a sample is ``x = G(z) A``, with a latent z of few numbers, a known generator G and an unknown matrix A.
:class:`calepin.GenerativeDictionaryLearner` learns A and finds the latent of each sample.
"""

# %%
# The generator and the new samples
# ---------------------------------
# calepin ships a variational auto-encoder of 8 x 8 digits, trained on the first 1500 digits of scikit-learn. Its generator is the decoder without
# the last layer, ``ReLU(W z)``, from 10 latents to 100 coefficients. The new samples are digits rotated by a quarter turn, with noise.

import warnings

import matplotlib.pyplot as plt
import numpy as np
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
new, test = slice(0, 300), slice(1500, 1797)  # the network has not seen the last 297 digits in any orientation

# %%
# Learn the new layer
# -------------------
# Three passes suffice; more of them overfit few samples.

learner = calepin.GenerativeDictionaryLearner(generator, random_state=0).fit(noisy[new])
denoised = learner.inverse_transform(learner.transform(noisy[test]))


def distance(images):
    return np.linalg.norm(images - clean[test], axis=1).mean()


print(f"mean distance to the clean digits: noisy {distance(noisy[test]):.2f}, denoised {distance(denoised):.2f}")
tiles = {"noisy": noisy[test], "denoised": denoised, "clean": clean[test]}
plt.figure(sheet({title: images.reshape(-1, 8, 8) for title, images in tiles.items()}, n_rows=6))
plt.show()
