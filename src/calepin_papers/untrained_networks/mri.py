"""A slice of magnetic resonance imaging from a part of its k-space, beside classical methods.

One deep decoder makes the images of all coils, as its output channels. It is fitted to k-space with
weights that rise from the middle to the edges (`density_weights`), its starts are averaged, and the
result is moved to the nearest one with the measured samples. Beside it stand the zero-filled
image and, with the weights of their penalties chosen by the truth, the image of least total variation
(`least_variation`) and the sparsest one in a wavelet basis:

    minimise over z    1/2 ||A W z - y||^2 + alpha ||z||_1,      W Daubechies-4, the coarsest scale free

(Lustig, Donoho and Pauly, "Sparse MRI", 2007), moved to the measured samples too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from calepin.datasets import data_path, has_data
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.likelihoods import Gaussian
from calepin.metrics import psnr, ssim
from calepin.networks import ComplexPair, DeepDecoder
from calepin.operators import (
    MultiCoilMRI,
    Wavelet,
    centred_fft,
    centred_ifft,
    column_mask,
    density_weights,
    root_sum_of_squares,
    variable_density_mask,
)
from calepin.penalties import L1
from calepin.problem import Problem
from calepin.reconstruction import FitProgress, data_consistent, fit_untrained, read_kspace, weighted
from calepin.report import Curve, before_after, curves, save_figure
from calepin.solvers import FISTA, Adam, solve
from calepin_papers._common import fixed_iterations
from calepin_papers._random import torch_generator
from calepin_papers.untrained_networks.total_variation import least_variation

__all__ = ["CS_MRI", "Settings", "load_slice", "magnitude", "relative_error", "sample", "sparsest"]

# suffix of the values -> pattern and acceleration; the first is for the claim and the figures
SCANS = {"": ("points", 8.0), "_2d_4x": ("points", 4.0), "_1d": ("columns", 4.0), "_1d_8x": ("columns", 8.0)}
# name of the values -> caption
METHODS = {
    "zero_filled": "zero-filled",
    "l1wavelet": "l1-wavelet",
    "variation": "total variation",
    "decoder": "decoder",
}
_COLUMNS = slice(44, 212)  # those of the file that are not zero padding
_EVERY = 10
_PHANTOM_COILS = 8


@dataclass(frozen=True)
class Settings:
    """Sizes of slice and network.

    Attributes
    ----------
    size
        Samples around the middle of k-space.
    n_starts
        Random starts that are averaged.
    power, in_size
        Of the weights on k-space, and the sides that the network begins with, for masks of points and of
        columns: the aliasing of whole missing columns needs a smoother prior.
    alphas, alphas_variation
        Weights of the wavelets' penalty and of the total variation; the best for the truth is taken.
    """

    size: tuple[int, int]
    channels: int
    max_iter: int
    n_starts: int = 2
    depth: int = 5
    in_size: tuple[int, int] = (16, 8)
    learning_rate: float = 0.03
    power: tuple[float, float] = (0.5, 0.25)
    n_center: int = 24
    alphas: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3)
    n_iter_wavelet: int = 80
    alphas_variation: tuple[float, ...] = (2.5e-4, 1e-3, 4e-3, 1.6e-2)
    n_iter_variation: int = 80


def measure(settings: Settings, run: Run) -> Findings:
    """Reconstruct one slice from four masks."""
    truth = magnitude(load_slice(settings.size))
    values: dict[str, float] = {}
    found: dict[str, dict[str, np.ndarray]] = {}
    for done, (suffix, (pattern, acceleration)) in enumerate(SCANS.items()):

        def report(part: float, done: int = done, name: str = f"{pattern}, {acceleration:g}x") -> None:
            run.progress((done + part) / len(SCANS), name)

        report(0.0)
        compute = partial(_reconstruct, settings, pattern, acceleration, run, report)
        one = found[suffix] = run.piece(f"{pattern}-{acceleration:g}x", compute)
        for name in METHODS:
            values[f"psnr_{name}{suffix}"] = psnr(one[name], truth)
            values[f"ssim_{name}{suffix}"] = ssim(one[name], truth)
        final = relative_error(one["decoder"], truth)
        values |= {
            f"psnr_decoder_single{suffix}_min": float(one["singles"].min()),
            f"psnr_decoder_single{suffix}_max": float(one["singles"].max()),
            f"alpha_l1wavelet{suffix}": float(one["alpha_l1wavelet"]),
            f"alpha_variation{suffix}": float(one["alpha_variation"]),
            f"best_iteration{suffix}": float(_EVERY * (1 + one["errors"].argmin())),
            f"final_over_best{suffix}": final / min(final, *one["errors"]),
        }
    values["gain"] = values["psnr_decoder"] - values["psnr_zero_filled"]
    for suffix in SCANS:
        for name in ("l1wavelet", "variation"):
            over = values[f"psnr_decoder{suffix}"] - values[f"psnr_{name}{suffix}"]
            values[f"decoder_over_{name}{suffix}"] = over
    claims = [
        Claim("an eighth of k-space: dB of the decoder over zero-filled", values["gain"], ">=", 2.5),
        Claim(
            "no early stop is needed for points, 8x: final over best error",
            values["final_over_best"],
            "<=",
            1.15,
        ),
        *(
            Claim(f"points, 8x: dB of the decoder over {what}", values[f"decoder_over_{name}"], ">=", 0.3)
            for name, what in (("l1wavelet", "wavelets"), ("variation", "total variation"))
        ),
    ]
    return Findings(values, claims, _figures(found, truth, values, run))


def _reconstruct(
    settings: Settings, pattern: str, acceleration: float, run: Run, report: Callable[[float], None]
) -> dict[str, np.ndarray | float]:
    """Return the magnitudes of every method, the decoder's errors on the way, and PSNRs of its starts."""
    images = load_slice(settings.size).to(run.device)
    truth = magnitude(images)
    operator = sample(settings.size, pattern, acceleration, settings.n_center, run.seed, len(images[0]))
    operator = operator.to(run.device)
    y = operator(images)
    wavelets, alpha_wavelet = _best(
        [(sparsest(operator, y, alpha, settings.n_iter_wavelet), alpha) for alpha in settings.alphas], truth
    )
    smooth, alpha_variation = _best(
        [
            (least_variation(operator, y, alpha, settings.n_iter_variation), alpha)
            for alpha in settings.alphas_variation
        ],
        truth,
    )
    starts, errors = _decode(operator, y, truth, pattern == "columns", settings, run.seed, report)
    decoder = data_consistent(operator, starts.mean(0, keepdim=True), y)
    return {
        "zero_filled": magnitude(operator.adjoint(y)),
        "l1wavelet": magnitude(wavelets),
        "variation": magnitude(smooth),
        "decoder": magnitude(decoder),
        "alpha_l1wavelet": alpha_wavelet,
        "alpha_variation": alpha_variation,
        "errors": errors,
        "singles": np.array([psnr(magnitude(data_consistent(operator, x[None], y)), truth) for x in starts]),
    }


def _best(tried: list[tuple[Tensor, float]], truth: np.ndarray) -> tuple[Tensor, float]:
    """Return the images nearest to the truth, and their weight."""
    return min(tried, key=lambda one: relative_error(magnitude(one[0]), truth))


def load_slice(size: tuple[int, int]) -> Tensor:
    """Return the coils' complex images (1, n_coils, *size) of a real slice, or of a phantom without it.

    They are those of the middle of its k-space, fully sampled; the root of their sum of squares is at most 1.
    """
    if has_data("mri"):
        kspace = read_kspace(data_path("mri") / "brain_alias_8ch.mat")[0][..., _COLUMNS]
        samples = torch.from_numpy(np.ascontiguousarray(kspace, np.complex64))
    else:
        samples = centred_fft(_phantom())
    for axis, length in zip((-2, -1), size, strict=True):
        samples = samples.narrow(axis, samples.shape[axis] // 2 - length // 2, length)
    images = centred_ifft(samples)[None]
    return images / root_sum_of_squares(images).max()


def sample(
    size: tuple[int, int], pattern: str, acceleration: float, n_center: int, seed: int, n_coils: int
) -> MultiCoilMRI:
    """Return the scanner: single points, dense in the middle, or whole columns."""
    if pattern == "columns":
        acquired = column_mask(size, acceleration=acceleration, seed=seed)
    else:
        acquired = variable_density_mask(
            size, acceleration=acceleration, n_center=n_center, power=4.0, seed=seed
        )
    return MultiCoilMRI(acquired, n_coils=n_coils)


def sparsest(operator: MultiCoilMRI, y: Tensor, alpha: float, n_iter: int) -> Tensor:
    """Return the coils' images with few wavelets, moved to the measured samples."""
    wavelet = Wavelet(operator.in_shape).to(y.device)
    weight = torch.full(operator.in_shape[-2:], alpha, device=y.device)
    height, width = wavelet.coarse_shape
    weight[:height, :width] = 0
    z = solve(
        Problem(operator @ wavelet, Gaussian(), y),
        FISTA(L1(weight), step_size=1.0),
        n_iter=n_iter,
        z0=wavelet.adjoint(operator.adjoint(y)),
    ).z
    return data_consistent(operator, wavelet(z), y)


def _decode(
    operator: MultiCoilMRI,
    y: Tensor,
    truth: np.ndarray,
    columns: bool,
    settings: Settings,
    seed: int,
    report: Callable[[float], None],
) -> tuple[Tensor, np.ndarray]:
    """Return the coils' images of every start, and the error of their average every ten iterations."""
    coils, height, width = operator.in_shape
    network = ComplexPair(
        DeepDecoder(
            (height, width),
            out_channels=2 * coils,
            channels=settings.channels,
            depth=settings.depth,
            in_size=settings.in_size[columns],
            output="none",
        )
    ).to(y.device)
    weights = density_weights((height, width), power=settings.power[columns]).to(y.device)
    problem = weighted(operator, y, weights)
    errors = []

    def watch(progress: FitProgress) -> None:
        if progress.n_iter % _EVERY == 0:
            average = problem.scale * progress.x.mean(0, keepdim=True)
            errors.append(relative_error(magnitude(data_consistent(operator, average, y)), truth))
            report(progress.n_iter / settings.max_iter)

    with fixed_iterations():
        fit = fit_untrained(
            network,
            problem.operator,
            problem.y,
            optimizer=Adam(settings.learning_rate),
            max_iter=settings.max_iter,
            tol=0.0,
            patience=None,
            n_starts=settings.n_starts,
            generator=torch_generator(seed),
            callback=watch,
        )
    return problem.scale * network(fit.weights).detach(), np.array(errors)


def _phantom() -> Tensor:
    """Return the coils' images (n_coils, 320, 320) of the Shepp-Logan phantom, with a slow phase."""
    from skimage.data import shepp_logan_phantom

    pixels = torch.from_numpy(shepp_logan_phantom()).float()
    image = torch.nn.functional.interpolate(pixels[None, None], (320, 320), mode="area")[0]
    along = torch.linspace(-1, 1, 320)
    angle = torch.arange(_PHANTOM_COILS) * (2 * torch.pi / _PHANTOM_COILS)
    rows = along[:, None] - 1.2 * torch.sin(angle)[:, None, None]
    columns = along - 1.2 * torch.cos(angle)[:, None, None]
    near = torch.exp(-0.5 * (rows.square() + columns.square()))
    return torch.polar(near * image, angle[:, None, None] + along + 0.5 * along[:, None])


def magnitude(coils: Tensor) -> np.ndarray:
    """Return the root of the sum of squares of the coils' images (1, n_coils, h, w), (h, w)."""
    return root_sum_of_squares(coils)[0, 0].cpu().numpy()


def relative_error(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the squared error of a magnitude over its squared norm."""
    return float(np.square(image - truth).sum() / np.square(truth).sum())


def _figures(
    found: dict[str, dict[str, np.ndarray]], truth: np.ndarray, values: dict[str, float], run: Run
) -> list[str]:
    shown = {METHODS[name]: found[""][name] for name in METHODS}
    captions = {METHODS[name]: f"{values[f'psnr_{name}']:.1f} dB" for name in METHODS}
    images = {name: image.clip(0, 1) for name, image in {**shown, "fully sampled": truth}.items()}
    save_figure(before_after(images, captions=captions), run.folder / "slice.png")
    followed = {
        f"{pattern}, {acceleration:g}x": Curve(
            _EVERY * np.arange(1, len(found[suffix]["errors"]) + 1), found[suffix]["errors"]
        )
        for suffix, (pattern, acceleration) in SCANS.items()
    }
    figure = curves(
        followed,
        xlabel="iteration",
        ylabel="||G(C) - x||^2 / ||x||^2",
        xscale="log",
        yscale="log",
        title="Error of the average over starts, with the measured samples",
    )
    save_figure(figure, run.folder / "convergence.png")
    return ["slice.png", "convergence.png"]


CS_MRI = Experiment(
    name="cs-mri",
    shows="an untrained network recovers an MRI slice from an eighth of its k-space",
    source="Heckel and Soltanolkotabi 2020, sections 1.1 and 5",
    # up to five minutes on two cores: four masks, eight coils
    quick=Settings(size=(160, 168), channels=128, max_iter=400),
    paper=Settings(size=(320, 168), channels=256, max_iter=3000, n_starts=5),
    measure=measure,
)
