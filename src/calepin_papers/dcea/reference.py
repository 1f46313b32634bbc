"""Table 2 with the networks that the authors released, for peaks 2 and 4."""

from dataclasses import dataclass

import numpy as np

from calepin.datasets import data_path
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.networks import UnfoldedAutoencoder
from calepin_papers._common import spread
from calepin_papers.dcea.photons import PAPER, SETS, clean_images, psnr_of_each

__all__ = ["DCEA_REFERENCE", "Settings"]

FOLDER = "dcea_reference_weights"


@dataclass(frozen=True)
class Settings:
    """Which test images are denoised.

    Attributes
    ----------
    sets
        Test sets by their names.
    n_images
        The first of each set; None takes all, and compares the means with the paper's.
    """

    sets: tuple[str, ...]
    n_images: int | None
    peaks: tuple[int, ...] = (2, 4)


def measure(settings: Settings, run: Run) -> Findings:
    """Denoise the same photons with all four networks.

    The photons do not depend on the run's seed: there is one draw for each image of Table 2.
    """
    weights = ("tied", "untied")
    jobs = [(name, kind, peak) for name in settings.sets for kind in weights for peak in settings.peaks]
    values: dict[str, float] = {}
    for n_job, (name, kind, peak) in enumerate(jobs):
        network = UnfoldedAutoencoder.load_reference(data_path(f"{FOLDER}/dcea_{kind}_peak{peak}.npz"))
        network.to(run.device)
        clean = clean_images(name, settings.n_images)

        def done(n: int, job: int = n_job, of: int = len(clean)) -> None:
            run.progress((job + n / of) / len(jobs), f"{jobs[job][0]}, {jobs[job][1]}, peak {jobs[job][2]}")

        label = f"{name}_{kind}_peak{peak}"

        def compute(network=network, clean=clean, peak: int = peak, done=done) -> dict:
            return {"psnr": psnr_of_each(network, clean, peak, done=done)}

        reached = run.piece(label, compute)["psnr"]
        values |= spread(label, reached, np.mean) | {f"{label}_paper": PAPER[name, kind][peak]}
    whole = settings.n_images is None
    return Findings(values, _like_the_table(values, jobs) if whole else _in_its_order(values, settings))


def _like_the_table(values: dict[str, float], jobs: list[tuple[str, str, int]]) -> list[Claim]:
    claims = []
    for name, kind, peak in jobs:
        label = f"{name}_{kind}_peak{peak}"
        gap = abs(values[label] - values[f"{label}_paper"])
        claims.append(Claim(f"{label} is the paper's mean: dB apart", gap, "<=", 0.05))
    return claims


def _in_its_order(values: dict[str, float], settings: Settings) -> list[Claim]:
    """Return the claims for a few images, of which the paper gives no mean."""
    low, high = min(settings.peaks), max(settings.peaks)
    claims = []
    for name in settings.sets:
        gains = [values[f"{name}_untied_peak{p}"] - values[f"{name}_tied_peak{p}"] for p in settings.peaks]
        claims.append(Claim(f"{name}: untied weights beat tied ones, dB", min(gains), ">=", 0.3))
        for kind in ("tied", "untied"):
            found = values[f"{name}_{kind}_peak{high}"] - values[f"{name}_{kind}_peak{low}"]
            paper = PAPER[name, kind][high] - PAPER[name, kind][low]
            claims.append(
                Claim(
                    f"{name}, {kind}: peak {high} over peak {low} gains as much as in the paper, dB apart",
                    abs(found - paper),
                    "<=",
                    0.4,
                )
            )
        far = max(
            abs(values[f"{name}_{kind}_peak{p}"] - PAPER[name, kind][p])
            for kind in ("tied", "untied")
            for p in settings.peaks
        )
        claims.append(
            Claim(f"{name}: the first images are near the mean of the whole set, dB", far, "<=", 1.0)
        )
    return claims


DCEA_REFERENCE = Experiment(
    name="dcea-reference",
    shows="the released Poisson networks reach the paper's PSNR at peaks 2 and 4",
    source="Tolooshams et al. 2020, table 2",
    quick=Settings(sets=("set12",), n_images=4),
    paper=Settings(sets=tuple(SETS), n_images=None),
    measure=measure,
)
