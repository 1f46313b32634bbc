"""A coefficient prior cut out of a trained network."""

import copy
from typing import Any

from torch import Tensor, nn

from calepin.generators.base import by_layers, forward_mode, is_layered

__all__ = ["Truncated", "truncate"]


class Truncated(nn.Sequential):
    """The first layers of a decoder, frozen and in evaluation mode; see `truncate`."""

    @property
    def latent_dim(self) -> int | None:
        """Inputs of the first layer with a known number of them, or None."""
        for layer in self:
            size: Any = getattr(layer, "in_features", None)
            if size is not None:
                return size
        return None

    def train(self, mode: bool = True) -> "Truncated":
        """Stay in evaluation mode: a known generator has no statistics to gather."""
        return super().train(False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  the name of torch
        """Map latents (n, k) to coefficients, (n, n_coefficients): what more axes there are is flattened."""
        return super().forward(input).flatten(1)

    def linearise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return G(z) and its Jacobian: layer by layer where these are linear ones and activations."""
        return by_layers(self, z) if is_layered(self) else forward_mode(self, z)


def truncate(decoder: nn.Module, layers: int) -> Truncated:
    """Return the first layers of a trained decoder as a generator: transfer learning's known part.

    The layers are copied, frozen and put into evaluation mode; the decoder stays as it is.

    Parameters
    ----------
    decoder : nn.Module
        An ``nn.Sequential``, or a module that applies its children one after another.
    layers : int
        How many of its children to keep; a negative number says how many to cut off. An activation
        counts: of S(W_2 ReLU(W_1 z)), as linear, ReLU, linear, sigmoid, 2 (or -2) leaves ReLU(W_1 z).

    Raises
    ------
    ValueError
        If that leaves no layer, or cuts none.
    """
    children = list(decoder.children())
    kept = layers if layers >= 0 else len(children) + layers
    if not 0 < kept < len(children):
        raise ValueError(
            f"layers: expected 1 to {len(children) - 1}, or minus that, for a decoder of {len(children)} "
            f"layers, got {layers}"
        )
    generator = Truncated(*(copy.deepcopy(child) for child in children[:kept]))
    return generator.requires_grad_(False).eval()
