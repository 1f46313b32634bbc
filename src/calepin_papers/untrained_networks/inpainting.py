"""Inpainting: pixels missing at random, and pixels covered by print."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from calepin.datasets import load_sample
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.metrics import psnr
from calepin.networks import DeepDecoder
from calepin.operators import Mask
from calepin.reconstruction import fit_untrained
from calepin.report import before_after, save_figure
from calepin.solvers import Adam
from calepin_papers._common import fixed_iterations, spread
from calepin_papers._random import torch_generator
from calepin_papers.untrained_networks.image_pair import load_pair

__all__ = ["CS_INPAINTING", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Sizes of image and network, and how much is missing.

    Attributes
    ----------
    missing
        Fraction of pixels that are missing at random.
    n_draws
        Random masks; the print stays, its starts differ.
    n_starts
        Random starts that are averaged.
    """

    size: int
    channels: int
    max_iter: int
    n_draws: int
    missing: float = 0.5
    depth: int = 5
    in_size: int = 8
    n_starts: int = 3
    learning_rate: float = 0.01


def measure(settings: Settings, run: Run) -> Findings:
    """Fill the pixels that are missing, and compare with filling by the mean."""
    image = load_pair(settings.size)[0]["art"]
    n = settings.n_draws
    found = run.piece("fit", partial(_fill, settings, image, run))
    filled, seen = found["filled"], found["seen"]
    flat = _mean_filled(seen, found["masks"])
    values = {}
    for i, name in enumerate(("random", "text")):
        part = slice(i * n, (i + 1) * n)
        reached = [psnr(one, image.numpy()) for one in filled[part]]
        values |= spread(f"psnr_{name}", reached)
        values[f"psnr_{name}_mean_filled"] = float(
            np.median([psnr(one, image.numpy()) for one in flat[part]])
        )
        values[f"gain_{name}"] = values[f"psnr_{name}"] - values[f"psnr_{name}_mean_filled"]
    claims = [
        Claim(f"{what} are restored: dB over filling with the mean", values[f"gain_{name}"], ">=", 4.0)
        for name, what in (("random", "missing pixels"), ("text", "pixels under print"))
    ]
    shown = {
        "seen, random": seen[0, 0],
        "filled": filled[0, 0],
        "seen, text": seen[n, 0],
        "filled ": filled[n, 0],
        "image": image[0].numpy(),
    }
    save_figure(before_after(shown), run.folder / "inpainting.png")
    return Findings(values, claims, ["inpainting.png"])


def _fill(settings: Settings, image: torch.Tensor, run: Run) -> dict[str, np.ndarray]:
    """Fit the seen pixels of one image under every mask, all masks as one batch."""
    generator = torch_generator(run.seed)
    n = settings.n_draws
    random = torch.rand(n, *image.shape, generator=generator) >= settings.missing
    masks = torch.cat([random, _page(settings.size).expand(n, *image.shape)])
    operator = Mask(masks, per_sample=True).to(run.device)
    x = image.expand(2 * n, *image.shape).to(run.device)
    y = operator(x)
    network = DeepDecoder(
        (settings.size, settings.size),
        channels=settings.channels,
        depth=settings.depth,
        in_size=settings.in_size,
    )
    with fixed_iterations():
        fit = fit_untrained(
            network.to(run.device),
            operator,
            y,
            optimizer=Adam(settings.learning_rate),
            max_iter=settings.max_iter,
            tol=0.0,
            patience=None,
            n_starts=settings.n_starts,
            generator=generator,
            callback=lambda progress: run.progress(progress.n_iter / settings.max_iter, "fitting"),
        )
    filled = torch.where(masks, x.cpu(), fit.x.cpu())
    return {"filled": filled.numpy(), "seen": y.cpu().numpy(), "masks": masks.numpy()}


def _page(size: int) -> torch.Tensor:
    """Return where a printed page is white, (1, size, size)."""
    page = load_sample("text").pixels
    step = max(1, min(page.shape) // size)
    page = page[::step, ::step][:size, :size]
    dark = page < np.quantile(page, 0.2)
    tiled = np.zeros((size, size), dtype=bool)
    tiled[: dark.shape[0], : dark.shape[1]] = dark
    return torch.from_numpy(~tiled)[None]


def _mean_filled(y: np.ndarray, masks: np.ndarray) -> np.ndarray:
    axes = tuple(range(1, y.ndim))
    mean = y.sum(axes, keepdims=True) / masks.sum(axes, keepdims=True)
    return np.where(masks, y, mean)


CS_INPAINTING = Experiment(
    name="cs-inpainting",
    shows="a deep decoder fills pixels that are missing at random or covered by print",
    source="Heckel and Soltanolkotabi 2020, section 1.1; Ulyanov et al. 2018",
    quick=Settings(size=64, channels=64, max_iter=200, n_draws=2),
    paper=Settings(size=256, channels=128, max_iter=5000, n_draws=5, in_size=16, learning_rate=0.005),
    measure=measure,
)
