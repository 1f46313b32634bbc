"""Unfolded dictionary learning: the constants of the lemmas and theorems, and their bounds beside errors.

Tolooshams and Ba 2022, lemmas 2.2, 3.1, 3.2, assumption 3.1, theorems 3.3 and 3.4. Rows of D are atoms; the
loss L(z, D) of a sample x is half the squared norm of r = z D - x, h(z) = alpha ||z||_1, sigma the largest
singular value of D. Its derivatives are grad_1 = r D^T in the code and grad_2 = z^T r in the atoms, so that

    L1 = sigma^2      of grad_1 in z            L11 = 0          the second derivative D D^T is constant
    L21 = 2 sigma     of grad_21 in z           M_J = max over t of ||J_t||, the Jacobian of a code
    L2 = max ||z|| sigma + max ||r||            L_D = the same, at the codes that the atoms are compared by

The Jacobian of a code z of support S that solves the lasso is ``-G^-1 N`` by the implicit function theorem,
with G = D_S D_S^T and ``N(dD)_j = dD_j . r + d_j . (z dD)``. Norms of Jacobians are spectral, with D as one
vector. The proofs of lemma 3.2 and theorem 3.4 take J* and J~ as solutions of ``J G + N = 0`` at the atoms at
hand and the codes z* and z~, and so do we.

As printed, (37) to (44) bound ``J Q`` by ``||Q||`` where Q has the term L_D ||D - D*||; here it is
``M_J L_D ||D - D*||``, as the line before has it. Expectations are means over the samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from calepin import sparse_encode
from calepin.datasets import SparseData
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.learning import dictionary_gradient
from calepin.likelihoods import Gaussian
from calepin.operators import Dense
from calepin.penalties import L1
from calepin.problem import Problem
from calepin.report import curves, save_figure
from calepin.solvers import ISTA, GradientRule, solve
from calepin_papers._common import band, spread
from calepin_papers._threads import single_threaded_torch
from calepin_papers.pudle._planted import FLOOR, best_atoms, draws
from calepin_papers.pudle.errors import code_jacobian, decoder_gradient, unfolded_jacobians

__all__ = ["PUDLE_CONSTANTS", "Settings"]

GRADIENTS: tuple[GradientRule, ...] = get_args(GradientRule)
_FLOOR = 1e-6  # a ratio to ||z_t - z_hat||^2 is measured above it: its square is above rounding

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation, and of what is measured.

    Attributes
    ----------
    n_samples, n_jacobians
        Samples that D* is learned from, and the first of them, which bounds and errors are measured with.
    n_draws
        Independent dictionaries, each with its samples; medians and ranges are over them.
    layers
        Numbers of layers t.
    n_passes
        Of the alternating minimisation that finds D*.
    closeness
        The atoms are moved by Gaussian noise of variance 1 / m, times this over log m.
    """

    n_samples: int
    n_jacobians: int
    n_draws: int
    layers: tuple[int, ...]
    n_passes: int
    n_features: int = 50
    n_components: int = 100
    n_nonzero: int = 5
    alpha: float = 0.2
    step_size: float = 0.2
    closeness: float = 0.55


@dataclass(frozen=True)
class Coded:
    """A sample with a code of it, its residual, its support, and the Jacobian -G^-1 N on that support."""

    z: Array
    residual: Array
    support: NDArray[np.intp]
    jacobian: dict[int, Array]


@single_threaded_torch()  # a second thread slows products of this size down
def measure(settings: Settings, run: Run) -> Findings:
    """Measure constants, terms and errors in every draw, a piece each."""
    simulated = draws(settings, run, "constants of the theorems", n_samples=settings.n_samples)
    parts = [
        run.piece(f"draw{draw}", partial(_draw, data, atoms, settings))
        for draw, (data, atoms) in enumerate(simulated)
    ]
    found = {name: np.array([part[name] for part in parts]) for name in parts[0]}
    curve_names = {f"{kind}_{what}" for kind in GRADIENTS for what in ("error", "bound")}
    values: dict[str, float] = {}
    for name, numbers in found.items():
        if name not in curve_names:
            values |= spread(name, numbers)
    return Findings(values, _claims(values), [_figure(found, settings, run)])


def _draw(data: SparseData, atoms: Array, settings: Settings) -> dict[str, float | Array]:
    star = best_atoms(data.X, data.atoms, alpha=settings.alpha, n_passes=settings.n_passes)
    n = settings.n_jacobians
    y, true = data.X[:n], data.codes[:n]
    exact = {
        "hat": sparse_encode(y, atoms, alpha=settings.alpha, tol=1e-13),
        "star": sparse_encode(y, star, alpha=settings.alpha, tol=1e-13),
        "true": true,
    }
    coded = {
        name: [_coded(x, z, atoms) for x, z in zip(y, codes, strict=True)] for name, codes in exact.items()
    }
    local = _local(y, atoms, coded["hat"], settings)
    bounds = _global(y, atoms, {"star": star, "true": data.atoms}, coded, local, settings)
    return {**local, **bounds}


def _coded(x: Array, z: Array, atoms: Array) -> Coded:
    on = np.flatnonzero(z)
    residual = z @ atoms - x
    n = np.einsum("jk,m->jkm", np.eye(len(on)), residual) + np.einsum("k,jm->jkm", z[on], atoms[on])
    solved = -np.linalg.solve(atoms[on] @ atoms[on].T, n.reshape(len(on), -1)).reshape(n.shape)
    jacobian = {}
    for row, j in zip(solved, on, strict=True):
        jacobian[int(j)] = np.zeros_like(atoms)
        jacobian[int(j)][on] = row
    return Coded(z, residual, on, jacobian)


def _local(y: Array, atoms: Array, hat: list[Coded], settings: Settings) -> dict[str, float | Array]:
    """Return what lemma 3.1 and theorem 3.3 say, and what is seen, for z_t beside z_hat."""
    sigma = float(np.linalg.norm(atoms, 2))
    leaf = torch.tensor(atoms, requires_grad=True)
    layer = ISTA(L1(settings.alpha), settings.step_size)
    q21, q11, q, norms, exact, code_size = [], [], [], [], [], []
    distance = np.zeros((len(settings.layers), len(y)))
    apart, rest = np.zeros_like(distance), np.zeros_like(distance)
    same = np.zeros_like(distance, dtype=bool)
    for i, one in enumerate(hat):
        problem = Problem(Dense(leaf), Gaussian(), torch.tensor(y[i : i + 1]))
        limit = solve(problem, layer, n_iter=1, differentiate="implicit").z
        exact.append(_apart(_jacobian(limit, leaf), one.jacobian) / _size(one.jacobian))
        on = one.support
        gram = atoms[on] @ atoms[on].T
        for k, (code, rows) in enumerate(unfolded_jacobians(problem, layer, settings.layers)):
            z, jacobian = code.numpy()[0], {j: row.numpy() for j, row in rows.items()}
            delta, residual = z - one.z, z @ atoms - y[i]
            distance[k, i] = np.linalg.norm(delta)
            rest[k, i] = np.linalg.norm(residual)
            apart[k, i] = _apart(jacobian, one.jacobian)
            norms.append(_size(jacobian))
            code_size.append(np.linalg.norm(z))
            same[k, i] = np.array_equal(np.sign(z), np.sign(one.z))
            if not same[k, i]:
                continue
            gradient = residual @ atoms[on].T
            q11.append(np.linalg.norm(gradient + settings.alpha * np.sign(z[on]) - gram @ delta[on]))
            if distance[k, i] > _FLOOR:
                second = (
                    np.outer(z, residual)
                    - np.outer(one.z, one.residual)
                    - np.outer(delta, one.residual)
                    - np.outer(one.z, delta @ atoms)
                )
                q21.append(np.linalg.norm(second) / (sigma * distance[k, i] ** 2))
                q.append(_apart_times(jacobian, one, gram) / (sigma**2 * apart[k, i]))
    m_j = max(*norms, *(_size(one.jacobian) for one in hat))
    l2 = float(max(code_size)) * sigma + float(rest.max())
    plateau = np.mean([_size(one.jacobian) * settings.alpha * np.sqrt(len(one.support)) for one in hat])
    product = (sigma**2 * apart * distance + sigma * distance**2).mean(1)
    bounds = {"dec": (l2 * distance).mean(1), "ae-lasso": product, "ae-ls": product + plateau}
    settled = same.all(1)
    wanted = decoder_gradient(y, np.array([one.z for one in hat]), atoms)
    found: dict[str, float | Array] = {
        "L1": sigma**2,
        "L2": l2,
        "L21": 2 * sigma,
        "M_J": m_j,
        "M_J_over_limit": m_j / max(_size(one.jacobian) for one in hat),
        "C_h_hat": float(plateau),
        "q21_over_bound": max(q21),
        "q11_lasso": max(q11),
        "q_over_bound": max(q),
        "jacobian_error": max(exact),
    }
    for kind in GRADIENTS:
        errors = np.array([_distance(y, atoms, kind, t, wanted, settings) for t in settings.layers])
        found[f"{kind}_error"], found[f"{kind}_bound"] = errors, bounds[kind]
        ratios = errors[settled] / bounds[kind][settled]
        found[f"{kind.removeprefix('ae-')}_over_bound"] = float(ratios.max()) if len(ratios) else np.nan
    found["ls_plateau_over_C_h"] = found["ae-ls_error"][-1] / plateau  # pyright: ignore[reportIndexIssue]
    return found


def _global(
    y: Array,
    atoms: Array,
    others: Mapping[str, Array],
    coded: Mapping[str, list[Coded]],
    local: Mapping[str, float | Array],
    settings: Settings,
) -> dict[str, float]:
    """Return the constants of theorem 3.4, and the errors of g_inf over their bounds, to g* and to g~."""
    sigma = float(np.linalg.norm(atoms, 2))
    m_j, hat = float(local["M_J"]), coded["hat"]
    found: dict[str, float] = {}
    for name, other in others.items():
        codes = coded[name]
        far = np.array([np.linalg.norm(a.z - b.z) for a, b in zip(hat, codes, strict=True)])
        apart = np.array([_apart(a.jacobian, b.jacobian) for a, b in zip(hat, codes, strict=True)])
        l_d = max(np.linalg.norm(one.z) * sigma + np.linalg.norm(one.z @ other - x)
                  for one, x in zip(codes, y, strict=True))  # fmt: skip
        c_d = float(np.linalg.norm(atoms - other))
        penalised = codes if name == "star" else hat  # (38) has the subgradient at z*, (41) that at z_t
        c_h = m_j * settings.alpha * float(np.mean([np.sqrt(len(one.support)) for one in penalised]))
        common = float((sigma**2 * apart * far + sigma * far**2).mean() + m_j * l_d * c_d)
        bounds = {
            "dec": float(local["L2"]) * float(far.mean()),
            "ae-lasso": common + (c_h if name == "true" else 0.0),
            "ae-ls": common + (c_h if name == "star" else 0.0),
        }
        wanted = decoder_gradient(y, np.array([one.z for one in codes]), atoms)
        same = [np.array_equal(np.sign(a.z), np.sign(b.z)) for a, b in zip(hat, codes, strict=True)]
        q = [_mixed(a, b, atoms) / sigma**2 for a, b in zip(hat, codes, strict=True)]
        found |= {
            f"same_signs_{name}": float(np.mean(same)),
            f"q_over_bound_{name}": float(np.max(q / apart)),
            f"C_z_{name}": float(far.mean()),
            f"C_J_{name}": float(apart.mean()),
            f"C_D_{name}": c_d,
            f"C_h_{name}": c_h,
            f"L_D_{name}": float(l_d),
        }
        for kind in GRADIENTS:
            distance = _distance(y, atoms, kind, settings.layers[-1], wanted, settings)
            found[f"{kind.removeprefix('ae-')}_over_bound_{name}"] = distance / bounds[kind]
    return found


def _distance(y: Array, atoms: Array, kind: GradientRule, t: int, wanted: Array, settings: Settings) -> float:
    gradient = dictionary_gradient(
        y, atoms, penalty=L1(settings.alpha), n_unfold=t, step_size=settings.step_size, gradient=kind
    )
    return float(np.linalg.norm(gradient - wanted))


def _jacobian(z: torch.Tensor, atoms: torch.Tensor) -> dict[int, Array]:
    return {j: row.numpy() for j, row in code_jacobian(z, atoms).items()}


def _size(jacobian: Mapping[int, Array]) -> float:
    """Return the spectral norm of a Jacobian."""
    return _spectral(list(jacobian.values()))


def _apart(one: Mapping[int, Array], other: Mapping[int, Array]) -> float:
    """Return the spectral norm of the difference of two Jacobians."""
    return _spectral([one.get(j, 0.0) - other.get(j, 0.0) for j in sorted(one.keys() | other.keys())])


def _apart_times(jacobian: Mapping[int, Array], one: Coded, gram: Array) -> float:
    """Return the norm of Q = J G + N on the support, N being -J_hat G."""
    rows = np.array([(jacobian[int(j)] - one.jacobian[int(j)]).ravel() for j in one.support])
    return float(np.linalg.norm(gram @ rows, 2))


def _mixed(hat: Coded, other: Coded, atoms: Array) -> float:
    """Return the norm of Q = J_hat G + N at another code, in the coordinates in which the codes differ."""
    on = np.union1d(hat.support, other.support)
    rows = atoms[on] @ atoms[hat.support].T @ np.array([hat.jacobian[int(j)].ravel() for j in hat.support])
    rows = rows.reshape(len(on), *atoms.shape) + np.einsum("k,jm->jkm", other.z, atoms[on])
    rows[np.arange(len(on)), on] += other.residual
    return float(np.linalg.norm(rows.reshape(len(on), -1), 2))


def _spectral(rows: list) -> float:
    if not rows:
        return 0.0
    matrix = np.array([np.ravel(row) for row in rows])
    return float(np.sqrt(max(np.linalg.eigvalsh(matrix @ matrix.T)[-1], 0.0)))


def _claims(values: Mapping[str, float]) -> list[Claim]:
    largest = [
        ("Lemma 3.1: the remainder Q^21 over L21 / 2 ||z_t - z_hat||^2", "q21_over_bound", 1 + 1e-4),
        ("Lemma 3.1: Q^lasso-11 on the support, with L11 = 0", "q11_lasso", 1e-9),
        ("Lemma 3.1: Q over L1 ||J_t - J_hat||", "q_over_bound", 1 + 1e-4),
        ("Lemma 3.2: Q at z* over L1 ||J_hat - J*||", "q_over_bound_star", 1.0),
        ("Lemma 3.2: Q at z~ over L1 ||J_hat - J~||", "q_over_bound_true", 1.0),
        ("implicit function theorem: the library's J_hat is -G^-1 N, relative error", "jacobian_error", 1e-8),
        ("Assumption 3.1: the largest ||J_t|| over the largest ||J_hat||", "M_J_over_limit", 3.0),
        *[
            (f"Thm. 3.3: {kind}'s distance to g_hat over its bound",
             f"{kind.removeprefix('ae-')}_over_bound", 1.0)
            for kind in GRADIENTS
        ],
        ("Thm. 3.3: the plateau of ae-ls over C_h", "ls_plateau_over_C_h", 1.0),
        *[
            (f"Thm. 3.4: {kind}'s distance to {target} over its bound",
             f"{kind.removeprefix('ae-')}_over_bound_{name}", 1.0)
            for name, target in (("star", "g*"), ("true", "g~"))
            for kind in GRADIENTS
        ],
    ]  # fmt: skip
    return [Claim(claim, values[f"{name}_max"], "<=", bar) for claim, name, bar in largest]


def _figure(found: Mapping[str, Array], settings: Settings, run: Run) -> str:
    lines = {
        f"{kind}{', bound' if what == 'bound' else ''}": band(
            np.array(settings.layers), found[f"{kind}_{what}"], floor=FLOOR
        )
        for kind in GRADIENTS
        for what in ("error", "bound")
    }
    figure = curves(
        lines,
        xlabel="layers t",
        ylabel="distance to g_hat",
        yscale="log",
        title="Gradients and their bounds (theorem 3.3; median, range)",
    )
    file = "bounds.png"
    save_figure(figure, run.folder / file)
    return file


PUDLE_CONSTANTS = Experiment(
    name="pudle-constants",
    shows="the constants of the lemmas and theorems, and each error beside the bound that they give",
    source="Tolooshams and Ba 2022, Lemmas 2.2, 3.1, 3.2, Assumption 3.1, Thms. 3.3, 3.4",
    quick=Settings(
        n_samples=300,
        n_jacobians=6,
        n_draws=2,
        layers=(1, 2, 3, 5, 10, 20, 40, 80, 120, 160, 200),
        n_passes=60,
    ),
    paper=Settings(
        n_samples=10_000,
        n_jacobians=50,
        n_draws=3,
        layers=(1, 2, 3, 5, 10, 20, 40, 80, 120, 160, 200),
        n_passes=200,
    ),
    measure=measure,
)
