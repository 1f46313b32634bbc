"""``calepin denoise``: the main job, by atoms of the image itself or by a trained network."""

import time
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.latents import denoise_samples, is_generative
from calepin.cli.measures import Measure, measure, measure_rows
from calepin.cli.output import Debug, Json, Output, Quiet, peak_memory_mb
from calepin.cli.photons import check_options, count_photons, denoise_photons, draw_photons

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calepin.datasets.images import Image
    from calepin.imaging.by_dictionary import DenoiseResult

__all__ = ["EXAMPLES", "denoise"]

EXAMPLES = [
    ("calepin denoise photo.png -o clean.png", "the noise level is estimated"),
    ("calepin denoise scan.tif -o clean.tif --sigma 12 --atoms-image atoms.png", ""),
    ("calepin denoise --sample camera --add-noise 25 -o out.png --figure before-after.png", ""),
    ("calepin denoise photo.png -o clean.png --model bsd-gaussian", "by a trained network"),
    ("calepin denoise --noise poisson --peak 4 --sample camera --add-noise -o out.png", "counts of photons"),
    ("calepin denoise noisy.png -o out.png --reference clean.png --json", "PSNR and SSIM as JSON"),
    ("calepin denoise noisy.npy -o out.npy --model model.safetensors", "samples, by what transfer learned"),
]

TOLERANCE = 0.1  # of a network's noise level, within which an image's is taken as the same


class Noise(StrEnum):
    """How a pixel scatters."""

    gaussian = "gaussian"
    poisson = "poisson"


class Rule(StrEnum):
    """How atoms move."""

    ksvd = "ksvd"
    mod = "mod"
    online = "online"


@dataclass(frozen=True)
class Scene:
    """What is denoised, and the truth where it is known."""

    noisy: "Image"
    clean: "NDArray[np.floating] | None"


def denoise(
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="Noisy image: PNG, TIFF or JPEG.")
    ] = None,
    output_path: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="Denoised image, as deep as IMAGE."),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A bundled image instead of IMAGE: camera, coins, cat ..."),
    ] = None,
    add_noise: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Add Gaussian noise of this standard deviation (0..255) first; "
            "with --noise poisson, without S: draw photons.",
        ),
    ] = None,
    noise: Annotated[
        Noise, typer.Option(help="poisson: IMAGE holds counts of photons, 0, 1, 2 ...")
    ] = Noise.gaussian,
    peak: Annotated[
        float | None,
        typer.Option(metavar="P", help="With --noise poisson: expected count of the brightest pixel."),
    ] = None,
    add_photons: Annotated[bool, typer.Option("--add-photons", hidden=True)] = False,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="CLEAN", help="The clean image, to measure PSNR and SSIM against."),
    ] = None,
    sigma: Annotated[
        str | None,
        typer.Option(
            metavar="S",
            help="Standard deviation of the noise (0..255), or 'estimated'. "
            "[default: as added, else estimated]",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A trained network instead of learning: bsd-gaussian, or a .safetensors file; "
            "of transfer's, IMAGE and OUT are samples, .npy.",
        ),
    ] = None,
    patch: Annotated[
        int | None, typer.Option(metavar="N", help="Side of the square patches. [default: 8]")
    ] = None,
    atoms: Annotated[int | None, typer.Option(metavar="N", help="Number of atoms. [default: 256]")] = None,
    rule: Annotated[Rule | None, typer.Option(help="How atoms move. [default: ksvd]")] = None,
    atoms_image: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw the learned atoms.")] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw before and after, with a detail.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the added noise and of learning.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Denoise an image by atoms learned from its patches, or by a trained network.

    Gray or colour, 8 or 16 bits; depth, colour, alpha and profile are kept. Noise levels are on the
    scale 0..255 of the literature whatever the depth: 25 means 25/255 of the range from black to
    white. PSNR (peak 1) and SSIM are printed where the clean image is known.
    """
    output = Output(quiet, as_json)
    if model is not None and is_generative(model):
        images_only = {
            "--sample": sample,
            "--add-noise": add_noise if add_noise is not None else (add_photons or None),
            "--noise poisson": noise is Noise.poisson or None,
            "--peak": peak,
            "--sigma": sigma,
            "--patch": patch,
            "--atoms": atoms,
            "--rule": rule,
            "--atoms-image": atoms_image,
        }
        denoise_samples(output, image, output_path, reference, model, figure, images_only)
        return
    drawn = add_photons or add_noise is not None
    _check_request(output_path, atoms_image, figure, measured=bool(reference or drawn))
    if noise is Noise.poisson:
        peak = check_options(
            peak,
            {
                "--add-noise S": add_noise,
                "--sigma": sigma,
                "--model": model,
                "--patch": patch,
                "--atoms": atoms,
                "--rule": rule,
                "--atoms-image": atoms_image,
            },
        )
        scene = _load_photons(image, sample, reference, peak, add_photons, seed)
    elif peak is not None or add_photons:
        given = "--peak" if peak is not None else "--add-noise without a level"
        raise typer.BadParameter(f"{given} goes with --noise poisson", param_hint="--noise")
    else:
        scene = _load(image, sample, add_noise, reference, seed)
    for note in scene.noisy.notes:
        output.note(f"{image or sample}: {note}")
    level = _parse_sigma(sigma, add_noise)
    learning = {"patch_size": patch, "n_atoms": atoms, "rule": rule and rule.value}
    learning = {name: value for name, value in learning.items() if value is not None}
    begun = time.perf_counter()
    if peak is not None:  # of photons alone, from here on
        result = denoise_photons(output, scene.noisy, _unit(scene, peak), peak)
    elif model is None:
        result = _learn(output, scene, level, seed, learning)
    else:
        result = _apply(output, scene, level, model, learning)
    seconds = time.perf_counter() - begun
    noisy, denoised = measure(scene.noisy.pixels, scene.clean), measure(result.image, scene.clean)
    written = _write(output, scene, result, output_path, atoms_image, figure, (noisy, denoised))
    level_said = f"of peak {peak:g}" if peak is not None else f"sigma {result.sigma * 255:.4g} of 255"
    _say(output, scene, level_said, noisy, denoised)
    values = {
        "sigma": None if peak is not None else result.sigma * 255,
        "peak": peak,
        "psnr_noisy": noisy.psnr,
        "psnr": denoised.psnr,
        "ssim_noisy": noisy.ssim,
        "ssim": denoised.ssim,
        "seconds": round(seconds, 3),
        "peak_memory_mb": peak_memory_mb(),
        "written": written,
    }
    memory = values["peak_memory_mb"]
    spent = f"{seconds:.1f} s" + ("" if memory is None else f", peak memory {memory:.0f} MB")
    output.line(", ".join([*written, spent]))
    output.result(values)


def _learn(
    output: Output, scene: Scene, sigma: float | None, seed: int, options: dict[str, Any]
) -> "DenoiseResult":
    """Denoise by what the image itself teaches."""
    from calepin.core.progress import progress_bar
    from calepin.imaging.by_dictionary import STAGES
    from calepin.imaging.by_dictionary import denoise as denoise_image

    with progress_bar("denoising", total=len(STAGES), shown=not output.quiet) as bar:
        return denoise_image(
            scene.noisy.pixels,
            sigma=sigma,
            random_state=seed,
            callback=lambda stage, part: bar.update(STAGES.index(stage) + part, stage),
            **options,
        )


def _apply(
    output: Output, scene: Scene, sigma: float | None, model: str, options: dict[str, Any]
) -> "DenoiseResult":
    """Denoise by a trained network."""
    from calepin.core.progress import progress_bar
    from calepin.imaging.by_network import denoise_with, load_model

    if options:
        raise typer.BadParameter("a trained network has no --patch, --atoms and --rule", param_hint="--model")
    network = load_model(model)
    with progress_bar("denoising", total=1, shown=not output.quiet) as bar:
        result = denoise_with(network, scene.noisy.pixels, sigma=sigma, callback=bar.update)
    trained = network.card.get("sigma")
    if trained is None:
        output.note(f"{model} does not say which noise it was trained for: it is applied as it is")
    elif result.sigma and abs(result.sigma - trained) > TOLERANCE * trained:
        output.note(
            f"{model} knows noise of sigma {trained * 255:.4g}, the image has {result.sigma * 255:.4g}: "
            "it is scaled, and comes out less well than with that level"
        )
    return result


def _check_request(
    output_path: Path | None, atoms_image: Path | None, figure: Path | None, *, measured: bool
) -> None:
    from calepin.datasets.images import check_image_path

    paths = [path for path in (output_path, atoms_image, figure) if path is not None]
    if not paths and not measured:
        raise typer.BadParameter("say where the denoised image goes", param_hint="--output")
    for path in paths:
        check_image_path(path)


def _load(
    image: Path | None, sample: str | None, add_noise: float | None, reference: Path | None, seed: int
) -> Scene:
    from calepin.datasets.images import read_image
    from calepin.datasets.samples import load_sample
    from calepin.datasets.simulate import add_gaussian_noise

    if (image is None) == (sample is None):
        raise typer.BadParameter("give one of IMAGE and --sample NAME", param_hint="IMAGE")
    if reference is not None and add_noise is not None:
        raise typer.BadParameter("goes with a noisy IMAGE, not with --add-noise", param_hint="--reference")
    picture = read_image(image) if image is not None else load_sample(str(sample))
    if add_noise is not None:
        # float32 is finer than any file and halves the memory of what follows.
        noisy = add_gaussian_noise(picture.pixels, add_noise, seed=seed).astype("float32")
        return Scene(replace(picture, pixels=noisy), picture.pixels)
    if reference is None:
        return Scene(picture, None)
    clean = read_image(reference).pixels
    if clean.shape != picture.pixels.shape:
        raise ValueError(
            f"{reference} has shape {clean.shape}, expected that of the image, {picture.pixels.shape}"
        )
    return Scene(picture, clean)


def _load_photons(
    image: Path | None, sample: str | None, reference: Path | None, peak: float, draw: bool, seed: int
) -> Scene:
    """Return counts as pixels in the unit of the clean image, or of a white pixel where it is unknown."""
    from calepin.datasets.images import read_image
    from calepin.datasets.samples import load_sample

    if (image is None) == (sample is None):
        raise typer.BadParameter("give one of IMAGE and --sample NAME", param_hint="IMAGE")
    if draw and reference is not None:
        raise typer.BadParameter("goes with counts in IMAGE, not with --add-noise", param_hint="--reference")
    if draw:
        clean = read_image(image) if image is not None else load_sample(str(sample))
        return Scene(draw_photons(clean, peak, seed), clean.pixels)
    if image is None:
        raise typer.BadParameter("a sample holds no counts: add --add-noise", param_hint="--sample")
    clean = None if reference is None else read_image(reference)
    noisy = count_photons(image, clean, peak)
    if clean is not None and clean.pixels.shape != noisy.pixels.shape:
        raise ValueError(
            f"{reference} has shape {clean.pixels.shape}, expected that of the image, {noisy.pixels.shape}"
        )
    return Scene(noisy, None if clean is None else clean.pixels)


def _unit(scene: Scene, peak: float) -> float:
    """Return what one photon adds to a pixel."""
    return (1.0 if scene.clean is None else float(scene.clean.max())) / peak


def _parse_sigma(sigma: str | None, add_noise: float | None) -> float | None:
    """Return the noise level as a part of the range, None where it is to be estimated."""
    if sigma in ("estimated", "estimate"):
        return None
    if sigma is None:
        return None if add_noise is None else add_noise / 255
    try:
        value = float(sigma)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise typer.BadParameter(
            f"expected a number of at least 0 or 'estimated', got {sigma!r}", param_hint="--sigma"
        )
    return value / 255


def _write(
    output: Output,
    scene: Scene,
    result: Any,
    output_path: Path | None,
    atoms_image: Path | None,
    figure: Path | None,
    measures: tuple[Measure, Measure],
) -> list[str]:
    from calepin.datasets.images import Image, write_image

    written = []
    if output_path is not None:
        for loss in write_image(output_path, replace(scene.noisy, pixels=result.image)):
            output.note(f"{output_path}: {loss}")
        written.append(str(output_path))
    if atoms_image is not None:
        from calepin.report.atoms import atom_tiles

        write_image(atoms_image, Image(atom_tiles(result.atoms)))
        written.append(str(atoms_image))
    if figure is not None:
        from calepin.report.figures import before_after, save_figure

        pictures = {"noisy": scene.noisy.pixels, "denoised": result.image}
        if scene.clean is not None:
            pictures["clean"] = scene.clean
        captions = {
            name: f"{measure.psnr:.2f} dB"
            for name, measure in zip(pictures, measures, strict=False)
            if measure.psnr is not None
        }
        save_figure(before_after(pictures, captions=captions), figure)
        written.append(str(figure))
    return written


def _say(output: Output, scene: Scene, level: str, noisy: Measure, denoised: Measure) -> None:
    height, width = scene.noisy.pixels.shape[:2]
    colour = "colour" if scene.noisy.pixels.ndim == 3 else "gray"
    output.line(f"{width} x {height} {colour}, {scene.noisy.bits} bits, noise {level}")
    if scene.clean is None:
        return
    output.table(["", "PSNR (dB)", "SSIM"], measure_rows({"noisy": noisy, "denoised": denoised}))
