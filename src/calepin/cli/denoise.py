"""``calepin denoise``: remove the noise of an image."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.batches import WRITTEN
from calepin.cli.denoise_many import denoise_many, is_batch
from calepin.cli.denoise_plan import Method, Noise, Plan, Rule, noise_values
from calepin.cli.denoise_report import write_report
from calepin.cli.figures import draw_images, save
from calepin.cli.measures import Measure, Range, measure, show_measures
from calepin.cli.noise_files import NoiseFiles, level_of
from calepin.cli.options import (
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
from calepin.cli.units import RANGE, unit_of
from calepin.core.progress import progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from calepin.datasets.images import Image
    from calepin.datasets.noise import GaussianNoise, PoissonNoise
    from calepin.imaging.denoising import AnyNoise
    from calepin.imaging.result import DenoiseResult
    from calepin.imaging.scenes import Scene

__all__ = ["EXAMPLES", "denoise"]

EXAMPLES = [
    ("calepin denoise photo.png -o clean.png", "the noise level is estimated"),
    ("calepin denoise scan.tif -o clean.tif --sigma 12 --atoms-image atoms.png", ""),
    ("calepin denoise --sample camera --add-noise 25 -o out.png --figure before-after.png", ""),
    ("calepin denoise photo.png -o clean.png --report report.html", "with a report"),
    ("calepin denoise photo.png -o clean.png --method best", "with the help of a trained network"),
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
    ("calepin denoise scan.png -o clean.png --psd estimated", "the same, as flat areas of the image show it"),
    ("calepin denoise stack.ome.tif -o clean.ome.tif", "every plane of a stack"),
    ("calepin denoise brain.nii.gz -o clean.nii.gz", "a volume or time series of NIfTI"),
    ("calepin denoise scans/*.tif -o clean/ --share", "many images, with one dictionary"),
    ("calepin denoise noisy.png -o out.png --reference clean.png --json", "PSNR and SSIM as JSON"),
    ("calepin denoise movie.tif -o out.tif --reference clean.tif", "PSNR of a stack and its planes"),
    ("calepin denoise ct.tif -o out.tif --range=-1000:3000 --sigma 40", "in Hounsfield units"),
]

KINDS = {"CorrelatedNoise": "correlated, ", "VaryingGaussianNoise": "varying, root mean square "}
TOLERANCE = 0.1  # relative difference of noise levels of image and network that needs no note

_DENOISE = "calepin.imaging.denoising:denoise"
_DICTIONARY = "calepin.imaging.by_dictionary:DictionaryDenoiser"


def denoise(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGE...",
            help="Noisy images or folders of them: PNG, TIFF (also with several pages), JPEG, .npy, .zarr, "
            ".nii or .nii.gz.",
        ),
    ] = None,
    output_path: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Denoised image, with the bit depth of IMAGE; a folder for several images.",
        ),
        Writes(*WRITTEN, folders=True),
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
        typer.Option(
            metavar="CLEAN",
            help="The clean image, to measure PSNR and SSIM against; of a stack the clean stack, for PSNR.",
        ),
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
            max=1e15,  # sums of squares of such noise are numbers
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
            "zero frequency first, in squares of the units of --sigma, its mean is the variance; or "
            "'estimated', from flat areas of IMAGE.",
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
            metavar="FILE",
            help="Standard deviation of the noise of each pixel, (h, w) or (h, w, 3), in the units of "
            "--sigma: .npy, TIFF or NIfTI; of a stack that of one plane for all, or with a page for each.",
        ),
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(
            help="A dictionary learned from the image, or a trained network, which --model implies; "
            "best: groups of similar patches, guided by the network. "
            "[default: dictionary; for photon counts best]"
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
    dictionary: Annotated[
        Path | None,
        typer.Option(
            metavar="D.safetensors", help="Atoms of patches, of calepin learn, that are used as they are."
        ),
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Learn one dictionary from all images, in place of one each.")
    ] = False,
    axes: Annotated[
        str | None,
        typer.Option(
            metavar="AXES",
            help="A letter for each axis of a file with several images, as TYX or CZYX. "
            "[default: those that the file tells]",
        ),
    ] = None,
    atoms_image: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Plot the atoms."), Writes(*IMAGE_FILES)
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Plot noisy and denoised image, of a stack some planes."),
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

    Gray or colour; type of samples, colour, alpha channel, profile and other metadata are kept. Noise levels
    are on the scale 0..255 for 8 and 16 bits and floats in [0, 1], as in the literature: 25 means 25/255 of
    the range from black to white. For all other samples, and with --range, they are in the units of the file.
    PSNR and SSIM are printed if the clean image is known, with the range of samples that they are relative
    to: that of 8 bits or of --range, else from the smallest to the largest sample of the clean image. PSNR of
    a stack, and of its planes, is relative to the samples of the whole clean stack.

    All pages of a TIFF are denoised, also of OME-TIFF and of ImageJ, and volumes of NIfTI. Several images are
    written into the folder OUT under their own names. Those that are there, from an earlier run with the same
    settings, are not computed again.
    """
    output = Output(quiet, as_json, debug)
    if (not images) == (sample is None):
        raise typer.BadParameter("give one of IMAGE and --sample NAME", param_hint="IMAGE")
    if not images:
        refuse({"--range": value_range, "--axes": axes}, "is for IMAGE, not for a sample")
    plan = Plan.of(
        noise=noise,
        sigma=sigma,
        peak=peak,
        gain=gain,
        offset=offset,
        read_noise=read_noise,
        files=NoiseFiles.of(psd, dark_frame, noise_map),
        method=method,
        model=model,
        dictionary=dictionary,
        learning={"--patch-size": patch_size, "--n-components": n_components, "--rule": rule},
        seed=seed,
    )
    if plan.method is Method.network and add_noise is None:
        refuse({"--seed": seed}, "has no effect with --method network and no --add-noise")
    if plan.camera is not None:
        refuse({"--add-noise": add_noise}, "has no effect with --gain")
    if plan.files is not None:
        refuse({"--add-noise": add_noise}, f"has no effect with {plan.files.option}")
    if images and is_batch(images, output_path, axes):
        of_one = {"--add-noise": add_noise, "--atoms-image": atoms_image}
        refuse(of_one | {"--report": report}, "is for a single image")
        denoise_many(
            output,
            plan,
            images,
            output_path,
            axes=axes,
            units=parse_range(value_range),
            share=share,
            force=force,
            figure=figure,
            reference=reference,
            read=[
                *(() if plan.files is None else ((plan.files.option, path) for path in plan.files.paths)),
                *(() if dictionary is None else [("--dictionary", dictionary)]),
                *(() if model is None else [("--model", Path(model))]),
            ],
        )
        return
    refuse({"--share": share}, "is for several images")
    _denoise_one(
        output,
        plan,
        images[0] if images else None,
        sample,
        parse_range(value_range),
        add_noise=add_noise,
        assumes_added=sigma is None and peak is None,
        reference=reference,
        paths=(output_path, atoms_image, figure, report),
    )


def _denoise_one(
    output: Output,
    plan: Plan,
    image: Path | None,
    sample: str | None,
    units: Any,
    *,
    add_noise: float | None,
    assumes_added: bool,
    reference: Path | None,
    paths: tuple[Path | None, Path | None, Path | None, Path | None],
) -> None:
    """Denoise one image, and measure it if the clean one is known."""
    from calepin.datasets.images import check_image_path

    output_path, atoms_image, figure, report = paths
    measured = reference is not None or add_noise is not None
    if not measured and output_path is None and not (atoms_image or figure or report):
        raise typer.BadParameter("expected a file for the denoised image, got none", param_hint="--output")
    if output_path is not None:
        check_image_path(output_path, arrays=True)
    source = _read(image, sample, reference, poisson=plan.poisson, added=add_noise is not None, units=units)
    added = _added_noise(plan.poisson, add_noise, unit_of(source))
    assumed = added if added is not None and assumes_added else plan.noise(source)
    clean = source if added is not None else _reference(reference, source)
    scene = _scene(source, clean, assumed, added, plan.seed)
    for note in scene.noisy.notes:
        output.note(f"{image or sample}: {note}")
    begun = time.perf_counter()
    with progress_bar("denoising", total=1, shown=not output.quiet) as bar:
        result = plan.run(scene.observed, assumed, lambda stage, fraction: bar.update(fraction, stage))
    seconds = time.perf_counter() - begun
    gave_way = bool(result.history)  # to the dictionary, which learns
    if plan.method is Method.network and not gave_way and result.sigma is not None:
        _note_level(output, plan.model, plan.denoiser(assumed), result, unit_of(scene.noisy))

    denoised = replace(scene.noisy, pixels=scene.unit * result.image)
    scale = Range.of(clean, source, units if image else None)
    images = {"noisy": scene.noisy.pixels, "denoised": denoised.pixels}
    measures = {name: measure(pixels, scene.clean, scale) for name, pixels in images.items()}
    drawn = None
    if figure is not None or report is not None:
        drawn = draw_images(
            images if scene.clean is None else {**images, "clean": scene.clean},
            source,
            measures=measures,
            differences={"noisy - denoised": images["noisy"] - images["denoised"]},
            counted=scene.unit if plan.poisson and plan.camera is None else None,
        )
    written = _write(output, denoised, result, drawn, (output_path, atoms_image, figure))
    written += [] if report is None else [str(report)]
    values = _show(output, scene, result, measures, scale, seconds, written)
    if drawn is not None:
        name = str(sample) if image is None else image.name
        write_report(report, name, scene, result, values, drawn, [image, reference, *plan.read])


def _read(
    image: Path | None,
    sample: str | None,
    reference: Path | None,
    *,
    poisson: bool,
    added: bool,
    units: Any,
) -> "Image":
    from calepin.datasets.images import read_image
    from calepin.datasets.samples import load_sample

    if added:
        refuse({"--reference": reference}, "goes with a noisy IMAGE, not with --add-noise")
    elif image is None and poisson:
        raise typer.BadParameter(
            "a sample image holds no counts: use --add-noise PEAK", param_hint="--sample"
        )
    return load_sample(str(sample)) if image is None else read_image(image, value_range=units)


def _scene(
    source: "Image",
    clean: "Image | None",
    assumed: "AnyNoise | None",
    added: "GaussianNoise | PoissonNoise | None",
    seed: int | None,
) -> "Scene":
    from calepin.imaging.scenes import noisy_scene, observed_scene

    if added is not None:
        return noisy_scene(source, added, **given(random_state=seed))
    return observed_scene(source, assumed, reference=clean)


def _reference(path: Path | None, source: "Image") -> "Image | None":
    """Return the clean image in the units of the noisy one."""
    from calepin.datasets.images import read_image

    levels = source.levels
    units = None if levels is None else (levels.black, levels.white)
    return None if path is None else read_image(path, value_range=units)


def _added_noise(
    poisson: bool, add_noise: float | None, unit: float
) -> "GaussianNoise | PoissonNoise | None":
    """Return the noise to add, or None."""
    from calepin.datasets.noise import GaussianNoise, PoissonNoise

    if add_noise is None:
        return None
    return PoissonNoise(add_noise) if poisson else GaussianNoise(add_noise / unit)


def _note_level(
    output: Output, model: str | None, denoiser: Any, result: "DenoiseResult", unit: float
) -> None:
    """Print a note if the network was trained for another noise level than that of the image, in [0, 1]."""
    name, card, sigma = model or "the network", denoiser.model.card, result.sigma
    trained = card.get("sigma")
    if "sigma_range" in card:
        strongest = card["sigma_range"][1]
        if sigma and sigma > strongest:
            output.note(
                f"{name} was trained for noise of sigma up to {strongest * unit:.4g}, "
                f"the image has {sigma * unit:.4g}: it is scaled"
            )
    elif trained is None:
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
    save(images, figure)
    return [str(path) for path in paths if path is not None]


def _show(
    output: Output,
    scene: "Scene",
    result: "DenoiseResult",
    measures: dict[str, Measure],
    scale: Range | None,
    seconds: float,
    written: list[str],
) -> dict[str, Any]:
    """Print what was done; return what --json prints."""
    from calepin.datasets.noise import PoissonGaussianNoise

    noisy, denoised = measures.values()
    sigma, peak = level_of(result.noise), getattr(result.noise, "peak", None)
    height, width = scene.noisy.pixels.shape[:2]
    colour = "colour" if scene.noisy.pixels.ndim == 3 else "gray"
    unit, levels = unit_of(scene.noisy), scene.noisy.levels
    camera = noise_values(scene.noisy, result.noise) if isinstance(result.noise, PoissonGaussianNoise) else {}
    within = f"of {RANGE}" if levels is None else f"in the range {levels.black:g} to {levels.white:g}"
    if sigma is not None:
        kind = KINDS.get(type(result.noise).__name__, "")
        level = f"{kind}sigma {sigma * unit:.4g} {within}"
    elif camera:
        level = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in camera.items())
    else:
        level = "of counts" if peak is None else f"of peak {peak:g}"
    output.line(f"{width} x {height} {colour}, {scene.noisy.bits} bits, noise {level}")
    show_measures(output, measures, scale)
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
        "psnr_range": None if scale is None else scale.values,
        "ssim_noisy": noisy.ssim,
        "ssim": denoised.ssim,
        "seconds": round(seconds, 3),
        "peak_memory_mb": memory,
        "written": written,
    }
    output.result(values)
    return values
