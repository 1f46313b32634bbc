"""Generative dictionaries read from a file, with a progress bar."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ModelFile", "ShownModel", "load_model"]

CHUNK = 500  # samples decoded between two updates of the progress bar

ModelFile = Annotated[Path, typer.Option("--model", "-m", metavar="MODEL", help="Model from transfer.")]


class ShownModel:
    """A generative dictionary whose `transform` shows its progress."""

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
    """Return the model of a file from transfer."""
    from calepin.estimators.generative import GenerativeDictionaryLearner

    return ShownModel(GenerativeDictionaryLearner.load(path), shown=shown)
