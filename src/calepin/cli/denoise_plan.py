"""What `calepin denoise` does with each image: the noise it assumes, the method, and the settings of both."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from calepin.cli.noise_files import NoiseFiles
from calepin.cli.options import given, refuse
from calepin.cli.units import level_in_pixels, samples_of, unit_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calepin.datasets.images import Image
    from calepin.datasets.noise import PoissonGaussianNoise
    from calepin.imaging.denoising import AnyNoise, Denoiser
    from calepin.imaging.result import DenoiseResult

__all__ = [
    "Camera",
    "Method",
    "Noise",
    "Plan",
    "Rule",
    "load_dictionary",
    "noise_values",
]


class Noise(StrEnum):
    """Noise model of a pixel."""

    gaussian = "gaussian"
    poisson = "poisson"


class Method(StrEnum):
    """Denoising method."""

    dictionary = "dictionary"
    network = "network"
    best = "best"


class Rule(StrEnum):
    """How atoms are updated."""

    ksvd = "ksvd"
    mod = "mod"
    online = "online"


@dataclass(frozen=True)
class Camera:
    """What is known of a camera, in the units of the samples of a file."""

    gain: float | None  # None: to be estimated
    offset: float
    read: float | None

    @classmethod
    def of(cls, gain: str | None, offset: float | None, read_noise: float | None) -> "Camera | None":
        """Return the camera that options describe, or None without a gain."""
        if gain is None:
            return None
        known = None if gain == "estimated" else _number(gain)
        if known is not None and not 0 < known < math.inf:
            raise typer.BadParameter(
                f"expected a number above 0 or 'estimated', got {gain!r}", param_hint="--gain"
            )
        return cls(known, offset or 0.0, read_noise)

    def noise(self, image: "Image") -> "PoissonGaussianNoise":
        """Return the noise model, in the units of the pixels of an image."""
        from calepin.datasets.noise import PoissonGaussianNoise
        from calepin.imaging.photon_transfer import estimate_photon_transfer

        unit, black = samples_of(image)
        gain, read = self.gain, self.read
        if gain is None:
            if image.pixels.ndim != 2:
                raise typer.BadParameter("expected a number for a colour image", param_hint="--gain")
            samples = unit * image.pixels.astype(float) + black
            found = estimate_photon_transfer(samples, offset=self.offset)
            gain, read = found.gain, found.read if read is None else read
        return PoissonGaussianNoise(gain / unit, (self.offset - black) / unit, (read or 0.0) / unit)


def noise_values(image: "Image", noise: object) -> dict[str, float]:
    """Return the numbers of a noise model that are known.

    They are sigma in the units of the command line, gain, offset and read noise of a camera in the units of
    the samples, or the peak of counts.
    """
    from calepin.cli.noise_files import level_of
    from calepin.datasets.noise import PoissonGaussianNoise

    sigma, peak = level_of(noise), getattr(noise, "peak", None)
    values: dict[str, float] = {}
    if sigma is not None:
        values = {"sigma": sigma * unit_of(image)}
    elif isinstance(noise, PoissonGaussianNoise):
        unit, black = samples_of(image)
        values = {
            "gain": noise.gain * unit,
            "offset": noise.offset * unit + black,
            "read_noise": noise.read * unit,
        }
    elif peak is not None:
        values = {"peak": peak}
    return {name: float(f"{value:.6g}") for name, value in values.items()}


def load_dictionary(path: Path) -> "NDArray[np.floating]":
    """Return the atoms of a file for patches, of zero mean and unit norm.

    Raises
    ------
    ValueError
        If the atoms are no square patches, or all of them are constant.
    """
    from calepin.core.files import load_atoms
    from calepin.imaging.first_pass import atoms_of_patches

    return atoms_of_patches(f"{path}", load_atoms(path))


@dataclass(frozen=True)
class Plan:
    """Noise model, method and settings of a command, for any number of images.

    Attributes
    ----------
    poisson
        Whether images hold photon counts.
    sigma
        Standard deviation of Gaussian noise in the units of the command line, None to estimate it.
    peak
        Expected count of the brightest pixel, None if unknown.
    camera
        The camera of the images, or None.
    files
        Files that describe the noise, or None.
    method, model, settings
        The method, the name or file of a network, and settings of the dictionary.
    across
        Whether neighbouring planes of a stack may help each other, because no method is asked for.
    seed
        Seed of learning, None for the default.
    """

    poisson: bool
    sigma: float | None
    peak: float | None
    camera: Camera | None
    files: NoiseFiles | None
    method: Method
    model: str | None
    settings: dict[str, Any]
    seed: int | None
    across: bool = True
    loaded: "dict[bool, Denoiser]" = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        *,
        noise: Noise | None,
        sigma: str | None,
        peak: float | None,
        gain: str | None,
        offset: float | None,
        read_noise: float | None,
        files: NoiseFiles | None,
        method: Method | None,
        model: str | None,
        dictionary: Path | None,
        learning: dict[str, Any],
        seed: int | None,
    ) -> "Plan":
        """Return the plan of the options of a command; `learning` holds options by their names there.

        Raises
        ------
        typer.BadParameter
            Options that do not go together.
        """
        poisson = noise is Noise.poisson
        if poisson:
            refuse({"--sigma": sigma}, "has no effect with --noise poisson")
        else:
            refuse({"--peak": peak}, "has no effect with --noise gaussian")
        level = _level(sigma)
        camera = Camera.of(gain, offset, read_noise)
        if camera is None:
            refuse({"--offset": offset, "--read-noise": read_noise}, "goes with --gain")
        else:
            refuse({"--peak": peak}, "has no effect with --gain")
            if not poisson:
                raise typer.BadParameter("expected --noise poisson beside it", param_hint="--gain")
        of_dictionary = learning | {"--dictionary": dictionary}
        chosen = method or _method(model, poisson, of_dictionary)
        if files is not None:
            files.check(chosen, {"--noise poisson": poisson or None, "--sigma": sigma, "--model": model})
        if chosen is Method.dictionary:
            refuse({"--model": model}, "has no effect with --method dictionary")
        elif chosen is Method.network:
            if camera is not None:
                raise typer.BadParameter("network takes no --gain: use best", param_hint="--method")
            refuse(of_dictionary, "has no effect with --method network")
        settings = given(**{name.strip("-").replace("-", "_"): value for name, value in learning.items()})
        if dictionary is not None:
            refuse(learning, "has no effect with --dictionary, whose atoms stay as they are")
            settings |= {"dictionary": load_dictionary(dictionary), "n_iter": 0}
        known = files is None or files.noise_map is not None
        across = method is None and model is None and known and not settings
        return cls(poisson, level, peak, camera, files, chosen, model, settings, seed, across)

    @property
    def read(self) -> list[Path]:
        """Files of the noise that were read."""
        return [] if self.files is None else self.files.paths

    @property
    def option_of_level(self) -> str | None:
        """The option that gives levels of noise other than 0, or None."""
        if self.files is not None and self.files.has_levels:
            return self.files.option
        return "--sigma" if self.sigma else None

    @property
    def noise_map(self) -> NoiseFiles | None:
        """The file of levels of each pixel, or None."""
        return self.files if self.files is not None and self.files.noise_map is not None else None

    def described(self) -> dict[str, Any]:
        """Return all that results depend on, as JSON."""
        import numpy as np

        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in {"settings", "loaded"}}
        values["camera"] = None if self.camera is None else asdict(self.camera)
        values["files"] = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.read]
        if self.files is not None and not self.read:
            values["files"] = [f"{self.files.option} estimated"]
        for name, value in self.settings.items():
            is_array = isinstance(value, np.ndarray)
            values[name] = hashlib.sha256(value.tobytes()).hexdigest() if is_array else value
        return values

    def noise(self, image: "Image") -> "AnyNoise | None":
        """Return the noise to assume in the pixels of an image, None for Gaussian noise to be estimated.

        Raises
        ------
        typer.BadParameter
            If the noise level is above the range of an image in units of its own.
        """
        from calepin.datasets.noise import GaussianNoise, PoissonNoise

        if self.camera is not None:
            return self.camera.noise(image)
        if self.files is not None:
            return self.files.noise(image, unit_of(image))
        if self.poisson:
            return PoissonNoise(self.peak)
        if self.sigma is None:
            return None
        return GaussianNoise(level_in_pixels(self.sigma, image))

    def denoiser(self, noise: "AnyNoise | None") -> "Denoiser":
        """Return the denoiser for a noise model; it is made once."""
        from calepin.datasets.noise import PoissonNoise
        from calepin.imaging.by_dictionary import DictionaryDenoiser
        from calepin.imaging.by_guide import GuidedDenoiser
        from calepin.imaging.by_network import NetworkDenoiser, load_network

        counts = isinstance(noise, PoissonNoise)
        if counts not in self.loaded:
            if self.method is Method.best:
                network = None if self.model is None else load_network(self.model)
                made = GuidedDenoiser(network, DictionaryDenoiser(**self.settings))
            elif self.method is not Method.network:
                made = DictionaryDenoiser(**self.settings)
            elif counts and self.model is None:
                made = NetworkDenoiser()  # the counts decide which network
            else:
                made = NetworkDenoiser(NetworkDenoiser(self.model).network(noise))
            self.loaded[counts] = made
        return self.loaded[counts]

    def run(
        self,
        observed: "NDArray",
        noise: "AnyNoise | None",
        callback: "Callable[[str, float], object] | None" = None,
    ) -> "DenoiseResult":
        """Denoise an observation."""
        from calepin.imaging.denoising import denoise

        return denoise(
            observed,
            method=self.denoiser(noise),
            noise=noise,
            callback=callback,
            **given(random_state=self.seed),
        )

    def denoise_volume(
        self,
        frames: "NDArray[np.floating]",
        noise: "AnyNoise | None",
        callback: "Callable[[str, float], object] | None" = None,
    ) -> "DenoiseResult":
        """Denoise frames (d, h, w) or (d, h, w, 3) that are neighbours in depth or time, together."""
        from calepin.imaging.denoising import denoise

        axes = "ZYXS" if frames.ndim == 4 else "ZYX"
        return denoise(frames, noise=noise, axes=axes, callback=callback, **given(random_state=self.seed))

    def denoise_image(
        self,
        image: "Image",
        callback: "Callable[[str, float], object] | None" = None,
        *,
        noise: "AnyNoise | None" = None,
    ) -> "tuple[Image, DenoiseResult]":
        """Return an image without its noise, and the result in the units of its observation.

        `noise` is the noise of the image. Default: that of the plan.
        """
        from calepin.imaging.scenes import observed_scene

        noise = self.noise(image) if noise is None else noise
        scene = observed_scene(image, noise)
        result = self.run(scene.observed, noise, callback)
        return replace(scene.noisy, pixels=scene.unit * result.image), result


def _method(model: str | None, counts: bool, of_dictionary: dict[str, Any]) -> Method:
    """Return the method that options imply."""
    if model is not None:
        return Method.network
    chosen = any(value is not None for value in of_dictionary.values())
    return Method.best if counts and not chosen else Method.dictionary


def _level(sigma: str | None) -> float | None:
    """Return a level of noise, or None if it is to be estimated."""
    if sigma is None or sigma == "estimated":
        return None
    level = _number(sigma)
    if not 0 <= level < math.inf:
        raise typer.BadParameter(
            f"expected a number of at least 0 or 'estimated', got {sigma!r}", param_hint="--sigma"
        )
    return level


def _number(text: str) -> float:
    """Return the number in a text, -1 for any other text."""
    try:
        return float(text)
    except ValueError:
        return -1.0
