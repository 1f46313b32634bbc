"""``calepin reconstruct``: an image from few measurements, or an MRI slice from undersampled k-space."""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.measured import reconstruct_measured
from calepin.cli.measures import Measure, measure, measure_rows
from calepin.cli.options import (
    ARRAY_FILES,
    FIGURE_FILES,
    IMAGE_FILES,
    SEED,
    Default,
    Force,
    Writes,
    given,
    parse_range,
    refuse,
)
from calepin.cli.output import Debug, Json, Output, Quiet, peak_memory_mb
from calepin.cli.report import ReportOut, data_section, history_figure, save_report
from calepin.cli.restoring import PriorName

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
    ("calepin reconstruct scan.mat --mri --columns 44:212 --acceleration 4 --pattern columns", ""),
    (
        "calepin reconstruct camera.npy --matrix patterns.npy --shape 64x64 -o image.tif",
        "measurements of a single-pixel camera",
    ),
    ("calepin reconstruct sinogram.npy --angles 0:180 --prior tv -o slice.tif", "projections"),
    ("calepin reconstruct scan.npy --mri -o slice.png --complex coils.npy", "zeros are missing samples"),
    ("calepin reconstruct scan.npy --mri --prior untrained --max-iter 100 -o slice.png", ""),
]

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
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="IMAGE|KSPACE|MEASUREMENTS",
            help="Image (PNG, TIFF, JPEG); with --mri k-space (.npy, .mat, fastMRI .h5, BART .cfl); with "
            "--matrix or --angles measurements (.npy).",
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
        typer.Option(metavar="M.npy", help="Mask of the known samples of k-space, or pixels."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A:B", help="Columns of k-space to use (for zero-padded data).")
    ] = None,
    slice_number: Annotated[
        int | None, typer.Option("--slice", min=0, metavar="N", help="Slice. [default: the middle one]")
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
            help="Size of the image, with --matrix or --angles. [default: a square]",
        ),
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="S", help="Noise of measurements by --matrix or --angles. [default: estimated]"
        ),
    ] = None,
    prior: Annotated[
        PriorName | None,
        typer.Option(
            help="What images look like. [default: of k-space groups if sensitivities of coils can be "
            "calibrated, else untrained; with --matrix or --angles dictionary]"
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="CLEAN", help="The true image, with --matrix or --angles."),
    ] = None,
    max_iter: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Iterations of an untrained network. [default: 300 for images, 400 for k-space]",
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
            help="Reconstructed image; of k-space .tif and .npy have its units, .png the maximum 255.",
        ),
        Writes(*IMAGE_FILES, *ARRAY_FILES),
    ] = None,
    complex_path: Annotated[
        Path | None,
        typer.Option("--complex", metavar="OUT.npy", help="Complex coil images."),
        Writes(".npy"),
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
    samples. k-space of several coils is reconstructed with their sensitivities, calibrated from its fully
    sampled middle, and a prior. To images, and k-space of one coil or without such a middle, a deep decoder
    is fitted. The result is the nearest one that agrees with the measurements. If the true image is known,
    PSNR and SSIM are printed, with those of the adjoint (for k-space, of zero filling).
    """
    output = Output(quiet, as_json)
    measured = {"--shape": shape, "--sigma": sigma, "--reference": reference}
    if matrix is not None or angles is not None:
        refuse({"--angles": None if matrix is None else angles}, "goes without --matrix")
        simulated = {"--sample": sample, "--range": value_range, "--operator": operator, "--ratio": ratio}
        made = "--angles" if matrix is None else "--matrix"
        refuse(simulated | {"--mask": mask, "--size": size}, f"has no effect with {made}")
        kspace = {"--mri": mri, "--acceleration": acceleration, "--pattern": pattern, "--columns": columns}
        refuse(kspace | {"--slice": slice_number, "--complex": complex_path}, f"has no effect with {made}")
        fit = {"--max-iter": max_iter, "--n-starts": n_starts, "--figure": figure, "--report": report}
        refuse(fit, f"has no effect with {made}")
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
            reference=reference,
        )
        return
    refuse(measured, "needs --matrix or --angles")
    if mri:
        if prior in (PriorName.dictionary, PriorName.network, PriorName.best):
            raise typer.BadParameter(
                f"expected groups, wavelet, tv or untrained for k-space, got {prior}", param_hint="--prior"
            )
        images = {"--sample": sample, "--range": value_range, "--operator": operator, "--ratio": ratio}
        refuse(images, "is for images, not for k-space")
    else:
        kspace = {"--acceleration": acceleration, "--pattern": pattern, "--columns": columns}
        others = {"--slice": slice_number, "--complex": complex_path}
        refuse({"--prior": prior}, "needs --mri, --matrix or --angles")
        refuse(kspace | others, "needs --mri")
    if acceleration is None:
        refuse({"--pattern": pattern}, "goes with --acceleration")
    elif mask is not None:
        refuse({"--mask": mask}, "goes without --acceleration")
    if not mri and operator is not Kind.mask:
        refuse({"--mask": mask}, "goes with --operator mask")
    elif mask is not None:
        refuse({"--ratio": ratio}, "has no effect with --mask")
    if mri and source is None:
        raise typer.BadParameter("expected a file of k-space", param_hint="KSPACE")
    if not mri and (source is None) == (sample is None):
        raise typer.BadParameter("give one of IMAGE and --sample NAME", param_hint="IMAGE")
    if source is None:
        refuse({"--range": value_range}, "is for IMAGE, not for a sample")
    units = parse_range(value_range)
    known = None if mask is None else _open(mask)
    levels = None
    if mri:
        from calepin.reconstruction.scans import scan_kspace

        samples, notes = _read(Path(str(source)), slice_number, columns, size)
        scan = scan_kspace(
            samples, mask=known, seed=seed, **given(acceleration=acceleration, pattern=pattern)
        )
    else:
        from calepin.datasets.images import read_image
        from calepin.datasets.samples import load_sample
        from calepin.reconstruction.scans import scan_image

        notes = []
        image = load_sample(str(sample)) if source is None else read_image(source, value_range=units)
        levels = image.levels
        settings = given(kind=operator, ratio=ratio, size=size)
        scan = scan_image(image, mask=known, seed=seed, **settings)
    if scan.truth is None and not (output_path or complex_path or figure or report):
        raise typer.BadParameter("expected a file for the image, got none", param_hint="--output")
    for note in [*notes, *scan.notes]:
        output.note(f"{source or sample}: {note}")
    begun = time.perf_counter()
    settings = given(max_iter=max_iter, n_starts=n_starts)
    found = _reconstructed(scan, mri, prior, settings, seed, output)
    seconds = time.perf_counter() - begun
    images = {"adjoint": found.adjoint, "reconstruction": found.image}
    measures = {name: measure(pixels, scan.truth) for name, pixels in images.items()}
    drawn = _figure(scan, found, measures) if figure is not None or report is not None else None
    written = _write(scan, found, levels, drawn, output_path, complex_path, figure)
    written += [] if report is None else [str(report)]
    before, after = (measures[name].psnr for name in ("adjoint", "reconstruction"))
    if before is not None and after is not None and after < before:
        output.note(
            f"the reconstruction is worse than the adjoint, by {before - after:.2f} dB: try another --prior, "
            "or more measurements"
        )
    result = _show(output, scan, found, measures, seconds, written)
    if report is not None and drawn is not None:
        from calepin.report.page import Section

        sections = [
            Section("Images", figures={"The images, and below them an enlarged detail": drawn}),
            _fit_section(scan, found),
            data_section([source, mask], {"measurements": scan.y}),
        ]
        save_report(report, f"{sample or Path(str(source)).name}, reconstructed", result, sections)


def _open(path: Path) -> "np.ndarray":
    from calepin.datasets.arrays import open_array

    return open_array(path)


def _reconstructed(
    scan: "Scan", mri: bool, prior: PriorName | None, settings: dict[str, Any], seed: int, output: Output
) -> "Reconstruction":
    """Reconstruct by an untrained network if there is no other way, or if it is asked for."""
    from calepin.reconstruction.scans import reconstruct_scan

    if mri:
        from calepin.restoration.scan import default_prior, restore_scan

        if prior is not PriorName.untrained and (prior is not None or default_prior(scan) != "untrained"):
            names = {f"--{name.replace('_', '-')}": value for name, value in settings.items()}
            refuse(names, "goes with --prior untrained")
            return restore_scan(scan, **given(prior=prior))
        if prior is None and scan.y.shape[1] > 1:
            output.note(
                "the middle of k-space is not fully sampled, which sensitivities need: --prior untrained"
            )
    return reconstruct_scan(scan, random_state=seed, verbose=not output.quiet, **settings)


def _read(
    source: Path, slice_number: int | None, columns: str | None, size: int | None
) -> "tuple[NDArray[np.complexfloating], list[str]]":
    """Return k-space (n_coils, ky, kx) of one slice, and notes on its choice."""
    from calepin.reconstruction.kspace import read_kspace

    slices = read_kspace(source)
    wanted = len(slices) // 2 if slice_number is None else slice_number
    if wanted >= len(slices):
        raise typer.BadParameter(f"expected 0 to {len(slices) - 1}, got {wanted}", param_hint="--slice")
    notes = []
    if len(slices) > 1 and slice_number is None:
        notes.append(f"slice {wanted} of 0 to {len(slices) - 1} (--slice)")
    one = slices[wanted][..., _parse_columns(columns, slices.shape[-1])]
    kspace = one[:, _middle(size, one.shape[1]), _middle(size, one.shape[2])]
    if len(kspace) > min(kspace.shape[1:]):
        notes.append(
            f"{len(kspace)} coils of {kspace.shape[1]} x {kspace.shape[2]} samples: are coils the first axis?"
        )
    if not kspace.any():
        raise ValueError(f"{source}: expected k-space, got only zeros in slice {wanted}")
    return kspace, notes


def _parse_columns(text: str | None, width: int) -> slice:
    """Return the range of --columns, whose central column must be the zero frequency."""
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


def _middle(size: int | None, length: int) -> slice:
    """Return the `size` central lines of `length`, around the zero frequency; all by default."""
    wanted = min(size or length, length)
    start = length // 2 - wanted // 2
    return slice(start, start + wanted)


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
            image = _magnitude(scan, found)
        write_image(output_path, image)
        written.append(str(output_path))
    if complex_path is not None:
        from calepin.core.files import save_array

        save_array(complex_path, (found.x[0] * scan.scale).numpy())
        written.append(str(complex_path))
    if figure is not None and drawn is not None:
        from calepin.report.figures import save_figure

        save_figure(drawn, figure)
        written.append(str(figure))
    return written


def _magnitude(scan: "Scan", found: "Reconstruction") -> "Image":
    """Return the magnitude of all coils in the units of the inverse transform of k-space."""
    from calepin.datasets.images import Image, Levels
    from calepin.operators.fourier import root_sum_of_squares

    values = (scan.scale * root_sum_of_squares(found.x)[0, 0]).float().numpy()
    levels = Levels(0.0, float(values.max()) or 1.0, "float32")
    return Image(values / levels.white, 32, levels=levels)


def _figure(scan: "Scan", found: "Reconstruction", measures: dict[str, Measure]) -> "Figure":
    from calepin.report.figures import before_after

    truth = {} if scan.truth is None else {"original": scan.truth}
    captions = {name: f"{m.psnr:.2f} dB" for name, m in measures.items() if m.psnr is not None}
    images = {**truth, "adjoint": found.adjoint, "reconstruction": found.image}
    return before_after(images, captions=captions)


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
    seconds: float,
    written: list[str],
) -> dict[str, Any]:
    """Print what was done; return what --json prints."""
    height, width = found.image.shape[:2]
    output.line(f"{width} x {height}, {scan.fraction:.1%} of the samples, residual {found.residual:.3g}")
    if scan.truth is not None:
        output.table(["", "PSNR (dB)", "SSIM"], measure_rows(measures))
    output.line(", ".join([*written, f"{seconds:.1f} s"]))
    result = {
        "width": width,
        "height": height,
        "fraction": scan.fraction,
        "psnr_adjoint": measures["adjoint"].psnr,
        "psnr": measures["reconstruction"].psnr,
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
