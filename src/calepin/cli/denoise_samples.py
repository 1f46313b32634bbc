"""``calepin denoise-samples``: replace noisy samples by the nearest samples of a generative dictionary."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calepin.cli.models import ModelFile, load_model
from calepin.cli.options import FIGURE_FILES, Force, Writes
from calepin.cli.output import Debug, Json, Output, Quiet, peak_memory_mb

if TYPE_CHECKING:
    import numpy as np

__all__ = ["EXAMPLES", "denoise_samples"]

EXAMPLES = [
    ("calepin denoise-samples noisy.npy --model model.safetensors -o clean.npy", ""),
    (
        "calepin denoise-samples noisy.npy -m model.safetensors --reference clean.npy --figure sheet.png",
        "distances to the clean samples, and images",
    ),
]


def denoise_samples(
    data: Annotated[
        Path, typer.Argument(metavar="NOISY.npy", help="Noisy samples (n_samples, ...), one per row.")
    ],
    model_path: ModelFile,
    output_path: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT.npy", help="File for the denoised samples."),
        Writes(".npy"),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="CLEAN.npy", help="The clean samples, to measure distances to.")
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Plot noisy and denoised samples that are images."),
        Writes(*FIGURE_FILES),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Replace noisy samples by the samples that a model reconstructs from their latents.

    The model is a file from transfer. Distances are mean Euclidean distances over samples.
    """
    import numpy as np

    from calepin.datasets.arrays import load_samples

    output = Output(quiet, as_json)
    if output_path is None and figure is None and reference is None:
        raise typer.BadParameter("expected a file for the denoised samples, got none", param_hint="--output")
    noisy = load_samples(data)
    clean = None if reference is None else load_samples(reference)
    if clean is not None and clean.shape != noisy.shape:
        raise ValueError(f"reference: expected the samples' shape {noisy.shape}, got {clean.shape}")
    if figure is not None:
        _images(noisy)  # an error before the work rather than after it
    model = load_model(model_path, shown=not quiet)
    dtype = noisy.dtype if noisy.dtype.kind == "f" else np.float32
    flat = np.asarray(noisy, dtype=dtype).reshape(len(noisy), -1)
    denoised = model.inverse_transform(model.transform(flat)).reshape(noisy.shape).astype(dtype)

    written = _write(noisy, denoised, clean, output_path, figure)
    moved = _distance(denoised, noisy)
    before, after = (None if clean is None else _distance(samples, clean) for samples in (noisy, denoised))
    output.line(f"{len(noisy)} samples, latents of {model.latent_dim_}; mean change {moved:.4g} (Euclidean)")
    if before is not None:
        output.line(f"distance to the clean samples: {before:.4g} noisy, {after:.4g} denoised")
    if written:
        output.line(", ".join(written))
    output.result(
        {
            "n_samples": len(noisy),
            "latent_dim": model.latent_dim_,
            "distance_moved": moved,
            "distance_noisy": before,
            "distance": after,
            "peak_memory_mb": peak_memory_mb(),
            "written": written,
        }
    )


def _write(
    noisy: "np.ndarray",
    denoised: "np.ndarray",
    clean: "np.ndarray | None",
    output_path: Path | None,
    figure: Path | None,
) -> list[str]:
    if output_path is not None:
        from calepin.core.files import save_array

        save_array(output_path, denoised)
    if figure is not None:
        from calepin.report.figures import save_figure, sheet

        columns = {"noisy": _images(noisy), "denoised": _images(denoised)}
        if clean is not None:
            columns["clean"] = _images(clean)
        save_figure(sheet(columns), figure)
    return [str(path) for path in (output_path, figure) if path is not None]


def _images(samples: "np.ndarray") -> "np.ndarray":
    """Return samples (n, h, w) or (n, side * side) as images."""
    from calepin.report.atoms import patch_shape

    shape = samples.shape[1:] if samples.ndim == 3 else patch_shape(samples[0].size)
    if shape is None or len(shape) != 2:
        raise ValueError(
            f"--figure: expected samples of shape (n, height, width) or of a square, got {samples.shape}"
        )
    return samples.reshape(len(samples), *shape)


def _distance(a: "np.ndarray", b: "np.ndarray") -> float:
    import numpy as np

    difference = (np.asarray(a, np.float64) - np.asarray(b, np.float64)).reshape(len(a), -1)
    return float(np.linalg.norm(difference, axis=1).mean())
