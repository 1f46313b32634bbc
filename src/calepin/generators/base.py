"""The Jacobian, latent dimension and validity check of a generator."""

import copy
import warnings
from collections.abc import Callable, Iterable
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor, nn

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_floating, check_tensor, is_integer

__all__ = [
    "Generator",
    "by_layers",
    "check_generator",
    "forward_mode",
    "in_dtype",
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
        warnings.simplefilter("ignore", FutureWarning)  # what it is since torch 2.14
        import torch._decomp.decompositions_for_jvp  # noqa: F401


def latent_dimension(generator: Generator, latent_dim: int | None = None) -> int:
    """Return the latent dimension k: the given number, or that of the generator.

    A generator declares k by the attribute ``latent_dim``. Without it, k is that of the first layer of a
    network that has this attribute or is linear.

    Raises
    ------
    TypeError
        If the generator is not callable.
    ValueError
        If neither is known, or if they differ.
    """
    check_arguments(latent_dimension, locals())
    if isinstance(generator, type) or not callable(generator):
        raise TypeError(f"generator: expected a function of latents or an nn.Module, got {generator!r:.60}")
    own: Any = getattr(generator, "latent_dim", None)
    k = latent_dim
    if k is None:
        k = _of_first_layer(generator) if own is None else own
    if not is_integer(k) or k < 1:
        raise ValueError(
            "latent_dim: expected a positive integer for a generator without this attribute or a first "
            f"linear layer, got {k!r}"
        )
    if own is not None and own != k:
        raise ValueError(f"latent_dim: expected {own}, that of the generator, got {k}")
    return int(k)


def _of_first_layer(generator: Generator) -> int | None:
    """Return the latent dimension that the first layers of a network declare, or None."""
    for layer in generator.modules() if isinstance(generator, nn.Module) else ():
        known = getattr(layer, "latent_dim", None) or getattr(layer, "in_features", None)
        if known is not None:
            return known
        if next(layer.children(), None) is None and next(layer.parameters(), None) is not None:
            return None  # a layer of another kind, such as a convolution
    return None


@torch.no_grad()
def in_dtype(generator: Generator, dtype: torch.dtype, latent_dim: int | None = None) -> Generator:
    """Return a generator that takes latents of a dtype and returns coefficients of the same dtype.

    A network with parameters or buffers of another dtype is copied and converted. A function that does not
    keep the dtype computes in torch's default dtype, and its coefficients are converted.
    """
    if isinstance(generator, nn.Module):
        same = like_generator(generator, dtype).dtype == dtype
        return generator if same else copy.deepcopy(generator).to(dtype)
    z = torch.zeros((1, latent_dimension(generator, latent_dim)), dtype=dtype)
    try:
        found = generator(z)
        same = not isinstance(found, Tensor) or found.dtype == dtype
    except RuntimeError:  # torch does not multiply tensors of different dtypes
        same = False
    except (TypeError, ValueError, IndexError):
        same = True  # `check_generator` reports the error

    @wraps(generator)
    def converted(z: Tensor) -> Tensor:
        found = generator(z.to(torch.get_default_dtype()))
        return found if found.is_complex() else found.to(z.dtype)  # `check_generator` refuses complex values

    return generator if same else converted


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
        Latent dimension k, for a generator without this attribute or a first linear layer.
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
        one sample depends on other samples, if it is not differentiable, if batch normalisation or dropout is
        in training mode, or if k exceeds n_features.
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
    _refuse_training_mode(generator)
    like = like_generator(generator) if like is None else check_tensor("like", like)
    draw = torch.Generator().manual_seed(0)
    z = torch.randn((_N_PROBES, k), generator=draw, dtype=like.dtype).to(like.device)
    coefficients = _call(generator, z)
    _check_values(coefficients, n_coefficients)
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
        images = coefficients.ndim > 2 and len(coefficients) == _N_PROBES
        hint = "; torch.nn.Sequential(generator, torch.nn.Flatten()) flattens them" if images else ""
        raise ValueError(
            f"generator: expected coefficients of shape ({_N_PROBES}, n_coefficients) for {_N_PROBES} "
            f"latents, got {tuple(coefficients.shape)}{hint}"
        )
    if n_coefficients not in (None, coefficients.shape[1]):
        raise ValueError(
            f"generator: expected {n_coefficients} coefficients, as many as the dictionary takes, "
            f"got {coefficients.shape[1]}"
        )
    if not coefficients.is_floating_point():
        raise ValueError(f"generator: expected real floating-point coefficients, got {coefficients.dtype}")
    if not torch.isfinite(coefficients).all():
        raise ValueError("generator: expected finite coefficients, got NaN or infinity for a normal latent")


def _check_derivative(generator: Generator, z: Tensor, coefficients: Tensor) -> None:
    """Raise ValueError if the derivative cannot be computed, or is zero although values change with z."""
    try:
        slopes = push_forward(generator, z, torch.ones_like(z))[1]
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ValueError(f"generator: expected a differentiable function of torch, got {error}") from error
    moves = not torch.equal(_call(generator, z + 1), coefficients)
    if not moves and bool((coefficients == coefficients[0]).all()):
        raise ValueError("generator: expected coefficients that change with the latents, got constants")
    if moves and not slopes.any():
        raise ValueError(
            "generator: expected a differentiable function, got derivatives that are zero although its "
            "values change (a detach, a rounding, a NumPy function?)"
        )
    if not torch.isfinite(slopes).all():
        raise ValueError("generator: expected finite derivatives, got NaN or infinity for a normal latent")


def _refuse_training_mode(generator: Generator) -> None:
    if not isinstance(generator, nn.Module):
        return
    fickle = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    for name, module in generator.named_modules():
        if module.training and isinstance(module, fickle):
            raise ValueError(
                f"generator: expected evaluation mode, got {type(module).__name__} {name!r} in training "
                "mode, where the coefficients of a sample depend on the other samples or on chance; call "
                "generator.eval()"
            )
