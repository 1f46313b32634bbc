"""``calepin reconstruct``: an image from few measurements, or a slice from few samples of k-space."""

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.measures import Measure, measure, measure_rows
from calepin.cli.output import Debug, Json, Output, Quiet, peak_memory_mb
from calepin.core.paths import check_output
from calepin.reconstruction.scans import Kind, Pattern, Scan, middle, parse_columns, scan_image, scan_kspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["EXAMPLES", "reconstruct"]

EXAMPLES = [
    ("calepin reconstruct --sample camera --operator hadamard --ratio .25", "a quarter of the measurements"),
    ("calepin reconstruct photo.jpg --operator gaussian --size 64 -o out.png --figure figure.png", ""),
    ("calepin reconstruct photo.png --operator mask --ratio .1 -o out.png", "a tenth of the pixels"),
    (
        "calepin reconstruct brain.h5 --mri --acceleration 8 -o slice.png",
        "fully sampled k-space, thinned out",
    ),
    ("calepin reconstruct scan.mat --mri --columns 44:212 --acceleration 4 --pattern columns", ""),
    ("calepin reconstruct scan.npy --mri -o slice.png --complex coils.npy", "zeros are what is missing"),
]

PICTURE_SIZE = 128
LEARNING_RATE = 0.02
KSPACE_LEARNING_RATE = 0.03


def reconstruct(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="IMAGE|KSPACE",
            help="Image (PNG, TIFF, JPEG); with --mri k-space (.npy, .mat, fastMRI .h5, BART .cfl).",
        ),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A bundled image instead of IMAGE: camera, coins, cat ..."),
    ] = None,
    operator: Annotated[
        Kind | None, typer.Option(help="How an image is measured. [default: hadamard]")
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(metavar="R", help="Measurements a pixel, up to 1. [default: 0.25]")
    ] = None,
    mri: Annotated[bool, typer.Option("--mri", help="The file holds k-space.")] = False,
    acceleration: Annotated[
        float | None,
        typer.Option(metavar="A", help="Keep one of A samples of fully sampled k-space."),
    ] = None,
    pattern: Annotated[
        Pattern | None,
        typer.Option(help="Keep single samples, denser in the middle, or whole columns. [default: points]"),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="M.npy", help="Which samples of k-space, or pixels, are known."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A:B", help="Use these columns of k-space (zero-padded data).")
    ] = None,
    slice_number: Annotated[
        int | None, typer.Option("--slice", min=0, metavar="N", help="Slice. [default: the middle one]")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=8,
            metavar="N",
            help="Reduce to N pixels along the longer side. [default: 128 for images, k-space as it is]",
        ),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Iterations of the fit. [default: 300 for images, 400 for k-space]"
        ),
    ] = None,
    starts: Annotated[int, typer.Option(min=1, metavar="N", help="Random starts, averaged.")] = 2,
    output_path: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="The reconstructed image.")
    ] = None,
    complex_path: Annotated[
        Path | None, typer.Option("--complex", metavar="OUT.npy", help="Complex images of the coils.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw original, adjoint and reconstruction.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the measurements and the fit.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Reconstruct an image from few measurements, without training data.

    An image is measured first, by random numbers that --seed gives; k-space is thinned out by
    --acceleration or --mask, or its zeros are what is missing. A deep decoder is fitted to the
    measurements alone, and its image moved to the nearest one that they allow. PSNR and SSIM stand
    beside those of the adjoint (of k-space: gaps filled with zeros) where the truth is known.
    """
    output = Output(quiet, as_json)
    image_options = {"--sample": sample, "--operator": operator, "--ratio": ratio}
    kspace_options = {
        "--acceleration": acceleration,
        "--pattern": pattern,
        "--columns": columns,
        "--slice": slice_number,
        "--complex": complex_path,
    }
    _refuse(image_options if mri else kspace_options, mri)
    _check_request(source, sample, operator, ratio, mri, acceleration, pattern, mask)
    _check_paths(output_path, complex_path, figure)
    if mri:
        samples, notes = _read(Path(str(source)), slice_number, columns, size)
        scan = scan_kspace(
            samples, acceleration=acceleration, pattern=pattern or Pattern.points, mask=mask, seed=seed
        )
    else:
        from calepin.datasets.images import read_image
        from calepin.datasets.samples import load_sample

        picture = read_image(source) if source is not None else load_sample(str(sample))
        kind, notes = operator or Kind.hadamard, []
        scan = scan_image(picture, kind, ratio=ratio, mask=mask, size=size or PICTURE_SIZE, seed=seed)
    if scan.truth is None and not (output_path or complex_path or figure):
        raise typer.BadParameter("say where the image goes", param_hint="--output")
    for note in [*notes, *scan.notes]:
        output.note(f"{source or sample}: {note}")
    begun = time.perf_counter()
    x, fit = _fit(scan, iterations or (400 if mri else 300), starts, seed, shown=not quiet)
    seconds = time.perf_counter() - begun
    pictures = {"adjoint": scan.show(scan.operator.adjoint(scan.y)), "reconstruction": scan.show(x)}
    measures = {name: measure(pixels, scan.truth) for name, pixels in pictures.items()}
    written = _write(scan, x, pictures, measures, output_path, complex_path, figure)
    height, width = pictures["reconstruction"].shape[:2]
    output.line(f"{width} x {height}, {scan.share:.1%} of the samples, residual {fit['residual']:.3g}")
    if scan.truth is not None:
        output.table(["", "PSNR (dB)", "SSIM"], measure_rows(measures))
    output.line(", ".join([*written, f"{seconds:.1f} s"]))
    output.result(
        {
            "width": width,
            "height": height,
            "share": scan.share,
            "psnr_adjoint": measures["adjoint"].psnr,
            "psnr": measures["reconstruction"].psnr,
            "ssim_adjoint": measures["adjoint"].ssim,
            "ssim": measures["reconstruction"].ssim,
            **fit,
            "seconds": round(seconds, 3),
            "peak_memory_mb": peak_memory_mb(),
            "written": written,
        }
    )


def _refuse(options: dict[str, Any], mri: bool) -> None:
    """Refuse options of the other kind of file."""
    for name, value in options.items():
        if value is not None:
            what = "is for images, not for k-space" if mri else "needs --mri"
            raise typer.BadParameter(what, param_hint=name)


def _check_request(
    source: Path | None,
    sample: str | None,
    operator: Kind | None,
    ratio: float | None,
    mri: bool,
    acceleration: float | None,
    pattern: Pattern | None,
    mask: Path | None,
) -> None:
    if mri and source is None:
        raise typer.BadParameter("expected a file of k-space", param_hint="KSPACE")
    if not mri and (source is None) == (sample is None):
        raise typer.BadParameter("give one of IMAGE and --sample NAME", param_hint="IMAGE")
    if ratio is not None and not 0 < ratio <= 1:
        raise typer.BadParameter(f"expected a number in (0, 1], got {ratio}", param_hint="--ratio")
    if pattern is not None and acceleration is None:
        raise typer.BadParameter("goes with --acceleration", param_hint="--pattern")
    if mask is not None and mri and acceleration is not None:
        raise typer.BadParameter("give one of --mask and --acceleration", param_hint="--mask")
    if mask is not None and not mri and (operator != Kind.mask or ratio is not None):
        raise typer.BadParameter("goes with --operator mask, without --ratio", param_hint="--mask")


def _check_paths(output_path: Path | None, complex_path: Path | None, figure: Path | None) -> None:
    from calepin.datasets.images import check_image_path

    for path in (output_path, figure):
        if path is not None:
            check_image_path(path)
    if complex_path is not None:
        check_output(complex_path, ".npy")


def _read(
    source: Path, slice_number: int | None, columns: str | None, size: int | None
) -> "tuple[NDArray[np.complexfloating], list[str]]":
    """Return k-space (n_coils, ky, kx) of one slice, and what is to be said of it."""
    from calepin.reconstruction.kspace import read_kspace

    slices = read_kspace(source)
    wanted = len(slices) // 2 if slice_number is None else slice_number
    if wanted >= len(slices):
        raise ValueError(f"--slice: expected 0 to {len(slices) - 1}, got {wanted}")
    notes = []
    if len(slices) > 1 and slice_number is None:
        notes.append(f"slice {wanted} of 0 to {len(slices) - 1} (--slice)")
    one = slices[wanted][..., parse_columns(columns, slices.shape[-1])]
    kspace = one[:, middle(size, one.shape[1]), middle(size, one.shape[2])]
    if not kspace.any():
        raise ValueError(f"{source}: expected k-space, got nothing but zeros in slice {wanted}")
    return kspace, notes


def _fit(
    scan: Scan, iterations: int, starts: int, seed: int, *, shown: bool
) -> "tuple[Tensor, dict[str, Any]]":
    """Return the reconstructed signals, and what is to be said of the fit."""
    from sklearn.exceptions import ConvergenceWarning

    from calepin.reconstruction.consistency import data_consistent
    from calepin.reconstruction.reconstructor import UntrainedReconstructor
    from calepin.reconstruction.weighting import weighted
    from calepin.solvers.first_order import Adam

    operator, y, scale = scan.operator, scan.y, 1.0
    if scan.weights is not None:
        operator, y, scale = weighted(operator, y, scan.weights)
    reconstructor = UntrainedReconstructor(
        operator,
        network=scan.network,
        optimizer=Adam(KSPACE_LEARNING_RATE if y.is_complex() else LEARNING_RATE),
        max_iter=iterations,
        n_starts=starts,
        random_state=seed,
        verbose=shown,
    )
    with warnings.catch_warnings():
        # so many iterations are meant to be enough, and the residual is said; divergence is not meant
        warnings.simplefilter("ignore", ConvergenceWarning)
        x = data_consistent(scan.operator, scale * reconstructor.reconstruct(y), scan.y)
    halved = int(reconstructor.solution_.n_reductions.max())
    if halved:
        warnings.warn(f"the fit diverged, its step was halved {halved} times", stacklevel=2)
    return x, {
        "n_iter": reconstructor.n_iter_,
        "residual": float(reconstructor.solution_.residual.max()),
        "converged": bool(reconstructor.converged_.all()),
    }


def _write(
    scan: Scan,
    x: "Tensor",
    pictures: "dict[str, NDArray[np.floating]]",
    measures: dict[str, Measure],
    output_path: Path | None,
    complex_path: Path | None,
    figure: Path | None,
) -> list[str]:
    from calepin.datasets.images import Image, write_image

    written = []
    if output_path is not None:
        write_image(output_path, Image(pictures["reconstruction"]))
        written.append(str(output_path))
    if complex_path is not None:
        import numpy as np

        from calepin.core.files import atomic_write

        with atomic_write(complex_path) as temporary, temporary.open("wb") as file:
            np.save(file, (x[0] * scan.scale).numpy())
        written.append(str(complex_path))
    if figure is not None:
        from calepin.report.figures import before_after, save_figure

        truth = {} if scan.truth is None else {"original": scan.truth}
        captions = {name: f"{m.psnr:.2f} dB" for name, m in measures.items() if m.psnr is not None}
        save_figure(before_after({**truth, **pictures}, captions=captions), figure)
        written.append(str(figure))
    return written
