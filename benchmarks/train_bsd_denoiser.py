"""Train the network for Gaussian noise that calepin ships.

    CALEPIN_DATA=... python -m benchmarks.train_bsd_denoiser [--minutes 10]

reads the 400 images of train400 and writes src/calepin/weights/bsd_gaussian_25.safetensors. A run
that is stopped, by Ctrl-C or after so many minutes, goes on where it was; `STAGES` says the rest.
"""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import calepin
from benchmarks.bsd_denoisers import psnr, scenes
from calepin.datasets import data_path, read_image
from calepin.imaging import DenoiserSettings, train_denoiser
from calepin.learning import TrainState
from calepin.networks import UnfoldedAutoencoder

FIRST = DenoiserSettings(
    local_mean=21, n_steps=12_000, batch_size=4, crop=48, learning_rate=2e-3, max_norm=0.05
)
# Taught on one grid, a network shrinks too much for a mean over grids: it goes on with the mean of eight,
# then of all sixteen. Weights of a constant rate move about; the mean of the last ones is what counts.
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
CHECKPOINTS = tuple(Path(f"results/bsd_gaussian_25.{stage}.checkpoint") for stage in range(len(STAGES)))
OUT = Path(calepin.__file__).parent / "weights" / "bsd_gaussian_25.safetensors"


def training_images() -> torch.Tensor:
    """Return train400, (400, 1, 180, 180) in [0, 1]."""
    images = [read_image(path).pixels for path in sorted(data_path("train400").glob("*.png"))]
    return torch.from_numpy(np.stack(images).astype(np.float32))[:, None]


def reached(network: UnfoldedAutoencoder, sigma: float) -> dict[str, float]:
    """Return the mean PSNR on BSD68 with all shifts and without."""
    values = {"psnr_bsd68": [], "psnr_bsd68_1_shift": []}
    for clean, noisy in scenes(sigma):
        for name, n_shifts in (("psnr_bsd68", None), ("psnr_bsd68_1_shift", 1)):
            image = calepin.denoise_with(network, noisy, sigma=sigma, n_shifts=n_shifts).image
            values[name].append(psnr(image, clean))
    return {name: round(float(np.mean(numbers)), 3) for name, numbers in values.items()}


def card(seconds: float, worth: dict[str, float]) -> dict[str, Any]:
    """Return how the network was made and what it reaches."""
    return {
        "noise": "gaussian",
        "sigma": FIRST.sigma,
        "data": "train400 (400 gray crops of Berkeley segmentation photographs)",
        "made_by": "python -m benchmarks.train_bsd_denoiser",
        "settings": [asdict(stage) for stage in STAGES],
        "seed": SEED,
        "seconds": round(seconds),
        **worth,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_bsd_denoiser", description=__doc__)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    arguments = parser.parse_args()
    begun, seconds, network, worth = time.monotonic(), 0.0, None, {}

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
            raise SystemExit(f"stopped after step {run.n_steps} of {stage.n_steps}: run again to go on")
        seconds += run.seconds
        worth = reached(network, stage.sigma)
        print(f"{checkpoint}: {worth}", flush=True)
    assert network is not None
    network.card = card(seconds, worth)
    network.save(OUT)
    print(f"{OUT}: {network.card}")


if __name__ == "__main__":
    main()
