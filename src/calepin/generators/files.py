"""Save and load generators: those of `calepin.generators`, and sequences of common layers.

A description is JSON (class, settings and layers) and named arrays, never code. A generator without a
description can still be recognised by its `fingerprint`, its coefficients for a few fixed latents.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from calepin.core.errors import FileFormatError
from calepin.core.files import load_arrays, save_arrays
from calepin.core.reading import check_sizes, reading
from calepin.generators.base import Generator, latent_dimension, like_generator
from calepin.generators.families import GroupSparse, KSparse, PolynomialSine, ReLUNet, Sine
from calepin.generators.truncate import Truncated

__all__ = ["describe", "fingerprint", "load_generator", "rebuild", "same_generator", "save_generator"]

KIND = "generator"
FAMILIES: dict[str, Any] = {
    kind.__name__: kind for kind in (GroupSparse, KSparse, PolynomialSine, ReLUNet, Sine)
}
ACTIVATIONS: dict[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.ELU, nn.SiLU, nn.Identity)
}


def describe(generator: Generator) -> dict[str, Any] | None:
    """Return a generator as JSON, without its arrays; None if it cannot be saved."""
    name = type(generator).__name__
    if FAMILIES.get(name) is type(generator):
        return {"family": name, "settings": generator.settings()}  # type: ignore[attr-defined]
    if not isinstance(generator, nn.Sequential):
        return None
    layers: list[dict[str, Any]] = []
    for layer in generator:
        kind = type(layer).__name__
        if type(layer) is nn.Linear:
            sizes = {"in_features": layer.in_features, "out_features": layer.out_features}
            layers.append({"layer": kind, **sizes, "bias": layer.bias is not None})
        elif ACTIVATIONS.get(kind) is type(layer) and repr(layer) == repr(ACTIVATIONS[kind]()):
            layers.append({"layer": kind})
        else:
            return None
    return {"layers": layers}


def rebuild(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> nn.Module:
    """Return the generator of a description, frozen and in evaluation mode.

    Raises
    ------
    FileFormatError
        If the class is unknown to this version of calepin, or arrays have other shapes.
    """
    try:
        check_sizes(description, arrays)
        if "family" in description:
            generator = FAMILIES[description["family"]](**description["settings"])
        else:
            generator = Truncated(*(_layer(layer) for layer in description["layers"]))
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        for name, own in generator.state_dict(keep_vars=True).items():
            if tensors[name].shape != own.shape:
                raise FileFormatError(f"generator: {name} has shape {tuple(tensors[name].shape)}")
            own.data = tensors[name]  # dtype included
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"generator: expected one known to this version of calepin, got {error!r}"
        ) from error
    return generator.requires_grad_(False).eval()


def save_generator(path: str | os.PathLike, generator: Generator) -> None:
    """Write a generator as one safetensors file, atomically.

    Raises
    ------
    ValueError
        If the generator is neither calepin's nor an ``nn.Sequential`` of linear layers and common
        activations.
    """
    description = describe(generator)
    if description is None or not isinstance(generator, nn.Module):
        raise ValueError(
            "generator: expected one of calepin's or an nn.Sequential of linear layers and activations, "
            f"got {type(generator).__name__}, which cannot be saved"
        )
    save_arrays(path, KIND, arrays_of(generator), {"generator": description})


def load_generator(path: str | os.PathLike) -> nn.Module:
    """Read a generator that `save_generator` wrote; `calepin.networks.open_generator` also takes a saved VAE.

    Raises
    ------
    FileNotFoundError, calepin.FileFormatError
        If there is no such file, or it does not contain a generator.
    """
    arrays, parameters = load_arrays(path, KIND)
    with reading(path, "generator"):
        return rebuild(parameters["generator"], arrays)


def arrays_of(generator: Generator) -> dict[str, np.ndarray]:
    """Return parameters and buffers by name; an empty dictionary for a plain function."""
    if not isinstance(generator, nn.Module):
        return {}
    return {name: tensor.detach().cpu().numpy() for name, tensor in generator.state_dict().items()}


@torch.no_grad()
def fingerprint(generator: Generator, latent_dim: int | None = None) -> np.ndarray:
    """Return the coefficients (4, n_coefficients) of four fixed latents."""
    k = latent_dimension(generator, latent_dim)
    like = like_generator(generator)
    probes = np.random.default_rng(0).standard_normal((4, k))
    return generator(torch.from_numpy(probes).to(like)).cpu().numpy()


def same_generator(generator: Generator, expected: np.ndarray, latent_dim: int | None = None) -> bool:
    """Return whether the fingerprint of a generator is the expected one, up to rounding."""
    mine = fingerprint(generator, latent_dim)
    return mine.shape == expected.shape and np.allclose(
        mine, expected, rtol=1e-3, atol=1e-5 * np.abs(mine).max()
    )


def _layer(description: Mapping[str, Any]) -> nn.Module:
    settings = {name: value for name, value in description.items() if name != "layer"}
    kind = description["layer"]
    return nn.Linear(**settings) if kind == "Linear" else ACTIVATIONS[kind](**settings)
