"""Train `bsd-gaussian`, the network for Gaussian noise that calepin ships.

    CALEPIN_DATA=... python -m calepin_papers.weights.bsd_denoiser [--minutes 10]

reads the 400 images of train400 and writes src/calepin/weights/bsd_gaussian_25.safetensors. A run
that is stopped, by Ctrl-C or after so many minutes, continues where it stopped. `STAGES` holds the settings.
"""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import calepin
from calepin.imaging import DenoiserSettings, train_denoiser
from calepin.learning import TrainState
from calepin.networks import UnfoldedAutoencoder
from calepin_papers._common import gray_images
from calepin_papers.pudle.denoise import mean_psnr, noisy_pairs

FIRST = DenoiserSettings(
    local_mean=21, n_steps=12_000, batch_size=4, crop=48, learning_rate=2e-3, max_norm=0.05
)
# A network trained on one grid shrinks too much for a mean over grids: training continues with the mean of
# eight, then of all sixteen. At a constant learning rate the weights fluctuate: a stage ends with their mean.
EIGHT = replace(FIRST, n_steps=3_000, batch_size=2, n_shifts=8, learning_rate=5e-4)
MEAN = replace(EIGHT, n_steps=6_000, cosine=False, average=1_000)
STAGES = (
    FIRST,
    EIGHT,
    MEAN,
    replace(MEAN, learning_rate=1e-3),
    MEAN,
    replace(MEAN, n_steps=4_000, n_shifts=16, learning_rate=3e-4),
)
SEED = 0
MODULE = "calepin_papers.weights.bsd_denoiser"
CHECKPOINTS = tuple(Path(f"results/bsd_gaussian_25.{stage}.checkpoint") for stage in range(len(STAGES)))
OUT = Path(calepin.__file__).parent / "weights" / "bsd_gaussian_25.safetensors"


def training_images() -> torch.Tensor:
    """Return train400, (400, 1, 180, 180) in [0, 1]."""
    return torch.from_numpy(np.stack(gray_images("train400")).astype(np.float32))[:, None]


def reached(network: UnfoldedAutoencoder) -> dict[str, float]:
    """Return the mean PSNR on BSD68, sigma 25, with all shifts and without."""
    pairs = noisy_pairs(68)
    shifts = {"psnr_bsd68": None, "psnr_bsd68_1_shift": 1}
    return {name: round(mean_psnr(network, pairs, n), 3) for name, n in shifts.items()}


def card(seconds: float, quality: dict[str, float]) -> dict[str, Any]:
    """Return how the network was made and what it reaches."""
    return {
        "noise": "gaussian",
        "sigma": FIRST.sigma,
        "data": "train400 (400 gray crops of Berkeley segmentation photographs)",
        "made_by": f"python -m {MODULE}",
        "settings": [asdict(stage) for stage in STAGES],
        "seed": SEED,
        "seconds": round(seconds),
        **quality,
    }


def main() -> None:
    """Train the stages that are not done yet, measure each, write the weights."""
    parser = argparse.ArgumentParser(
        prog="python -m calepin_papers.weights.bsd_denoiser", description=__doc__
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many minutes")
    arguments = parser.parse_args()
    begun, seconds, network, quality = time.monotonic(), 0.0, None, {}

    def watch(state: TrainState) -> bool:
        if state.n_steps % 500 == 0:
            level = -10 * np.log10(state.total / state.n_samples)
            print(f"step {state.n_steps}: {state.seconds:.0f} s, {level:.3f} dB in this pass", flush=True)
        return time.monotonic() - begun > 60 * arguments.minutes

    for stage, checkpoint in zip(STAGES, CHECKPOINTS, strict=True):
        checkpoint.parent.mkdir(exist_ok=True)
        network, run = train_denoiser(
            stage, training_images(), seed=SEED, start=network, callbacks=[watch], checkpoint=checkpoint
        )
        if run.n_steps < stage.n_steps:
            raise SystemExit(f"stopped after step {run.n_steps} of {stage.n_steps}: run again to continue")
        seconds += run.seconds
        quality = reached(network)
        print(f"{checkpoint}: {quality}", flush=True)
    assert network is not None
    network.card = card(seconds, quality)
    network.save(OUT)
    print(f"{OUT}: {network.card}")


if __name__ == "__main__":
    main()
