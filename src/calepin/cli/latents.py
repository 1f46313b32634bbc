"""``calepin denoise --model`` with a generative dictionary: samples become the nearest that it can make."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from calepin.cli.output import Output, peak_memory_mb
from calepin.core.paths import check_output
from calepin.datasets.arrays import load_samples

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ShownModel", "denoise_samples", "is_generative", "load_model"]

CHUNK = 500  # samples that are decoded between two movements of the bar


class ShownModel:
    """A generative dictionary whose `transform` shows how far it is."""

    def __init__(self, model: Any, *, shown: bool) -> None:
        self.components_, self.generator = model.components_, model.generator
        self.latent_dim_, self.inverse_transform = model.latent_dim_, model.inverse_transform
        self._model, self._shown = model, shown

    def transform(self, X: "np.ndarray") -> "np.ndarray":
        """Return latents (n_samples, k)."""
        import numpy as np

        from calepin.core.progress import progress_bar

        parts = []
        with progress_bar("decoding", total=len(X), shown=self._shown) as bar:
            for start in range(0, len(X), CHUNK):
                parts.append(self._model.transform(X[start : start + CHUNK]))
                bar.update(min(start + CHUNK, len(X)))
        return np.concatenate(parts)


def load_model(path: Path, *, shown: bool) -> ShownModel:
    """Read a model that transfer wrote."""
    from calepin.estimators.generative import GenerativeDictionaryLearner

    return ShownModel(GenerativeDictionaryLearner.load(path), shown=shown)


def is_generative(model: str) -> bool:
    """Return whether a model is the file of a generative dictionary."""
    from calepin.core.files import read_header
    from calepin.estimators.generative import KIND

    path = Path(model)
    return path.suffix == ".safetensors" and path.is_file() and read_header(path)["kind"] == KIND


def denoise_samples(
    output: Output,
    data: Path | None,
    output_path: Path | None,
    reference: Path | None,
    model_path: str,
    figure: Path | None,
    forbidden: dict[str, Any],
) -> None:
    """Write what the model makes of the latents of noisy samples; compare with the clean ones if known."""
    import numpy as np

    given = [name for name, value in forbidden.items() if value is not None]
    if given:
        raise typer.BadParameter(
            f"a generative dictionary takes samples (.npy) and no {', '.join(given)}", param_hint="--model"
        )
    if data is None:
        raise typer.BadParameter("give samples, NOISY.npy, to a generative dictionary", param_hint="IMAGE")
    if output_path is None and figure is None and reference is None:
        raise typer.BadParameter("say where the denoised samples go", param_hint="--output")
    if output_path is not None:
        check_output(output_path, ".npy")
    if figure is not None:
        check_output(figure)
    noisy = load_samples(data)
    clean = None if reference is None else load_samples(reference)
    if clean is not None and clean.shape != noisy.shape:
        raise ValueError(f"{reference} has shape {clean.shape}, expected that of the samples, {noisy.shape}")
    if figure is not None:
        _images(noisy)  # refused now rather than after the work
    model = load_model(Path(model_path), shown=not output.quiet)
    flat = np.asarray(noisy, dtype=np.float64).reshape(len(noisy), -1)
    denoised = model.inverse_transform(model.transform(flat)).reshape(noisy.shape)
    denoised = denoised.astype(noisy.dtype if noisy.dtype.kind == "f" else np.float32)
    written = _write(noisy, denoised, clean, output_path, figure)
    values = {
        "n_samples": len(noisy),
        "latent_dim": model.latent_dim_,
        "distance_moved": _distance(denoised, noisy),
        "distance_noisy": None if clean is None else _distance(noisy, clean),
        "distance": None if clean is None else _distance(denoised, clean),
        "peak_memory_mb": peak_memory_mb(),
        "written": written,
    }
    output.line(
        f"{len(noisy)} samples, latents of {model.latent_dim_}; "
        f"moved by {values['distance_moved']:.4g} on average (Euclidean)"
    )
    if clean is not None:
        said = (values["distance_noisy"], values["distance"])
        output.line("distance to the clean samples: {:.4g} noisy, {:.4g} denoised".format(*said))
    if written:
        output.line(", ".join(written))
    output.result(values)


def _write(
    noisy: "np.ndarray",
    denoised: "np.ndarray",
    clean: "np.ndarray | None",
    output_path: Path | None,
    figure: Path | None,
) -> list[str]:
    import numpy as np

    from calepin.core.files import atomic_write

    written = []
    if output_path is not None:
        with atomic_write(output_path) as temporary:
            np.save(temporary, denoised, allow_pickle=False)
        written.append(str(output_path))
    if figure is not None:
        from calepin.report.figures import save_figure, sheet

        columns = {"noisy": _images(noisy), "denoised": _images(denoised)}
        if clean is not None:
            columns["clean"] = _images(clean)
        save_figure(sheet(columns), figure)
        written.append(str(figure))
    return written


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
