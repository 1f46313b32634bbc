"""``calepin reconstruct`` with measurements that were made, not simulated: by a matrix, or as a sinogram."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from calepin.cli.measures import Measure, Range, measure, show_measures
from calepin.cli.options import given
from calepin.cli.output import Output, peak_memory_mb
from calepin.cli.restoring import PriorName
from calepin.cli.units import samples_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from calepin.datasets.images import Image
    from calepin.operators.base import LinearOperator
    from calepin.restoration.result import RestoreResult

__all__ = ["parse_shape", "reconstruct_measured"]

MISFIT = 0.2  # of the norm of the measurements, above which a note asks whether the operator fits
SAME, DIFFERENT = 0.05, 0.2  # standard deviations of the sums of projections, relative to their mean


def reconstruct_measured(
    output: Output,
    source: Path,
    output_path: Path | None,
    *,
    matrix: Path | None,
    angles: str | None,
    shape: str | None,
    sigma: float | None,
    prior: PriorName | None,
    max_iter: int | None,
    reference: Path | None,
    seed: int,
) -> None:
    """Reconstruct the image of measurements in a file, write it, and print how it was done.

    Parameters
    ----------
    output
        What is printed.
    source
        Measurements: a vector with a matrix, a sinogram (n_angles, n_detectors) with angles.
    output_path, matrix, angles, shape, sigma, prior, max_iter, reference, seed
        Options of the command.

    Raises
    ------
    typer.BadParameter, ValueError
        Measurements, operator and shape that do not fit.
    """
    import numpy as np

    from calepin.core.progress import progress_bar
    from calepin.datasets.arrays import open_array
    from calepin.datasets.images import read_image
    from calepin.datasets.noise import GaussianNoise
    from calepin.restoration.restoring import restore

    y = _real(source, open_array(source))
    if matrix is not None and y.ndim == 2 and 1 in y.shape:
        y = y.reshape(-1)  # a vector of MATLAB
    operator = _by_matrix(y, matrix, shape) if matrix is not None else _by_angles(y, str(angles), shape)
    clean = None if reference is None else read_image(reference, value_range="auto")
    if clean is not None and clean.pixels.shape != operator.in_shape:
        raise ValueError(f"reference: expected the shape {operator.in_shape}, got {clean.pixels.shape}")
    if angles is not None and _seems_transposed(y):
        output.note(
            f"{source}: the sums of its rows differ and those of its columns do not: expected a sinogram "
            "(n_angles, n_detectors), it seems to be (n_detectors, n_angles)"
        )
    begun = time.perf_counter()
    with progress_bar("reconstructing", total=1, shown=not output.quiet) as bar:
        result = restore(
            y,
            operator,
            noise=None if sigma is None else GaussianNoise(sigma),
            random_state=seed,
            callback=lambda stage, fraction: bar.update(fraction, stage),
            **given(prior=prior, max_iter=max_iter),
        )
    seconds = time.perf_counter() - begun
    image = np.asarray(result.image, np.float32)
    if output_path is not None:
        _write(output, output_path, image)
    _show(output, y, operator, image, result, clean, seconds, output_path)


def _write(output: Output, path: Path, image: "NDArray[np.floating]") -> None:
    """Write an image in the units of the measurements."""
    from calepin.datasets.images import Image, Levels, write_image

    black = min(float(image.min()), 0.0)
    white = float(image.max())
    levels = Levels(black, white if white > black else black + 1, "float32")
    for loss in write_image(path, Image((image - levels.black) / levels.unit, 32, levels=levels)):
        output.note(f"{path}: {loss}")


def _show(
    output: Output,
    y: "NDArray[np.floating]",
    operator: "LinearOperator",
    image: "NDArray[np.floating]",
    result: "RestoreResult",
    clean: "Image | None",
    seconds: float,
    output_path: Path | None,
) -> None:
    """Print how the image was found, and how near it is to the true one."""
    import numpy as np

    missed = float(np.linalg.norm(y - _applied(operator, image)) / (np.linalg.norm(y) or 1.0))
    height, width = image.shape
    fraction = y.size / image.size
    output.line(
        f"{width} x {height}, {y.size} measurements ({fraction:.3g} per pixel), noise sigma "
        f"{result.sigma:.4g}, residual {missed:.3g}, {result.n_iter} steps"
    )
    if missed > MISFIT:
        output.note(
            f"the image does not explain {100 * missed:.0f} % of the measurements: they are noisy, or "
            "angles, matrix, --shape or the order of the measurements do not fit"
        )
    scale, found = None, Measure(None, None)
    if clean is not None:
        unit, black = _units(operator, y, clean)
        scale = Range.of(clean, clean, None)
        if scale is not None and (unit, black) != samples_of(clean):
            whole = samples_of(clean)[0]
            scale = Range(scale.low / whole, scale.high / whole, scale.pixels)
        found = measure((image - black) / unit, clean.pixels, scale)
    show_measures(output, {"reconstruction": found}, scale)
    written = [] if output_path is None else [str(output_path)]
    output.line(", ".join([*written, f"{seconds:.1f} s"]))
    output.result(
        {
            "width": width,
            "height": height,
            "n_measurements": y.size,
            "fraction": fraction,
            "sigma": result.sigma,
            "residual": missed,
            "n_iter": result.n_iter,
            "converged": result.converged,
            "psnr": found.psnr,
            "psnr_range": None if scale is None else scale.values,
            "ssim": found.ssim,
            "seconds": round(seconds, 3),
            "peak_memory_mb": peak_memory_mb(),
            "written": written,
        }
    )


def _real(source: Path, y: "NDArray") -> "NDArray[np.floating]":
    """Return measurements as float64."""
    import numpy as np

    if y.dtype.kind not in "iuf" or not y.size:
        raise ValueError(f"{source}: expected real measurements, got {y.dtype} of shape {y.shape}")
    bad = np.count_nonzero(~np.isfinite(y))
    if bad:
        raise ValueError(
            f"{source}: expected finite measurements, got {bad} of {y.size} that are NaN or infinite"
        )
    return y.astype(np.float64)


def _units(operator: "LinearOperator", y: "NDArray", clean: "Image") -> tuple[float, float]:
    """Return the values of a measured image for 1 and for 0 in the pixels of the reference.

    Measurements may be those of the samples of a file of 8 or 16 bits, or of fractions of white: the nearer.
    """
    import numpy as np

    unit, black = samples_of(clean)
    missed = [
        float(np.linalg.norm(y - _applied(operator, scale * clean.pixels + offset)))
        for scale, offset in ((unit, black), (1.0, 0.0))
    ]
    return (unit, black) if clean.levels is not None or missed[0] <= missed[1] else (1.0, 0.0)


def _seems_transposed(sinogram: "NDArray") -> bool:
    """Return whether columns, and not rows, look like projections: each projection sums to the same."""
    import numpy as np

    rows, columns = (
        float(np.std(sums) / max(abs(float(np.mean(sums))), np.finfo(float).tiny))
        for sums in (sinogram.sum(1), sinogram.sum(0))
    )
    return rows > DIFFERENT and columns < SAME


def _applied(operator: "LinearOperator", image: "NDArray") -> "NDArray":
    import torch

    with torch.no_grad():
        return operator(torch.from_numpy(image.astype("float64"))[None])[0].numpy()


def _by_matrix(y: "NDArray", path: Path, shape: str | None) -> "LinearOperator":
    """Return the operator of a matrix in a file."""
    import numpy as np
    import torch

    from calepin.datasets.arrays import open_array
    from calepin.operators.matrix import Matrix

    rows = open_array(path)
    if rows.dtype.kind not in "biuf" or rows.dtype.itemsize > 8:
        raise typer.BadParameter(
            f"expected real numbers of up to 64 bits, got {rows.dtype} in {path}", param_hint="--matrix"
        )
    if rows.ndim == 3:  # patterns (n, h, w) tell the shape
        size = rows.shape[1:]
        if shape is not None and parse_shape(shape, None) != size:
            raise typer.BadParameter(
                f"expected {size[0]}x{size[1]}, that of the patterns in {path}, or none, got {shape}",
                param_hint="--shape",
            )
        rows = rows.reshape(len(rows), -1)
    else:
        size = parse_shape(shape, rows.shape[-1])
    if rows.ndim != 2:
        raise ValueError(
            f"{path}: expected a matrix (n_measurements, n_pixels) or patterns "
            f"(n_measurements, height, width), got shape {rows.shape}"
        )
    if y.ndim != 1:
        raise ValueError(f"measurements: expected one for each row of {path}, ({len(rows)},), got {y.shape}")
    if len(y) != len(rows):
        raise ValueError(f"{path}: expected a row for each measurement, {y.shape}, got {rows.shape}")
    dtype = np.result_type(rows.dtype, np.float32)  # exact for each of these types but 64-bit integers
    return Matrix(torch.from_numpy(np.array(rows, dtype)), size)


def _by_angles(y: "NDArray", text: str, shape: str | None) -> "LinearOperator":
    """Return the operator of the projections of a sinogram."""
    from calepin.operators.radon import Radon

    if y.ndim != 2:
        raise ValueError(f"measurements: expected a sinogram (n_angles, n_detectors), got shape {y.shape}")
    size = (y.shape[1], y.shape[1]) if shape is None else parse_shape(shape, None)
    return Radon(size, _angles(text, len(y)), n_detectors=y.shape[1])


def _angles(text: str, count: int) -> "Tensor":
    """Return angles in degrees: those of a file, or FIRST:LAST, the last one left out."""
    import numpy as np
    import torch

    from calepin.datasets.arrays import open_array

    if Path(text).suffix == ".npy":
        angles = open_array(Path(text)).astype(np.float64).ravel()
        _check_finite(angles, text)
    else:
        try:
            first, last = (float(part) for part in text.split(":"))
        except ValueError:
            raise typer.BadParameter(
                f"expected FIRST:LAST in degrees or a file .npy, got {text!r}", param_hint="--angles"
            ) from None
        _check_finite(np.array([first, last]), text)
        if first == last:
            raise typer.BadParameter(f"expected two different angles, got {text!r}", param_hint="--angles")
        angles = np.linspace(first, last, count, endpoint=False)
    if len(angles) != count:
        raise typer.BadParameter(
            f"expected {count} angles, one for each row of the sinogram, got {len(angles)}",
            param_hint="--angles",
        )
    return torch.from_numpy(angles)


def _check_finite(angles: "NDArray[np.floating]", text: str) -> None:
    """Raise typer.BadParameter for an angle that is NaN or infinite."""
    import numpy as np

    bad = np.flatnonzero(~np.isfinite(angles))
    if bad.size:
        raise typer.BadParameter(
            f"expected finite angles, got {text}, whose angle {bad[0]} is {angles[bad[0]]}",
            param_hint="--angles",
        )


def parse_shape(text: str | None, n_pixels: int | None) -> tuple[int, int]:
    """Return HEIGHTxWIDTH; without a text that of a square of as many pixels."""
    if text is None and n_pixels is not None:
        side = round(n_pixels**0.5)
        if side * side == n_pixels:
            return side, side
        raise typer.BadParameter(
            f"expected HEIGHTxWIDTH, {n_pixels} pixels are no square", param_hint="--shape"
        )
    try:
        height, width = (int(part) for part in str(text).lower().split("x"))
    except ValueError:
        height = width = 0
    if height < 1 or width < 1:
        raise typer.BadParameter(f"expected HEIGHTxWIDTH, got {text!r}", param_hint="--shape")
    return height, width
