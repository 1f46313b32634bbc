"""``calepin denoise --noise poisson``: images of counts, by the network of the nearest peak."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from calepin.cli.output import Output

if TYPE_CHECKING:
    from calepin.datasets.images import Image
    from calepin.imaging.by_dictionary import DenoiseResult

__all__ = ["PhotonCommand", "check_options", "count_photons", "denoise_photons", "draw_photons"]

BARE = "--add-noise"
PHOTONS = "--add-photons"


class PhotonCommand(TyperCommand):
    """A command whose ``--add-noise`` needs no level behind it: photons have their peak."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write a bare ``--add-noise`` as the flag that it stands for."""
        levels = [*args[1:], "-"]
        bare = [arg == BARE and level.startswith("-") for arg, level in zip(args, levels, strict=False)]
        return super().parse_args(
            ctx, [PHOTONS if alone else arg for arg, alone in zip(args, bare, strict=True)]
        )


def check_options(peak: float | None, forbidden: dict[str, Any]) -> float:
    """Return the peak, or say which options do not go together with photons."""
    given = [name for name, value in forbidden.items() if value is not None]
    if given:
        said = f"does not go with --noise poisson: {', '.join(given)}"
        raise typer.BadParameter(said, param_hint="--noise")
    if peak is None or not 0 < peak < float("inf"):
        raise typer.BadParameter(
            "with --noise poisson, say the expected count of the brightest pixel", param_hint="--peak"
        )
    return peak


def draw_photons(clean: "Image", peak: float, seed: int) -> "Image":
    """Return an image whose pixels are counts, in the unit in which the clean one was."""
    from dataclasses import replace

    import numpy as np

    unit = float(clean.pixels.max()) / peak
    if unit == 0:
        raise ValueError("a black image sends no photons: expected one with a pixel above 0")
    counts = np.random.default_rng(seed).poisson(clean.pixels.astype(np.float64) / unit)
    return replace(clean, pixels=counts * unit, bits=max(clean.bits, 16))


def count_photons(image: Path, clean: "Image | None", peak: float) -> "Image":
    """Read an image whose samples are counts, and give its pixels the unit of the clean one."""
    from dataclasses import replace

    import numpy as np

    from calepin.core.errors import FileFormatError
    from calepin.datasets.images import read_image

    picture = read_image(image)
    if picture.bits > 16:
        raise FileFormatError(f"{image} holds floating-point numbers, expected counts in 8 or 16 bits")
    counts = np.round(picture.pixels.astype(np.float64) * (2**picture.bits - 1))
    unit = (1.0 if clean is None else float(clean.pixels.max())) / peak
    return replace(picture, pixels=counts * unit, bits=16)


def denoise_photons(output: Output, noisy: "Image", unit: float, peak: float) -> "DenoiseResult":
    """Denoise pixels that are counts of a unit."""
    import numpy as np

    from calepin.core.progress import progress_bar
    from calepin.imaging.by_dictionary import DenoiseResult
    from calepin.imaging.by_photons import PEAKS, denoise_counts

    if not PEAKS[0] / 2 <= peak <= PEAKS[-1] * 2:
        output.note(f"peak {peak:g} is far from those that networks were trained for, {PEAKS}")
    counts = np.round(noisy.pixels / unit)
    with progress_bar("denoising", total=1, shown=not output.quiet) as bar:
        estimate = unit * denoise_counts(counts, peak=peak, callback=bar.update)
    return DenoiseResult(estimate, float("nan"), np.empty((0, 0)), [])
