"""Table 2 with networks that we trained ourselves, tied and untied, for peaks 1, 2 and 4."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.networks import UnfoldedAutoencoder, pretrained
from calepin_papers._common import spread
from calepin_papers.dcea.photons import PAPER, SETS, clean_images, psnr_of_each
from calepin_papers.dcea.training import Recipe, Stage, fresh_network, train_network, training_images

__all__ = ["DCEA_POISSON", "Settings"]

PEAKS = (4, 2, 1)
FIRST = Stage(4, 24000, n_unfold=6, n_shifts=4, crop=128, learning_rate=2e-3)
UNTIED = Recipe(
    (
        FIRST,
        Stage(4, 3000, n_unfold=12, n_shifts=8, crop=128, learning_rate=3e-4),
        Stage(4, 3000, n_unfold=12, n_shifts=16, crop=128, learning_rate=3e-4),
        Stage(4, 3000, n_unfold=12, n_shifts=32, crop=128, learning_rate=3e-4),
        Stage(4, 4000, n_unfold=12, n_shifts=16, crop=128, learning_rate=3e-4, last=0.3, average=1000),
        Stage(2, 4000, n_unfold=12, n_shifts=16, crop=128, learning_rate=4e-4, last=0.3, average=1000),
        Stage(1, 4000, n_unfold=12, n_shifts=16, crop=128, learning_rate=4e-4, last=0.3, average=1000),
    )
)
TIED = Recipe(  # at the learning rates above its PSNR stays lower
    (
        FIRST,
        Stage(4, 3000, n_unfold=12, n_shifts=16, crop=95, learning_rate=1.5e-3),
        Stage(2, 1500, n_unfold=12, n_shifts=16, crop=95, learning_rate=1.5e-3),
        Stage(1, 1500, n_unfold=12, n_shifts=16, crop=95, learning_rate=1.5e-3),
    )
)
BEGUN = Recipe((Stage(4, 150, n_unfold=6, n_shifts=1, crop=64, learning_rate=2e-3),))


@dataclass(frozen=True)
class Settings:
    """What is trained and what is denoised.

    Attributes
    ----------
    recipes
        How the networks of each kind, tied or untied, are trained.
    train_all
        Whether the six networks are trained from scratch, as those that calepin ships were; else the
        shipped ones are evaluated, and one untied network for peak 4 is begun.
    n_train, n_test
        The first images of train400 and of each test set; None takes all.
    """

    recipes: dict[str, Recipe]
    train_all: bool
    sets: tuple[str, ...]
    n_train: int | None
    n_test: int | None


def measure(settings: Settings, run: Run) -> Findings:
    """Train networks, or take the shipped ones, and denoise the photons of Table 2 with each network."""
    images = training_images(settings.n_train).to(run.device)
    values: dict[str, float] = {}
    if settings.train_all:
        networks = {kind: _train(settings, kind, images, run) for kind in settings.recipes}
    else:
        networks = {
            kind: {peak: pretrained(f"dcea-poisson-{kind}-peak{peak}").to(run.device) for peak in PEAKS}
            for kind in settings.recipes
        }
        begun = run.piece("begin", lambda: _begin(settings, images, run))
        values |= {name: float(value) for name, value in begun.items()}
    jobs = [(name, kind, peak) for name in settings.sets for kind in settings.recipes for peak in PEAKS]
    for n_job, (name, kind, peak) in enumerate(jobs):
        run.progress(0.5 + 0.5 * n_job / len(jobs), f"{name}, {kind}, peak {peak}")
        label = f"{name}_{kind}_peak{peak}"

        def compute(name: str = name, kind: str = kind, peak: int = peak) -> dict:
            clean = clean_images(name, settings.n_test)
            return {"psnr": psnr_of_each(networks[kind][peak], clean, peak)}

        reached = run.piece(label, compute)["psnr"]
        values |= spread(label, reached, np.mean) | {f"{label}_paper": PAPER[name, kind][peak]}
    return Findings(values, _claims(values, settings))


def _claims(values: dict[str, float], settings: Settings) -> list[Claim]:
    claims = []
    for name in settings.sets:
        for kind in settings.recipes:
            one, two, four = (values[f"{name}_{kind}_peak{peak}"] for peak in (1, 2, 4))
            claims.append(
                Claim(f"{name}, {kind}: more photons, better, dB", min(two - one, four - two), ">=", 0.3)
            )
    if "begin_after" in values:
        gain = values["begin_before"] - values["begin_after"]
        claims.append(Claim("training from scratch lowers the held-out error, dB", gain, ">=", 3.0))
    return claims


def _train(settings: Settings, kind: str, images: Tensor, run: Run) -> dict[int, UnfoldedAutoencoder]:
    """Train the networks of one kind; training continues from checkpoints of an earlier run."""
    recipe, place = settings.recipes[kind], list(settings.recipes).index(kind)
    network = fresh_network(recipe, tied=kind == "tied").to(run.device)
    trained = {}
    for n_stage, stage in enumerate(recipe.stages):

        def progress(part: float, peak: int = stage.peak, before: int = n_stage) -> None:
            fraction = (place + (before + part) / len(recipe.stages)) / len(settings.recipes)
            run.progress(0.5 * fraction, f"training {kind}, peak {peak}")

        network = train_network(
            network,
            images,
            recipe,
            stage,
            seed=run.seed,
            checkpoint=run.path(f"{kind}-stage{n_stage}", "checkpoint"),
            progress=progress,
        )
        path = run.folder / f"dcea_poisson_{kind}_peak{stage.peak}.safetensors"
        network.save(path, card={"seed": run.seed})
        trained[stage.peak] = UnfoldedAutoencoder.load(path).to(run.device)
    return trained


def _begin(settings: Settings, images: Tensor, run: Run) -> dict[str, float]:
    """Return the held-out error in dB of a network before and after a short training."""
    recipe = settings.recipes["untied"]
    network = fresh_network(recipe, tied=False).to(run.device)
    trained, held_out = images[: len(images) // 2], images[len(images) // 2 :]
    before = _held_out_error(network, held_out)
    network = train_network(
        network,
        trained,
        recipe,
        recipe.stages[0],
        seed=run.seed,
        progress=lambda part: run.progress(0.5 * part, "a short training"),
    )
    return {"begin_before": before, "begin_after": _held_out_error(network, held_out)}


@torch.no_grad()
def _held_out_error(network: UnfoldedAutoencoder, images: Tensor) -> float:
    """Return the mean squared error in dB on one grid, of counts whose seed is the number of images."""
    clean = images[:8]
    unit = clean.flatten(1).amax(1).view(-1, 1, 1, 1) / PEAKS[0]
    counts = np.random.default_rng(len(clean)).poisson((clean / unit).cpu().numpy())
    eta = network(torch.from_numpy(counts).to(clean), shifts=[(0, 0)])
    return 10 * float((unit * network.likelihood.mean(eta) - clean).square().mean().log10())


DCEA_POISSON = Experiment(
    name="dcea-poisson",
    shows="networks trained by calepin on photons denoise better the more photons there are",
    source="Tolooshams et al. 2020, table 2",
    quick=Settings(
        recipes={"untied": BEGUN, "tied": BEGUN},
        train_all=False,
        sets=("set12",),
        n_train=60,
        n_test=2,
    ),
    paper=Settings(
        recipes={"untied": UNTIED, "tied": TIED},
        train_all=True,
        sets=tuple(SETS),
        n_train=None,
        n_test=None,
    ),
    measure=measure,
)
