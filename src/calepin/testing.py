"""Conformance checks for user-defined operators, penalties, likelihoods, solvers, coders and rules.

    check_operator(MyOperator(...))          linearity, the adjoint, gradients, errors for wrong shapes
    check_penalty(MyPenalty(...), shape=...) the proximal map minimises its objective
    check_likelihood(MyFamily(), eta)        the score is minus the gradient, the curvature is a bound
    check_solver(MySolver(L1(0.1)))          solutions are stationary, samples are solved independently
    check_coder(MyCoder(...))                gap and residual of codes are correct, samples are independent
    check_rule(MyRule(...), atoms, batch)    the state is complete, so that a run resumes bit for bit

Each check raises an AssertionError that says which property failed, and by how much. calepin's own classes
pass the same checks in its tests.
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
    """Check that an operator is linear, that its adjoint is correct, and that it refuses wrong shapes.

    The gradients of both maps, with respect to the samples and all parameters, are checked too. So are the
    bound on the norm, `solve_gram` where there is one, `copy.deepcopy` and `pickle`.

    Parameters
    ----------
    operator : LinearOperator
        The operator to check. Its floating tensors, if any, must be in double precision.
    dtype : torch.dtype, optional
        The dtype of the samples. Default: that of the operator's first floating tensor, or float64.
    rtol : float, default 1e-10
        Tolerance relative to the norms of the compared values.
    seed : int, default 0
        Seed of the random samples.
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
    _check_solve_gram(operator, y, rtol)
    _check_shape_errors(operator, x, y)
    for name, twin in (
        ("deepcopy", copy.deepcopy(operator)),
        ("pickle", pickle.loads(pickle.dumps(operator))),
    ):
        _require_close(f"a {name} of the operator gives other results:", twin(x), image, rtol)


def check_penalty(
    penalty: Penalty,
    *,
    shape: tuple[int, ...] = (6,),
    weight: Callable[[float], float] = lambda step: step,
    seed: int = 0,
) -> None:
    """Check that no nearby or random code has a smaller objective than the proximal map of a penalty.

        prox(v, s) = argmin_z 0.5 ||v - z||^2 + weight(s) * value(z)

    Parameters
    ----------
    penalty : Penalty
        The penalty to check.
    shape : tuple of int, default (6,)
        Shape of one code.
    weight : callable, optional
        Weight of the penalty as a function of the step size; the identity by default. Pass
        ``lambda step: 1.0`` for a threshold that does not depend on the step size (`HardThreshold`).
    seed : int, default 0
        Seed of the random codes.
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
                f"another code has {(best - excess).tolist()}",
            )
        _require_close(
            "equal steps for all samples differ from a single number:",
            penalty.prox(v, torch.full((5, *[1] * len(shape)), step, dtype=v.dtype)),
            z,
            1e-12,
        )
        alone = torch.cat([penalty.prox(v[i : i + 1], step) for i in range(5)])
        _require_close("prox mixes samples:", alone, z, 1e-12)


def check_likelihood(likelihood: Likelihood, eta: Tensor, *, n_draws: int = 4000, seed: int = 0) -> None:
    """Check the score, the curvature, the mean and the samples of a likelihood.

    The score must be minus the gradient of the nll, the curvature a Lipschitz constant of the score, and the
    average of samples the mean. A NaN in the observations must be refused.

    Parameters
    ----------
    likelihood : Likelihood
        The likelihood to check.
    eta : Tensor, shape (n, ...)
        Linear predictors in double precision, of a size for which samples can be drawn.
    n_draws : int, default 4000
        Number of draws for the comparison of the average with the mean.
    seed : int, default 0
        Seed of the draws.
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
                f"exceeded by {float((change - bound).max()):.3g}",
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
    """Check that a solver converges to a fixed point of the proximal gradient step.

    A minimiser of nll + g satisfies ``z = prox(z - s gradient(z), s)`` for every s. The residual of this
    equation, relative to z, is the KKT residual.

    Parameters
    ----------
    solver : Solver
        The solver to check. It must have an attribute `penalty`.
    problem : Problem, optional
        The problem to solve. Default: a small Gaussian one with twice as many atoms as features.
    n_iter : int, default 3000
        Number of iterations.
    monotone : bool, default False
        Whether nll + g must not increase in any iteration.
    tol : float, default 1e-6
        Upper bound on the KKT residual.
    seed : int, default 0
        Seed of the default problem.
    """
    problem = problem or _small_problem(seed)
    penalty: Penalty = getattr(solver, "penalty")  # noqa: B009  not in the protocol
    z = solve(problem, solver, n_iter=n_iter).z
    step = 1 / problem.lipschitz() if problem.likelihood.curvature is not None else 1e-2
    moved = penalty.prox(z - step * problem.gradient(z), step)
    residual = float((moved - z).abs().max() / z.abs().max().clamp_min(1e-12))
    _require(
        residual <= tol, f"the solution is not stationary: KKT residual {residual:.3g}, allowed {tol:.3g}"
    )

    again = solve(problem, solver, n_iter=7).z
    _require(
        torch.equal(again, solve(problem, solver, n_iter=7).z), "a second run differs: there is hidden state"
    )
    if problem.operator.n_samples is None and not isinstance(problem.offset, Tensor):
        alone = [
            solve(Problem(problem.operator, problem.likelihood, y[None], problem.offset), solver, n_iter=7).z
            for y in problem.y
        ]
        _require_close(
            "samples solved together differ from samples solved separately:", again, torch.cat(alone), 1e-9
        )

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
    """Check the codes of a coder: shape, sign, gap, residual, gradient, and independence of samples.

    Parameters
    ----------
    coder : Coder
        The coder to check.
    problem : Problem, optional
        A problem that the coder supports. Default: a small Gaussian one with twice as many atoms as features.
    rtol : float, default 1e-6
        Tolerance between samples coded together and separately, relative to the norm of the codes.
    seed : int, default 0
        Seed of the default problem.
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
    _require(torch.equal(coder.encode(problem).dense(), z), "a second run differs: there is hidden state")
    _check_what_is_known(coder, problem, codes)
    if problem.separable:
        alone = [coder.encode(problem.take(torch.tensor([i]))).dense() for i in range(len(y))]
        _require_close(
            "samples coded together differ from samples coded separately:", z, torch.cat(alone), rtol
        )
    shorter = coder.shortened(4).encode(problem).dense()
    _require(shorter.shape == z.shape, f"shortened: expected codes of shape {tuple(z.shape)}")
    _check_coder_gradient(coder, problem)


def check_rule(rule: Rule[Any], atoms: Tensor, batch: Batch, *, n_steps: int = 3) -> None:
    """Check that the state of a rule is complete: a run resumed from a checkpoint is the same bit for bit.

    Parameters
    ----------
    rule : Rule
        The rule to check.
    atoms : Tensor
        Initial atoms, or whatever the `init` of the rule expects.
    batch : Batch
        Samples in the form that the rule expects.
    n_steps : int, default 3
        Number of steps before and after the checkpoint.
    """
    first = atoms.clone()
    state = rule.init(atoms)
    for _ in range(n_steps):
        values = rule.step(state, batch)
        _require(
            isinstance(values, np.ndarray) and values.ndim == 1 and bool(np.isfinite(values).all()),
            f"step: expected an array of finite objectives, one for each sample, got {values!r}",
        )
    report = rule.end_pass(state)
    _require(isinstance(report, dict), f"end_pass: expected a dictionary of numbers, got {report!r}")
    _require(torch.equal(atoms, first), "init or step changes the atoms that were passed to init")

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
    _require(after.keys() == again.keys(), f"restore omits {sorted(after.keys() - again.keys())}")
    for name, value in after.items():
        same = np.array_equal(_on_cpu(value), _on_cpu(again[name]), equal_nan=True)
        _require(same, f"a resumed run differs from an uninterrupted one in {name}: there is hidden state")
    _require(
        state.scalars() == resumed.scalars(), "a resumed run differs in its scalars: there is hidden state"
    )
    begun, moved = rule.init(atoms).tensors(), fresh.tensors()
    _require(
        any(not np.array_equal(_on_cpu(value), _on_cpu(begun[name])) for name, value in moved.items()),
        "no tensor of the state changes: nothing is learned",
    )


@torch.enable_grad()
def _check_gradients(operator: LinearOperator, x: Tensor, y: Tensor, rtol: float) -> None:
    """Compare the gradients of <A x, y> and <x, A^H y>, which are the same function."""
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
            f"the gradient with respect to {name} through forward differs from that through adjoint:",
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


def _check_solve_gram(operator: LinearOperator, y: Tensor, rtol: float) -> None:
    weight = 0.5 * max(operator.norm_squared(), 1e-3)
    solved = operator.solve_gram(y, weight)
    if solved is not None:
        back = operator(operator.adjoint(solved)) + weight * solved
        _require_close("solve_gram: (A A^H + weight I) times its result differs from y:", back, y, rtol)


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
    """Check gap and residual of codes, and that their objective is at most that of zero codes."""
    n = (len(problem.y),)
    for name in ("gap", "residual", "converged"):
        value = getattr(codes, name)
        _require(value is None or tuple(value.shape) == n, f"{name}: expected None or shape {n}")
    found = torch.from_numpy(objective(problem, codes, coder.penalty))
    nothing = Codes(torch.zeros_like(codes.dense()), codes.offset)
    none = torch.from_numpy(objective(problem, nothing, coder.penalty))
    _require(
        bool((found <= none + 1e-9 * (1 + none.abs())).all()),
        f"codes have a larger objective than zero codes: {found.tolist()} against {none.tolist()}",
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
            f"gap does not bound the suboptimality, exceeded by {float(short.max()):.3g}",
        )


def _check_coder_gradient(coder: Coder, problem: Problem) -> None:
    """Check that codes of "ae-ls" are differentiable, unless the coder raises IncompatibleError."""
    leaf = problem.y.clone().requires_grad_()
    try:
        with torch.enable_grad():
            z = coder.encode(replace(problem, y=leaf), gradient="ae-ls").dense()
    except IncompatibleError:
        return
    _require(z.requires_grad, "gradient='ae-ls': expected differentiable codes, or an IncompatibleError")
    with torch.enable_grad():
        constant = coder.encode(replace(problem, y=leaf), gradient="dec").dense()
    _require(not constant.requires_grad, "gradient='dec': expected constants")


def _on_cpu(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _neighbours(z: Tensor, v: Tensor, draw: Callable[..., Tensor]) -> list[Tensor]:
    """Return random codes near z and far from it, and z with one entry set to zero or to that of v."""
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
    _require(error <= rtol * scale + 1e-12, f"{what} error {error:.3g}, norm {scale:.3g}")
