"""Unfolded convolutional sparse coding of signals, and back-propagation through it, compiled.

With a dictionary H of filters over signals y, layer t of T computes

    r_t = score(H v_t + mu, y),     z_{t+1} = prox(v_t + s W^T r_t),     v_t = z_t + b_t (z_t - z_{t-1})

where W = H except in networks with untied weights, and b_t = 0 without momentum. With mu_t the gradient of a
loss in what the proximal map of layer t takes, and c_t the curvature of the likelihood, the gradients are

    d loss / d y   =   s sum_t W mu_t,                  d loss / d v_t = mu_t - s H^T (c_t * W mu_t),
    d loss / d W_m =   s sum_t corr(r_t, mu_t[m]),      d loss / d H_m = - s sum_t corr(c_t * W mu_t, v_t[m]).

As mu_t is zero wherever z_{t+1} is, and the gradient in v_t is needed where v_t is not zero, all of these are
sums over nonzeros. The only product at all positions is W^T r_t, on the way forwards, and most layers do not
need it (`kernels.conv_layers`). Codes and gradients are those of automatic differentiation, up to rounding.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.core.checks import is_plain
from calepin.core.gradients import differentiable_once
from calepin.core.threads import run_blocks
from calepin.likelihoods import Binomial, Gaussian, Likelihood, Poisson
from calepin.operators.conv import ConvDictionary
from calepin.penalties import L1, HardThreshold, NonNegativeL1
from calepin.problem import Problem
from calepin.solvers.iterate import RUNAWAY
from calepin.solvers.kernels.conv_descent import LANES, Grid
from calepin.solvers.kernels.conv_layers import FAMILIES, Layers, Store, run_layers
from calepin.solvers.kernels.conv_layers_back import Gradients, run_back
from calepin.solvers.kernels.support import CUT, CUT_POSITIVE, SHRINK, SHRINK_POSITIVE
from calepin.solvers.proximal import FISTA, ISTA

__all__ = ["KINDS", "ConvolutionalLayers", "convolutional_layers"]

KINDS: dict[Any, int] = {L1: SHRINK, NonNegativeL1: SHRINK_POSITIVE, HardThreshold: CUT}
"""Proximal maps of the penalties; that of a nonnegative hard threshold is `CUT_POSITIVE`."""

_LEAST = 2e7  # products of all layers, below which there is no time to save
_WIDEST = 256  # entries of a filter beyond which the FFT is faster
_BLOCKS = 8  # of samples, each with gradients of its own
_ENTRIES = 2**26  # of the codes before all layers, of one sample
_STORED = 2**26  # residuals of all samples and layers, beyond which layers are computed again on the way back


def convolutional_layers(
    problem: Problem, solver: Any, n_iter: int, z0: Tensor | None = None
) -> Tensor | None:
    """Return the codes after `n_iter` iterations, differentiable once in y and the filters, or None.

    None says that the problem or the solver is another one, that more is to be differentiated, that dense
    layers are as fast, or that codes diverge: then `calepin.solve` has to do it.
    """
    operator, penalty = problem.operator, getattr(solver, "penalty", None)
    if type(operator) is not ConvDictionary or operator.boundary != "zero" or operator.stride != 1:
        return None
    if type(solver) not in (ISTA, FISTA):
        return None
    if solver.step_size is None and problem.likelihood.curvature is None:
        return None
    known, backtracks = _weights(penalty), isinstance(solver.step_size, str)
    if known is None or (backtracks and isinstance(penalty, HardThreshold)):
        return None
    layers = ConvolutionalLayers(
        problem.likelihood, known[0], solver.decay ** np.arange(n_iter), momentum=isinstance(solver, FISTA),
        restart=getattr(solver, "restart", False), backtracks=backtracks,
    )  # fmt: skip
    levels, rest = torch.as_tensor(known[1], dtype=problem.y.dtype), {"offset": problem.offset, "z0": z0}
    if not layers.suits(problem.y, operator.atoms, levels, **rest):
        return None
    step = solver.first_step(problem, problem.y[:1])
    levels = levels / step if isinstance(penalty, HardThreshold) else levels
    return layers.codes(problem.y, operator.atoms, operator.atoms, levels, step, **rest)


@dataclass(frozen=True, eq=False)
class ConvolutionalLayers:
    """Layers that are known to the compiled kernel, with their settings.

    Attributes
    ----------
    likelihood
        Gaussian, Poisson, or Binomial with one number of trials.
    kind
        The proximal map, one of `calepin.solvers.kernels.support`.
    factors
        Factors of the levels in each layer, (T,).
    momentum, restart
        Whether layers are those of FISTA, and whether these drop their momentum uphill.
    backtracks
        Whether the step size is a first guess; then it is not differentiated.
    """

    likelihood: Likelihood
    kind: int
    factors: np.ndarray
    momentum: bool = False
    restart: bool = False
    backtracks: bool = False

    def codes(
        self, y: Tensor, synthesis: Tensor, analysis: Tensor, levels: Tensor, step: Any, *,
        offset: Any = 0.0, z0: Tensor | None = None,
    ) -> Tensor | None:  # fmt: skip
        """Return the codes after the layers, (n, n_components, positions), from zero or z0; or None.

        They are differentiable once in y, in both sets of filters (n_components, channels, kernel), in levels
        that broadcast to (n_components, 1), bounds of the gradients of codes at zero, and in the step size.
        """
        if not self.suits(y, synthesis, levels, offset=offset, z0=z0):
            return None
        step = torch.as_tensor(step, dtype=y.dtype).reshape(())
        levels = levels.to(y.dtype).reshape(-1).expand(len(synthesis))
        leaves = (y, synthesis, analysis, levels, step)
        keeps = torch.is_grad_enabled() and any(values.requires_grad for values in leaves)
        with torch.no_grad():
            run = _Run.of(self, *leaves, offset, keeps=keeps)
            codes = run.ascend(z0)
        return None if codes is None else _Codes.apply(*leaves, z0, codes, run)  # pyright: ignore[reportReturnType]

    def suits(
        self, y: Tensor, filters: Tensor, levels: Tensor, *, offset: Any = 0.0, z0: Tensor | None = None
    ) -> bool:
        """Return whether there are compiled layers for these terms, and time to save."""
        n_components, channels, *kernel = filters.shape
        if len(kernel) != 1 or channels * kernel[0] > _WIDEST or levels.numel() not in (1, n_components):
            return False
        if not is_plain(y, filters, levels):
            return False
        if type(self.likelihood) not in (Gaussian, Binomial, Poisson):
            return False
        if isinstance(self.likelihood, Binomial) and isinstance(self.likelihood.trials, Tensor):
            return False
        if any(isinstance(values, Tensor) and values.requires_grad for values in (offset, z0)):
            return False
        size = n_components * (y.shape[2] - kernel[0] + 1)
        layers = len(self.factors)
        return len(y) * layers * size * channels * kernel[0] >= _LEAST and (layers + 1) * size <= _ENTRIES


class _Codes(torch.autograd.Function):
    """Codes that are known, and the way back from them."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, synthesis: Tensor, analysis: Tensor, levels: Tensor, step: Tensor,
        z0: Tensor | None, codes: np.ndarray, run: "_Run",
    ) -> Tensor:  # fmt: skip
        ctx.run = run
        ctx.save_for_backward(y, synthesis, analysis, levels, step, z0)
        return torch.from_numpy(codes)

    @staticmethod
    @differentiable_once("calepin.solve(..., differentiate='unroll')")
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        *_, z0 = ctx.saved_tensors  # raises if one of them has been changed in place
        return *ctx.run.descend(grad, z0), None, None, None


@dataclass(frozen=True, eq=False)
class _Run:
    """Signals and offsets as flat planes (n, plane), their shape, the width of a filter, and the layers.

    If it `keeps` what the way back needs, `stores` hold it for each block of samples.
    """

    y: np.ndarray
    offset: np.ndarray
    shape: tuple[int, ...]
    kernel: int
    layers: Layers
    keeps: bool
    stores: list[Store] = field(default_factory=list)

    @classmethod
    def of(
        cls, settings: ConvolutionalLayers, y: Tensor, synthesis: Tensor, analysis: Tensor, levels: Tensor,
        step: Tensor, offset: Any, *, keeps: bool,
    ) -> "_Run":  # fmt: skip
        likelihood, kernel, real = settings.likelihood, synthesis.shape[2], y.detach().numpy().dtype.type
        wide = -(-kernel // LANES) * LANES
        width = y.shape[2] - kernel + wide
        offset = torch.as_tensor(offset, dtype=y.dtype).expand(y.shape)
        grid = Grid(y.shape[1], 1, width, 1, kernel, 1, width, False, False)
        layers = Layers(
            _widened(synthesis, wide), _widened(analysis, wide), levels.numpy().copy(),
            settings.factors.astype(real), real(step.item()), settings.backtracks, settings.kind,
            FAMILIES.index(type(likelihood).__name__), real(getattr(likelihood, "trials", 1)),
            real(0.5 * np.log(np.finfo(real).max)), settings.momentum, settings.restart,
            real(levels.max().item()), real(analysis.flatten(1).norm(dim=1).max().item()),
            real(100 * np.finfo(real).eps), grid,
        )  # fmt: skip
        return cls(_widened(y, width), _widened(offset, width), tuple(y.shape), kernel, layers, keeps)

    def ascend(self, z0: Tensor | None) -> np.ndarray | None:
        """Return the codes after the layers; None if they diverge.

        As in `calepin.solvers.iterate.ran_away`, a step that is much longer than the first is a divergence.
        """
        codes = self._begun(z0)
        begun = np.linalg.norm(codes, axis=1)
        first, last = np.zeros(len(codes), codes.dtype), np.zeros(len(codes), codes.dtype)
        self.stores.clear()

        def run(start: int, stop: int) -> Store:
            rows, store = slice(start, stop), self._store(stop - start)
            terms = self.y[rows], self.offset[rows], self.layers, codes[rows]
            run_layers(*terms, first[rows], last[rows], store)
            return store

        self.stores.extend(run_blocks(run, len(codes), self._block()))
        stays = np.isfinite(codes).all() and (np.sqrt(last) <= RUNAWAY * (begun + np.sqrt(first))).all()
        return codes.reshape(self._code_shape()) if stays else None

    def descend(self, upper: Tensor, z0: Tensor | None) -> tuple[Tensor, ...]:
        """Return the gradients in y, H, W, levels and step size of a loss with these in the codes."""
        codes, back = self._begun(z0), np.ascontiguousarray(upper.numpy().reshape(len(self.y), -1))
        n, channels, length = self.shape
        block = self._block()

        def run(start: int, stop: int) -> Gradients:
            rows, found, store = (
                slice(start, stop),
                self._gradients(stop - start),
                self.stores[start // block],
            )
            if len(store.kept):
                run_back(self.y[rows], self.layers, back[rows], found, store)
            for i in range(start, stop):
                if not len(store.kept) or not store.kept[i - start]:
                    self._descend_again(i, codes, back, found._replace(y=found.y[i - start : i - start + 1]))
            return found

        parts = run_blocks(run, n, block)
        of_y = np.concatenate([part.y for part in parts]).reshape(n, channels, -1)[..., :length]
        sums: Any = [sum(values) for values in zip(*(part[1:] for part in parts), strict=True)]
        filters = [values.reshape(len(values), channels, -1)[..., : self.kernel] for values in sums[:2]]
        found = (of_y, *filters, sums[2], sums[3][0])
        return tuple(torch.as_tensor(np.ascontiguousarray(values)) for values in found)

    def _descend_again(self, i: int, codes: np.ndarray, back: np.ndarray, found: Gradients) -> None:
        """Run the layers on a sample that was not kept, and go back."""
        row, moves = slice(i, i + 1), np.zeros(1, codes.dtype)
        store = self._store(1, whole=True)
        run_layers(self.y[row], self.offset[row], self.layers, codes[row], moves, moves, store)
        run_back(self.y[row], self.layers, back[row], found, store)

    def _begun(self, z0: Tensor | None) -> np.ndarray:
        shape = self._code_shape()
        codes = np.zeros(shape, self.y.dtype) if z0 is None else z0.detach().numpy().copy()
        return codes.reshape(len(self.y), -1)

    def _code_shape(self) -> tuple[int, int, int]:
        return self.shape[0], len(self.layers.bounds), self.shape[2] - self.kernel + 1

    def _gradients(self, n: int) -> Gradients:
        layers, real = self.layers, self.y.dtype
        return Gradients(
            np.zeros((n, self.y.shape[1]), real), np.zeros_like(layers.synthesis),
            np.zeros_like(layers.analysis), np.zeros_like(layers.bounds), np.zeros(1, real),
        )  # fmt: skip

    def _store(self, n: int, *, whole: bool = False) -> Store:
        """Return an empty store of the way back of n samples, with room for all codes if it is to be whole.

        It is one of no samples if it is not needed, or too large.
        """
        layers, plane, real = len(self.layers.factors), self.y.shape[1], self.y.dtype
        size = self._code_shape()[1] * self._code_shape()[2]
        room, most = n * (layers + 1) * size, _STORED // _BLOCKS
        if not whole:
            n, room = (n, min(room, most)) if self.keeps and n * layers * plane <= most else (0, 0)
        return Store(
            np.zeros(n, bool), np.zeros(1, np.int64), np.empty((n, layers, plane), real),
            np.empty((n, layers), real), np.empty((n, layers), real), np.empty((n, layers + 2), np.int64),
            np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, real), np.empty(room, real),
        )  # fmt: skip

    def _block(self) -> int:
        return -(-len(self.y) // _BLOCKS)


def _weights(penalty: Any) -> tuple[int, Any] | None:
    """Return the proximal map of a penalty and its weights, (n_components, 1) or one; None for another."""
    kind = KINDS.get(type(penalty))
    if kind is None:
        return None
    hard = isinstance(penalty, HardThreshold)
    weights = penalty.threshold if hard else penalty.alpha
    if isinstance(weights, Tensor) and weights.ndim and weights.shape[1:] != (1,):
        return None
    return (CUT_POSITIVE if hard and penalty.nonnegative else kind), weights


def _widened(values: Tensor, width: int) -> np.ndarray:
    """Return a copy whose last axis is padded with zeros, with the two last axes as one."""
    wide = np.zeros((*values.shape[:-1], width), values.detach().numpy().dtype)
    wide[..., : values.shape[-1]] = values.detach().numpy()
    return wide.reshape(len(values), -1)
