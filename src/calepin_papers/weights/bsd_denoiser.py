"""Train `bsd-gaussian`, the network for Gaussian noise of sigma 0 to 75 that calepin ships.

    CALEPIN_DATA=... python -m calepin_papers.weights.bsd_denoiser [--minutes 10]

reads the 400 images of train400 and writes src/calepin/weights/bsd_gaussian.safetensors. A run
that is stopped, by Ctrl-C or after so many minutes, continues where it stopped. `STAGES` holds the settings.
"""

import argparse
import copy
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import calepin
from calepin.datasets import GaussianNoise
from calepin.learning import ArrayBatches, CosineDecay, DenoisingRule, TrainState, train_steps
from calepin.metrics import psnr
from calepin.networks import UnfoldedDenoiser
from calepin_papers._common import gray_images

N_COMPONENTS, KERNEL, N_UNFOLD, STRIDE = 64, 8, 7, 2
LEVELS = (0, 75)  # sigma, for images in [0, 255]
MEASURED = (5, 15, 25, 50, 75)


@dataclass(frozen=True)
class Stage:
    """Settings of one stage: Adam along half a cosine; `crop` is the side of the windows of a step."""

    n_steps: int
    learning_rate: float
    n_shifts: int
    batch_size: int = 8
    crop: int = 64
    max_norm: float = 5.0
    half_precision: bool = True


# First one random shift of the grid a step, then the mean over all four, which is what denoising returns.
STAGES = (Stage(55_000, 3e-3, 1), Stage(5_000, 5e-4, 4))
SEED = 0
MODULE = "calepin_papers.weights.bsd_denoiser"
CHECKPOINTS = tuple(Path(f"results/bsd_gaussian.{stage}.checkpoint") for stage in range(len(STAGES)))
OUT = Path(calepin.__file__).parent / "weights" / "bsd_gaussian.safetensors"


def training_images() -> torch.Tensor:
    """Return train400, (400, 1, 180, 180) in [0, 1]."""
    return torch.from_numpy(np.stack(gray_images("train400")).astype(np.float32))[:, None]


def new_network() -> UnfoldedDenoiser:
    """Return the network before training, with random filters."""
    return UnfoldedDenoiser.random(N_COMPONENTS, KERNEL, seed=SEED, n_unfold=N_UNFOLD, stride=STRIDE)


def rule(stage: Stage, network: UnfoldedDenoiser) -> DenoisingRule:
    """Return the rule of one stage."""
    low, high = (level / 255 for level in LEVELS)
    return DenoisingRule(
        network,
        noise=GaussianNoise(low, high),
        optimizer=partial(torch.optim.Adam, lr=stage.learning_rate),
        schedule=CosineDecay(stage.n_steps),
        max_norm=stage.max_norm,
        crop=stage.crop,
        n_shifts=stage.n_shifts,
        half_precision=stage.half_precision,
        seed=SEED,
    )


def reached(network: UnfoldedDenoiser) -> dict[str, float]:
    """Return the mean PSNR on BSD68 at each level, noise of ``default_rng(1000 + i)``, without clipping."""
    images = gray_images("bsd68")
    found = {}
    for sigma in MEASURED:
        values = []
        for i, image in enumerate(images):
            noisy = image + sigma / 255 * np.random.default_rng(1000 + i).standard_normal(image.shape)
            with torch.no_grad():
                estimate = network(torch.from_numpy(noisy.astype(np.float32))[None, None], sigma / 255)
            values.append(psnr(estimate[0, 0].numpy(), image))
        found[f"psnr_bsd68_{sigma}"] = round(float(np.mean(values)), 3)
    return found


def card(seconds: float, quality: dict[str, float]) -> dict[str, Any]:
    """Return how the network was made and what it reaches."""
    return {
        "noise": "gaussian",
        "sigma_range": [level / 255 for level in LEVELS],
        "data": "train400 (400 gray crops of Berkeley segmentation photographs)",
        "made_by": f"python -m {MODULE}",
        "settings": [asdict(stage) for stage in STAGES],
        "seed": SEED,
        "seconds": round(seconds),
        **quality,
    }


def main() -> None:
    """Train the stages that are not done yet, measure, write the weights."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many minutes")
    arguments = parser.parse_args()
    begun, seconds, network = time.monotonic(), 0.0, new_network()
    images = training_images()

    def watch(state: TrainState) -> bool:
        if state.n_steps % 500 == 0:
            level = -10 / np.log(10) * state.total / state.n_samples
            print(f"step {state.n_steps}: {state.seconds:.0f} s, {level:.3f} dB in this pass", flush=True)
        return time.monotonic() - begun > 60 * arguments.minutes

    for stage, checkpoint in zip(STAGES, CHECKPOINTS, strict=True):
        checkpoint.parent.mkdir(exist_ok=True)
        data = ArrayBatches(images, stage.batch_size, seed=SEED)
        run = train_steps(rule(stage, network), data, stage.n_steps, callbacks=[watch], checkpoint=checkpoint)
        if run.n_steps < stage.n_steps:
            raise SystemExit(f"stopped after step {run.n_steps} of {stage.n_steps}: run again to continue")
        network, seconds = copy.deepcopy(run.learned.network), seconds + run.seconds
    network.card = card(seconds, reached(network))
    network.save(OUT)
    print(f"{OUT}: {network.card}")


if __name__ == "__main__":
    main()
