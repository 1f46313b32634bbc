"""``calepin reconstruct``: an image from few measurements, or an MRI slice from undersampled k-space."""

import time
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.figures import draw_images, save
from calepin.cli.measured import parse_shape, reconstruct_measured
from calepin.cli.measures import Measure, Range, measure, show_measures
from calepin.cli.options import (
    ARRAY_FILES,
    FIGURE_FILES,
    IMAGE_FILES,
    SEED,
    Default,
    Force,
    Writes,
    given,
    is_folder,
    parse_range,
    refuse,
)
from calepin.cli.output import Debug, Json, Output, Quiet, peak_memory_mb
from calepin.cli.report import ReportOut, data_section, history_figure, save_report
from calepin.cli.restoring import PriorName
from calepin.cli.slices import (
    SliceReader,
    in_units,
    magnitude,
    reconstruct_files,
    reconstruct_slices,
    wanted_slices,
)

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from calepin.datasets.images import Image, Levels
    from calepin.reconstruction.scans import Reconstruction, Scan
    from calepin.report.page import Section

__all__ = ["EXAMPLES", "reconstruct"]

EXAMPLES = [
    ("calepin reconstruct --sample camera --operator hadamard --ratio .25", "a quarter of the measurements"),
    ("calepin reconstruct photo.jpg --operator gaussian --size 64 -o out.png --figure figure.png", ""),
    ("calepin reconstruct photo.png --operator mask --ratio .1 -o out.png", "a tenth of the pixels"),
    (
        "calepin reconstruct brain.h5 --mri --acceleration 8 -o slice.png",
        "undersamples full k-space",
    ),
    ("calepin reconstruct brain.h5 --mri --slice all -o slices.tif", "all slices in one file"),
    ("calepin reconstruct scans/ --mri --slice all -o images/", "many files"),
    ("calepin reconstruct scan.mat --mri --columns 44:212 --acceleration 4 --pattern columns", ""),
    (
        "calepin reconstruct camera.npy --matrix patterns.npy --shape 64x64 -o image.tif",
        "measurements of a single-pixel camera",
    ),
    ("calepin reconstruct sinogram.npy --angles 0:180 --prior tv -o slice.tif", "projections"),
    ("calepin reconstruct scan.npy --mri -o slice.png --complex coils.npy", "zeros are missing samples"),
    ("calepin reconstruct spokes.cfl --mri --trajectory trajectory.cfl -o slice.tif", "radial k-space"),
    ("calepin reconstruct scans/ --mri --trajectory k.npy -o slices/", "many files"),
    ("calepin reconstruct scan.npy --mri --prior untrained --max-iter 100 -o slice.png", ""),
]

NO_GRID = "is for k-space on a grid, not along a trajectory"
IMAGES = "calepin.reconstruction.scans:scan_image"
KSPACE = "calepin.reconstruction.scans:scan_kspace"
FIT = "calepin.reconstruction.scans:reconstruct_scan"


class Kind(StrEnum):
    """Measurement operator of an image."""

    gaussian = "gaussian"
    hadamard = "hadamard"
    dct = "dct"
    mask = "mask"


class Pattern(StrEnum):
    """Undersampling pattern of k-space."""

    points = "points"
    columns = "columns"


def reconstruct(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGE|KSPACE|MEASUREMENTS",
            help="Image (PNG, TIFF, JPEG); with --mri files of k-space or folders of them (.npy, .mat, "
            "fastMRI or ISMRMRD .h5, BART .cfl), with --trajectory samples (.npy, .cfl); with --matrix or "
            "--angles measurements (.npy).",
        ),
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
            help="Samples of IMAGE for black and white, or 'data' for the smallest and largest. "
            "[default: the whole range of 8 or 16 bits, 0:1 for floats]",
        ),
    ] = None,
    operator: Annotated[
        Kind | None, typer.Option(help="Measurement operator of an image."), Default(IMAGES, "kind")
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(metavar="R", help="Measurements per pixel, up to 1."),
        Default(IMAGES, "ratio"),
    ] = None,
    mri: Annotated[bool, typer.Option("--mri", help="The file holds k-space.")] = False,
    acceleration: Annotated[
        float | None,
        typer.Option(metavar="A", help="Undersample: keep one of A samples of full k-space."),
        Default(KSPACE, "acceleration"),
    ] = None,
    pattern: Annotated[
        Pattern | None,
        typer.Option(help="Keep single samples, denser near the centre, or whole columns."),
        Default(KSPACE, "pattern"),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="M.npy", help="Mask of the known samples or columns of k-space, or of pixels."),
    ] = None,
    trajectory: Annotated[
        Path | None,
        typer.Option(
            metavar="K.npy|K.cfl",
            help="k-space was sampled at these frequencies (n_samples, 2), in cycles per field of view: "
            "spokes, spirals ... The file holds samples (n_samples,) or (n_coils, n_samples). Of several "
            "files a folder, with the same names.",
        ),
    ] = None,
    sensitivities: Annotated[
        Path | None,
        typer.Option(
            metavar="S.npy|S.cfl",
            help="Sensitivities (n_coils, height, width), or several sets before them, as those of bart "
            "ecalib; of several files also a folder, with the same names. [default: calibrated from the "
            "middle of k-space]",
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A:B", help="Columns of k-space to use (for zero-padded data).")
    ] = None,
    slices: Annotated[
        str | None,
        typer.Option(
            "--slice",
            metavar="N|FIRST:LAST|all",
            help="Slice, or several, LAST left out: OUT is then a stack, .tif or .npy. [default: the middle "
            "one]",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=8,
            metavar="N",
            help="Pixels of the longer side of reduced images; if given, use N central lines of k-space.",
        ),
        Default(IMAGES, "size"),
    ] = None,
    matrix: Annotated[
        Path | None,
        typer.Option(
            metavar="A.npy",
            help="Measurements were made by this matrix (n_measurements, n_pixels), or these patterns "
            "(n_measurements, height, width).",
        ),
    ] = None,
    angles: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST:LAST|FILE",
            help="Measurements are a sinogram (n_angles, n_detectors): its angles in degrees, LAST left out, "
            "or .npy.",
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Size of the image, with --matrix, --angles or --trajectory. [default: a square; the "
            "smallest that has all frequencies of the trajectory]",
        ),
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="S",
            help="Noise of measurements by --matrix or --angles, or of real and imaginary part of k-space. "
            "[default: estimated]",
        ),
    ] = None,
    prior: Annotated[
        PriorName | None,
        typer.Option(
            help="What images look like. [default: of k-space groups if sensitivities of coils can be "
            "calibrated or there is a trajectory, else untrained; with --matrix or --angles dictionary]"
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="CLEAN",
            help="The true image, with --matrix or --angles, or the magnitude of k-space; of several files "
            "also a folder, with the same names. Of fully sampled k-space with --acceleration or --mask "
            "that is its own image: --reference has no effect.",
        ),
    ] = None,
    max_iter: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Iterations of an untrained network, or steps with --matrix or --angles and other priors. "
            "[default: 300 for images, 400 for k-space, 1000 with --matrix or --angles; 32 steps]",
        ),
        Default(FIT, "max_iter"),
    ] = None,
    n_starts: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Random starts of a network, whose results are averaged."),
        Default(FIT, "n_starts"),
    ] = None,
    output_path: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Reconstructed image; of k-space .tif and .npy have its units, .png the maximum 255; a "
            "folder for several files of k-space.",
        ),
        Writes(*IMAGE_FILES, *ARRAY_FILES, folders=True),
    ] = None,
    complex_path: Annotated[
        Path | None,
        typer.Option("--complex", metavar="OUT.npy", help="Complex coil images."),
        Writes(".npy"),
    ] = None,
    error_path: Annotated[
        Path | None,
        typer.Option(
            "--error-map",
            metavar="OUT",
            help="Standard deviation of the error of each pixel of k-space, .tif or .npy, by four more "
            "reconstructions.",
        ),
        Writes(".tif", ".tiff", ".npy"),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Plot original, adjoint and reconstruction."),
        Writes(*FIGURE_FILES),
    ] = None,
    report: ReportOut = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Seed of the measurements and the fit.")
    ] = SEED,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Reconstruct an image from few measurements, without training data.

    Measurements are those of a file, with --matrix or --angles; of an image they are simulated, with a random
    operator. k-space is undersampled by --acceleration or --mask; otherwise its zeros are the missing
    samples. k-space of several coils is reconstructed with their sensitivities, given or calibrated from
    its fully sampled middle, and a prior. To images, and k-space of one coil or without such a middle, a deep
    decoder is fitted. The result is the nearest one that agrees with the measurements. If the true image is
    known, PSNR and SSIM are printed, with those of the adjoint (for k-space, of zero filling).

    Slices of a file are written as one stack; those of several files of k-space into the folder OUT, a .tif
    for each. What is there, from an earlier run with the same settings, is not computed again.
    """
    output = Output(quiet, as_json, debug)
    source = sources[0] if sources else None
    to_folder = output_path is not None and is_folder(output_path)
    many = bool(sources) and (len(sources) > 1 or sources[0].is_dir() or to_folder)
    if many and not mri:
        raise typer.BadParameter("expected one file, and one to write, without --mri", param_hint="IMAGE")
    if matrix is not None or angles is not None:
        refuse({"--angles": None if matrix is None else angles}, "goes without --matrix")
        simulated = {"--sample": sample, "--range": value_range, "--operator": operator, "--ratio": ratio}
        made = "--angles" if matrix is None else "--matrix"
        refuse(simulated | {"--mask": mask, "--size": size}, f"has no effect with {made}")
        kspace = {"--mri": mri, "--acceleration": acceleration, "--pattern": pattern, "--columns": columns}
        kspace |= {"--trajectory": trajectory, "--sensitivities": sensitivities}
        refuse(
            kspace | {"--slice": slices, "--complex": complex_path, "--error-map": error_path},
            f"has no effect with {made}",
        )
        refuse({"--n-starts": n_starts, "--figure": figure, "--report": report}, f"has no effect with {made}")
        if source is None:
            raise typer.BadParameter("expected a file of measurements", param_hint="MEASUREMENTS")
        if output_path is None and reference is None:
            raise typer.BadParameter("expected a file for the image, got none", param_hint="--output")
        reconstruct_measured(
            output,
            source,
            output_path,
            matrix=matrix,
            angles=angles,
            seed=seed,
            shape=shape,
            sigma=sigma,
            prior=prior,
            max_iter=max_iter,
            reference=reference,
        )
        return
    if trajectory is not None:
        grid = {"--acceleration": acceleration, "--pattern": pattern, "--mask": mask, "--columns": columns}
        refuse(grid | {"--slice": slices, "--size": size}, NO_GRID)
    else:
        refuse({"--shape": shape}, "needs --matrix, --angles or --trajectory")
    if mri:
        if prior in (PriorName.dictionary, PriorName.network, PriorName.best):
            raise typer.BadParameter(
                f"expected groups, wavelet, tv or untrained for k-space, got {prior}", param_hint="--prior"
            )
        if prior not in (None, PriorName.untrained):
            refuse({"--max-iter": max_iter, "--n-starts": n_starts}, "goes with --prior untrained")
        if prior is PriorName.untrained:
            unused = {"--sensitivities": sensitivities, "--sigma": sigma}
            refuse(unused, "has no effect with --prior untrained")
        if sigma == 0:
            raise typer.BadParameter("expected more than 0 for k-space", param_hint="--sigma")
        if sensitivities is not None:
            refuse({"--max-iter": max_iter, "--n-starts": n_starts}, "has no effect with --sensitivities")
        images = {"--sample": sample, "--range": value_range, "--operator": operator, "--ratio": ratio}
        refuse(images, "is for images, not for k-space")
    else:
        kspace = {"--acceleration": acceleration, "--pattern": pattern, "--columns": columns}
        others = {"--slice": slices, "--complex": complex_path, "--error-map": error_path}
        measured = {"--prior": prior, "--sigma": sigma, "--reference": reference}
        refuse(measured, "needs --mri, --matrix or --angles")
        others |= {"--trajectory": trajectory, "--sensitivities": sensitivities}
        refuse(kspace | others, "needs --mri")
    if acceleration is None:
        refuse({"--pattern": pattern}, "goes with --acceleration")
    elif mask is not None:
        refuse({"--mask": mask}, "goes without --acceleration")
    if not mri and operator is not Kind.mask:
        refuse({"--mask": mask}, "goes with --operator mask")
    elif mask is not None:
        refuse({"--ratio": ratio}, "has no effect with --mask")
    if error_path is not None:
        refuse({"--max-iter": max_iter, "--n-starts": n_starts}, "goes without --error-map")
    if mri and source is None:
        raise typer.BadParameter("expected a file of k-space", param_hint="KSPACE")
    if not mri and (source is None) == (sample is None):
        raise typer.BadParameter("give one of IMAGE and --sample NAME", param_hint="IMAGE")
    if source is None:
        refuse({"--range": value_range}, "is for IMAGE, not for a sample")
    from calepin.datasets.images import Image, read_image

    units = parse_range(value_range)
    kept = None if mask is None else _open(mask)
    image = reader = None
    settings = given(max_iter=max_iter, n_starts=n_starts)
    if mri:
        beside = {
            "--trajectory": trajectory,
            "--sensitivities": sensitivities,
            "--reference": reference,
        }
        reader = SliceReader(
            columns=columns,
            size=size,
            mask=kept,
            undersampling=given(acceleration=acceleration, pattern=pattern),
            prior=prior,
            fit=settings,
            sigma=sigma,
            seed=seed,
            beside=given(**beside),
            shape=None if shape is None else parse_shape(shape, None),
        )
        of_one = {
            "--complex": complex_path,
            "--error-map": error_path,
            "--figure": figure,
            "--report": report,
        }
        if many:
            refuse(of_one, "is for one slice of one file")
            if output_path is None:
                raise typer.BadParameter("expected a folder for the images", param_hint="--output")
            reconstruct_files(output, sources or [], output_path, slices, reader, mask=mask, force=force)
            return
        path = Path(str(source))
        wanted = [0] if trajectory is not None else _wanted(output, path, slices)
        if len(wanted) > 1:
            refuse(of_one | {"--sensitivities": sensitivities, "--reference": reference}, "is for one slice")
            if output_path is None and acceleration is None and mask is None:
                raise typer.BadParameter("expected a file for the images, got none", param_hint="--output")
            reconstruct_slices(output, path, wanted, output_path, reader)
            return
        scan, notes = reader.scan(path, wanted[0])
    else:
        from calepin.datasets.samples import load_sample
        from calepin.datasets.stacks import count_planes, holds_stack
        from calepin.reconstruction.scans import scan_image

        if source is not None and not holds_stack(source) and count_planes(source) > 1:
            raise typer.BadParameter(
                f"expected an image of one page, or measurements in .npy with --matrix or --angles, "
                f"got {count_planes(source)} images in {source}",
                param_hint="IMAGE",
            )
        image = load_sample(str(sample)) if source is None else read_image(source, value_range=units)
        measuring = given(kind=operator, ratio=ratio, size=size)
        scan = scan_image(image, mask=kept, seed=seed, **measuring)
        notes = scan.notes
    known = scan.truth is not None or reference is not None
    if not known and not (output_path or complex_path or error_path or figure or report):
        raise typer.BadParameter("expected a file for the image, got none", param_hint="--output")
    for note in notes:
        output.note(f"{source or sample}: {note}")
    begun = time.perf_counter()
    if reader is not None:
        scan, found = reader.reconstruct(Path(str(source)), scan, output.note, verbose=not output.quiet)
    else:
        from calepin.reconstruction.scans import reconstruct_scan

        found = reconstruct_scan(scan, random_state=seed, verbose=not output.quiet, **settings)
    seconds = time.perf_counter() - begun
    images = {"adjoint": found.adjoint, "reconstruction": found.image}
    like = Image(found.image, 32) if image is None else image
    clean = None if scan.truth is None else replace(like, pixels=scan.truth)
    scale = Range.of(clean, like, units)
    measures = {name: measure(pixels, scan.truth, scale) for name, pixels in images.items()}
    drawn = _figure(scan, found, like, measures) if figure is not None or report is not None else None
    written = _write(
        scan, found, None if image is None else image.levels, drawn, output_path, complex_path, figure
    )
    if error_path is not None and reader is not None:
        written.append(_write_errors(output, scan, found, reader, Path(str(source)), error_path))
    written += [] if report is None else [str(report)]
    before, after = (measures[name].psnr for name in ("adjoint", "reconstruction"))
    if before is not None and after is not None and after < before:
        output.note(
            f"the reconstruction is worse than the adjoint, by {before - after:.2f} dB: try another --prior, "
            "or more measurements"
        )
    result = _show(output, scan, found, measures, scale, seconds, written)
    if report is not None and drawn is not None:
        from calepin.report.page import Section

        sections = [
            Section("Images", figures={"The images, and below them an enlarged detail": drawn}),
            _fit_section(scan, found),
            data_section([source, mask, trajectory, sensitivities, reference], {"measurements": scan.y}),
        ]
        save_report(report, f"{sample or Path(str(source)).name}, reconstructed", result, sections)


def _open(path: Path) -> "np.ndarray":
    from calepin.datasets.arrays import open_array

    return open_array(path)


def _wanted(output: Output, source: Path, slices: str | None) -> Sequence[int]:
    """Return the slices to reconstruct, and say which one if none was named."""
    from calepin.reconstruction.kspace import count_slices

    n_slices = count_slices(source)
    wanted = wanted_slices(slices, n_slices)
    if n_slices > 1 and slices is None:
        output.note(f"{source}: slice {wanted[0]} of 0 to {n_slices - 1} (--slice)")
    return wanted


def _write(
    scan: "Scan",
    found: "Reconstruction",
    levels: "Levels | None",
    drawn: "Figure | None",
    output_path: Path | None,
    complex_path: Path | None,
    figure: Path | None,
) -> list[str]:
    from calepin.datasets.images import Image, write_image

    written = []
    if output_path is not None:
        image = Image(found.image, levels=levels)
        if scan.y.is_complex() and output_path.suffix.lower() not in {".png", ".jpg", ".jpeg"}:
            image = in_units(magnitude(scan, found))
        write_image(output_path, image)
        written.append(str(output_path))
    if complex_path is not None:
        from calepin.core.files import save_array

        save_array(complex_path, (found.x[0] * scan.scale).numpy())
        written.append(str(complex_path))
    if figure is not None:
        save(drawn, figure)
        written.append(str(figure))
    return written


def _write_errors(
    output: Output, scan: "Scan", found: "Reconstruction", reader: SliceReader, source: Path, path: Path
) -> str:
    """Write the predicted error of each pixel, in the units of k-space."""
    from calepin.core.progress import progress_bar
    from calepin.datasets.images import write_image

    with progress_bar("predicting errors", total=1, shown=not output.quiet) as bar:
        errors = reader.predicted_errors(source, scan, found, lambda stage, part: bar.update(part, stage))
    write_image(path, in_units(errors))
    share = float((errors**2).mean() ** 0.5 / (magnitude(scan, found).max() or 1.0))
    output.line(f"{path}: predicted errors, root mean square {share:.2%} of the largest value of the image")
    return str(path)


def _figure(scan: "Scan", found: "Reconstruction", like: "Image", measures: dict[str, Measure]) -> "Figure":
    truth, errors = {}, {}
    if scan.truth is not None:
        truth, errors = {"original": scan.truth}, {"original - reconstruction": scan.truth - found.image}
    images = {**truth, "adjoint": found.adjoint, "reconstruction": found.image}
    return draw_images(images, like, measures=measures, differences=errors)


def _fit_section(scan: "Scan", found: "Reconstruction") -> "Section":
    """Return a section on the residuals of the fit, and on those of pixels if the truth is known."""
    import numpy as np

    from calepin.report.notebook import image_snippet
    from calepin.report.page import Section

    lines = {f"start {i + 1}": line for i, line in enumerate(found.residuals.T)}
    figure = history_figure(lines, xlabel="iteration", ylabel="relative residual ||y - A x|| / ||y||")
    figures: dict[str, Figure | NDArray] = {"Residual of the measurements in each iteration": figure}
    table = {
        "measured fraction of the samples": scan.fraction,
        "relative residual at the end": found.residual,
    }
    if scan.truth is not None:
        error = found.image - scan.truth
        table["root mean squared error of a pixel"] = float(np.sqrt(np.square(error).mean()))
        spread = max(float(error.std()), np.finfo(float).tiny)
        caption = "Reconstruction minus original, from -3 (black) to 3 (white) standard deviations"
        figures[caption] = image_snippet(np.clip(0.5 + error / (6 * spread), 0, 1))
    return Section("Residuals", table=table, figures=figures)


def _show(
    output: Output,
    scan: "Scan",
    found: "Reconstruction",
    measures: dict[str, Measure],
    scale: Range | None,
    seconds: float,
    written: list[str],
) -> dict[str, Any]:
    """Print what was done; return what --json prints."""
    height, width = found.image.shape[:2]
    output.line(f"{width} x {height}, {scan.fraction:.1%} of the samples, residual {found.residual:.3g}")
    show_measures(output, measures, scale)
    output.line(", ".join([*written, f"{seconds:.1f} s"]))
    result = {
        "width": width,
        "height": height,
        "fraction": scan.fraction,
        "psnr_adjoint": measures["adjoint"].psnr,
        "psnr": measures["reconstruction"].psnr,
        "psnr_range": None if scale is None else scale.values,
        "ssim_adjoint": measures["adjoint"].ssim,
        "ssim": measures["reconstruction"].ssim,
        "n_iter": found.n_iter,
        "residual": found.residual,
        "converged": found.converged,
        "seconds": round(seconds, 3),
        "peak_memory_mb": peak_memory_mb(),
        "written": written,
    }
    output.result(result)
    return result
