"""Convolutional denoisers of photographs: table 1, and what untied weights and shifts of the grid add.

Trained on train400, tested on BSD68, noise of sigma 25 on the scale 0..255; 64 filters of 9x9, stride
4, 15 layers. "dec", "ae-ls" and "ae-ls, HT" are the paper's: tied weights, one threshold for all
filters, one grid. "untied" is calepin's: encoder and decoder of their own, a learned threshold for each
filter, local means left out, and at the end the mean over all 16 shifts of the grid.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.datasets import GaussianNoise
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.imaging import DenoiserSettings, NetworkDenoiser, denoise, train_denoiser
from calepin.learning import TrainState
from calepin.metrics import psnr
from calepin.networks import UnfoldedAutoencoder
from calepin.report import Curve, before_after, curves, save_figure
from calepin_papers._common import gray_images, spread

__all__ = ["PUDLE_DENOISE", "Settings", "mean_psnr", "noisy_pairs"]

SIGMA = 25 / 255
NAMES = {"dec": "dec", "ls": "ae-ls", "ht": "ae-ls, HT", "untied": "untied"}
_BLOCK = 50  # steps whose loss is one point of a curve

PAPER = DenoiserSettings(
    tied=True,
    learn_threshold=False,
    step_size=0.1,
    crop=129,
    batch_size=1,
    learning_rate=1e-4,
    eps=1e-3,
    cosine=False,
    n_steps=100_000,  # 250 passes over 400 images
)
UNTIED = DenoiserSettings(local_mean=21, learning_rate=2e-3, max_norm=0.05, n_steps=1600)  # a minute


@dataclass(frozen=True)
class Settings:
    """Which networks are trained, how long, and on how many images they are tested.

    Attributes
    ----------
    lambdas, levels
        Of the soft threshold, and of the hard one.
    n_seeds
        Trainings of each network; means and ranges are over them.
    tied, untied
        Of the networks and their training. What shifts add is claimed after a minute of training: it
        shrinks as the network learns, to .29 dB for the one that calepin ships.
    n_images
        Images of BSD68, evenly spaced.
    n_noises
        Realizations of the noise of every test image, from which the deviation of the mean PSNR is found.
    claim_order
        Whether the paper's order is claimed, ae-ls beyond dec and beyond hard thresholds: dec is behind after
        long training alone.
    """

    lambdas: tuple[float, ...] = (0.08, 0.12, 0.16, 0.2)
    levels: tuple[float, ...] = (0.02, 0.05, 0.08, 0.1)
    n_seeds: int = 2
    tied: DenoiserSettings = PAPER
    untied: DenoiserSettings = UNTIED
    n_images: int = 68
    n_noises: int = 5
    claim_order: bool = True

    def networks(self) -> list[tuple[str, float, DenoiserSettings]]:
        """Return kind, threshold and settings of every network."""
        soft = [
            (kind, level, replace(self.tied, threshold=level, detach_codes=kind == "dec"))
            for kind in ("dec", "ls")
            for level in self.lambdas
        ]
        hard = [("ht", level, replace(self.tied, penalty="hard", threshold=level)) for level in self.levels]
        return [*soft, *hard, ("untied", self.untied.threshold, self.untied)]


@dataclass(frozen=True)
class Trained:
    """What is kept of a trained network.

    Attributes
    ----------
    kind, threshold
        Which network it is.
    losses
        Loss of each step; of the last ones, if its training was interrupted.
    psnr_1_shift, psnr_all_shifts
        Mean PSNR on the test images; over all shifts for "untied", else NaN.
    psnr_noises
        Mean PSNR on one grid for each realization of the noise.
    image, image_all_shifts
        The first test image, denoised; the second is empty unless it is "untied".
    """

    kind: str
    threshold: float
    losses: NDArray[np.float64]
    psnr_1_shift: float
    psnr_all_shifts: float
    psnr_noises: NDArray[np.float64]
    image: NDArray[np.float32]
    image_all_shifts: NDArray[np.float32]


def measure(settings: Settings, run: Run) -> Findings:
    """Train every network from every seed, as many at a time as there are threads, and test it."""
    X = torch.from_numpy(np.stack(gray_images("train400")).astype(np.float32))[:, None].to(run.device)
    noises = [noisy_pairs(settings.n_images, realization) for realization in range(settings.n_noises)]
    seeds = np.random.SeedSequence(run.seed).generate_state(settings.n_seeds).tolist()
    jobs = [(*network, i) for i in range(settings.n_seeds) for network in settings.networks()]
    jobs.sort(key=lambda job: -job[2].n_steps)  # the longest training first: it decides when all are done
    clock = _Clock(run, sum(how.n_steps for _, _, how, _ in jobs))

    def work(kind: str, threshold: float, how: DenoiserSettings, index: int) -> Trained:
        torch.set_num_threads(1)  # of this worker: the same bits whatever the number of workers
        name = f"{kind}-{threshold:g}-seed{index}"
        checkpoint = run.path(name, "checkpoint")

        def compute() -> dict[str, Any]:
            watch = _Watch(clock, NAMES[kind])
            network, _ = train_denoiser(how, X, seed=seeds[index], callbacks=[watch], checkpoint=checkpoint)
            return _tested(network, watch.losses, noises, all_shifts=kind == "untied")

        found = run.piece(name, compute)
        return Trained(
            kind,
            threshold,
            found["losses"],
            float(found["psnr_1_shift"]),
            float(found["psnr_all_shifts"]),
            found["psnr_noises"],
            found["image"],
            found["image_all_shifts"],
        )

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        futures = [pool.submit(work, *job) for job in jobs]
        try:
            trained = [future.result() for future in futures]
        except BaseException:
            clock.stopped.set()  # a training takes minutes or hours: end those that run
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    values = _values(trained)
    return Findings(values, _claims(values, settings), _draw(trained, noises[0], run))


def _tested(
    network: UnfoldedAutoencoder, losses: Sequence[float], noises: Sequence[list], *, all_shifts: bool
) -> dict[str, Any]:
    """Return losses, mean PSNR, and the first test image denoised, on one grid and on all."""
    pairs = noises[0]
    noisy = pairs[0][1]
    of_noises = [mean_psnr(network, of_noise, n_shifts=1) for of_noise in noises]
    return {
        "losses": losses,
        "psnr_1_shift": of_noises[0],
        "psnr_noises": of_noises,
        "psnr_all_shifts": mean_psnr(network, pairs, n_shifts=None) if all_shifts else np.nan,
        "image": _denoised(network, noisy, 1).astype(np.float32),
        "image_all_shifts": _denoised(network, noisy, None).astype(np.float32) if all_shifts else [],
    }


class _Clock:
    """How many steps of all trainings are done."""

    def __init__(self, run: Run, total: int) -> None:
        self.run, self.total, self.done = run, total, 0
        self.stopped, self._lock = threading.Event(), threading.Lock()

    def tick(self, text: str) -> bool:
        with self._lock:
            self.done += 1
            self.run.progress(self.done / self.total, text)
        return self.stopped.is_set()


class _Watch:
    """A callback of the training loop that keeps the loss of every step."""

    def __init__(self, clock: _Clock, name: str) -> None:
        self.clock, self.name = clock, name
        self.losses: list[float] = []
        self._before = (0.0, 0)

    def __call__(self, state: TrainState) -> bool:
        total, n_samples = (0.0, 0) if state.step_in_pass == 1 else self._before
        self.losses.append((state.total - total) / (state.n_samples - n_samples))
        self._before = (state.total, state.n_samples)
        return self.clock.tick(f"training {self.name}")


def noisy_pairs(n: int, realization: int = 0) -> list[tuple[NDArray[np.floating], NDArray[np.floating]]]:
    """Return clean and noisy images of BSD68, evenly spaced; an image has the same noise in each run."""
    images = gray_images("bsd68")
    chosen = np.linspace(0, len(images) - 1, min(n, len(images))).round().astype(int)
    return [
        (
            images[i],
            images[i] + np.random.default_rng(1000 * (1 + realization) + i).normal(0, SIGMA, images[i].shape),
        )
        for i in chosen
    ]


def _denoised(network: UnfoldedAutoencoder, noisy: NDArray[np.floating], n_shifts: int | None):
    method = NetworkDenoiser(network, n_shifts, fallback=False)
    return np.clip(denoise(noisy, method=method, noise=GaussianNoise(SIGMA)).image, 0, 1)


def mean_psnr(network: UnfoldedAutoencoder, pairs: Sequence[tuple], n_shifts: int | None) -> float:
    """Return the mean PSNR of denoised images, clipped to [0, 1]; all shifts with None."""
    return float(np.mean([psnr(_denoised(network, noisy, n_shifts), clean) for clean, noisy in pairs]))


def _values(trained: Sequence[Trained]) -> dict[str, float]:
    """Return means and ranges over seeds: of each network, and of each kind with its best threshold."""
    values = {}
    for kind in NAMES:
        found: dict[float, list[float]] = {}
        for one in trained:
            if one.kind == kind:
                found.setdefault(one.threshold, []).append(one.psnr_1_shift)
        best = max(found.values(), key=np.mean)
        name = "psnr_untied_1_shift" if kind == "untied" else f"psnr_{kind}"
        values |= spread(name, best, np.mean)
        if len(found) > 1:
            values |= {f"{name}_{level:g}": float(np.mean(numbers)) for level, numbers in found.items()}
    untied = [one for one in trained if one.kind == "untied"]
    values |= spread("psnr_untied_all_shifts", [one.psnr_all_shifts for one in untied], np.mean)
    values |= spread("shift_gain", [one.psnr_all_shifts - one.psnr_1_shift for one in untied], np.mean)
    deviations = [np.std(one.psnr_noises, ddof=1) for one in trained if len(one.psnr_noises) > 1]
    values["noise_deviation"] = float(max(deviations, default=0.0))
    values["ls_over_dec"] = values["psnr_ls"] - values["psnr_dec"]
    values["ls_over_ht"] = values["psnr_ls"] - values["psnr_ht"]
    return values


def _claims(values: Mapping[str, float], settings: Settings) -> list[Claim]:
    claims = [
        Claim("untied network on one grid: PSNR in dB", values["psnr_untied_1_shift"], ">=", 26.8),
        Claim("the mean over all shifts of the grid gains, in dB", values["shift_gain"], ">=", 0.3),
        Claim(
            "mean PSNR over realizations of the noise: largest deviation, in dB",
            values["noise_deviation"],
            "<=",
            0.02,
        ),
    ]
    if settings.claim_order:
        hard = "ae-ls denoises better than ae-ls with hard thresholds, by dB"
        claims += [
            Claim("ae-ls denoises better than dec, by dB", values["ls_over_dec"], ">=", 0.0),
            Claim(hard, values["ls_over_ht"], ">=", 0.0),
        ]
    return claims


def _draw(trained: Sequence[Trained], pairs: Sequence[tuple], run: Run) -> list[str]:
    """Draw the course of the trainings, table 1 where it has columns, and an image before and after."""
    best = {kind: max((one for one in trained if one.kind == kind), key=_key) for kind in NAMES}
    lines = {}
    for kind, one in best.items():
        losses = one.losses[: len(one.losses) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
        steps = _BLOCK * (np.arange(len(losses)) + 1)
        lines[NAMES[kind]] = Curve(steps, -10 * np.log10(losses.mean(1)))
    course = curves(lines, xlabel="steps of training", ylabel="PSNR on the training windows (dB)")
    save_figure(course, run.folder / "training.png")

    clean, noisy = pairs[0]
    shown = {"noisy": noisy}
    shown |= {NAMES[kind]: one.image for kind, one in best.items()}
    shown |= {"all shifts": best["untied"].image_all_shifts, "clean": clean}
    captions = {name: f"{psnr(image, clean):.2f} dB" for name, image in shown.items() if name != "clean"}
    save_figure(before_after(shown, captions=captions), run.folder / "before-after.png")
    return ["training.png", "before-after.png", *_draw_table(trained, run)]


def _draw_table(trained: Sequence[Trained], run: Run) -> list[str]:
    lines, n_levels = {}, []
    for kind in ("dec", "ls", "ht"):
        levels = sorted({one.threshold for one in trained if one.kind == kind})
        found = np.array(
            [
                [one.psnr_1_shift for one in trained if (one.kind, one.threshold) == (kind, level)]
                for level in levels
            ]
        )
        lines[NAMES[kind]] = Curve(np.array(levels), found.mean(1), found.min(1), found.max(1))
        n_levels.append(len(levels))
    if max(n_levels) < 2:
        return []
    figure = curves(lines, xlabel="lambda (HT: b)", ylabel="PSNR on BSD68 (dB)")
    save_figure(figure, run.folder / "table-1.png")
    return ["table-1.png"]


def _key(one: Trained) -> float:
    return one.psnr_1_shift


# A minute on two cores: 7 to 15 ms for a step of the tied networks on small windows, 36 of the untied one.
PUDLE_DENOISE = Experiment(
    name="pudle-denoise",
    shows="Convolutional denoisers on BSD68: dec, ae-ls, hard threshold; untied weights, shifts of the grid",
    source="Tolooshams and Ba 2022, Table 1",
    quick=Settings(
        n_seeds=1,
        tied=replace(PAPER, learning_rate=3e-3, crop=65, n_steps=300),
        n_images=8,
        n_noises=3,
        claim_order=False,
    ),
    paper=Settings(n_seeds=1),
    measure=measure,
)
