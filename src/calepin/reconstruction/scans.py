"""What ``calepin reconstruct`` works on: an image measured by an operator, or k-space of a scanner."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from calepin.datasets.arrays import open_array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from calepin.datasets.images import Image
    from calepin.networks.untrained import UntrainedNetwork
    from calepin.operators.base import LinearOperator

__all__ = ["Kind", "Pattern", "Scan", "middle", "parse_columns", "scan_image", "scan_kspace"]


ALMOST_ALL = 0.99  # a sample may be zero by rounding


class Kind(StrEnum):
    """How an image is measured."""

    gaussian = "gaussian"
    hadamard = "hadamard"
    dct = "dct"
    mask = "mask"


class Pattern(StrEnum):
    """Which samples of k-space are acquired."""

    points = "points"
    columns = "columns"


@dataclass(frozen=True)
class Scan:
    """Measurements, and how signals become images.

    Attributes
    ----------
    operator
    y
        (n, *operator.out_shape), of signals around 1.
    show
        Signals (n, *operator.in_shape) as pixels (h, w) or (h, w, 3) in [0, 1].
    truth
        Pixels, where they are known.
    share
        Part of all samples that was acquired.
    scale
        What signals are multiplied by to have the file's unit.
    notes
        What was done to the file's content.
    weights
        Of the measurements in the fit, all alike without.
    network
        What makes the signals, the estimator's default without.
    """

    operator: "LinearOperator"
    y: "Tensor"
    show: "Callable[[Tensor], NDArray[np.floating]]"
    truth: "NDArray[np.floating] | None"
    share: float
    scale: float = 1.0
    notes: tuple[str, ...] = ()
    weights: "Tensor | None" = None
    network: "UntrainedNetwork | None" = None


def scan_image(
    image: "Image", kind: Kind, *, ratio: float | None, mask: Path | None, size: int, seed: int
) -> Scan:
    """Reduce an image to `size` pixels along its longer side, and measure each channel by itself."""
    import numpy as np
    import torch

    from calepin.operators.mask import Mask

    pixels = torch.from_numpy(np.asarray(image.pixels, np.float32))
    channels = (pixels if pixels.ndim == 3 else pixels[..., None]).movedim(-1, 0)[:, None]
    x = _reduced(channels, size)
    operator = _operator(kind, tuple(x.shape[1:]), ratio, mask, seed)
    y = operator(x)
    height, width = x.shape[-2:]
    notes = list(image.notes)
    if x.shape != channels.shape:
        notes.append(
            f"reduced from {channels.shape[-1]} x {channels.shape[-2]} to {width} x {height} (--size)"
        )
    padded = getattr(operator, "n_coefficients", height * width)
    if padded != height * width:
        notes.append(f"{height * width} pixels padded with zeros to {padded}, the size of the transform")
    if len(x) > 1:
        notes.append("each colour channel is measured and reconstructed by itself")
    measured = int(operator.observed.sum()) if isinstance(operator, Mask) else operator.out_shape[0]
    return Scan(operator, y, _as_pixels, _as_pixels(x), measured / (height * width), notes=tuple(notes))


def scan_kspace(
    kspace: "NDArray[np.complexfloating]",
    *,
    acceleration: float | None,
    pattern: Pattern,
    mask: Path | None,
    seed: int,
) -> Scan:
    """Undersample k-space (n_coils, ky, kx); without `acceleration` and `mask` its zeros are the gaps."""
    import numpy as np
    import torch

    from calepin.operators.fourier import MultiCoilMRI, centred_ifft, root_sum_of_squares

    samples = torch.from_numpy(np.ascontiguousarray(kspace, np.complex64))[None]
    present = (samples != 0).any(1)[0]
    full = float(present.float().mean()) > ALMOST_ALL
    present |= full
    if acceleration is not None and not full:
        raise ValueError(
            f"--acceleration: expected fully sampled k-space, got {float(present.float().mean()):.1%} "
            f"of it; {_advice(present)}"
        )
    if acceleration is None and mask is None and full:
        raise ValueError("KSPACE is fully sampled: say with --acceleration or --mask what is left out")
    acquired = present & _acquired(tuple(present.shape), acceleration, pattern, mask, seed)
    operator = MultiCoilMRI(acquired, n_coils=samples.shape[1])
    y = samples.masked_fill(~acquired, 0)
    scale = float(root_sum_of_squares(operator.adjoint(y)).max())
    if not scale > 0:
        raise ValueError("--mask: expected samples that are not zero, got none")
    truth = root_sum_of_squares(centred_ifft(samples / scale))[0, 0].numpy() if full else None
    peak = None if truth is None else float(truth.max())

    def show(coils: "Tensor") -> "NDArray[np.floating]":
        magnitude = root_sum_of_squares(coils)[0, 0].numpy()
        return np.clip(magnitude / (peak or max(float(magnitude.max()), 1e-30)), 0, 1)

    weights, network = _prior(acquired, samples.shape[1])
    return Scan(
        operator,
        y / scale,
        show,
        None if truth is None else truth / truth.max(),
        float(acquired.float().mean()),
        scale,
        weights=weights,
        network=network,
    )


def _prior(acquired: "Tensor", n_coils: int) -> "tuple[Tensor, UntrainedNetwork]":
    """Return the weights of samples and the network of all coils, smoother where columns are missing."""
    from calepin.networks.deep_decoder import DeepDecoder
    from calepin.networks.untrained import ComplexPair
    from calepin.operators.fourier import density_weights

    columns = bool((acquired == acquired[:1]).all())
    size = (int(acquired.shape[0]), int(acquired.shape[1]))
    # found at 160 x 168 and no other at 320 x 168: larger grids make up more than they see
    in_size = tuple(min(8 if columns else 16, max(1, side // 4)) for side in size)
    decoder = DeepDecoder(size, out_channels=2 * n_coils, channels=128, in_size=in_size, output="none")
    return density_weights(size, power=0.25 if columns else 0.5), ComplexPair(decoder)


def _reduced(x: "Tensor", size: int) -> "Tensor":
    """Return images averaged down to `size` pixels along the longer side; smaller ones as they are."""
    from torch.nn.functional import interpolate

    height, width = x.shape[-2:]
    factor = size / max(height, width)
    if factor >= 1:
        return x
    return interpolate(x, (max(1, round(height * factor)), max(1, round(width * factor))), mode="area")


def _operator(
    kind: Kind, shape: tuple[int, ...], ratio: float | None, mask: Path | None, seed: int
) -> "LinearOperator":
    import torch

    from calepin.core.random import torch_generator
    from calepin.operators.mask import Mask
    from calepin.operators.sketch import GaussianSketch
    from calepin.operators.transforms import SubsampledDCT, SubsampledHadamard

    if mask is not None:
        return Mask(_read_mask(mask, shape[1:])[None])
    n = shape[-2] * shape[-1]
    count = max(1, round((0.25 if ratio is None else ratio) * n))
    generator = torch_generator(seed)
    if kind == Kind.mask:
        observed = torch.zeros(n, dtype=torch.bool)
        observed[torch.randperm(n, generator=generator)[:count]] = True
        return Mask(observed.view(shape))
    operators = {
        Kind.gaussian: GaussianSketch,
        Kind.hadamard: SubsampledHadamard,
        Kind.dct: SubsampledDCT,
    }
    return operators[kind](shape, count, generator=generator)


def _acquired(
    shape: tuple[int, ...], acceleration: float | None, pattern: Pattern, mask: Path | None, seed: int
) -> "Tensor":
    import torch

    from calepin.operators.fourier import column_mask, variable_density_mask

    if mask is not None:
        return _read_mask(mask, shape)
    if acceleration is None:
        return torch.ones(shape, dtype=torch.bool)
    height, width = shape
    if pattern == Pattern.columns:
        return column_mask((height, width), acceleration=acceleration, seed=seed)
    # the fully sampled middle takes a fifth of the samples at most
    n_center = min(24, int((height * width / acceleration / 5) ** 0.5))
    return variable_density_mask((height, width), acceleration=acceleration, n_center=n_center, seed=seed)


def _read_mask(path: Path, shape: tuple[int, ...]) -> "Tensor":
    """Return a mask from an .npy file of booleans, or of zeros and ones."""
    import numpy as np
    import torch

    values = np.asarray(open_array(path))
    if values.shape != shape:
        raise ValueError(f"--mask: expected shape {shape}, got {values.shape} in {path}")
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise ValueError(
            f"--mask: expected booleans or zeros and ones, got others ({values.dtype}) in {path}"
        )
    if not values.any():
        raise ValueError(f"--mask: expected at least one sample, got none in {path}")
    return torch.from_numpy(values.astype(bool))


def _advice(present: "Tensor") -> str:
    columns = present.any(0).nonzero().flatten()
    first, last = int(columns[0]), int(columns[-1]) + 1
    if (first, last) != (0, present.shape[1]):
        return f"--columns {first}:{last} cuts off columns that are zero"
    return "without it the samples that are not zero are taken as acquired"


def _as_pixels(x: "Tensor") -> "NDArray[np.floating]":
    """Return images of the channels, (channels, 1, h, w), as pixels (h, w) or (h, w, channels)."""
    pixels = x[:, 0].clamp(0, 1).movedim(0, -1).numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def parse_columns(text: str | None, width: int) -> slice:
    """Return the columns that --columns asks for, which must stay around the zero frequency."""
    if text is None:
        return slice(0, width)
    first, colon, last = text.partition(":")
    try:
        start, stop = int(first), int(last)
    except ValueError:
        start = stop = -1
    if not colon or not 0 <= start < stop <= width:
        raise typer.BadParameter(
            f"expected first:last within 0:{width}, got {text!r}", param_hint="--columns"
        )
    if start + (stop - start) // 2 != width // 2:
        raise typer.BadParameter(
            f"expected columns around the zero frequency, column {width // 2}, got {text!r}",
            param_hint="--columns",
        )
    return slice(start, stop)


def middle(size: int | None, length: int) -> slice:
    """Return the `size` lines around the zero frequency of `length`, all by default."""
    wanted = min(size or length, length)
    start = length // 2 - wanted // 2
    return slice(start, start + wanted)
