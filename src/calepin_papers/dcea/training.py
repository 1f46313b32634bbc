"""How our own networks for photons were trained: the recipe, and one resumable run.

A network with the paper's filters (169 of 11 x 11, stride 7, residual bounded by the peak) learns on
train400 to minimise the mean squared error of ``q exp(eta)``. It differs from the authors' training
where a change learns more in a minute on one core:

- windowed cosines of both signs as the first filters (the codes are nonnegative), not random ones;
- one network goes through stages, from many photons to few, and begins with fewer layers, which
  halves the cost of a step;
- the mean over a few random shifts of the grid in a step, not all 49. One shift alone costs less, but
  learns filters for one grid only: many are never active, and the PSNR of the mean over all shifts
  stays lower;
- some units that begin with a negative bias, always active and so linear: the authors' networks have
  such units after their training;
- `SOAP` in place of Adam, gradients shortened to `max_norm`, a learning rate that falls along a cosine in
  each stage;
- the mean of the last weights, a thousand steps or so, at the end.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from calepin.datasets import PoissonNoise
from calepin.learning import SOAP, ArrayBatches, CosineDecay, NetworkRule, TrainState, train_steps
from calepin.likelihoods import Poisson
from calepin.networks import UnfoldedAutoencoder
from calepin.penalties import NonNegativeL1
from calepin_papers.dcea.photons import clean_images

__all__ = ["Recipe", "Stage", "fresh_network", "train_network", "training_images", "windowed_cosines"]


@dataclass(frozen=True)
class Stage:
    """One run of the optimiser, an image a step.

    Attributes
    ----------
    n_unfold
        Layers.
    n_shifts
        Shifts of the grid in a step, whose mean is trained.
    crop
        Side of the window of the image: with `n_shifts` it decides the cost of a step.
    learning_rate, last
        Of the optimiser, and its last value over its highest.
    average
        Steps over which the mean of the weights is taken that the stage ends with; None takes the last ones.
    """

    peak: int
    n_steps: int
    n_unfold: int
    n_shifts: int
    crop: int
    learning_rate: float
    last: float = 0.01
    average: int | None = None


@dataclass(frozen=True)
class Recipe:
    """Sizes of the network and of its training.

    Attributes
    ----------
    stages
        What one network, from cosines, goes through; the last of a peak gives the network of that peak.
    norm, bias
        First norm of the filters and first bias of the rectifiers.
    n_linear, linear_bias
        How many of the last filters begin with a bias of their own, below 0.
    """

    stages: tuple[Stage, ...]
    n_components: int = 169
    kernel: int = 11
    stride: int = 7
    norm: float = 0.25
    bias: float = 0.1
    n_linear: int = 10
    linear_bias: float = -0.5
    max_norm: float = 0.02


def training_images(count: int | None = None) -> Tensor:
    """Return images of train400 in [0, 1], (n, 1, 180, 180), without zeros.

    A pixel of rate zero never counts a photon and its logarithm is no number: zeros become the
    image's smallest positive value, in training only.
    """
    images = np.stack(clean_images("train400", count)) / 255
    for image in images:
        image[image == 0] = image[image > 0].min()
    return torch.from_numpy(images[:, None].astype(np.float32))


def windowed_cosines(n_components: int, kernel: int, norm: float) -> Tensor:
    """Return the flattest cosines of a square, each but the first with both signs: (n, 1, k, k)."""
    k = torch.arange(kernel, dtype=torch.float64) + 0.5
    waves = torch.cos(math.pi / kernel * k * torch.arange(kernel, dtype=torch.float64)[:, None])
    order = sorted((i * i + j * j, i, j) for i in range(kernel) for j in range(kernel))[
        : n_components // 2 + 1
    ]
    window = torch.sin(math.pi * (k + 0.5) / (kernel + 1))
    signed = [
        sign * torch.outer(window * waves[i], window * waves[j])
        for square, i, j in order
        for sign in ((1, -1) if square else (1,))
    ]
    atoms = torch.stack(signed[:n_components])[:, None]
    return (norm * atoms / torch.linalg.vector_norm(atoms, dim=(1, 2, 3), keepdim=True)).float()


def fresh_network(recipe: Recipe, *, tied: bool) -> UnfoldedAutoencoder:
    """Return a network of the first stage's layers that has learned nothing."""
    network = UnfoldedAutoencoder(
        windowed_cosines(recipe.n_components, recipe.kernel, recipe.norm),
        NonNegativeL1(recipe.bias),
        n_unfold=recipe.stages[0].n_unfold,
        stride=recipe.stride,
        step_size=1.0,
        likelihood=Poisson(),
        tied=tied,
        learn_threshold=True,
        residual_bound=recipe.stages[0].peak,
    )
    with torch.no_grad():
        network.alpha[recipe.n_components - recipe.n_linear :] = recipe.linear_bias
    return network


def train_network(
    network: UnfoldedAutoencoder,
    images: Tensor,
    recipe: Recipe,
    stage: Stage,
    *,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[float], None] = lambda part: None,
) -> UnfoldedAutoencoder:
    """Return a copy of a network that one stage has trained.

    The mirror images are training images too. Training continues from an existing checkpoint.
    """
    network = copy.deepcopy(network)
    network.residual_bound, network.n_unfold = stage.peak, stage.n_unfold
    network.shifts_at_once = stage.n_shifts  # one batch: a step is small
    rule = NetworkRule(
        network,
        optimizer=partial(SOAP, lr=stage.learning_rate),
        schedule=CosineDecay(stage.n_steps, last=stage.last),
        max_norm=recipe.max_norm,
        noise=PoissonNoise(stage.peak),
        crop=stage.crop,
        n_shifts=stage.n_shifts,
        average=stage.average,
        seed=seed,
    )
    mirrored = torch.cat([images, images.flip(-1), images.flip(-2), images.flip(-2, -1)])
    data = ArrayBatches(mirrored, 1, seed=seed)

    def report(state: TrainState) -> None:
        progress(state.n_steps / stage.n_steps)

    state = train_steps(rule, data, stage.n_steps, callbacks=[report], checkpoint=checkpoint)
    trained = state.learned.network
    trained.shifts_at_once = 1
    return trained
