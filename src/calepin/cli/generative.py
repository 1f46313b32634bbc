"""``calepin transfer``, ``compress`` and ``decompress``: dictionaries on top of a known generator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.latents import load_model
from calepin.cli.output import Debug, Json, Output, Quiet
from calepin.core.paths import check_output
from calepin.datasets.arrays import load_samples

if TYPE_CHECKING:
    import numpy as np

__all__ = ["compress", "decompress", "transfer"]

TRANSFER_EXAMPLES = [
    ("calepin transfer --generator vae-mnist --data new.npy -o model.safetensors", ""),
    ("calepin transfer --generator G.safetensors --data new.npy -o model.safetensors --starts 8", ""),
]
COMPRESS_EXAMPLES = [
    ("calepin compress digits.npy --model model.safetensors -o digits.clp", ""),
    ("calepin compress digits.npy --model model.safetensors -o digits.clp --bits 6", ""),
    (
        "calepin compress digits.npy --model model.safetensors -o digits.clp --rate-distortion curve.png",
        "beside JPEG, PCA and OMP",
    ),
]
DECOMPRESS_EXAMPLES = [("calepin decompress digits.clp --model model.safetensors -o digits.npy", "")]

ModelFile = Annotated[Path, typer.Option("--model", "-m", metavar="MODEL", help="Model that transfer wrote.")]


def transfer(
    generator: Annotated[
        str,
        typer.Option(
            "--generator",
            "-g",
            metavar="G",
            help="vae-mnist, vae-digits, or a .safetensors file with a generator or a VAE.",
        ),
    ],
    data: Annotated[
        Path, typer.Option("--data", metavar="NEW.npy", help="Samples (n_samples, ...), one a row.")
    ],
    output_path: Annotated[
        Path, typer.Option("--output", "-o", metavar="MODEL.safetensors", help="Where the model goes.")
    ],
    starts: Annotated[int, typer.Option(min=1, metavar="N", help="Starts of each decoding.")] = 4,
    prior: Annotated[
        float, typer.Option(min=0, metavar="P", help="Precision of a normal prior on the latents.")
    ] = 0.0,
    max_iter: Annotated[
        int, typer.Option(min=1, metavar="N", help="Passes over the data; many fit the noise of few samples.")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="All randomness follows from it.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn a new linear layer on top of a trained generator, from a few dozen samples.

    A VAE's decoder loses its last layer, which the new one replaces; samples are flattened. The model
    serves compress, decompress and denoise.
    """
    output = Output(quiet, as_json)
    check_output(output_path, ".safetensors")
    X = load_samples(data)
    from calepin.estimators.generative import GenerativeDictionaryLearner
    from calepin.networks.pretrained_networks import open_generator

    prior_net = open_generator(generator)
    learner = GenerativeDictionaryLearner(
        prior_net, n_starts=starts, prior=prior, max_iter=max_iter, random_state=seed, verbose=not quiet
    ).fit(X.reshape(len(X), -1))
    learner.save(output_path)
    last = learner.history_[-1]
    values = {
        "n_samples": len(X),
        "n_features": learner.n_features_in_,
        "latent_dim": learner.latent_dim_,
        "n_passes": learner.n_iter_,
        "objective": last["objective"],
        "seconds": last["seconds"],
        "directions_determined": learner.n_determined_,
        "directions": learner.n_directions_,
        "written": [str(output_path)],
    }
    output.line(
        f"{len(X)} samples, latents of {learner.latent_dim_}, "
        f"{learner.n_determined_} of {learner.n_directions_} directions determined"
    )
    output.line(
        f"objective {last['objective']:.5g} after {learner.n_iter_} passes; "
        f"{output_path}, {last['seconds']:.1f} s"
    )
    output.result(values)


def compress(
    data: Annotated[Path, typer.Argument(metavar="DATA.npy", help="Samples (n_samples, ...), one a row.")],
    model_path: ModelFile,
    output_path: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.clp", help="Where they go.")],
    digits: Annotated[
        int | None, typer.Option(metavar="N", help="Digits of a latent behind the point. [default: 4]")
    ] = None,
    bits: Annotated[
        int | None, typer.Option(metavar="N", help="Bits of a latent before entropy coding, instead.")
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(
            "--rate-distortion", metavar="PNG", help="Draw bits against PSNR beside JPEG, PCA and OMP."
        ),
    ] = None,
    training: Annotated[
        Path | None,
        typer.Option(metavar="NPY", help="What PCA and OMP learn from. [default: DATA, which favours them]"),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compress samples to the quantised latents of a model.

    The file remembers the model's hash and a checksum: another model, or a damaged file, is refused.
    """
    output = Output(quiet, as_json)
    check_output(output_path, ".clp")
    if curve is not None:
        check_output(curve)
    X, model = load_samples(data), load_model(model_path, shown=not quiet)
    from calepin.compression.clp import write_clp

    size = write_clp(output_path, X, model, digits=digits, bits=bits)
    restored = _read(output_path, model)
    import numpy as np

    error = float(np.linalg.norm(restored - X) / max(float(np.linalg.norm(X)), 1e-300))
    values: dict[str, Any] = {
        "n_bytes": size,
        "bits_per_sample": 8 * size / len(X),
        "ratio": X.nbytes / size,
        "relative_error": error,
        "written": [str(output_path)],
    }
    if curve is not None:
        known = None if training is None else load_samples(training).reshape(-1, X[0].size)
        values["rate_distortion"] = _draw_curve(X, model, known, curve)
        values["written"].append(str(curve))
    output.line(
        f"{len(X)} samples in {size} bytes: {8 * size / len(X):.1f} bits a sample, "
        f"1/{X.nbytes / size:.0f} of {data}; relative error {error:.4f}"
    )
    output.line(", ".join(values["written"]))
    output.result(values)


def decompress(
    file: Annotated[Path, typer.Argument(metavar="FILE.clp", help="What compress wrote.")],
    model_path: ModelFile,
    output_path: Annotated[Path, typer.Option("--output", "-o", metavar="DATA.npy", help="Where they go.")],
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Restore the samples of a .clp file; needs the model they were compressed with."""
    import numpy as np

    from calepin.core.files import atomic_write

    output = Output(quiet, as_json)
    check_output(output_path, ".npy")
    samples = _read(file, load_model(model_path, shown=not quiet))
    with atomic_write(output_path) as temporary:
        np.save(temporary, samples, allow_pickle=False)
    output.line(f"{' x '.join(map(str, samples.shape))} {samples.dtype}: {output_path}")
    output.result({"shape": list(samples.shape), "dtype": str(samples.dtype), "written": [str(output_path)]})


def _read(file: Path, model: Any) -> "np.ndarray":
    from calepin.compression.clp import read_clp

    return read_clp(file, model)


def _draw_curve(X: "np.ndarray", model: Any, training: Any, path: Path) -> dict[str, Any]:
    from calepin.compression.rate_distortion import rate_distortion
    from calepin.report.figures import Curve, curves, save_figure

    shape = X.shape[1:] if X.ndim == 3 else None
    found = rate_distortion(X.reshape(len(X), -1), model, training=training, image_shape=shape)
    lines = {name: Curve(curve.bits, curve.psnr) for name, curve in found.items()}
    figure = curves(lines, xlabel="bits a sample", ylabel="PSNR (dB)", title="Rate and distortion")
    save_figure(figure, path)
    return {name: {"bits": c.bits.tolist(), "psnr": c.psnr.tolist()} for name, c in found.items()}
