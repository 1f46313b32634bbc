"""What the figures with digits share: a trained decoder, and transformed digits to learn from.

With CALEPIN_DATA they are MNIST's, 28x28, and the decoder `vae-mnist` without its last layer
(20 latents, 400 coefficients); without, scikit-learn's, 8x8, and `vae-digits` (10 and 100).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from calepin.datasets import has_data, load_digits, load_mnist
from calepin.networks import VAE, pretrained
from calepin_papers._random import torch_generator
from calepin_papers.generative.comparison import Task

__all__ = ["TRANSFORMS", "Digits", "digit_task", "load"]

SIGMA = 0.05
N_TEST = 60


@dataclass(frozen=True)
class Digits:
    """Clean digits (n, side^2) for training and test, and the network trained on others like them."""

    name: str
    train: Tensor
    test: Tensor
    network: VAE

    @property
    def side(self) -> int:
        """Height and width in pixels."""
        return round(self.train.shape[1] ** 0.5)


def load() -> Digits:
    """Return MNIST where CALEPIN_DATA has it, else scikit-learn's digits."""
    if has_data("mnist"):
        train, test = (torch.from_numpy(load_mnist(part)[0]) for part in ("train", "test"))
        return Digits("mnist", train, test, pretrained("vae-mnist"))
    pixels = torch.from_numpy(load_digits()[0])
    return Digits("digits", pixels[:1500], pixels[1500:], pretrained("vae-digits"))


def _same(x: Tensor, draw: torch.Generator) -> Tensor:
    return x


def _blur(x: Tensor, draw: torch.Generator) -> Tensor:
    """Average over a box of radius 2 (1 for small digits), edges continued: Pillow's BoxBlur."""
    side = round(x.shape[1] ** 0.5)
    radius = 2 if side > 16 else 1
    grown = pad(x.view(-1, 1, side, side), (radius,) * 4, mode="replicate")
    return avg_pool2d(grown, 2 * radius + 1, 1).flatten(1)


def _recolour(x: Tensor, draw: torch.Generator) -> Tensor:
    """Scale brightness and contrast, each by a factor from U(0, 2) an image.

    This is torchvision's ColorJitter of hue .4 and brightness, contrast and saturation 1 on gray
    images, which have neither hue nor saturation to change.
    """
    brightness, contrast = (2 * torch.rand((len(x), 1), generator=draw) for _ in range(2))
    x = (x * brightness).clamp(0, 1)
    mean = x.mean(1, keepdim=True)
    return (mean + contrast * (x - mean)).clamp(0, 1)


def _flip(x: Tensor, draw: torch.Generator) -> Tensor:
    """Mirror left and right."""
    side = round(x.shape[1] ** 0.5)
    return x.view(-1, side, side).flip(2).flatten(1)


TRANSFORMS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "none": _same,
    "blur": _blur,
    "recolour": _recolour,
    "flip": _flip,
}


def digit_task(digits: Digits, transform: str, seed: int, trial: int) -> Task:
    """Return fresh transformed digits with noise of standard deviation .05, and a test of 60.

    The first A has normal entries of standard deviation 1/40: the paper's uniform ones in [0, 1], which are
    the other start, make images a hundred times too bright.
    """
    draw = torch_generator(np.random.default_rng([seed, trial]))
    generator = digits.network.generator()
    start = torch.randn((digits.network.n_hidden, digits.train.shape[1]), generator=draw) / 40

    def take(pool: Tensor, n: int) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(pool), (n,), generator=draw)
        clean = TRANSFORMS[transform](pool[rows], draw)
        return clean, clean + SIGMA * torch.randn(clean.shape, dtype=clean.dtype, generator=draw)

    clean, noisy = take(digits.test, N_TEST)
    uniform = torch.rand(start.shape, generator=torch_generator(np.random.default_rng([seed, trial, 1])))
    return Task(
        generator, digits.network.latent_dim, start, lambda n: take(digits.train, n), clean, noisy, uniform
    )
