"""A coefficient prior from the first layers of a trained network."""

import copy
from typing import Any

from torch import Tensor, nn

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_tensor
from calepin.generators.base import by_layers, forward_mode, is_layered

__all__ = ["Truncated", "truncate"]


class Truncated(nn.Sequential):
    """The first layers of a decoder, frozen and in evaluation mode; see `truncate`."""

    @property
    def latent_dim(self) -> int | None:
        """Input size of the first layer that declares one, or None."""
        for layer in self:
            size: Any = getattr(layer, "in_features", None)
            if size is not None:
                return size
        return None

    def train(self, mode: bool = True) -> "Truncated":
        """Stay in evaluation mode, and return the generator: a known generator updates no statistics."""
        return super().train(False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """Map latents (n, k) to coefficients, (n, n_coefficients); further axes are flattened."""
        return super().forward(check_tensor("z", input)).flatten(1)

    def linearise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return G(z) and its Jacobian, layer by layer if all layers are linear layers or activations."""
        return by_layers(self, z) if is_layered(self) else forward_mode(self, z)


def truncate(decoder: nn.Module, layers: int) -> Truncated:
    """Return the first layers of a trained decoder as a generator, the known part in transfer learning.

    The layers are copied, frozen and set to evaluation mode; the decoder is not changed.

    Parameters
    ----------
    decoder : nn.Module
        An ``nn.Sequential``, or a module that applies its children one after another.
    layers : int
        Number of children to keep, or minus the number to cut off. Activations count as children: for
        S(W_2 ReLU(W_1 z)), that is linear, ReLU, linear, sigmoid, 2 (or -2) keeps ReLU(W_1 z).

    Raises
    ------
    ValueError
        If no layer or every layer would be kept.
    """
    check_arguments(truncate, locals())
    children = list(decoder.children())
    kept = layers if layers >= 0 else len(children) + layers
    if not 0 < kept < len(children):
        raise ValueError(
            f"layers: expected 1 to {len(children) - 1}, or its negative, for a decoder of {len(children)} "
            f"layers, got {layers}"
        )
    generator = Truncated(*(copy.deepcopy(child) for child in children[:kept]))
    return generator.requires_grad_(False).eval()
