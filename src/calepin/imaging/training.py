"""Convolutional denoisers: a network and its training as one value, so that a paper's setting is data."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from calepin.core.checks import check_one_of
from calepin.core.random import randn, torch_generator
from calepin.datasets.noise import GaussianNoise
from calepin.learning.batches import ArrayBatches
from calepin.learning.optimizers import CosineDecay
from calepin.learning.rules.network import NetworkRule
from calepin.learning.train import Callback, TrainState, train_steps
from calepin.likelihoods import Gaussian
from calepin.networks.autoencoder import UnfoldedAutoencoder, default_step
from calepin.penalties import L1, HardThreshold

__all__ = ["DenoiserSettings", "new_denoiser", "train_denoiser"]

PENALTIES = {"l1": L1, "hard": HardThreshold}


@dataclass(frozen=True)
class DenoiserSettings:
    """An `UnfoldedAutoencoder` for images with Gaussian noise, and how it is trained on clean ones.

    Attributes
    ----------
    n_components, kernel, stride, n_unfold, tied, local_mean
        Of the network; `kernel` is the side of the square atoms.
    penalty : {"l1", "hard"}
        Soft or hard threshold.
    threshold
        alpha of the soft threshold or the level of the hard one, at the start where it is learned.
    learn_threshold
        Whether each atom learns a threshold of its own.
    step_size
        For atoms of unit norm at the start. None: it is 1, for atoms scaled such that
        the first dictionary has norm 1.
    detach_codes
        Whether gradients stop at the codes: PUDLE's "dec".
    sigma
        Of the noise, images being in [0, 1].
    n_steps, batch_size, crop, n_shifts
        Steps of training, windows in each and their side, and random shifts of the grid.
    learning_rate, eps, cosine, max_norm
        Of Adam; whether its learning rate falls along half a cosine; longer gradients are shortened to
        `max_norm`.
    average
        Steps over which the mean of the weights is taken that a run ends with; None takes the last ones.
    """

    n_components: int = 64
    kernel: int = 9
    stride: int = 4
    n_unfold: int = 15
    tied: bool = False
    local_mean: int | None = None
    penalty: str = "l1"
    threshold: float = 0.1
    learn_threshold: bool = True
    step_size: float | None = None
    detach_codes: bool = False
    sigma: float = 25 / 255
    n_steps: int = 1000
    batch_size: int = 4
    crop: int = 48
    n_shifts: int = 1
    learning_rate: float = 1e-3
    eps: float = 1e-8
    cosine: bool = True
    max_norm: float | None = None
    average: int | None = None


def new_denoiser(settings: DenoiserSettings, *, seed: int = 0) -> UnfoldedAutoencoder:
    """Return a network whose atoms are random."""
    check_one_of("penalty", settings.penalty, PENALTIES)
    shape = (settings.n_components, 1, settings.kernel, settings.kernel)
    atoms = randn(shape, like=torch.empty(0), generator=torch_generator(seed))
    atoms /= torch.linalg.vector_norm(atoms, dim=(1, 2, 3), keepdim=True)
    if settings.step_size is None:
        atoms *= default_step(atoms, settings.stride, Gaussian()) ** 0.5
    return UnfoldedAutoencoder(
        atoms,
        PENALTIES[settings.penalty](settings.threshold),
        n_unfold=settings.n_unfold,
        stride=settings.stride,
        step_size=1.0 if settings.step_size is None else settings.step_size,
        tied=settings.tied,
        learn_threshold=settings.learn_threshold,
        local_mean=settings.local_mean,
    )


def train_denoiser(
    settings: DenoiserSettings,
    images: torch.Tensor,
    *,
    seed: int = 0,
    start: UnfoldedAutoencoder | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike | None = None,
) -> tuple[UnfoldedAutoencoder, TrainState]:
    """Train a network on clean images to remove noise from them.

    Parameters
    ----------
    settings : DenoiserSettings
    images : Tensor, shape (n, 1, height, width)
        Clean, in [0, 1]. The network follows their dtype and device.
    seed : int, default 0
        Of first atoms, order of images, windows, noise and shifts.
    start : UnfoldedAutoencoder, optional
        A network to go on from, which stays as it is; a new one by default.
    callbacks : sequence of callables
        Called with the state after each step; a true result ends the run.
    checkpoint : path, optional
        A run that this file holds goes on, and is kept there; see `calepin.learning.train`.

    Returns
    -------
    network : UnfoldedAutoencoder
    state : TrainState
        Steps and seconds of the run, and its history.
    """
    network = new_denoiser(settings, seed=seed) if start is None else copy.deepcopy(start)
    network = network.to(images.device, images.dtype)
    network.shifts_at_once = settings.n_shifts  # one batch: a step is small
    rule = NetworkRule(
        network,
        optimizer=partial(torch.optim.Adam, lr=settings.learning_rate, eps=settings.eps),
        schedule=CosineDecay(settings.n_steps) if settings.cosine else None,
        max_norm=settings.max_norm,
        noise=GaussianNoise(settings.sigma),
        crop=settings.crop,
        n_shifts=settings.n_shifts,
        detach_codes=settings.detach_codes,
        average=settings.average,
        seed=seed,
    )
    data = ArrayBatches(images, settings.batch_size, seed=seed)
    state = train_steps(rule, data, settings.n_steps, callbacks=callbacks, checkpoint=checkpoint)
    return state.learned.network, state
