"""``calepin denoise``: remove the noise of an image."""

import time
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.denoise_report import write_report
from calepin.cli.measures import Measure, measure, measure_rows
from calepin.cli.noise_files import NoiseFiles, level_of
from calepin.cli.options import (
    ARRAY_FILES,
    FIGURE_FILES,
    IMAGE_FILES,
    Default,
    Force,
    Writes,
    given,
    parse_range,
    refuse,
)
from calepin.cli.output import Debug, Json, Output, Quiet, peak_memory_mb
from calepin.cli.report import ReportOut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from calepin.datasets.images import Image
    from calepin.datasets.noise import GaussianNoise, PoissonGaussianNoise, PoissonNoise
    from calepin.imaging.denoising import AnyNoise, Denoiser
    from calepin.imaging.result import DenoiseResult
    from calepin.imaging.scenes import Scene

__all__ = ["EXAMPLES", "denoise"]

EXAMPLES = [
    ("calepin denoise photo.png -o clean.png", "the noise level is estimated"),
    ("calepin denoise scan.tif -o clean.tif --sigma 12 --atoms-image atoms.png", ""),
    ("calepin denoise --sample camera --add-noise 25 -o out.png --figure before-after.png", ""),
    ("calepin denoise photo.png -o clean.png --report report.html", "with a report"),
    ("calepin denoise photo.png -o clean.png --method network", "by a trained network"),
    ("calepin denoise counts.png -o out.png --noise poisson", "photon counts"),
    (
        "calepin denoise --sample camera --noise poisson --add-noise 4 -o out.png",
        "with simulated photon counts",
    ),
    (
        "calepin denoise camera.tif -o out.tif --noise poisson --gain 2.2 --offset 100 --read-noise 3.5",
        "an image of a camera: photons and read noise",
    ),
    (
        "calepin denoise scan.tif -o clean.tif --dark-frame dark.tif",
        "noise correlated between pixels, as a dark frame shows it",
    ),
    ("calepin denoise noisy.png -o out.png --reference clean.png --json", "PSNR and SSIM as JSON"),
    ("calepin denoise ct.tif -o out.tif --range=-1000:3000 --sigma 40", "in Hounsfield units"),
]

RANGE = 255  # from black to white, on the scale of noise levels on the command line
KINDS = {"CorrelatedNoise": "correlated, ", "VaryingGaussianNoise": "varying, root mean square "}
TOLERANCE = 0.1  # relative difference of noise levels of image and network that needs no note

_DENOISE = "calepin.imaging.denoising:denoise"
_DICTIONARY = "calepin.imaging.by_dictionary:DictionaryDenoiser"


class Noise(StrEnum):
    """Noise model of a pixel."""

    gaussian = "gaussian"
    poisson = "poisson"


class Method(StrEnum):
    """Denoising method."""

    dictionary = "dictionary"
    network = "network"
    combined = "combined"


class Rule(StrEnum):
    """How atoms are updated."""

    ksvd = "ksvd"
    mod = "mod"
    online = "online"


def denoise(
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="Noisy image: PNG, TIFF, JPEG or .npy.")
    ] = None,
    output_path: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="Denoised image, with the bit depth of IMAGE."),
        Writes(*IMAGE_FILES, *ARRAY_FILES),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A bundled image instead of IMAGE: camera, coins, cat ..."),
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="LO:HI",
            help="Samples of IMAGE for black and white, or 'data' for the smallest and largest; noise levels "
            "and results are then in the units of IMAGE. [default: the whole range of 8 or 16 bits, 0:1 for "
            "floats]",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="CLEAN", help="The clean image, to measure PSNR and SSIM against."),
    ] = None,
    noise: Annotated[
        Noise | None,
        typer.Option(
            help="Noise model; with poisson, IMAGE holds photon counts 0, 1, 2 ... [default: gaussian]"
        ),
    ] = None,
    add_noise: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="LEVEL",
            help="Add noise first: Gaussian with standard deviation LEVEL (0..255), or Poisson with "
            "peak LEVEL.",
        ),
    ] = None,
    sigma: Annotated[
        str | None,
        typer.Option(
            metavar="S",
            help="Standard deviation of Gaussian noise (0..255), or 'estimated'. "
            "[default: that of --add-noise, else estimated]",
        ),
    ] = None,
    peak: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Expected count of the brightest pixel, for Poisson noise. "
            "[default: that of --add-noise, else estimated]",
        ),
    ] = None,
    gain: Annotated[
        str | None,
        typer.Option(
            metavar="G",
            help="Image of a camera: units of IMAGE for each photon, or 'estimated'; with --noise poisson.",
        ),
    ] = None,
    offset: Annotated[
        float | None,
        typer.Option(metavar="B", help="Value of IMAGE without light, with --gain. [default: 0]"),
    ] = None,
    read_noise: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="R",
            help="Standard deviation without light in units of IMAGE, with --gain. [default: 0 or estimated]",
        ),
    ] = None,
    psd: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npy",
            help="Power spectral density of noise that is correlated between pixels: (a, b) or (a, b, 3), "
            "zero frequency first, in squares of the units of --sigma; its mean is the variance.",
        ),
    ] = None,
    dark_frame: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Image without light, in the units of IMAGE, whose correlated noise is assumed; repeat it "
            "for several, whose mean is no noise.",
        ),
    ] = None,
    noise_map: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npy",
            help="Standard deviation of the noise of each pixel, (h, w) or (h, w, 3), in the units of "
            "--sigma.",
        ),
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(
            help="A dictionary learned from the image, or a trained network, which --model implies; "
            "combined: both, for photon counts. [default: dictionary; for photon counts combined]"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="The trained network: bsd-gaussian ..., or a .safetensors file. "
            "[default: a shipped one for the noise]",
        ),
    ] = None,
    patch_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Side of the square patches of the dictionary."),
        Default(_DICTIONARY, "patch_size"),
    ] = None,
    n_components: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of atoms of the dictionary."),
        Default(_DICTIONARY, "n_components"),
    ] = None,
    rule: Annotated[
        Rule | None,
        typer.Option(help="How atoms of the dictionary are updated."),
        Default(_DICTIONARY, "rule"),
    ] = None,
    atoms_image: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Plot the atoms."), Writes(*IMAGE_FILES)
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Plot noisy and denoised image, with a detail."),
        Writes(*FIGURE_FILES),
    ] = None,
    report: ReportOut = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Seed of the added noise and of learning."),
        Default(_DENOISE, "random_state"),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove the noise of an image, by a dictionary of its patches or by a trained network.

    Gray or colour, 8 or 16 bits; bit depth, colour, alpha channel and profile are kept. Noise levels are on
    the scale 0..255 for any bit depth, as in the literature: 25 means 25/255 of the range from black to
    white. Floats outside [0, 1], signed and 32-bit integers need --range; noise levels and samples keep
    their units. PSNR (white is 1) and SSIM are printed if the clean image is known.
    """
    output = Output(quiet, as_json)
    if (image is None) == (sample is None):
        raise typer.BadParameter("give one of IMAGE and --sample NAME", param_hint="IMAGE")
    if image is None:
        refuse({"--range": value_range}, "is for IMAGE, not for a sample")
    measured = reference is not None or add_noise is not None
    if not measured and output_path is None and not (atoms_image or figure or report):
        raise typer.BadParameter("expected a file for the denoised image, got none", param_hint="--output")
    poisson = noise is Noise.poisson
    _check_noise(poisson, sigma, peak)
    camera = _Camera.of(gain, offset, read_noise)
    if camera is not None:
        refuse({"--peak": peak, "--add-noise": add_noise}, "has no effect with --gain")
        if not poisson:
            raise typer.BadParameter("expected --noise poisson beside it", param_hint="--gain")
    else:
        refuse({"--offset": offset, "--read-noise": read_noise}, "goes with --gain")
    learning = {"--patch-size": patch_size, "--n-components": n_components, "--rule": rule}
    chosen = method or _method(model, poisson and camera is None, learning)
    files = NoiseFiles.of(psd, dark_frame, noise_map)
    if files is not None:
        others = {"--noise poisson": poisson or None, "--sigma": sigma, "--add-noise": add_noise}
        files.check(chosen, others | {"--model": model})
    if chosen is Method.dictionary:
        refuse({"--model": model}, "has no effect with --method dictionary")
    elif chosen is Method.network:
        if camera is not None:
            raise typer.BadParameter("network takes no --gain: use dictionary", param_hint="--method")
        refuse(learning, "has no effect with --method network")
        if add_noise is None:
            refuse({"--seed": seed}, "has no effect with --method network and no --add-noise")
    else:
        refuse(learning | {"--model": model}, "has no effect with --method combined")
        if not poisson or camera is not None:
            raise typer.BadParameter("combined needs --noise poisson, without --gain", param_hint="--method")

    source = _read(image, sample, reference, poisson=poisson, added=add_noise is not None, text=value_range)
    added, assumed = _noise_models(poisson, add_noise, sigma, peak, _unit(source))
    if camera is not None:
        assumed = camera.noise(source)
    elif files is not None:
        assumed = files.noise(source, _unit(source))
    scene = _scene(source, reference, assumed, added, seed)
    for note in scene.noisy.notes:
        output.note(f"{image or sample}: {note}")
    settings = given(patch_size=patch_size, n_components=n_components, rule=rule)
    denoiser = _denoiser(chosen, model, settings, assumed)
    begun = time.perf_counter()
    result = _run(output, scene, denoiser, assumed, seed)
    seconds = time.perf_counter() - begun
    gave_way = bool(result.history)  # to the dictionary, which learns
    if chosen is Method.network and not gave_way and result.sigma is not None:
        _note_level(output, model, denoiser, result, _unit(scene.noisy))

    denoised = replace(scene.noisy, pixels=scene.unit * result.image)
    measures = measure(scene.noisy.pixels, scene.clean), measure(denoised.pixels, scene.clean)
    images = None
    if figure is not None or report is not None:
        images = _images(scene, denoised, measures)
    written = _write(output, denoised, result, images, (output_path, atoms_image, figure))
    written += [] if report is None else [str(report)]
    values = _show(output, scene, result, measures, seconds, written)
    if images is not None:
        name = str(sample) if image is None else image.name
        read = [image, reference, psd, *(dark_frame or []), noise_map]
        write_report(report, name, scene, result, values, images, read)


@dataclass(frozen=True)
class _Camera:
    """What is known of a camera, in the units of the samples of a file."""

    gain: float | None  # None: to be estimated
    offset: float
    read: float | None

    @classmethod
    def of(cls, gain: str | None, offset: float | None, read_noise: float | None) -> "_Camera | None":
        """Return the camera that options describe, or None without a gain."""
        if gain is None:
            return None
        try:
            known = None if gain == "estimated" else float(gain)
        except ValueError:
            known = -1.0
        if known is not None and not 0 < known < float("inf"):
            raise typer.BadParameter(
                f"expected a number above 0 or 'estimated', got {gain!r}", param_hint="--gain"
            )
        return cls(known, offset or 0.0, read_noise)

    def noise(self, image: "Image") -> "PoissonGaussianNoise":
        """Return the noise model, in the units of the pixels of an image."""
        from calepin.datasets.noise import PoissonGaussianNoise
        from calepin.imaging.photon_transfer import estimate_photon_transfer

        unit, black = _samples(image)
        gain, read = self.gain, self.read
        if gain is None:
            if image.pixels.ndim != 2:
                raise typer.BadParameter("expected a number for a colour image", param_hint="--gain")
            samples = unit * image.pixels.astype(float) + black
            found = estimate_photon_transfer(samples, offset=self.offset)
            gain, read = found.gain, found.read if read is None else read
        return PoissonGaussianNoise(gain / unit, (self.offset - black) / unit, (read or 0.0) / unit)


def _samples(image: "Image") -> tuple[float, float]:
    """Return the samples of a file for a difference of 1 and for 0 in its pixels."""
    if image.levels is not None:
        return image.levels.unit, image.levels.black
    return (1.0 if image.bits > 16 else 2.0**image.bits - 1), 0.0


def _method(model: str | None, poisson: bool, learning: dict[str, Any]) -> Method:
    """Return the method that options imply."""
    if model is not None:
        return Method.network
    of_dictionary = any(value is not None for value in learning.values())
    return Method.combined if poisson and not of_dictionary else Method.dictionary


def _check_noise(poisson: bool, sigma: str | None, peak: float | None) -> None:
    """Raise an error for options of noise that do not go together, before anything is read."""
    if poisson:
        refuse({"--sigma": sigma}, "has no effect with --noise poisson")
    else:
        refuse({"--peak": peak}, "has no effect with --noise gaussian")
        _parse_sigma(sigma)


def _noise_models(
    poisson: bool, add_noise: float | None, sigma: str | None, peak: float | None, unit: float
) -> "tuple[GaussianNoise | PoissonNoise | None, GaussianNoise | PoissonNoise | None]":
    """Return the noise to add, or None, and the noise to assume, or None for an estimated level."""
    from calepin.datasets.noise import GaussianNoise, PoissonNoise

    if not poisson:
        added = None if add_noise is None else GaussianNoise(add_noise / unit)
        if sigma is None:
            return added, added
        level = _parse_sigma(sigma)
        return added, None if level is None else GaussianNoise(level / unit)
    added = None if add_noise is None else PoissonNoise(add_noise)
    return added, added if added is not None and peak is None else PoissonNoise(peak)


def _parse_sigma(sigma: str | None) -> float | None:
    """Return a level of noise, or None if it is to be estimated."""
    if sigma is None or sigma == "estimated":
        return None
    try:
        level = float(sigma)
    except ValueError:
        level = -1.0
    if not 0 <= level < float("inf"):
        raise typer.BadParameter(
            f"expected a number of at least 0 or 'estimated', got {sigma!r}", param_hint="--sigma"
        )
    return level


def _read(
    image: Path | None,
    sample: str | None,
    reference: Path | None,
    *,
    poisson: bool,
    added: bool,
    text: str | None,
) -> "Image":
    from calepin.datasets.images import read_image
    from calepin.datasets.samples import load_sample

    if added:
        refuse({"--reference": reference}, "goes with a noisy IMAGE, not with --add-noise")
    elif image is None and poisson:
        raise typer.BadParameter(
            "a sample image holds no counts: use --add-noise PEAK", param_hint="--sample"
        )
    return load_sample(str(sample)) if image is None else read_image(image, value_range=parse_range(text))


def _unit(image: "Image") -> float:
    """Return the difference of white and black, in the units of noise levels on the command line."""
    return RANGE if image.levels is None else image.levels.unit


def _scene(
    source: "Image",
    reference: Path | None,
    assumed: "AnyNoise | None",
    added: "GaussianNoise | PoissonNoise | None",
    seed: int | None,
) -> "Scene":
    from calepin.datasets.images import read_image
    from calepin.imaging.scenes import noisy_scene, observed_scene

    if added is not None:
        return noisy_scene(source, added, **given(random_state=seed))
    if reference is None:
        return observed_scene(source, assumed)
    levels = source.levels
    units = None if levels is None else (levels.black, levels.white)
    return observed_scene(source, assumed, reference=read_image(reference, value_range=units))


def _denoiser(
    method: Method | None,
    model: str | None,
    settings: dict[str, Any],
    noise: "AnyNoise | None",
) -> "Denoiser":
    """Return the denoiser."""
    from calepin.datasets.noise import PoissonNoise
    from calepin.imaging.by_both import CombinedDenoiser
    from calepin.imaging.by_dictionary import DictionaryDenoiser
    from calepin.imaging.by_network import NetworkDenoiser

    counts = isinstance(noise, PoissonNoise)
    if method is Method.combined:
        return CombinedDenoiser()
    if method is not Method.network:
        return DictionaryDenoiser(**settings)
    if counts and model is None:
        return NetworkDenoiser()  # the counts decide which network
    return NetworkDenoiser(NetworkDenoiser(model).network(noise))  # loaded once, before the work starts


def _run(
    output: Output,
    scene: "Scene",
    denoiser: "Denoiser",
    noise: "AnyNoise | None",
    seed: int | None,
) -> "DenoiseResult":
    from calepin.core.progress import progress_bar
    from calepin.imaging.denoising import denoise as denoise_image

    with progress_bar("denoising", total=1, shown=not output.quiet) as bar:
        return denoise_image(
            scene.observed,
            method=denoiser,
            noise=noise,
            callback=lambda stage, fraction: bar.update(fraction, stage),
            **given(random_state=seed),
        )


def _note_level(
    output: Output, model: str | None, denoiser: Any, result: "DenoiseResult", unit: float
) -> None:
    """Print a note if the network was trained for another noise level than that of the image, in [0, 1]."""
    name, trained, sigma = model or "the network", denoiser.model.card.get("sigma"), result.sigma
    if trained is None:
        output.note(f"{name} has no noise level of its training: the image is not scaled")
    elif sigma and abs(sigma - trained) > TOLERANCE * trained:
        output.note(
            f"{name} was trained for noise of sigma {trained * unit:.4g}, "
            f"the image has {sigma * unit:.4g}: it is scaled, with a worse result than at that level"
        )


def _write(
    output: Output,
    denoised: Any,
    result: "DenoiseResult",
    images: "Figure | None",
    paths: tuple[Path | None, Path | None, Path | None],
) -> list[str]:
    from calepin.datasets.images import Image, write_image

    output_path, atoms_image, figure = paths
    if output_path is not None:
        for loss in write_image(output_path, denoised):
            output.note(f"{output_path}: {loss}")
    if atoms_image is not None:
        from calepin.report.atoms import atom_tiles

        assert result.atoms is not None
        write_image(atoms_image, Image(atom_tiles(result.atoms)))
    if figure is not None and images is not None:
        from calepin.report.figures import save_figure

        save_figure(images, figure)
    return [str(path) for path in paths if path is not None]


def _images(scene: "Scene", denoised: Any, measures: tuple[Measure, Measure]) -> "Figure":
    from calepin.report.figures import before_after

    images = {"noisy": scene.noisy.pixels, "denoised": denoised.pixels}
    if scene.clean is not None:
        images["clean"] = scene.clean
    captions = {
        name: f"{measure.psnr:.2f} dB"
        for name, measure in zip(images, measures, strict=False)
        if measure.psnr is not None
    }
    return before_after(images, captions=captions)


def _show(
    output: Output,
    scene: "Scene",
    result: "DenoiseResult",
    measures: tuple[Measure, Measure],
    seconds: float,
    written: list[str],
) -> dict[str, Any]:
    """Print what was done; return what --json prints."""
    noisy, denoised = measures
    sigma, peak = level_of(result.noise), getattr(result.noise, "peak", None)
    height, width = scene.noisy.pixels.shape[:2]
    colour = "colour" if scene.noisy.pixels.ndim == 3 else "gray"
    unit, levels = _unit(scene.noisy), scene.noisy.levels
    camera = _camera_values(scene, result)
    scale = f"of {RANGE}" if levels is None else f"in the range {levels.black:g} to {levels.white:g}"
    if sigma is not None:
        kind = KINDS.get(type(result.noise).__name__, "")
        level = f"{kind}sigma {sigma * unit:.4g} {scale}"
    elif camera:
        level = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in camera.items())
    else:
        level = "of counts" if peak is None else f"of peak {peak:g}"
    output.line(f"{width} x {height} {colour}, {scene.noisy.bits} bits, noise {level}")
    if scene.clean is not None:
        output.table(["", "PSNR (dB)", "SSIM"], measure_rows({"noisy": noisy, "denoised": denoised}))
    memory = peak_memory_mb()
    spent = f"{seconds:.1f} s" + ("" if memory is None else f", peak memory {memory:.0f} MB")
    output.line(", ".join([*written, spent]))
    values = {
        "sigma": None if sigma is None else sigma * unit,
        "range": None if levels is None else [levels.black, levels.white],
        "peak": peak,
        **camera,
        "psnr_noisy": noisy.psnr,
        "psnr": denoised.psnr,
        "ssim_noisy": noisy.ssim,
        "ssim": denoised.ssim,
        "seconds": round(seconds, 3),
        "peak_memory_mb": memory,
        "written": written,
    }
    output.result(values)
    return values


def _camera_values(scene: "Scene", result: "DenoiseResult") -> dict[str, float]:
    """Return gain, offset and read noise of a camera in the units of the samples, nothing for other noise."""
    from calepin.datasets.noise import PoissonGaussianNoise

    noise = result.noise
    if not isinstance(noise, PoissonGaussianNoise):
        return {}
    unit, black = _samples(scene.noisy)
    values = {"gain": noise.gain, "offset": noise.offset + black / unit, "read_noise": noise.read}
    return {name: float(f"{unit * value:.6g}") for name, value in values.items()}
