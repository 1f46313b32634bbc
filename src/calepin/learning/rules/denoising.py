"""The rule that trains a denoiser for an interval of noise levels.

    mean over images of  log( mean over pixels of (network(x + sigma n, sigma) - x)^2 + FLOOR )

The logarithm gives each noise level the same weight: a factor of the error counts alike at every level, as in
the PSNR. Each image is a random window, turned and mirrored at random.
"""

from typing import Any

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_boolean, check_methods
from calepin.core.random import randn
from calepin.learning.optimizers import Optimizer
from calepin.learning.rules.network import NetworkRule, random_windows
from calepin.networks.unfolded_denoiser import UnfoldedDenoiser

__all__ = ["DenoisingRule"]

FLOOR = 1e-6  # of the squared error, for images in [0, 1]: smaller errors count little


class DenoisingRule(NetworkRule):
    """Trains an `UnfoldedDenoiser` on clean images.

    Parameters
    ----------
    network : UnfoldedDenoiser
        The initial network. A run trains a copy of it, ``state.network``.
    noise : Noise
        The interval of noise levels, ``GaussianNoise(lowest, highest)``; each image of a step has its own.
    optimizer, schedule, max_norm, crop, n_shifts, average
        See `NetworkRule`.
    half_precision : bool, default False
        Whether convolutions are computed in bfloat16: faster on CPUs that support it, and on GPUs.
    seed : int, default 0
        Seed of windows, turns, levels, noise and shifts.
    """

    def __init__(
        self,
        network: UnfoldedDenoiser,
        *,
        noise: Any,
        optimizer: Optimizer | None = None,
        schedule: Any = None,
        max_norm: float | None = None,
        crop: int | None = None,
        n_shifts: int = 1,
        average: int | None = None,
        half_precision: bool = False,
        seed: int = 0,
    ) -> None:
        check_arguments(DenoisingRule.__init__, locals())
        check_boolean("half_precision", half_precision)
        check_methods("noise", noise, "levels")
        super().__init__(
            network,
            optimizer=optimizer,
            schedule=schedule,
            max_norm=max_norm,
            noise=noise,
            crop=crop,
            n_shifts=n_shifts,
            average=average,
            seed=seed,
        )
        self.noise: Any = noise
        self.half_precision = half_precision

    def loss(self, network: Any, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the logarithm of the squared error of each image of x, (n, 1, height, width)."""
        x = x if self.crop is None else random_windows(x, self.crop, generator)
        x = _turned(x, generator)
        sigma = self.noise.levels(x, generator)
        y = x + sigma * randn(x.shape, like=x, generator=generator)
        shifts = network.random_shifts(self.n_shifts, generator=generator)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.half_precision):
            estimate = network(y, sigma, shifts=shifts)
        return ((estimate - x).square().mean((1, 2, 3)) + FLOOR).log()

    def settings(self) -> dict[str, Any]:
        """Return the settings of network, optimiser and random augmentation for JSON."""
        return super().settings() | {"rule": "denoising", "half_precision": self.half_precision}


def _turned(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return square images turned by a random multiple of 90 degrees and mirrored, all alike."""
    n = int(torch.randint(8, (), generator=generator))
    x = torch.rot90(x, n % 4, (2, 3))
    return x.flip(3) if n > 3 else x
