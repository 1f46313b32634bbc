"""PSNR at all levels of noise (docs/background/denoising.md): ``python -m benchmarks.denoise_levels``."""

import argparse
import warnings

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage import data

from calepin import GaussianNoise, PoissonNoise, denoise
from calepin.datasets import data_path, read_image
from calepin.imaging import NetworkDenoiser, estimate_noise
from calepin.metrics import psnr

SIGMAS = (0.5, 1, 2, 5, 10, 25, 50, 75, 100)
PEAKS = (0.25, 0.5, 1, 2, 4, 10, 30, 100, 1000)
CLIPPED = (25, 50, 75, 100)
CORRELATED = (0.5, 1, 2, 5, 20, 50)
BLURS = (0, 0.4, 0.5, 0.7, 1.0)  # standard deviations in pixels
DIVERGES = 50  # peak above which the network gives no numbers

# the first row and the first column of the crops
GAUSSIAN = {
    "camera": (60, 180), "coins": (60, 100), "page": (20, 100), "checkerboard": (30, 30),
    "gravel": (100, 100), "astronaut": (60, 150),
}  # fmt: skip
COUNTS = {"camera": (60, 180), "coins": (60, 100), "moon": (200, 200)}

ESTIMATED = ("camera", "coins", "brick", "page", "text", "gravel", "grass", "moon", "astronaut", "cell")
SET12 = ("01", "03", "05", "07", "08", "10")


def crop(name: str, corner: tuple[int, int], size: int) -> np.ndarray:
    """Return a crop of an image of scikit-image, in [0, 1]."""
    top, left = corner
    return getattr(data, name)()[top : top + size, left : left + size] / 255


def gaussian_levels(name: str) -> list[str]:
    """Return the PSNR of the noisy image, the dictionary and the network for each sigma."""
    clean, cells = crop(name, GAUSSIAN[name], 128), []
    for sigma in SIGMAS:
        noisy = clean + np.random.default_rng(0).normal(0, sigma / 255, clean.shape)
        noise = GaussianNoise(sigma / 255)
        found = [
            noisy,
            *(denoise(noisy, method=method, noise=noise).image for method in ("dictionary", "network")),
        ]
        cells.append(" / ".join(f"{psnr(image, clean):.1f}" for image in found))
    return cells


def count_levels(name: str) -> dict[str, list[str]]:
    """Return the PSNR, relative to the peak, of counts, network, dictionary and default for each peak."""
    clean = crop(name, COUNTS[name], 160)
    rows: dict[str, list[str]] = {"counts": [], "network alone": [], "dictionary": [], "default": []}
    for peak in PEAKS:
        mean = clean / clean.max() * peak
        counts = np.random.default_rng(0).poisson(mean)
        alone = NetworkDenoiser(fallback=False)
        found = {
            "counts": counts,
            "dictionary": denoise(counts, method="dictionary", noise=PoissonNoise()).image,
            "default": denoise(counts, noise=PoissonNoise()).image,
        }
        if peak <= DIVERGES:
            found["network alone"] = denoise(counts, method=alone, noise=PoissonNoise(peak)).image
        for row, cells in rows.items():
            cells.append(f"{psnr(found[row], mean, data_range=peak):.1f}" if row in found else "-")
    return rows


def estimated_images() -> list[np.ndarray]:
    """Return the 16 images of 200x200 whose noise level is estimated."""
    images = [crop(name, (0, 0), 200) for name in ESTIMATED]
    images = [image[..., 1] if image.ndim == 3 else image for image in images]
    return images + [read_image(data_path(f"set12/{name}.png")).pixels[:200, :200] for name in SET12]


def correlated_levels(blur: float) -> list[str]:
    """Return, for each sigma, the level after a blur, the estimates, and the number of warnings."""
    cells = []
    for sigma in CORRELATED:
        found, warned, true = [], 0, 0.0
        for image in estimated_images():
            noise = np.random.default_rng(1).normal(0, sigma / 255, image.shape)
            noise = gaussian_filter(noise, blur) if blur else noise
            true = 255 * noise.std()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found.append(255 * estimate_noise(image + noise))
            warned += any("not white" in str(one.message) for one in caught)
        cells.append(f"{true:.1f}: {min(found):.1f} to {max(found):.1f}, {warned} of {len(found)} warn")
    return cells


def clipped_levels() -> list[str]:
    """Return the smallest and the largest estimate of each sigma in clipped images of 8 bits."""
    images = estimated_images()
    cells = []
    for sigma in CLIPPED:
        noisy = [image + np.random.default_rng(1).normal(0, sigma / 255, image.shape) for image in images]
        found = [255 * estimate_noise(np.round(255 * image.clip(0, 1)) / 255) for image in noisy]
        cells.append(f"{min(found):.1f} to {max(found):.1f}")
    return cells


def main() -> None:
    """Print the rows of the tables; those of the noise level need CALEPIN_DATA."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.denoise_levels", description=__doc__)
    parser.add_argument(
        "--images", nargs="+", choices=sorted({*GAUSSIAN, *COUNTS}), default=[*GAUSSIAN, "moon"]
    )
    parser.add_argument("--clipped", action="store_true", help="only the noise level of clipped images")
    parser.add_argument("--correlated", action="store_true", help="only the noise level of correlated noise")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # where a method gives way to another
    if given.correlated:
        print("blur: sigma after it, estimates, warnings; sigma before it:", *CORRELATED)
        for blur in BLURS:
            print(blur, *correlated_levels(blur), sep=" | ", flush=True)
        return
    if given.clipped:
        print("clipped, estimated for", *CLIPPED)
        print(*clipped_levels(), sep=" | ")
        return
    print("sigma (of 255):", *SIGMAS, "   noisy / dictionary / network")
    for name in (name for name in given.images if name in GAUSSIAN):
        print(name, *gaussian_levels(name), sep=" | ", flush=True)
    print("peak:", *PEAKS)
    for name in (name for name in given.images if name in COUNTS):
        for row, cells in count_levels(name).items():
            print(f"{name}, {row}", *cells, sep=" | ", flush=True)


if __name__ == "__main__":
    main()
