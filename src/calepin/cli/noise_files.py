"""Noise that files describe: a power spectral density, dark frames, or a map of standard deviations.

The density may also be estimated, from the image itself.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from calepin.cli.options import refuse

if TYPE_CHECKING:
    import numpy as np

    from calepin.datasets.correlated_noise import CorrelatedNoise
    from calepin.datasets.images import Image
    from calepin.datasets.noise import VaryingGaussianNoise

__all__ = ["NoiseFiles", "level_of", "warn_of_levels"]

STRONGER = 2.0  # noise, over the deviation of the image, that must be a mistake
ESTIMATED = Path("estimated")  # in place of the file of a density


@dataclass(frozen=True)
class NoiseFiles:
    """The files that options name, at most one kind of them."""

    psd: Path | None
    dark_frames: list[Path]
    noise_map: Path | None

    @classmethod
    def of(
        cls, psd: Path | None, dark_frames: list[Path] | None, noise_map: Path | None
    ) -> "NoiseFiles | None":
        """Return the files, or None if no option names one."""
        files = cls(psd, dark_frames or [], noise_map)
        return files if files._options() else None

    def check(self, method: str, others: dict[str, Any]) -> None:
        """Raise an error for options that do not go with these files, before anything is read."""
        name, *more = self._options()
        if more:
            raise typer.BadParameter(f"has no effect with {name}", param_hint=more[0])
        refuse(others, f"has no effect with {name}")
        if method != "dictionary" and not (method == "best" and self.noise_map is not None):
            raise typer.BadParameter(f"{method} takes no {name}: use dictionary", param_hint="--method")

    def noise(self, image: "Image", unit: float) -> "CorrelatedNoise | VaryingGaussianNoise":
        """Return the noise model in the units of the pixels of an image.

        `unit` is the difference of white and black in the units of --psd and --noise-map.
        """
        import numpy as np

        from calepin.datasets.correlated_noise import CorrelatedNoise
        from calepin.datasets.noise import VaryingGaussianNoise
        from calepin.imaging.noise_spectrum import estimate_noise_psd

        if self.psd == ESTIMATED:
            return estimate_noise_psd(np.asarray(image.pixels, dtype=np.float64))
        if self.psd is not None:
            with _named(self.psd):
                noise = CorrelatedNoise(_array(self.psd) / unit**2)
                noise.check_channels(image.pixels)
            return noise
        if self.noise_map is not None:
            levels = self.planes(1, image.pixels.shape)[0] / unit
            with _named(self.noise_map):
                varying = VaryingGaussianNoise(levels)
                varying.level(image.pixels)
            warn_of_levels(varying.sigma, image.pixels)
            return varying
        frames = [_dark_frame(path, image) for path in self.dark_frames]
        with _named(self.dark_frames[0]):
            noise = CorrelatedNoise.from_dark_frames(frames)
            noise.check_channels(image.pixels)
        return noise

    def planes(self, n: int, shape: tuple[int, ...]) -> "np.ndarray":
        """Return the levels of --noise-map for n planes (h, w) or (h, w, channels), in its units.

        They have the shape (1, h, w) for all planes or (n, h, w), or the same with three channels.
        """
        import numpy as np

        from calepin.cli.planes import planes_of_file
        from calepin.datasets.noise import VaryingGaussianNoise

        assert self.noise_map is not None
        levels = planes_of_file(self.noise_map, n, shape, "--noise-map")
        with _named(self.noise_map):
            if levels.dtype.kind not in "iuf":
                raise ValueError(f"expected real numbers, got {levels.dtype}")
            VaryingGaussianNoise(levels)  # raises an error for levels that are no standard deviations
        return np.asarray(levels, dtype=np.float64)

    @property
    def option(self) -> str:
        """The option that names the files."""
        return self._options()[0]

    @property
    def paths(self) -> list[Path]:
        """The files."""
        named = (self.psd, *self.dark_frames, self.noise_map)
        return [path for path in named if path is not None and path != ESTIMATED]

    @property
    def has_levels(self) -> bool:
        """Whether they hold levels of noise in the units of --sigma, not samples."""
        return self.noise_map is not None or (self.psd is not None and self.psd != ESTIMATED)

    def _options(self) -> list[str]:
        given = {"--psd": self.psd, "--dark-frame": self.dark_frames, "--noise-map": self.noise_map}
        return [name for name, value in given.items() if value]


def level_of(noise: object) -> float | None:
    """Return the standard deviation of Gaussian noise, the root mean square where it varies, or None."""
    import numpy as np

    from calepin.datasets.noise import CorrelatedNoise, GaussianNoise, VaryingGaussianNoise

    if isinstance(noise, GaussianNoise | CorrelatedNoise):
        return noise.sigma
    if isinstance(noise, VaryingGaussianNoise):
        return float(np.sqrt(np.mean(np.square(noise.sigma))))
    return None


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in errors of its values."""
    from calepin.core.errors import FileFormatError

    try:
        yield
    except FileFormatError:
        raise
    except ValueError as error:
        raise FileFormatError(f"{path}: {error}") from error


def warn_of_levels(sigma: "np.ndarray", pixels: "np.ndarray") -> None:
    """Warn of levels of pixels that are in other units than theirs."""
    import numpy as np

    level, spread = float(np.sqrt(np.mean(np.square(sigma)))), float(np.nanstd(pixels))
    if level > STRONGER * spread > 0:
        warnings.warn(
            f"--noise-map: its noise is {level / spread:.3g} times as strong as the whole image: levels are "
            "in the units of --sigma, 0 to 255 from black to white for integers; --range names samples",
            stacklevel=2,
        )


def _array(path: Path) -> "np.ndarray":
    import numpy as np

    from calepin.core.reading import read_npy

    values = read_npy(path)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"expected real numbers, got {values.dtype}")
    return np.asarray(values, dtype=np.float64)


def _dark_frame(path: Path, image: "Image") -> "np.ndarray":
    """Return a dark frame in the units of the pixels of an image: those of its samples."""
    import numpy as np

    from calepin.core.errors import FileFormatError
    from calepin.datasets.images import read_image

    levels = image.levels
    dark = read_image(path, value_range=None if levels is None else (levels.black, levels.white))
    if levels is None and dark.bits != image.bits:
        raise FileFormatError(f"{path}: expected {image.bits} bits, as the image, got {dark.bits}")
    return np.asarray(dark.pixels, dtype=np.float64)
