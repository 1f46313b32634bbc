"""A small variational autoencoder, whose decoder provides a generator of coefficients for images.

    p(x | z) = Bernoulli( S(W_2 ReLU(W_1 z)) ),   z ~ N(0, I),   q(z | x) = N(mean(x), diag(variance(x)))

The loss is the negative evidence lower bound: the cross entropy of pixels in [0, 1] plus the divergence of q
from the prior (Kingma and Welling, "Auto-encoding variational Bayes", 2014). The decoder has no biases, as in
"Dictionary learning under generative coefficient priors", 2022, section 6. `VAE.generator` returns its first
layer, the coefficients ReLU(W_1 z).
"""

import os
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_tensor
from calepin.core.files import load_arrays, save_arrays
from calepin.core.random import randn, torch_generator
from calepin.core.reading import check_sizes, reading
from calepin.generators.truncate import Truncated, truncate

__all__ = ["VAE"]

KIND = "vae"


class VAE(nn.Module):
    """A variational autoencoder with one hidden layer in the encoder and one in the decoder.

    Parameters
    ----------
    latent_dim : int, default 20
        Number of latents.
    n_hidden : int, default 400
        Width of both hidden layers, which is the number of coefficients of the generator.
    n_features : int, default 784
        Number of pixels.
    seed : int, default 0
        Seed of the initial weights.
    """

    def __init__(
        self, latent_dim: int = 20, n_hidden: int = 400, n_features: int = 784, *, seed: int = 0
    ) -> None:
        check_arguments(VAE.__init__, locals())
        super().__init__()
        sizes = {"latent_dim": latent_dim, "n_hidden": n_hidden, "n_features": n_features}
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a positive integer, got {value!r}")
        self.latent_dim, self.n_hidden, self.n_features = latent_dim, n_hidden, n_features
        self.encoder = nn.Sequential(
            nn.Linear(n_features, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 2 * latent_dim)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, n_hidden, bias=False),
            nn.ReLU(),
            nn.Linear(n_hidden, n_features, bias=False),
            nn.Sigmoid(),
        )
        _initialise(self, seed)

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction of x, (n, n_features), through the mean of q."""
        return self.decoder(self.encode(x)[0])

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log variance of q(z | x), each of shape (n, latent_dim)."""
        check_tensor("x", x)
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise ValueError(f"x: expected shape (n, {self.n_features}), got {tuple(x.shape)}")
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance

    def negative_elbo(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the negative evidence lower bound of each sample of x, (n,), estimated from one z."""
        mean, log_variance = self.encode(x)
        z = mean + (0.5 * log_variance).exp() * randn(mean.shape, like=mean, generator=generator)
        logits = self.decoder[:-1](z)
        fit = binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)
        return fit + divergence

    def generator(self) -> Truncated:
        """Return ``G(z) = ReLU(W_1 z)``, a fixed copy of the decoder without its output layer."""
        return truncate(self.decoder, 2)

    def save(self, path: str | os.PathLike, *, card: Mapping[str, Any] | None = None) -> None:
        """Write weights, sizes and a model card (JSON) to one safetensors file, atomically."""
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}
        save_arrays(path, KIND, arrays, {"settings": self.settings(), "card": dict(card or {})})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a network that `save` wrote, with float32 weights.

        Raises
        ------
        FileNotFoundError, calepin.FileFormatError
            If the file does not exist, or is not a VAE.
        """
        arrays, parameters = load_arrays(path, KIND)
        with reading(path, "VAE"):
            check_sizes(parameters["settings"], arrays)
            network = cls(**parameters["settings"])
            network.load_state_dict({name: torch.from_numpy(array).float() for name, array in arrays.items()})
            return network.eval()

    def settings(self) -> dict[str, Any]:
        """Return the three sizes: latent_dim, n_hidden, n_features."""
        return {"latent_dim": self.latent_dim, "n_hidden": self.n_hidden, "n_features": self.n_features}


@torch.no_grad()
def _initialise(network: nn.Module, seed: int) -> None:
    """Draw the initial weights as torch does, uniform within 1 / sqrt(fan in), but with a seed."""
    draw = torch_generator(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            for parameter in layer.parameters():
                drawn = torch.rand(parameter.shape, generator=draw) * 2 - 1
                parameter.copy_(drawn / layer.in_features**0.5)
