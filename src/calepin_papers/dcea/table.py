"""Table 2 image by image, beside a baseline of our own and the paper's other columns; figures 2, 8, 9 and 10.

Tolooshams et al. 2020. Networks are those that calepin ships. The baseline is the variance-stabilising
transform (VST) with a denoiser of Gaussian noise and the exact unbiased inverse: always calepin's own
dictionary denoiser, and bm3d, the paper's, where the package ``bm3d`` can be imported. As in the paper,
counts are not binned.

Values that begin with ``quoted_`` are the paper's figures: SPDA, BM3D with VST, the class-agnostic network,
and DCEA tied and untied. They were not computed again. The photons do not depend on the seed of a run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.datasets import GaussianNoise, PoissonNoise
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.imaging import DictionaryDenoiser, NetworkDenoiser, denoise
from calepin.metrics import psnr
from calepin.networks import pretrained
from calepin.report import save_figure, sheet
from calepin_papers._common import spread
from calepin_papers.dcea.photons import IMAGES, QUOTED, clean_images, draw_counts

__all__ = ["DCEA_TABLE", "Settings", "bm3d", "stabilised"]

KINDS = ("tied", "untied")


@dataclass(frozen=True)
class Settings:
    """What is denoised.

    Attributes
    ----------
    images
        Names of images of Table 2, see `calepin_papers.dcea.photons.IMAGES`.
    crop
        Side of the window of their middle; None takes whole images. The paper's figures are of whole ones.
    """

    images: tuple[str, ...]
    crop: int | None = None
    peaks: tuple[int, ...] = (1, 2, 4)


def measure(settings: Settings, run: Run) -> Findings:
    """Denoise the same photons by all methods."""
    values: dict[str, float] = {}
    reached: dict[tuple[str, int], list[float]] = {}
    shown: dict[int, list[dict[str, NDArray]]] = {}
    every = clean_images("set12")
    jobs = [(peak, name) for peak in settings.peaks for name in settings.images]
    for n_job, (peak, name) in enumerate(jobs):
        run.progress(n_job / len(jobs), f"{name}, peak {peak}")
        index = IMAGES[name] - 1
        clean = _middle(every[index], settings.crop)

        def compute(clean=clean, peak=peak, index=index) -> Mapping[str, NDArray]:
            return _estimates(clean, peak, index, run)

        estimates = run.piece(f"{name}-peak{peak}", compute)
        shown.setdefault(peak, []).append({"original": clean, **estimates})
        for method, estimate in estimates.items():
            if method != "noisy":
                found = psnr(estimate, clean, data_range=float(clean.max()))
                values[f"{name}_{method}_peak{peak}"] = found
                reached.setdefault((method, peak), []).append(found)
        for method, table in QUOTED.items():
            if name in table[peak]:
                values[f"quoted_{name}_{method}_peak{peak}"] = table[peak][name]
    for (method, peak), found in reached.items():
        values |= spread(f"mean_{method}_peak{peak}", found, np.mean)
    figures = [_draw(peak, images, run) for peak, images in shown.items()]
    return Findings(values, _claims(values, settings), figures)


def _claims(values: dict[str, float], settings: Settings) -> list[Claim]:
    claims = []
    for peak in settings.peaks:
        tied, untied, vst = (values[f"mean_{m}_peak{peak}"] for m in (*KINDS, "vst_dictionary"))
        claims += [
            Claim(f"peak {peak}: untied over tied weights, dB", untied - tied, ">=", 0.2),
            Claim(
                f"peak {peak}: untied over VST with calepin's dictionary denoiser, dB",
                untied - vst,
                ">=",
                0.0,
            ),
        ]
    return claims


def _middle(image: NDArray[np.float64], size: int | None) -> NDArray[np.float64]:
    if size is None:
        return image
    top, left = ((n - size) // 2 for n in image.shape)
    return image[top : top + size, left : left + size]


def _estimates(clean: NDArray[np.float64], peak: int, index: int, run: Run) -> dict[str, NDArray]:
    """Return the counts and all estimates of an image, in its units."""
    counts, unit = draw_counts(clean, peak, index)
    noise = PoissonNoise(peak)
    found: dict[str, NDArray] = {"noisy": unit * counts}
    for kind in KINDS:
        network = pretrained(f"dcea-poisson-{kind}-peak{peak}").to(run.device)
        with torch.no_grad():
            method = NetworkDenoiser(network, fallback=False)
            found[kind] = unit * denoise(counts, method=method, noise=noise).image
    found["vst_dictionary"] = unit * stabilised(counts, _dictionary)
    if find_spec("bm3d") is not None:
        found["vst_bm3d"] = unit * stabilised(counts, bm3d)
    return found


def stabilised(counts: NDArray, denoise: Callable[[NDArray], NDArray]) -> NDArray[np.float64]:
    """Return the expected counts: 2 sqrt(y + 3/8), denoised with noise of level 1, and the unbiased inverse.

    The inverse is the closed form of Makitalo and Foi, "A closed-form approximation of the exact unbiased
    inverse of the Anscombe variance-stabilizing transformation", 2011. Values below that of no counts are 0.
    """
    values = np.asarray(denoise(2 * np.sqrt(counts + 3 / 8)), np.float64)
    d = np.maximum(values, 2 * np.sqrt(3 / 8))
    root = np.sqrt(3 / 2)
    return np.maximum(d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8, 0)


def bm3d(values: NDArray) -> NDArray:
    """Return values without noise of level 1, by the package ``bm3d``, which gets them in [0, 1]."""
    low, high = values.min(), values.max()
    return low + (high - low) * import_module("bm3d").bm3d((values - low) / (high - low), 1 / (high - low))


def _dictionary(values: NDArray) -> NDArray:
    return DictionaryDenoiser().denoise(values, GaussianNoise(1.0)).image


def _draw(peak: int, images: list[dict[str, NDArray]], run: Run) -> str:
    """Figures 2, 8, 9 and 10: the windows of 256 pixels of the images that all of them have."""
    names = {"original": "original", "noisy": "noisy", "tied": "DCEA-C", "untied": "DCEA-UC"}
    columns = {
        title: np.array(
            [_middle(one[name] / one["original"].max(), min(256, *one[name].shape)) for one in images]
        )
        for name, title in names.items()
    }
    save_figure(sheet(columns), run.folder / f"peak{peak}.png")
    return f"peak{peak}.png"


DCEA_TABLE = Experiment(
    name="dcea-table",
    shows="networks for photons denoise better with untied weights, and better than stabilised counts",
    source="Tolooshams et al. 2020, table 2 and figs. 2, 8, 9, 10",
    quick=Settings(images=("camera", "house")),
    paper=Settings(images=tuple(IMAGES)),
    measure=measure,
)
