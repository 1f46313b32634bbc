"""Convolutional denoisers: the settings of a network and of its training, and the training itself."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from calepin.core.arguments import check_arguments, check_fields
from calepin.core.checkpoint import CHECKPOINT_SECONDS
from calepin.core.checks import check_floating, check_one_of
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
    """Settings of an `UnfoldedAutoencoder` for images with Gaussian noise, and of its training.

    Attributes
    ----------
    n_components, kernel, stride, n_unfold, tied, local_mean
        Settings of the network; `kernel` is the side of the square atoms.
    penalty : {"l1", "hard"}
        Soft or hard threshold.
    threshold
        alpha of the soft threshold, or the level of the hard one; the initial value if it is learned.
    learn_threshold
        Whether to learn a threshold for each atom.
    step_size
        Step size, for initial atoms of unit norm. None: step size 1, with initial atoms scaled such that
        the dictionary has norm 1.
    detach_codes
        Whether codes count as constants in the gradient: "dec" of PUDLE.
    sigma
        Standard deviation of the noise, for images in [0, 1].
    n_steps, batch_size, crop, n_shifts
        Training steps; number of windows per step, their side, and the number of random shifts of the grid.
    learning_rate, eps, cosine, max_norm
        Settings of Adam; `cosine`: whether the learning rate has a cosine schedule; `max_norm`: largest norm
        of a gradient, longer ones are clipped.
    average
        The final weights are the mean over so many last steps; None: the last weights.
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

    def __post_init__(self) -> None:
        check_fields(self)
        check_one_of("penalty", self.penalty, PENALTIES)


def new_denoiser(settings: DenoiserSettings, *, seed: int = 0) -> UnfoldedAutoencoder:
    """Return a network with random atoms."""
    check_arguments(new_denoiser, locals())
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
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> tuple[UnfoldedAutoencoder, TrainState]:
    """Train a denoising network on clean images.

    Parameters
    ----------
    settings : DenoiserSettings
    images : Tensor, shape (n, 1, height, width)
        Clean images in [0, 1]. They determine dtype and device of the network.
    seed : int, default 0
        Seed of initial atoms, order of images, windows, noise and shifts.
    start : UnfoldedAutoencoder, optional
        Initial network, which is not changed; by default a new one.
    callbacks : sequence of callables
        Called with the state after each step; a true result ends the training.
    checkpoint : path, optional
        File for the state of the run; an existing one is continued. See `calepin.learning.train`.
    checkpoint_seconds : float, default 60.0
        Time between two checkpoints, in seconds.

    Returns
    -------
    network : UnfoldedAutoencoder
    state : TrainState
        Steps, seconds and history of the run.

    Raises
    ------
    ValueError
        If `images` has another shape or is empty.
    """
    check_arguments(train_denoiser, locals())
    check_floating("images", images)
    if images.ndim != 4 or images.shape[1] != 1 or not images.numel():
        raise ValueError(f"images: expected shape (n, 1, height, width), got {tuple(images.shape)}")
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
    state = train_steps(
        rule,
        data,
        settings.n_steps,
        callbacks=callbacks,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
    )
    return state.learned.network, state
