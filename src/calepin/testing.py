"""Public conformance checks: what a class must do to work with the rest of calepin.

    check_operator(MyOperator(...))          linear, its adjoint the adjoint, shapes checked
    check_penalty(MyPenalty(...), shape=...) the proximal map minimises its objective
    check_likelihood(MyFamily(), eta)        the score is minus the gradient, the curvature a bound
    check_solver(MySolver(L1(0.1)))          solutions are stationary, samples don't meet each other
    check_coder(MyCoder(...))                codes are what they say, each sample's by itself
    check_rule(MyRule(...), atoms, batch)    a state holds all that changes, and resumes bit for bit

Each raises AssertionError that says which property failed and by how much. calepin's own tests run
them over every class there is.
"""

import copy
import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.core.errors import IncompatibleError
from calepin.core.samples import inner
from calepin.learning.batches import Batch
from calepin.learning.rule import Rule
from calepin.likelihoods import Gaussian, Likelihood
from calepin.operators.base import LinearOperator
from calepin.operators.dense import Dense
from calepin.penalties import Penalty
from calepin.problem import Problem
from calepin.solvers.coders.coder import Coder, Codes, objective
from calepin.solvers.iterate import Solver
from calepin.solvers.proximal import FISTA
from calepin.solvers.solve import solve

__all__ = [
    "check_coder",
    "check_likelihood",
    "check_operator",
    "check_penalty",
    "check_rule",
    "check_solver",
]


@torch.no_grad()
def check_operator(
    operator: LinearOperator, *, dtype: torch.dtype | None = None, rtol: float = 1e-10, seed: int = 0
) -> None:
    """Check that an operator is linear, has the adjoint it says, and refuses wrong shapes.

    Its two maps must have the right gradients too, in their samples and in every parameter.

    Parameters
    ----------
    operator : LinearOperator
        With floating tensors of double precision, or none.
    dtype : torch.dtype, optional
        Of the samples; by default that of the operator's first floating tensor, else float64.
    rtol : float
        Error allowed, relative to the norms of the two sides.
    seed : int
        Of the random samples.
    """
    draw = _drawer(seed, dtype or _dtype_of(operator), operator.n_samples or 3)
    x, other = draw(operator.in_shape), draw(operator.in_shape)
    y = draw(operator.out_shape)

    image = operator(x)
    _require(
        image.shape == y.shape,
        f"forward: expected shape {tuple(y.shape)}, got {tuple(image.shape)}",
    )
    _require_close(
        "forward is not linear: A(2 x - 3 z)",
        operator(2 * x - 3 * other),
        2 * image - 3 * operator(other),
        rtol,
    )

    back = operator.adjoint(y)
    _require(back.shape == x.shape, f"adjoint: expected shape {tuple(x.shape)}, got {tuple(back.shape)}")
    left, right = inner(image, y), inner(x, back)
    scale = torch.linalg.vector_norm(image) * torch.linalg.vector_norm(y)
    _require(
        bool(((left - right).abs() <= rtol * scale + 1e-300).all()),
        f"adjoint fails the dot test: <A x, y> = {left.tolist()}, <x, A^H y> = {right.tolist()}",
    )
    _check_gradients(operator, x, y, rtol)
    _check_norm(operator, draw, rtol)
    _check_shape_errors(operator, x, y)
    for name, twin in (
        ("deepcopy", copy.deepcopy(operator)),
        ("pickle", pickle.loads(pickle.dumps(operator))),
    ):
        _require_close(f"a {name} of the operator maps otherwise:", twin(x), image, rtol)


def check_penalty(
    penalty: Penalty,
    *,
    shape: tuple[int, ...] = (6,),
    weight: Callable[[float], float] = lambda step: step,
    seed: int = 0,
) -> None:
    """Check the proximal map of a penalty against a search.

        prox(v, s) = argmin_z 0.5 ||v - z||^2 + weight(s) * value(z)

    Parameters
    ----------
    penalty : Penalty
    shape : tuple of int
        Shape of one code.
    weight : callable
        1 in place of the step for a penalty whose threshold does not move with it (`HardThreshold`).
    seed : int
        Of the random codes.
    """
    draw = _drawer(seed, torch.float64, 5)
    v = 2 * draw(shape)
    value = penalty.value(v.abs())
    _require(value.shape == (5,), f"value: expected shape (5,), got {tuple(value.shape)}")
    _require(bool((value >= 0).all()), f"value: expected at least 0, got {value.tolist()}")

    for step in (0.3, 1.0, 2.5):
        z = penalty.prox(v, step)
        _require(z.shape == v.shape, f"prox: expected shape {tuple(v.shape)}, got {tuple(z.shape)}")

        def objective(z: Tensor, step: float = step) -> Tensor:
            return 0.5 * inner(v - z, v - z) + weight(step) * penalty.value(z)

        best = objective(z)
        for candidate in _neighbours(z, v, draw):
            excess = best - objective(candidate)
            _require(
                not bool((excess > 1e-9 * (1 + best.abs())).any()),
                f"prox(v, {step}) does not minimise its objective: {best.tolist()}, "
                f"a neighbour has {(best - excess).tolist()}",
            )
        _require_close(
            "a step for each sample differs from the same number:",
            penalty.prox(v, torch.full((5, *[1] * len(shape)), step, dtype=v.dtype)),
            z,
            1e-12,
        )
        alone = torch.cat([penalty.prox(v[i : i + 1], step) for i in range(5)])
        _require_close("prox mixes samples:", alone, z, 1e-12)


def check_likelihood(likelihood: Likelihood, eta: Tensor, *, n_draws: int = 4000, seed: int = 0) -> None:
    """Check a family: the score is minus the gradient, the curvature a bound, the mean the mean.

    Parameters
    ----------
    likelihood : Likelihood
    eta : Tensor, shape (n, ...)
        Linear predictors in double precision, moderate enough to draw from.
    n_draws : int
        Draws whose average is compared with the mean.
    seed : int
        Of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    y = likelihood.sample(eta, generator=generator)
    likelihood.check(y)
    _check_refusal(likelihood, y)
    _require(y.shape == eta.shape, f"sample: expected shape {tuple(eta.shape)}, got {tuple(y.shape)}")
    nll = likelihood.nll(eta, y)
    _require(nll.shape == eta.shape[:1], f"nll: expected shape ({len(eta)},), got {tuple(nll.shape)}")

    point = eta.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(likelihood.nll(point, y).sum(), point)
    score = likelihood.score(eta, y)
    _require_close("score is not minus the gradient of nll:", score, -gradient, 1e-8)

    if likelihood.curvature is not None:
        for size in (1e-3, 1.0, 10.0):
            move = size * torch.randn(eta.shape, dtype=eta.dtype, generator=generator)
            change = (score - likelihood.score(eta + move, y)).abs()
            bound = likelihood.curvature * move.abs()
            _require(
                bool((change <= bound * (1 + 1e-6) + 1e-12).all()),
                f"curvature {likelihood.curvature} does not bound the change of the score, "
                f"off by {float((change - bound).max()):.3g}",
            )

    repeated = eta.expand(n_draws, *eta.shape).flatten(0, 1)
    draws = likelihood.sample(repeated, generator=generator).view(n_draws, *eta.shape)
    error = (draws.mean(0) - likelihood.mean(eta)).abs()
    allowed = 6 * draws.std(0) / math.sqrt(n_draws) + 1e-9
    _require(
        bool((error <= allowed).all()),
        f"samples do not average to mean(eta): off by {float((error - allowed).max()):.3g}",
    )


def check_solver(
    solver: Solver[Any, Any],
    *,
    problem: Problem | None = None,
    n_iter: int = 3000,
    monotone: bool = False,
    tol: float = 1e-6,
    seed: int = 0,
) -> None:
    """Check that a solver with a penalty and a step ends where its own proximal step does not move.

    At a minimum of nll + g, ``z = prox(z - s gradient(z), s)`` for every s: the residual of this
    equation, relative to z, is the KKT residual that `tol` bounds.

    Parameters
    ----------
    solver : Solver
        With an attribute `penalty`.
    problem : Problem, optional
        By default a small Gaussian one with twice as many atoms as features.
    n_iter : int
        Iterations.
    monotone : bool
        Whether nll + g must fall in every iteration.
    tol : float
        Largest KKT residual.
    seed : int
        Of the default problem.
    """
    problem = problem or _small_problem(seed)
    penalty: Penalty = getattr(solver, "penalty")  # noqa: B009  no part of the protocol
    z = solve(problem, solver, n_iter=n_iter).z
    step = 1 / problem.lipschitz() if problem.likelihood.curvature is not None else 1e-2
    moved = penalty.prox(z - step * problem.gradient(z), step)
    residual = float((moved - z).abs().max() / z.abs().max().clamp_min(1e-12))
    _require(
        residual <= tol, f"the solution is not stationary: KKT residual {residual:.3g}, allowed {tol:.3g}"
    )

    again = solve(problem, solver, n_iter=7).z
    _require(torch.equal(again, solve(problem, solver, n_iter=7).z), "a second run differs: hidden state")
    if problem.operator.n_samples is None and not isinstance(problem.offset, Tensor):
        alone = [
            solve(Problem(problem.operator, problem.likelihood, y[None], problem.offset), solver, n_iter=7).z
            for y in problem.y
        ]
        _require_close("samples solved together differ from each alone:", again, torch.cat(alone), 1e-9)

    if monotone:
        state = solver.init(problem, problem.zeros())
        before = problem.nll(state.z) + penalty.value(state.z)
        for k in range(50):
            state = solver.step(problem, state)
            after = problem.nll(state.z) + penalty.value(state.z)
            rise = float((after - before).max())
            _require(
                rise <= 1e-10 * float(before.max()), f"the objective rises by {rise:.3g} in iteration {k + 1}"
            )
            before = after


def check_coder(coder: Coder, *, problem: Problem | None = None, rtol: float = 1e-6, seed: int = 0) -> None:
    """Check that a coder's codes are what they say they are, and each sample's by itself.

    Parameters
    ----------
    coder : Coder
    problem : Problem, optional
        By default a small Gaussian one with twice as many atoms as features; give one that the coder is for.
    rtol : float, default 1e-6
        Error allowed between samples coded together and alone, relative to the norm of the codes.
    seed : int, default 0
        Of the default problem.
    """
    problem = problem or _small_problem(seed)
    y = problem.y.clone()
    codes = coder.encode(problem)
    _require(isinstance(codes, Codes), f"encode: expected Codes, got {type(codes).__name__}")
    z = codes.dense()
    _require(
        z.shape == problem.code_shape,
        f"values: expected shape {tuple(problem.code_shape)}, got {tuple(z.shape)}",
    )
    _require(bool(torch.isfinite(z).all()), "values: expected finite numbers")
    _require(not coder.nonnegative or bool((z >= 0).all()), "nonnegative is True, but codes are negative")
    _require(torch.equal(problem.y, y), "encode changes the observations")
    _require(torch.equal(coder.encode(problem).dense(), z), "a second run differs: hidden state")
    _check_what_is_known(coder, problem, codes)
    if problem.separable:
        alone = [coder.encode(problem.take(torch.tensor([i]))).dense() for i in range(len(y))]
        _require_close("samples coded together differ from each alone:", z, torch.cat(alone), rtol)
    shorter = coder.shortened(4).encode(problem).dense()
    _require(shorter.shape == z.shape, f"shortened: expected codes of shape {tuple(z.shape)}")
    _check_coder_gradient(coder, problem)


def check_rule(rule: Rule[Any], atoms: Tensor, batch: Batch, *, n_steps: int = 3) -> None:
    """Check that a rule keeps all that changes in its state, and goes on from a checkpoint bit for bit.

    Parameters
    ----------
    rule : Rule
    atoms : Tensor
        Where to begin.
    batch : Batch
        Samples as the rule takes them.
    n_steps : int, default 3
        Steps before and after the checkpoint.
    """
    first = atoms.clone()
    state = rule.init(atoms)
    for _ in range(n_steps):
        values = rule.step(state, batch)
        _require(
            isinstance(values, np.ndarray) and values.ndim == 1 and bool(np.isfinite(values).all()),
            f"step: expected an array of finite objectives, one a sample, got {values!r}",
        )
    report = rule.end_pass(state)
    _require(isinstance(report, dict), f"end_pass: expected a dictionary of numbers, got {report!r}")
    _require(torch.equal(atoms, first), "init or step changes the atoms that were given")

    settings = json.loads(json.dumps(rule.settings()))
    _require(isinstance(settings, dict), f"settings: expected a dictionary, got {settings!r}")
    saved = {name: np.array(_on_cpu(value)) for name, value in state.tensors().items()}
    resumed = rule.restore(saved, json.loads(json.dumps(state.scalars())))
    fresh = rule.init(atoms)
    for _ in range(n_steps):
        rule.step(state, batch)
        rule.step(resumed, batch)
        rule.step(fresh, batch)
    after, again = state.tensors(), resumed.tensors()
    _require(after.keys() == again.keys(), f"restore forgets {sorted(after.keys() - again.keys())}")
    for name, value in after.items():
        same = np.array_equal(_on_cpu(value), _on_cpu(again[name]), equal_nan=True)
        _require(same, f"a resumed run differs from an uninterrupted one in {name}: hidden state")
    _require(state.scalars() == resumed.scalars(), "a resumed run differs in its scalars: hidden state")
    begun, moved = rule.init(atoms).tensors(), fresh.tensors()
    _require(
        any(not np.array_equal(_on_cpu(value), _on_cpu(begun[name])) for name, value in moved.items()),
        "nothing in the state changes: nothing is learned",
    )


@torch.enable_grad()
def _check_gradients(operator: LinearOperator, x: Tensor, y: Tensor, rtol: float) -> None:
    """Compare the gradients of <A x, y> and <x, A^H y>: one function of samples and parameters."""
    parameters = {name: p for name, p in operator.named_parameters() if p.requires_grad}
    wanted = {"x": x.clone().requires_grad_(), "y": y.clone().requires_grad_(), **parameters}
    both = []
    for left, right in (
        (operator(wanted["x"]), wanted["y"]),
        (wanted["x"], operator.adjoint(wanted["y"])),
    ):
        product = inner(left, right).sum()
        _require(product.requires_grad, "no gradient passes through the operator")
        both.append(torch.autograd.grad(product, list(wanted.values()), materialize_grads=True))
    for name, through_forward, through_adjoint in zip(wanted, *both, strict=True):
        _require_close(
            f"the gradient in {name} through forward is not that through adjoint:",
            through_forward,
            through_adjoint,
            rtol,
        )


def _check_norm(operator: LinearOperator, draw: Callable[..., Tensor], rtol: float) -> None:
    norm_squared = operator.norm_squared()
    for _ in range(5):
        x = draw(operator.in_shape)
        stretch = (inner(operator(x), operator(x)) / inner(x, x)).max()
        _require(
            float(stretch) <= norm_squared * (1 + 1e-6) + 1e-300,
            f"norm_squared: {norm_squared} is less than ||A x||^2 / ||x||^2 = {float(stretch)}",
        )


def _check_shape_errors(operator: LinearOperator, x: Tensor, y: Tensor) -> None:
    wrong = {"one axis more": lambda t: t[..., None], "a longer last axis": lambda t: torch.cat([t, t], -1)}
    for map_name, function, samples in (("forward", operator, x), ("adjoint", operator.adjoint, y)):
        for what, change in wrong.items():
            try:
                function(change(samples))
            except ValueError:
                continue
            raise AssertionError(f"{map_name}: expected a ValueError for samples with {what}, got none")


def _check_refusal(likelihood: Likelihood, y: Tensor) -> None:
    bad = y.clone()
    bad[(0,) * y.ndim] = math.nan
    try:
        likelihood.check(bad)
    except ValueError:
        return
    raise AssertionError("check: expected a ValueError for a NaN in y, got none")


def _check_what_is_known(coder: Coder, problem: Problem, codes: Codes) -> None:
    """Compare gap and residual with what they say of the codes; codes cost no more than none."""
    n = (len(problem.y),)
    for name in ("gap", "residual", "converged"):
        value = getattr(codes, name)
        _require(value is None or tuple(value.shape) == n, f"{name}: expected None or shape {n}")
    found = torch.from_numpy(objective(problem, codes, coder.penalty))
    nothing = Codes(torch.zeros_like(codes.dense()), codes.offset)
    none = torch.from_numpy(objective(problem, nothing, coder.penalty))
    _require(
        bool((found <= none + 1e-9 * (1 + none.abs())).all()),
        f"codes cost more than codes of zero: {found.tolist()} against {none.tolist()}",
    )
    if codes.residual is not None:
        miss = problem.likelihood.score(problem.operator(codes.dense()) + codes.offset, problem.y)
        known = torch.as_tensor(codes.residual)
        _require_close("residual is not ||y - A z||^2:", known, inner(miss, miss), 1e-6)
    if codes.gap is not None and coder.penalty is not None:
        best = solve(problem, FISTA(coder.penalty), n_iter=3000).z
        least = torch.from_numpy(objective(problem, Codes(best), coder.penalty))
        short = found - least - torch.as_tensor(codes.gap)
        _require(
            bool((short <= 1e-8 * (1 + least.abs())).all()),
            f"gap does not bound what is missing, by {float(short.max()):.3g}",
        )


def _check_coder_gradient(coder: Coder, problem: Problem) -> None:
    """Codes of "ae-ls" carry a graph to the observations, or the coder says that it cannot."""
    leaf = problem.y.clone().requires_grad_()
    try:
        with torch.enable_grad():
            z = coder.encode(replace(problem, y=leaf), gradient="ae-ls").dense()
    except IncompatibleError:
        return
    _require(z.requires_grad, "gradient='ae-ls': expected values with their graph, or an IncompatibleError")
    with torch.enable_grad():
        constant = coder.encode(replace(problem, y=leaf), gradient="dec").dense()
    _require(not constant.requires_grad, "gradient='dec': expected constants")


def _on_cpu(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _neighbours(z: Tensor, v: Tensor, draw: Callable[..., Tensor]) -> list[Tensor]:
    """Return candidates near and far, and all with one entry set to zero or to that of v."""
    shape = tuple(z.shape[1:])
    near = [z + scale * draw(shape) for scale in (1e-5, 1e-3, 0.1, 1.0) for _ in range(25)]
    near += [(z + 0.3 * draw(shape)).clamp_min(0) for _ in range(25)]
    flat, target = z.flatten(1), v.flatten(1)
    for i in range(flat.shape[1]):
        for value in (torch.zeros_like(target[:, i]), target[:, i]):
            changed = flat.clone()
            changed[:, i] = value
            near.append(changed.view_as(z))
    return [*near, torch.zeros_like(z), v]


def _small_problem(seed: int) -> Problem:
    draw = _drawer(seed, torch.float64, 4)
    atoms = torch.nn.functional.normalize(draw((20, 10))[0].reshape(20, 10), dim=1)
    return Problem(Dense(atoms), Gaussian(), 3 * draw((10,)))


def _drawer(seed: int, dtype: torch.dtype, n: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn((n, *shape), dtype=dtype, generator=generator)

    return draw


def _dtype_of(operator: LinearOperator) -> torch.dtype:
    for tensor in (*operator.parameters(), *operator.buffers()):
        if tensor.is_floating_point() or tensor.is_complex():
            return tensor.dtype
    return torch.float64


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _require_close(what: str, mine: Tensor, expected: Tensor, rtol: float) -> None:
    error = float(torch.linalg.vector_norm((mine - expected).detach()))
    scale = float(torch.linalg.vector_norm(expected.detach()))
    _require(error <= rtol * scale + 1e-12, f"{what} off by {error:.3g} of {scale:.3g}")
