"""Theorem 4: gradient descent on a two-layer generator stays near gradient descent on a linear problem.

Both fit f(C) = A ReLU(U C) v to y, from the same C_0 and with the same step size (eqs. 24 and 26). The
Jacobian J of the linear one does not change; it is the matrix nearest to that at C_0 with

    J J^T = A Sigma(U) A^T,      Sigma(U) = E[J_G(C) J_G(C)^T],

as in the proof of Theorem 3. The constants of the assumptions are measured: alpha and eps_0 from J and C_0,
eps as twice the largest change of the Jacobian at an iterate (the proof uses it there alone), and
beta = ||J|| + eps_0 + eps / 2, which bounds every Jacobian within such changes.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.networks import triangular_kernel
from calepin.reconstruction import kernel_weights, trigonometric_basis
from calepin.report import curves, save_figure
from calepin_papers._common import band, spread

__all__ = ["CS_LINEARISED", "Settings", "circulant", "generate", "transport"]

# name of the bound -> equation; 36 follows from 35
BOUNDS = {"residual": 34, "residuals_apart": 35, "weights": 37, "radius": 38}


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation.

    Attributes
    ----------
    n_draws
        Independent matrices, signals and starts for every number of channels.
    channels
        Even numbers of channels k, in ascending order.
    scale
        Standard deviation of the start over ``||y|| / (2 sqrt(n) ||U||)``. Theorem 4 leaves it free; a
        larger one changes the Jacobian less.
    n_iter
        Steps of gradient descent, of size ``1 / (||A|| ||U||)^2``, at most 1 / beta^2.
    """

    n_draws: int
    channels: tuple[int, ...] = (256, 1024, 4096, 16384)
    n: int = 64
    m: int = 2
    p: int = 2
    width: int = 3
    scale: float = 8.0
    n_iter: int = 60


def measure(settings: Settings, run: Run) -> Findings:
    """Compare both descents, and every distance with its bound, for all numbers of channels."""
    cells = [(k, draw) for k in settings.channels for draw in range(settings.n_draws)]
    found = {}
    for done, (k, draw) in enumerate(cells):
        run.progress(done / len(cells), f"{k} channels, draw {draw + 1}")
        compute = partial(_draw, settings, k, run.seed, draw)
        found[k, draw] = {name: float(value) for name, value in run.piece(f"k{k}-{draw}", compute).items()}
    table = {
        name: np.array(
            [[found[k, draw][name] for k in settings.channels] for draw in range(settings.n_draws)]
        )
        for name in next(iter(found.values()))
    }
    values = {}
    for i, k in enumerate(settings.channels):
        for name in ("condition", "eps0", "eps", "weights_apart", "signals_apart"):
            values |= spread(f"{name}_k{k}", table[name][:, i])
    met = table["condition"] <= 1
    values["fraction_met"] = float(met.mean())
    for name in BOUNDS:
        values[f"{name}_over_bound"] = float(table[name][met].max()) if met.any() else np.nan
    for name in ("eps0", "eps", "weights_apart"):
        values[f"{name}_exponent"] = _exponent(settings.channels, table[name])
    last = settings.channels[-1]
    claims = [
        Claim(
            f"the condition 2 beta (eps_0 + eps) <= alpha^2 can be met: ratio of its sides, k = {last}",
            values[f"condition_k{last}"],
            "<=",
            1.0,
        ),
        *(
            Claim(f"eq. {equation} holds where the condition does: {name} over its bound, worst of all steps",
                  values[f"{name}_over_bound"], "<=", 1.0)
            for name, equation in BOUNDS.items()
        ),
        Claim(
            "weights of both come closer with k, at least as eq. 12 has it: exponent of k",
            values["weights_apart_exponent"],
            "<=",
            -1 / 8,
        ),
        Claim(
            f"both end at nearly the same signal, k = {last}: distance over norm, worst",
            values[f"signals_apart_k{last}_max"],
            "<=",
            0.05,
        ),
    ]  # fmt: skip
    labels = {
        "condition": "2 beta (eps_0 + eps) / alpha^2",
        "weights_apart": "||C - C linear|| / ||C linear - C_0||",
        "signals_apart": "||G(C) - x linear|| / ||x||",
    }
    figure = curves(
        {label: band(settings.channels, table[name]) for name, label in labels.items()},
        xlabel="channels k",
        ylabel="value at the end",
        xscale="log",
        yscale="log",
        title="Nonlinear and linear descent (Theorem 4; median, range)",
    )
    save_figure(figure, run.folder / "linearised.png")
    return Findings(values, claims, ["linearised.png"])


def _exponent(channels: tuple[int, ...], rows: NDArray) -> float:
    """Return the slope of the logarithm of values, (n_draws, len(channels)), in that of k."""
    return float(np.polyfit(np.log(channels), np.log(rows).mean(0), 1)[0])


def _draw(settings: Settings, k: int, seed: int, draw: int) -> dict[str, float]:
    """Run both descents from one start; return distances at the end and the worst ratios to the bounds."""
    rng = np.random.default_rng([seed, draw])
    n, basis = settings.n, trigonometric_basis(settings.n)
    kernel = triangular_kernel(settings.width).numpy()
    U = circulant(kernel, n)
    A = rng.standard_normal((settings.m, n)) / np.sqrt(settings.m)
    x = rng.standard_normal(settings.p) @ basis[: settings.p]
    y = A @ (x / np.linalg.norm(x))
    norms = float(np.linalg.norm(A, 2)), float(np.linalg.norm(U, 2))
    scale = settings.scale * np.linalg.norm(y) / (2 * np.sqrt(n) * norms[1])
    start = scale * rng.standard_normal((n, k))
    passed = U @ start > 0
    J0 = _gram(U, passed, passed)
    Sigma = (basis.T * kernel_weights(kernel, n) ** 2) @ basis
    T = transport(Sigma, J0)  # J = A T J_G(C_0)
    JJ = A @ Sigma @ A.T
    eta = 1 / (norms[0] * norms[1]) ** 2  # at most 1 / beta^2

    C = linear = start
    r = r_linear = A @ generate(U, start) - y
    moved = np.zeros(n)  # of the linear signal, from G(C_0)
    eps, path = 0.0, []
    for _ in range(settings.n_iter):
        C = C - eta * _pull(U, U @ C > 0, A.T @ r)
        linear = linear - eta * _pull(U, passed, T.T @ A.T @ r_linear)
        moved = moved - eta * T @ J0 @ T.T @ A.T @ r_linear
        r, r_linear = A @ generate(U, C) - y, r_linear - eta * JJ @ r_linear
        change = (U @ C > 0).astype(float) - passed
        eps = max(eps, 2 * _norm(A, _gram(U, change, change)))
        path.append([np.linalg.norm(of) for of in (r, r - r_linear, C - linear, C - start)])

    r0 = A @ generate(U, start) - y
    spectrum = np.linalg.eigvalsh(JJ)
    eps0 = _norm(A @ (T - np.eye(n)), J0)
    alpha = float(np.sqrt(spectrum[0] / 2))
    beta = min(norms[0] * norms[1], float(np.sqrt(spectrum[-1])) + eps0 + eps / 2)
    first = float(np.linalg.norm(r0))
    shift = float(np.sqrt(r0 @ np.linalg.solve(JJ, r0)))
    ratios = np.array(path) / _bounds(alpha, beta, eps0 + eps, eta, first, shift, len(path))
    estimate = generate(U, start) + moved
    return {
        **dict(zip(BOUNDS, ratios.max(0), strict=True)),
        "condition": 2 * beta * (eps0 + eps) / alpha**2,
        "eps0": eps0,
        "eps": eps,
        "beta_over_alpha": beta / alpha,
        "weights_apart": float(np.linalg.norm(C - linear) / np.linalg.norm(linear - start)),
        "signals_apart": float(np.linalg.norm(generate(U, C) - estimate)),
        "final_residual": float(np.linalg.norm(r) / first),
    }


def _bounds(
    alpha: float, beta: float, eps: float, eta: float, r0: float, shift: float, n_iter: int
) -> NDArray:
    """Return eqs. 34, 35 (which is below 36), 37 and 38 after every step, (n_iter, 4); eps is eps_0 + eps."""
    t = np.arange(1, n_iter + 1)
    rate = 1 - eta * alpha**2
    apart = 2.5 * beta**2 / alpha**4 * eps * r0
    return np.stack(
        [
            rate**t * r0,
            2 * beta * eta * eps * rate ** (t - 1) * t * r0,
            np.full(n_iter, apart),
            np.full(n_iter, shift + apart),
        ],
        axis=1,
    )


def generate(U: NDArray, C: NDArray) -> NDArray:
    """Return ``ReLU(U C) v``."""
    return np.maximum(U @ C, 0) @ _signs(C.shape[1])


def circulant(kernel: NDArray, n: int) -> NDArray:
    """Return the matrix of the circular convolution with a kernel centred at its middle entry."""
    row = np.zeros(n)
    row[: len(kernel)] = kernel
    return np.array([np.roll(row, i - len(kernel) // 2) for i in range(n)])


def transport(Sigma: NDArray, gram: NDArray) -> NDArray:
    """Return the symmetric T with ``T gram T = Sigma``: it moves J of this J J^T least (Lemma 4)."""
    root = _power(Sigma, 0.5)
    return root @ _power(root @ gram @ root, -0.5) @ root


def _signs(k: int) -> NDArray:
    """Return v: half of the entries 1 / sqrt(k), half -1 / sqrt(k)."""
    return np.repeat([1.0, -1.0], k // 2) / np.sqrt(k)


def _pull(U: NDArray, passed: NDArray, signal: NDArray) -> NDArray:
    """Return J_G^T times a signal (eq. 20), with the shape of C."""
    return (U.T @ (passed * signal[:, None])) * _signs(passed.shape[1])


def _gram(U: NDArray, left: NDArray, right: NDArray) -> NDArray:
    """Return J_G J_G^T from what the rectifier passes, or that of a difference of Jacobians."""
    return (U @ U.T) * (left.astype(float) @ right.T.astype(float)) / left.shape[1]


def _norm(left: NDArray, gram: NDArray) -> float:
    """Return the spectral norm of left J for J with this J J^T."""
    return float(np.sqrt(max(np.linalg.eigvalsh(left @ gram @ left.T)[-1], 0)))


def _power(matrix: NDArray, exponent: float) -> NDArray:
    energy, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(energy, 1e-12 * energy[-1]) ** exponent) @ vectors.T


CS_LINEARISED = Experiment(
    name="cs-linearised",
    shows="gradient descent on a two-layer generator of many channels stays near that on a linear problem",
    source="Heckel and Soltanolkotabi 2020, Theorem 4, Lemmas 2 to 5",
    quick=Settings(n_draws=3),
    paper=Settings(n_draws=10, channels=(256, 1024, 4096, 16384, 65536)),
    measure=measure,
)
