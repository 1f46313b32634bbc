"""Unfolded dictionary learning: how codes, Jacobians and gradients converge with the layers.

Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022, figures 2 and 3.
Samples are 5-sparse combinations of 100 unit atoms in 50 dimensions, amplitudes uniform in [1, 2],
without noise; the encoder works with atoms about .55 / log m away from them, alpha = step size = .2. All in
float64, without which the errors end at 1e-7.
"""

from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.likelihoods import Gaussian
from calepin.operators import Dense
from calepin.penalties import L1
from calepin.problem import Problem
from calepin.report import curves, save_figure
from calepin.solvers import ISTA, GradientRule, solve
from calepin_papers._common import band, spread
from calepin_papers._threads import single_threaded_torch
from calepin_papers.pudle._planted import FLOOR, draws
from calepin_papers.pudle.errors import decoder_gradient, gradient_errors, unfolding_errors

__all__ = ["PUDLE_CODE_CONVERGENCE", "PUDLE_GRADIENTS", "Settings", "differentiate", "log_slope"]

GRADIENTS: tuple[GradientRule, ...] = get_args(GradientRule)
_FLOOR = 1e-13  # below it an error of float64 is rounding
_FEWEST = 4  # points of a slope


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation, and of what is measured.

    Attributes
    ----------
    n_draws
        Independent dictionaries, each with its samples; medians and ranges are over them.
    closeness
        The atoms are moved by Gaussian noise of variance 1 / m, times this over log m.
    n_unfold, every
        Errors are measured after every, 2 every, ... n_unfold layers.
    """

    n_samples: int
    n_draws: int
    n_unfold: int
    every: int
    n_features: int = 50
    n_components: int = 100
    n_nonzero: int = 5
    alpha: float = 0.2
    step_size: float = 0.2
    closeness: float = 0.55

    @property
    def layers(self) -> NDArray[np.intp]:
        """The numbers of layers at which errors are measured."""
        return np.arange(self.every, self.n_unfold + 1, self.every)


@single_threaded_torch()  # a second thread slows products of this size down
def measure_codes(settings: Settings, run: Run) -> Findings:
    """Figure 2: rates of codes and Jacobians once the support is found.

    The theory bounds the Jacobian's error by ``t rho^t``: `slope_jacobian` is that of the logarithm of
    the error over t, so that it should equal `slope_code`, log rho.
    """
    t = settings.layers
    parts = [
        run.piece(f"draw{draw}", partial(_unfold, y, atoms, settings))
        for draw, (y, atoms) in enumerate(_draws(settings, run, "codes and Jacobians"))
    ]
    code, jacobian, support = (
        np.concatenate([part[name] for part in parts]) for name in ("code", "jacobian", "support")
    )
    slopes = np.array(
        [
            [log_slope(t, e, s), log_slope(t, j / t, s), _straightness(t, e, s)]
            for e, j, s in zip(code, jacobian, support, strict=True)
        ]
    )
    slopes = slopes[np.isfinite(slopes).all(1)]  # a sample that finds its support too late has no rate
    values = {
        **spread("slope_code", slopes[:, 0]),
        **spread("slope_jacobian", slopes[:, 1]),
        **spread("jacobian_over_code", slopes[:, 1] / slopes[:, 0]),
        "correlation": float(np.median(slopes[:, 2])) if len(slopes) else np.nan,
        "n_fitted": float(len(slopes)),
    }
    claims = [
        Claim("codes converge linearly: correlation of t and log error", values["correlation"], "<=", -0.99),
        Claim(
            "Jacobians converge as t rho^t: rate over that of codes", values["jacobian_over_code"], ">=", 0.8
        ),
        Claim("and no faster", values["jacobian_over_code"], "<=", 1.2),
    ]
    lines = {"code": code, "Jacobian": jacobian}
    return Findings(values, claims, [_draw(t, lines, "error", "code-convergence.png", run)])


@single_threaded_torch()  # a second thread slows products of this size down
def measure_gradients(settings: Settings, run: Run) -> Findings:
    """Figure 3: distances of dec, ae-lasso and ae-ls to g_hat.

    Slopes are fitted where all codes have the support of the lasso's. The plateau of ae-ls is a bias plus
    the noise of a mean over n samples: of one dictionary .160, .129, .116, .112, .110 for n = 100, 300,
    1000, 3000, 10000.
    """
    t = settings.layers
    parts = [
        run.piece(f"draw{draw}", partial(differentiate, y, atoms, settings))
        for draw, (y, atoms) in enumerate(_draws(settings, run, "gradients"))
    ]
    curves_of = {kind: np.array([part[kind] for part in parts]) for kind in GRADIENTS}
    rates = np.array(
        [[log_slope(t, part[kind], part["selected"]) for kind in ("dec", "ae-lasso")] for part in parts]
    )
    rates = rates[np.isfinite(rates).all(1)]  # a draw that finds its supports too late has no rate
    dec, lasso = rates.T
    last = {kind: values[:, -1] for kind, values in curves_of.items()}
    values = {
        **spread("slope_dec", dec),
        **spread("slope_lasso", lasso),
        **spread("slope_ratio", lasso / dec),
        **spread("ls_over_lasso", last["ae-ls"] / np.maximum(last["ae-lasso"], _FLOOR)),
        **spread("ls_plateau", last["ae-ls"]),
        "n_fitted": float(len(rates)),
    }
    claims = [
        Claim("ae-lasso converges twice as fast as dec: ratio of rates", values["slope_ratio"], ">=", 1.7),
        Claim("ae-ls is biased: error over that of ae-lasso", values["ls_over_lasso"], ">=", 1e3),
    ]
    figure = _draw(t, curves_of, "distance to the gradient g_hat", "gradients.png", run)
    return Findings(values, claims, [figure])


def _unfold(y: NDArray[np.float64], atoms: NDArray[np.float64], settings: Settings) -> dict[str, NDArray]:
    """Return errors of codes and Jacobians, and whether supports are found, a row for each sample."""
    found = unfolding_errors(
        y, atoms, penalty=L1(settings.alpha), layers=settings.layers.tolist(), step_size=settings.step_size
    )
    return {"code": found.code.T, "jacobian": found.jacobian.T, "support": found.support.T}


def differentiate(
    y: NDArray[np.float64], atoms: NDArray[np.float64], settings: Settings
) -> dict[str, NDArray]:
    """Return the errors of the gradients, and whether all supports are found, for each number of layers."""
    t = settings.layers
    limit = _codes(y, atoms, settings, None)
    found = gradient_errors(
        y,
        atoms,
        decoder_gradient(y, limit, atoms),
        penalty=L1(settings.alpha),
        layers=t.tolist(),
        step_size=settings.step_size,
    )
    selected = [((_codes(y, atoms, settings, int(k)) != 0) == (limit != 0)).all() for k in t]
    return {**found, "selected": np.array(selected)}


def _draws(settings: Settings, run: Run, what: str):
    """Yield samples, and atoms near those that made them."""
    for data, atoms in draws(settings, run, what, n_samples=settings.n_samples):
        yield data.X, atoms


def _codes(
    y: NDArray[np.float64], atoms: NDArray[np.float64], settings: Settings, n_unfold: int | None
) -> NDArray[np.float64]:
    """Return codes after some layers, or exact ones."""
    problem = Problem(Dense(torch.from_numpy(atoms)), Gaussian(), torch.from_numpy(y))
    solver = ISTA(L1(settings.alpha), settings.step_size)
    if n_unfold is None:
        return solve(problem, solver, n_iter=1, differentiate="implicit").z.numpy()
    return solve(problem, solver, n_iter=n_unfold).z.numpy()


def _fitted(errors: NDArray[np.float64], selected: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where the support is found for good and the error is above rounding."""
    for_good = np.logical_and.accumulate(selected[::-1])[::-1]
    return for_good & (errors > _FLOOR)


def log_slope(t: NDArray, errors: NDArray[np.float64], selected: NDArray[np.bool_]) -> float:
    """Return the slope of log(errors) over t, NaN with too few points."""
    use = _fitted(errors, selected)
    return float(np.polyfit(t[use], np.log(errors[use]), 1)[0]) if use.sum() >= _FEWEST else np.nan


def _straightness(t: NDArray, errors: NDArray[np.float64], selected: NDArray[np.bool_]) -> float:
    """Return the correlation of t and log(errors), NaN with too few points."""
    use = _fitted(errors, selected)
    return float(np.corrcoef(t[use], np.log(errors[use]))[0, 1]) if use.sum() >= _FEWEST else np.nan


def _draw(
    t: NDArray, errors: dict[str, NDArray] | dict[GradientRule, NDArray], ylabel: str, name: str, run: Run
) -> str:
    lines = {label: band(t, values, floor=FLOOR) for label, values in errors.items()}
    figure = curves(
        lines, xlabel="layers t", ylabel=ylabel, yscale="log", title="Errors over the layers (median, range)"
    )
    save_figure(figure, run.folder / name)
    return name


PUDLE_CODE_CONVERGENCE = Experiment(
    name="pudle-code-convergence",
    shows="unfolded codes converge as rho^t, their Jacobians as t rho^t, once the support is found",
    source="Tolooshams and Ba 2022, Fig. 2",
    quick=Settings(n_samples=3, n_draws=3, n_unfold=300, every=25),
    paper=Settings(n_samples=50, n_draws=10, n_unfold=600, every=10),
    measure=measure_codes,
)

PUDLE_GRADIENTS = Experiment(
    name="pudle-gradients",
    shows="the gradient of ae-lasso converges twice as fast as that of dec; ae-ls is biased",
    source="Tolooshams and Ba 2022, Fig. 3",
    quick=Settings(n_samples=100, n_draws=3, n_unfold=500, every=20),
    paper=Settings(n_samples=10_000, n_draws=3, n_unfold=500, every=20),
    measure=measure_gradients,
)
