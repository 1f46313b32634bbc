"""How well images are restored, beside peers, each at its best: one command a row of the table.

    CALEPIN_DATA=... python -m benchmarks.restoration deblur         # Set12; two blurs
    CALEPIN_DATA=... python -m benchmarks.restoration upscale        # Set12; factors 2 and 3
    CALEPIN_DATA=... python -m benchmarks.restoration demosaic       # colour images of scikit-image
    CALEPIN_DATA=... python -m benchmarks.restoration tomography     # Set12; 30 and 90 angles
    ... --size 128 --images 4                                        # the middle of the first images

bm3d_deblurring and colour-demosaicing run in an environment of their own if CALEPIN_PEERS names its Python:
``pip install "numpy<2" bm3d colour-demosaicing``. Image i has noise of ``default_rng(i)``, unclipped. PSNR
has peak 1, clips the result to [0, 1] and leaves out a border of 8 pixels.
"""

import argparse
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import calepin
from calepin.datasets import data_path, load_sample, read_image
from calepin.operators import Bayer, Blur, Downsample, LinearOperator, Radon

BORDER = 8
COLOUR = ("astronaut", "cat", "coffee", "rocket")
PRIORS = ("dictionary", "network", "best", "groups")
FILTERS = ("ramp", "shepp-logan", "cosine", "hamming", "hann")
SART_SWEEPS = 8
Scene = tuple[np.ndarray, np.ndarray, LinearOperator, float]  # clean, measured, operator, sigma


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    inner = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    return -10 * np.log10(np.mean((np.clip(image, 0, 1) - clean)[inner] ** 2))


def middle(pixels: np.ndarray, size: int | None, multiple: int = 1) -> np.ndarray:
    """Return the middle of an image, with sides that are multiples of a number."""
    sides = [min(n, size or n) // multiple * multiple for n in pixels.shape[:2]]
    top, left = ((n - side) // 2 for n, side in zip(pixels.shape, sides, strict=False))
    return np.asarray(pixels[top : top + sides[0], left : left + sides[1]], dtype=np.float64)


def gray(n: int, size: int | None, multiple: int = 1) -> list[np.ndarray]:
    paths = [data_path(f"set12/{i + 1:02d}.png") for i in range(n)]
    return [middle(np.asarray(read_image(path).pixels), size, multiple) for path in paths]


def measured(clean: np.ndarray, operator: LinearOperator, sigma: float, seed: int) -> Scene:
    y = operator(torch.from_numpy(clean)[None])[0].numpy()
    return clean, y + np.random.default_rng(seed).normal(0, sigma, y.shape), operator, sigma


def projected(clean: np.ndarray, n_angles: int, seed: int) -> Scene:
    """Return projections with noise of half a percent of the largest."""
    radon = Radon(clean.shape, torch.arange(n_angles, dtype=torch.float64) * 180 / n_angles)
    largest = float(radon(torch.from_numpy(clean)[None]).max())
    return measured(clean, radon, 0.005 * largest, seed)


def gaussian_psf(sigma: float) -> torch.Tensor:
    t = torch.arange(-7, 8, dtype=torch.float64)
    line = (-0.5 * (t / sigma) ** 2).exp()
    return line[:, None] * line / line.sum() ** 2


def ours(scene: Scene, prior: str) -> np.ndarray:
    _, y, operator, sigma = scene
    return calepin.restore(y, operator, noise=calepin.GaussianNoise(sigma), prior=prior).image


def blind(scene: Scene, prior: str) -> np.ndarray:
    return calepin.restore(scene[1], scene[2], prior=prior).image


def wiener(scene: Scene) -> np.ndarray:
    from skimage.restoration import unsupervised_wiener

    operator = scene[2]
    assert isinstance(operator, Blur)
    return np.asarray(unsupervised_wiener(scene[1], operator.psf.numpy(), clip=False, rng=0)[0])


def bicubic(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(pixels.astype(np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)).astype(np.float64)


def enlarged(scene: Scene) -> np.ndarray:
    return bicubic(scene[1], scene[0].shape)


def back_projected(scene: Scene) -> np.ndarray:
    """Return the bicubic image, corrected until, reduced, it is the measured one (Irani and Peleg 1991)."""
    clean, y, operator, _ = scene
    x = enlarged(scene)
    for _ in range(20):
        x += bicubic(y - operator(torch.from_numpy(x)[None])[0].numpy(), clean.shape)
    return x


def filtered_back_projection(scene: Scene) -> np.ndarray:
    """Return the back-projection of scikit-image with the filter that is best for the image."""
    from skimage.transform import iradon

    clean, y, operator, _ = scene
    assert isinstance(operator, Radon)
    angles, n = operator.angles.numpy(), clean.shape[0]
    images = [iradon(y.T, theta=angles, filter_name=f, output_size=n, circle=False) for f in FILTERS]
    return max(images, key=lambda image: psnr(image, clean))


def sart(scene: Scene) -> np.ndarray:
    """Return SART of scikit-image, with as many sweeps as are best for the image."""
    from skimage.transform import iradon_sart

    clean, y, operator, _ = scene
    assert isinstance(operator, Radon)
    image, images = None, []
    first = (y.shape[1] - clean.shape[0]) // 2
    window = slice(first, first + clean.shape[0])
    for _ in range(SART_SWEEPS):
        image = iradon_sart(np.ascontiguousarray(y.T), theta=operator.angles.numpy(), image=image)
        images.append(image[window, window])
    return max(images, key=lambda image: psnr(image, clean))


def of_peer(job: str) -> Callable[[Scene], np.ndarray]:
    """Return a method that runs in the environment of CALEPIN_PEERS; it gets the measurements alone."""

    def run(scene: Scene) -> np.ndarray:
        _, y, operator, sigma = scene
        psf = operator.psf.numpy() if isinstance(operator, Blur) else np.ones((1, 1))
        with tempfile.TemporaryDirectory() as folder:
            problem, result = Path(folder, "problem.npz"), Path(folder, "result.npy")
            np.savez(problem, y=y, psf=psf, sigma=sigma)
            script = Path(__file__).with_name("restoration_peers.py")
            command = [
                os.environ["CALEPIN_PEERS"],
                "-W",
                "ignore",
                str(script),
                job,
                str(problem),
                str(result),
            ]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            return np.load(result)

    return run


def rows(job: str) -> dict[str, Callable[[Scene], np.ndarray]]:
    own = {f"calepin, {prior}": lambda scene, prior=prior: ours(scene, prior) for prior in PRIORS}
    if job == "deblur":
        own |= {"calepin, sigma estimated": lambda scene: blind(scene, "dictionary")}
        peers = {"unsupervised Wiener": wiener}
        others = {"bm3d_deblurring": "bm3d"}
    elif job == "upscale":
        peers = {"bicubic": enlarged, "back-projection": back_projected}
        others = {}
    elif job == "tomography":
        own |= {"calepin, tv": lambda scene: ours(scene, "tv")}
        peers, others = {"filtered back-projection": filtered_back_projection, "SART": sart}, {}
    else:
        peers, others = {}, {"Menon 2007": "menon", "Malvar 2004": "malvar"}
    if "CALEPIN_PEERS" in os.environ:
        peers |= {name: of_peer(peer) for name, peer in others.items()}
    return peers | own


def scenes(job: str, size: int | None, n: int) -> dict[str, list[Scene]]:
    if job == "deblur":
        blurs = {"Gaussian 1.6, noise 2": (gaussian_psf(1.6), 2 / 255)}
        blurs |= {"box 9, noise 7.65": (torch.full((9, 9), 1 / 81, dtype=torch.float64), 7.65 / 255)}
        return {
            name: [
                measured(clean, Blur(psf, clean.shape, boundary="circular"), sigma, i)
                for i, clean in enumerate(gray(n, size))
            ]
            for name, (psf, sigma) in blurs.items()
        }
    if job == "upscale":
        return {
            f"x{factor}, {kernel}": [
                measured(clean, Downsample(clean.shape, factor, antialias=kernel), 0.0, i)
                for i, clean in enumerate(gray(n, size, factor))
            ]
            for factor, kernel in ((2, "bicubic"), (3, "bicubic"), (2, "box"))
        }
    if job == "tomography":
        return {
            f"{n_angles} angles": [projected(clean, n_angles, i) for i, clean in enumerate(gray(n, size))]
            for n_angles in (30, 90)
        }
    images = [np.moveaxis(middle(load_sample(name).pixels, size, 2), -1, 0) for name in COLOUR[:n]]
    return {
        "RGGB": [
            measured(np.ascontiguousarray(image), Bayer((image.shape[1], image.shape[2])), 0.0, i)
            for i, image in enumerate(images)
        ]
    }


def main() -> None:
    """Print PSNR of each image, their mean, and CPU seconds an image but for those of other processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restoration", description=__doc__)
    parser.add_argument("job", choices=("deblur", "upscale", "demosaic", "tomography"))
    parser.add_argument("--size", type=int, help="side of the middle of each image; all of it by default")
    parser.add_argument("--images", type=int, default=12, metavar="N", help="the first N images")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    for title, some in scenes(given.job, given.size, given.images).items():
        print(f"{given.job}: {title}", flush=True)
        for name, method in rows(given.job).items():
            begun = time.process_time()
            values = [psnr(method(scene), scene[0]) for scene in some]
            seconds = (time.process_time() - begun) / len(some)
            each = " ".join(f"{value:5.2f}" for value in values)
            print(f"  {name:26} {np.mean(values):6.2f} dB  {seconds:5.1f} s   {each}", flush=True)


if __name__ == "__main__":
    main()
