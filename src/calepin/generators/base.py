"""The Jacobian, latent dimension and validity check of a generator."""

import numbers
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_floating

__all__ = [
    "Generator",
    "by_layers",
    "check_generator",
    "forward_mode",
    "is_layered",
    "latent_dimension",
    "like_generator",
    "linearise",
    "push_forward",
]

Generator = Callable[[Tensor], Tensor]
"""Maps latents (n, k) to coefficients (n, n_coefficients), sample by sample."""

ENTRYWISE: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.ELU, nn.SiLU, nn.GELU, nn.LeakyReLU, nn.Identity,
)  # fmt: skip

_N_PROBES = 4


@takes_tensors
def linearise(generator: Generator, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return G(z), (n, p), and its Jacobian, (n, k, p): row i is the derivative along latent i.

    In closed form if the generator has a method of this name, layer by layer for an ``nn.Sequential`` of
    linear layers and activations, and otherwise by `forward_mode`.

    Parameters
    ----------
    generator : callable
        Maps latents (n, k) to coefficients (n, p).
    z : Tensor, shape (n, k)
        Latents.

    Raises
    ------
    TypeError
        If the generator is not a function.
    """
    if isinstance(generator, type) or not callable(generator):
        raise TypeError(f"generator: expected a function of latents, got {generator!r:.60}")
    own = getattr(generator, "linearise", None)
    if own is not None:
        return own(z)
    layers: Any = generator
    if type(layers) is nn.Sequential and is_layered(layers):
        return by_layers(layers, z)
    return forward_mode(generator, z)


def forward_mode(generator: Generator, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same as `linearise`, by forward mode: one vectorised pass for all k directions, no graph."""

    def push(direction: Tensor) -> Any:
        return push_forward(generator, z, direction.expand_as(z))

    directions = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    values_and_slopes: Any = (None, 1)  # G(z) does not depend on the direction
    return torch.func.vmap(push, out_dims=values_and_slopes)(directions)


def is_layered(layers: Iterable[nn.Module]) -> bool:
    """Return whether the first layer is linear, and all others are linear or entrywise activations."""
    kinds = [type(layer) for layer in layers]
    return bool(kinds) and kinds[0] is nn.Linear and all(k is nn.Linear or k in ENTRYWISE for k in kinds)


def by_layers(layers: Iterable[nn.Module], z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same as `linearise`: linear layers multiply the Jacobian, activations scale it."""
    jacobian: Tensor | None = None
    for layer in layers:
        if isinstance(layer, nn.Linear):
            z, weight = layer(z), layer.weight.mT
            jacobian = weight.expand(len(z), -1, -1) if jacobian is None else jacobian @ weight
        else:
            z, slopes = push_forward(layer, z, torch.ones_like(z))
            assert jacobian is not None  # the first layer is linear
            jacobian = jacobian * slopes[:, None]
    assert jacobian is not None
    return z, jacobian


def push_forward(function: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Return the value of a function and its directional derivative, by forward mode."""
    _prepare_forward_mode()
    value, slope, *_ = torch.func.jvp(function, (x,), (direction,))
    return value, slope


@cache
def _prepare_forward_mode() -> None:
    """Load the module that torch loads at the first use of forward mode, without torch's own warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import torch._decomp.decompositions_for_jvp  # noqa: F401


def latent_dimension(generator: Generator, latent_dim: int | None = None) -> int:
    """Return the latent dimension k: the given number, or that of the generator.

    Raises
    ------
    ValueError
        If neither is known, or if they differ.
    """
    check_arguments(latent_dimension, locals())
    own: Any = getattr(generator, "latent_dim", None)
    if isinstance(generator, type) or not callable(generator):
        raise TypeError(f"generator: expected a function of latents, got {generator!r:.60}")
    k = own if latent_dim is None else latent_dim
    if isinstance(k, bool) or not isinstance(k, numbers.Integral) or k < 1:
        raise ValueError(
            f"latent_dim: expected a positive integer for a generator without this attribute, got {k!r}"
        )
    if own is not None and own != k:
        raise ValueError(f"latent_dim: expected {own}, that of the generator, got {k}")
    return int(k)


def like_generator(generator: Generator, default: torch.dtype = torch.float32) -> Tensor:
    """Return an empty tensor with the dtype and device of the generator's own tensors."""
    if isinstance(generator, nn.Module):
        for tensor in (*generator.parameters(), *generator.buffers()):
            if tensor.is_floating_point():
                return tensor.detach().new_empty(0)
    return torch.empty(0, dtype=default)


@torch.no_grad()
def check_generator(
    generator: Generator,
    latent_dim: int | None = None,
    *,
    n_coefficients: int | None = None,
    n_features: int | None = None,
    like: Tensor | None = None,
) -> int:
    """Check that a generator can be used, and return its number of coefficients.

    Parameters
    ----------
    generator : callable
        Maps latents (n, k) to coefficients (n, n_coefficients).
    latent_dim : int, optional
        Latent dimension k, for a generator without this attribute.
    n_coefficients : int, optional
        Number of coefficients that the dictionary takes.
    n_features : int, optional
        Number of entries of an observation; k must not exceed it.
    like : Tensor, optional
        Tensor with the dtype and device of the latents; by default those of the generator's own tensors.

    Returns
    -------
    int
        Number of coefficients per latent.

    Raises
    ------
    ValueError
        If the generator does not return one finite vector of the expected size per sample, if its value for
        one sample depends on other samples, if it is not differentiable, or if k exceeds n_features.

    Warns
    -----
    RuntimeWarning
        If batch normalisation or dropout is in training mode.
    """
    check_arguments(check_generator, locals())
    if like is not None:
        check_floating("like", like)
    k = latent_dimension(generator, latent_dim)
    if n_features is not None and k > n_features:
        raise ValueError(
            f"latent_dim: expected at most the {n_features} features of an observation, got {k}: "
            "its latents are not determined"
        )
    fickle = _warn_of_training_mode(generator)
    like = like_generator(generator) if like is None else like
    draw = torch.Generator().manual_seed(0)
    z = torch.randn((_N_PROBES, k), generator=draw, dtype=like.dtype).to(like.device)
    coefficients = _call(generator, z)
    _check_values(coefficients, n_coefficients)
    if fickle:
        return coefficients.shape[1]  # the checks below would not apply to evaluation mode
    alone = _call(generator, z[:1])
    if not torch.allclose(alone, coefficients[:1], rtol=1e-3, atol=1e-5 * float(coefficients.abs().max())):
        raise ValueError(
            "generator: expected samples that don't depend on each other, got different values for one "
            "latent alone and in a batch"
        )
    _check_derivative(generator, z, coefficients)
    return coefficients.shape[1]


def _call(generator: Generator, z: Tensor) -> Tensor:
    try:
        coefficients = generator(z)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"generator: expected a function of latents {tuple(z.shape)} of {z.dtype}, got {error}"
        ) from error
    if not isinstance(coefficients, Tensor):
        raise ValueError(f"generator: expected it to return a Tensor, got {type(coefficients).__name__}")
    return coefficients


def _check_values(coefficients: Tensor, n_coefficients: int | None) -> None:
    if coefficients.ndim != 2 or len(coefficients) != _N_PROBES or not coefficients.shape[1]:
        raise ValueError(
            f"generator: expected coefficients of shape ({_N_PROBES}, n_coefficients) for {_N_PROBES} "
            f"latents, got {tuple(coefficients.shape)}"
        )
    if n_coefficients not in (None, coefficients.shape[1]):
        raise ValueError(
            f"generator: expected {n_coefficients} coefficients, as many as the dictionary takes, "
            f"got {coefficients.shape[1]}"
        )
    if not torch.isfinite(coefficients).all():
        raise ValueError("generator: expected finite coefficients, got NaN or infinity for a normal latent")


def _check_derivative(generator: Generator, z: Tensor, coefficients: Tensor) -> None:
    """Raise ValueError if the derivative cannot be computed, or is zero although values change with z."""
    try:
        slopes = push_forward(generator, z, torch.ones_like(z))[1]
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ValueError(f"generator: expected a differentiable function of torch, got {error}") from error
    moves = not torch.equal(_call(generator, z + 1), coefficients)
    if moves and not slopes.any():
        raise ValueError(
            "generator: expected a differentiable function, got derivatives that are zero although its "
            "values change (a detach, a rounding, a NumPy function?)"
        )
    if not torch.isfinite(slopes).all():
        raise ValueError("generator: expected finite derivatives, got NaN or infinity for a normal latent")


def _warn_of_training_mode(generator: Generator) -> bool:
    if not isinstance(generator, nn.Module):
        return False
    fickle = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    for name, module in generator.named_modules():
        if module.training and isinstance(module, fickle):
            warnings.warn(
                f"generator: {type(module).__name__} {name!r} is in training mode, so that the coefficients "
                "of a sample depend on the other samples or on chance; call generator.eval()",
                RuntimeWarning,
                stacklevel=3,
            )
            return True
    return False
