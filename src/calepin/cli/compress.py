"""``calepin compress`` and ``calepin decompress``: samples as latents of a generative dictionary."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.models import ModelFile, ShownModel, load_model
from calepin.cli.options import FIGURE_FILES, Default, Force, Writes, given, refuse
from calepin.cli.output import Debug, Json, Output, Quiet

if TYPE_CHECKING:
    import numpy as np

__all__ = ["COMPRESS_EXAMPLES", "DECOMPRESS_EXAMPLES", "compress", "decompress"]

COMPRESS_EXAMPLES = [
    ("calepin compress digits.npy --model model.safetensors -o digits.clp", ""),
    ("calepin compress digits.npy --model model.safetensors -o digits.clp --bits 6", ""),
    (
        "calepin compress digits.npy --model model.safetensors -o digits.clp --rate-distortion curve.png",
        "compared with JPEG, PCA and OMP",
    ),
]
DECOMPRESS_EXAMPLES = [("calepin decompress digits.clp --model model.safetensors -o digits.npy", "")]


def compress(
    data: Annotated[Path, typer.Argument(metavar="DATA.npy", help="Samples (n_samples, ...), one per row.")],
    model_path: ModelFile,
    output_path: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE.clp", help="Compressed file."),
        Writes(".clp"),
    ],
    digits: Annotated[
        int | None,
        typer.Option(metavar="N", help="Decimals of a latent, unless --bits is given."),
        Default("calepin.compression.coding:Quantiser", "digits"),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(metavar="N", help="Bits of a latent before entropy coding, instead of --digits."),
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(
            "--rate-distortion", metavar="PNG", help="Plot PSNR against bits, with JPEG, PCA and OMP."
        ),
        Writes(*FIGURE_FILES),
    ] = None,
    training: Annotated[
        Path | None,
        typer.Option(metavar="NPY", help="Training data of PCA and OMP. [default: DATA, which favours them]"),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compress samples to the quantised latents of a model.

    The file holds a hash of the model and a checksum: another model, or a damaged file, is an error.
    """
    from calepin.compression.clp import read_clp, write_clp
    from calepin.compression.rate_distortion import components_instead
    from calepin.datasets.arrays import load_samples

    output = Output(quiet, as_json)
    if curve is None:
        refuse({"--training": training}, "has no effect without --rate-distortion")
    X, model = load_samples(data), load_model(model_path, shown=not quiet)
    known = None if training is None else load_samples(training).reshape(-1, X[0].size)
    size = write_clp(output_path, X, model, **given(digits=digits, bits=bits))
    restored = read_clp(output_path, model, trusted=True)
    error = _relative_error(restored, X)
    values: dict[str, Any] = {
        "n_bytes": size,
        "bits_per_sample": 8 * size / len(X),
        "ratio": X.nbytes / size,
        "relative_error": error,
        "written": [str(output_path)],
    }
    instead = components_instead(X, output_path.read_bytes(), restored)
    if instead is not None:
        values["principal_components"] = instead
    if curve is not None:
        values["rate_distortion"] = _draw_curve(X, model, known, curve)
        values["written"].append(str(curve))
    output.line(
        f"{len(X)} samples in {size} bytes: {8 * size / len(X):.1f} bits per sample, "
        f"1/{X.nbytes / size:.0f} of {data}; relative error {error:.4f}"
    )
    if instead is not None:
        output.line(f"principal components of these samples would need {instead}")
    output.line(", ".join(values["written"]))
    output.result(values)


def decompress(
    file: Annotated[Path, typer.Argument(metavar="FILE.clp", help="File from compress.")],
    model_path: ModelFile,
    output_path: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DATA.npy", help="File for the samples."),
        Writes(".npy"),
    ],
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Restore the samples of a .clp file, with the model that was used to compress them."""
    from calepin.compression.clp import read_clp
    from calepin.core.files import save_array

    output = Output(quiet, as_json)
    samples = read_clp(file, load_model(model_path, shown=not quiet))
    save_array(output_path, samples)
    output.line(f"{' x '.join(map(str, samples.shape))} {samples.dtype}: {output_path}")
    output.result({"shape": list(samples.shape), "dtype": str(samples.dtype), "written": [str(output_path)]})


def _relative_error(restored: "np.ndarray", X: "np.ndarray") -> float:
    import numpy as np

    return float(np.linalg.norm(restored - X) / max(float(np.linalg.norm(X)), 1e-300))


def _draw_curve(
    X: "np.ndarray", model: ShownModel, training: "np.ndarray | None", path: Path
) -> dict[str, Any]:
    from calepin.compression.rate_distortion import rate_distortion
    from calepin.report.figures import Curve, curves, save_figure

    shape = X.shape[1:] if X.ndim == 3 else None
    found = rate_distortion(X.reshape(len(X), -1), model, training=training, image_shape=shape)
    lines = {name: Curve(curve.bits, curve.psnr) for name, curve in found.items()}
    figure = curves(lines, xlabel="bits per sample", ylabel="PSNR (dB)", title="Rate and distortion")
    save_figure(figure, path)
    return {name: {"bits": c.bits.tolist(), "psnr": c.psnr.tolist()} for name, c in found.items()}
