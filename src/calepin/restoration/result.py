"""The result of a restoration."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calepin.datasets.noise import GaussianNoise

__all__ = ["RestoreResult"]


@dataclass(frozen=True)
class RestoreResult:
    """Result of `calepin.restore`.

    Attributes
    ----------
    image : array or Tensor, the operator's in_shape
        The restored image, an array or a tensor as the measurements are.
    noise : GaussianNoise
        The assumed noise of the measurements, with the estimated level if none was given.
    n_iter : int
        Steps done.
    converged : bool
        Whether the stopping rule was met.
    history : list of dict
        One entry for each step: "level" (of the noise that the prior removed), "change" (of the image,
        relative to its norm) and "residual" (root mean square of ``y - A x``; along a trajectory of k-space,
        with the weights of dense samples; by patterns of light, whose mean is weighted down). Of an untrained
        network, one entry with "loss" and "residual" of the best iterate.
    """

    image: Any
    noise: GaussianNoise
    n_iter: int
    converged: bool
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise, given or estimated."""
        return self.noise.sigma

    def _repr_html_(self) -> str:
        """Return the image and how it was found as HTML for notebooks."""
        from calepin.report.notebook import image_snippet, snippet

        facts = {"noise": self.noise, "steps": self.n_iter, "converged": self.converged}
        values = np.abs(np.asarray(self.image)) if np.iscomplexobj(self.image) else np.asarray(self.image)
        if values.ndim == 3:
            values = np.moveaxis(values, 0, -1) if len(values) == 3 else values[0]
        return snippet("RestoreResult", facts, {"restored image": image_snippet(values)})
