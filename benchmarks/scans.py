"""How well k-space of several coils is reconstructed, beside sigpy and SAKE: one command, a table a mask.

    CALEPIN_DATA=... python -m benchmarks.scans                        # four masks, seeds 0 and 1
    ... --masks "columns 4x" --seeds 0 1 2 3 4 --methods groups tv
    ... --error-maps                                                   # predicted errors beside the real ones
    ... --spokes 33 66                                                 # radial samples of the same images,
                                                                       # with or without --error-maps

Real k-space of eight coils, the 160 x 168 samples around its middle, thinned out as in
``calepin reproduce cs-mri``. PSNR and SSIM are of the root of the sum of squares, its peak that of the full
k-space. All results are moved to the measured samples. calepin's methods run with their defaults; an oracle
chooses the weight of the peers and of wavelets without sensitivities by the truth, and only that run is
timed. SAKE takes 60 steps, and an oracle chooses its rank. The untrained network ("untrained": of all coils,
"decoder": of two images, by two sets of sensitivities), which takes a minute, is left out unless it is named.
sigpy runs in an environment of its own, if CALEPIN_PEERS names its Python.
"""

import argparse
import os
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from benchmarks.sake import RANKS, sake
from calepin.datasets import data_path
from calepin.metrics import psnr, ssim
from calepin.networks import DeepDecoder
from calepin.networks.untrained import ComplexPair
from calepin.operators import (
    MultiCoilMRI,
    NonCartesianFourier,
    Sensitivities,
    calibration_size,
    espirit_maps,
    kspace_noise,
    radial_trajectory,
)
from calepin.reconstruction import (
    Scan,
    UntrainedReconstructor,
    data_consistent,
    scan_kspace,
    scan_trajectory,
    weighted,
)
from calepin.restoration import error_map, restore_scan
from calepin.restoration.scan import Prior
from calepin.solvers import Adam
from calepin_papers.untrained_networks.mri import load_slice, magnitude, sample, sparsest

SIZE = (160, 168)
MASKS = {
    "points 8x": ("points", 8.0),
    "points 4x": ("points", 4.0),
    "columns 4x": ("columns", 4.0),
    "columns 8x": ("columns", 8.0),
}
OWN: tuple[Prior, ...] = ("wavelet", "tv", "groups", "untrained")
METHODS = ("zeros", "coils", *OWN, "decoder", "sigpy", "sake")
DEFAULT = [name for name in METHODS if name not in ("untrained", "decoder")]
ALPHAS = (5e-4, 1e-3, 2e-3, 4e-3)  # of wavelets without sensitivities
N_CENTER = 24
Result = tuple[str, float, float, float]  # method, PSNR, SSIM, CPU seconds


def own(scan: Scan, truth: np.ndarray, prior: Prior) -> Result:
    begun = time.process_time()
    image = magnitude(restore_scan(scan, prior=prior).x) * scan.scale
    return f"calepin, {prior}", psnr(image, truth), ssim(image, truth), time.process_time() - begun


def best(name: str, tried: list[tuple[np.ndarray, float]], truth: np.ndarray) -> Result:
    """Return the best of the images and their CPU seconds."""
    image, seconds = max(tried, key=lambda one: psnr(one[0], truth))
    return name, psnr(image, truth), ssim(image, truth), seconds


def without_sensitivities(operator: MultiCoilMRI, y: torch.Tensor, truth: np.ndarray) -> Result:
    tried = []
    for alpha in ALPHAS:
        begun = time.process_time()
        image = magnitude(sparsest(operator, y, alpha, 80))
        tried.append((image, time.process_time() - begun))
    return best("wavelets of each coil (oracle)", tried, truth)


def decoder(scan: Scan, truth: np.ndarray) -> Result:
    """Fit the untrained network of `restore_scan` to the images of two sets of sensitivities."""
    begun = time.process_time()
    scanner = scan.operator
    assert isinstance(scanner, MultiCoilMRI)
    assert scan.weights is not None
    noise = kspace_noise(scan.y[0], scanner.acquired)
    coils = Sensitivities(espirit_maps(scan.y[0], scanner.acquired, n_sets=2, noise=noise))
    operator, y, scale = weighted(scanner @ coils, scan.y, scan.weights)
    network = DeepDecoder(SIZE, out_channels=4, channels=128, in_size=(16, 16), output="none")
    fit = UntrainedReconstructor(
        operator,
        network=ComplexPair(network),
        optimizer=Adam(scan.learning_rate),
        max_iter=scan.max_iter,
        n_starts=2,
        random_state=0,
    )
    found = data_consistent(scanner, coils(scale * fit.reconstruct(y)), scan.y)
    image = magnitude(found) * scan.scale
    return "decoder by two sets", psnr(image, truth), ssim(image, truth), time.process_time() - begun


def sigpy(operator: MultiCoilMRI, y: torch.Tensor, truth: np.ndarray) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        problem, result = Path(folder, "problem.npz"), Path(folder, "result.npz")
        width = min(24, *calibration_size(operator.acquired))
        np.savez(problem, y=y[0].numpy(), acquired=operator.acquired.numpy(), width=width)
        script = str(Path(__file__).with_name("scans_peers.py"))
        command = [os.environ["CALEPIN_PEERS"], "-W", "ignore", script, str(problem), str(result)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        with np.load(result) as file:
            found = dict(file)
    results = []
    for method, name in (("l1wavelet", "L1WaveletRecon"), ("tv", "TotalVariationRecon")):
        names = [key for key in found if key.startswith(method) and not key.endswith("seconds")]
        tried = []
        for key in names:
            coils = data_consistent(operator, torch.from_numpy(found[key])[None], y)
            tried.append((magnitude(coils), float(found[f"{key}_seconds"])))
        results.append(best(f"sigpy, {name} (oracle)", tried, truth))
    return results


def by_sake(operator: MultiCoilMRI, y: torch.Tensor, truth: np.ndarray) -> Result:
    full = MultiCoilMRI(torch.ones_like(operator.acquired), n_coils=y.shape[1])
    tried = []
    for rank in RANKS:
        begun = time.process_time()
        kspace = sake(y[0].numpy(), operator.acquired.numpy(), rank)
        seconds = time.process_time() - begun
        tried.append((magnitude(full.adjoint(torch.from_numpy(kspace)[None])), seconds))
    return best("SAKE (oracle)", tried, truth)


def results(mask: str, seed: int, methods: list[str]) -> list[Result]:
    operator, y, truth = of_mask(mask, seed)
    scan = scan_kspace(y[0].numpy(), mask=operator.acquired.numpy())
    found: list[Result] = []
    if "zeros" in methods:
        zeros = magnitude(operator.adjoint(y))
        found.append(("zero filling", psnr(zeros, truth), ssim(zeros, truth), 0.0))
    if "coils" in methods:
        found.append(without_sensitivities(operator, y, truth))
    found += [own(scan, truth, prior) for prior in OWN if prior in methods]
    if "decoder" in methods:
        found.append(decoder(scan, truth))
    if "sigpy" in methods and "CALEPIN_PEERS" in os.environ:
        found += sigpy(operator, y, truth)
    if "sake" in methods:
        found.append(by_sake(operator, y, truth))
    return found


def of_mask(mask: str, seed: int) -> tuple[MultiCoilMRI, torch.Tensor, np.ndarray]:
    """Return the operator of a mask, its samples, and the true image."""
    images = load_slice(SIZE)
    operator = sample(SIZE, *MASKS[mask], N_CENTER, seed, images.shape[1])
    return operator, operator(images), magnitude(images)


def of_spokes(n_spokes: int) -> tuple[NonCartesianFourier, torch.Tensor, np.ndarray]:
    """Return the operator of spokes, their samples of the images of the coils, and the true image."""
    images = load_slice(SIZE)
    operator = NonCartesianFourier((images.shape[1], *SIZE), radial_trajectory(SIZE, n_spokes))
    return operator, operator(images), magnitude(images)


def error_maps(scan: Scan, truth: np.ndarray) -> str:
    """Return how well the predicted standard deviations of errors agree with the real errors."""
    begun = time.process_time()
    found = restore_scan(scan)
    between = time.process_time()
    predicted = error_map(scan, found) * scan.scale
    seconds = between - begun, time.process_time() - between
    error = np.abs(magnitude(found.x) * scan.scale - truth)
    slope = np.hypot(*np.gradient(magnitude(found.x)))
    within = [float(np.mean(error <= k * predicted)) for k in (1, 2)]
    size = float(np.sqrt(np.square(predicted).mean() / np.square(error).mean()))
    likeness = [float(np.corrcoef(error.ravel(), one.ravel())[0, 1]) for one in (predicted, slope)]
    return (
        f"within 1 and 2 deviations {within[0]:.1%} {within[1]:.1%}, correlation {likeness[0]:.2f} (of the "
        f"slope of the image {likeness[1]:.2f}), root mean square over the real one {size:.2f}, "
        f"{seconds[0]:.0f} + {seconds[1]:.0f} s"
    )


def show(name: str, decibels: float, similarity: float, seconds: float) -> None:
    print(f"  {name:36} {decibels:6.2f} dB  {similarity:.3f}  {seconds:6.1f} s", flush=True)


def along_spokes(n_spokes: int, methods: list[str]) -> list[Result]:
    """Return results for samples along spokes."""
    operator, y, truth = of_spokes(n_spokes)
    plain = magnitude(operator.adjoint(y))
    plain *= (plain * truth).sum() / (plain**2).sum()
    begun = time.process_time()
    gridded = magnitude(operator.adjoint(y / operator.density()))
    spent = time.process_time() - begun
    found: list[Result] = [
        ("adjoint, at its best scale", psnr(plain, truth), ssim(plain, truth), 0.0),
        ("gridding", psnr(gridded, truth), ssim(gridded, truth), spent),
    ]
    begun = time.process_time()
    scan = scan_trajectory(y[0].numpy(), operator.coordinates.numpy(), SIZE)
    spent = time.process_time() - begun
    for prior in OWN:
        if prior in methods:
            name, decibels, similarity, seconds = own(scan, truth, prior)
            found.append((name, decibels, similarity, seconds + spent))
    return found


def main() -> None:
    """Print PSNR, SSIM and CPU seconds of each method, for each mask and seed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scans", description=__doc__)
    parser.add_argument("--masks", nargs="+", choices=MASKS, default=list(MASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=DEFAULT)
    parser.add_argument("--error-maps", action="store_true", help="measure predicted errors instead")
    parser.add_argument("--spokes", nargs="+", type=int, help="numbers of spokes, instead of masks")
    given = parser.parse_args()
    data_path("mri")  # the figures are of a real slice
    warnings.simplefilter("ignore")
    for n_spokes in given.spokes or []:
        print(f"{n_spokes} spokes", flush=True)
        if given.error_maps:
            operator, y, truth = of_spokes(n_spokes)
            scan = scan_trajectory(y[0].numpy(), operator.coordinates.numpy(), SIZE)
            print(f"  {error_maps(scan, truth)}", flush=True)
            continue
        for result in along_spokes(n_spokes, given.methods):
            show(*result)
    if given.spokes:
        return
    for mask in given.masks:
        for seed in given.seeds:
            print(f"{mask}, seed {seed}", flush=True)
            if given.error_maps:
                operator, y, truth = of_mask(mask, seed)
                scan = scan_kspace(y[0].numpy(), mask=operator.acquired.numpy())
                print(f"  {error_maps(scan, truth)}", flush=True)
                continue
            for result in results(mask, seed, given.methods):
                show(*result)


if __name__ == "__main__":
    main()
