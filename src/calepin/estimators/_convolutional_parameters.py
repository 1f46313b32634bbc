"""What the parameters of a learner of convolutional dictionaries mean: family, sizes, coder and rule."""

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor

from calepin.core.checks import check_integer, check_number, check_one_of, is_integer, is_number
from calepin.estimators._labelled import RecordingLearner, peak_radius
from calepin.learning.filter_set import FilterSet
from calepin.learning.rules.convolutional import Convolutional
from calepin.learning.rules.convolutional_base import ConvolutionalRule
from calepin.learning.rules.convolutional_online import ConvolutionalOnline
from calepin.learning.trend import Trend
from calepin.likelihoods import Binomial, Gaussian, Likelihood, Poisson
from calepin.penalties import L1, ElasticNet, NonNegativeL1, Penalty
from calepin.solvers.coders.coder import Coder, GradientRule
from calepin.solvers.coders.convolutional_lasso import ConvolutionalLassoCoder
from calepin.solvers.coders.convolutional_pursuit import ConvolutionalPursuitCoder
from calepin.solvers.coders.proximal import ProximalCoder

__all__ = ["FAMILIES", "ConvolutionalParameters"]

FAMILIES: dict[str, Any] = {"gaussian": Gaussian, "binomial": Binomial, "poisson": Poisson}
CODERS = {  # and the parameters that they do not use; `debias` uses n_nonzero with any of them
    "auto": ("n_nonzero",),
    "fista": ("n_nonzero",),
    "ista": ("n_nonzero",),
    "exact": ("n_nonzero", "n_unfold"),
    "bcomp": ("alpha", "alpha_scaled", "n_unfold"),
}
_WEIGHTS = ("alpha", "alpha_scaled")
OPTIMIZERS = {"adam": partial(torch.optim.Adam, eps=1e-3), "sgd": torch.optim.SGD}
CHOICES = ("auto", "online", *OPTIMIZERS)
_UPDATES = 4  # of "adam" and "sgd" with the same codes
_LEARNING_TOL = 1e-3  # duality gap of codes in learning: the filters move between two codings of a signal


class ConvolutionalParameters(RecordingLearner):
    """Base class of the learner of convolutional dictionaries: its parameters, checked and put together."""

    n_components: int
    kernel_size: int | tuple[int, ...]
    likelihood: Any
    trials: int
    alpha: Any
    alpha_scaled: float | None
    penalty: Penalty | None
    nonnegative: bool
    coder: Any
    n_nonzero: int | None
    n_unfold: int
    debias: bool
    offset: Any
    detrend: Any
    robust: float | None
    filters: FilterSet | None
    rule: Any
    gradient: GradientRule
    n_updates: int | None
    optimizer: Any
    learning_rate: float
    n_init: Any

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if isinstance(self.likelihood, str):
            check_one_of("likelihood", self.likelihood, FAMILIES)
        if isinstance(self.coder, str):
            check_one_of("coder", self.coder, CODERS)
        check_one_of("gradient", self.gradient, get_args(GradientRule))
        if isinstance(self.optimizer, str):
            check_one_of("optimizer", self.optimizer, CHOICES)
            if self.optimizer == "online":
                self._require_quadratic()
        for name in ("n_components", "trials", "stride", "n_unfold"):
            check_integer(name, getattr(self, name))
        for name in ("n_nonzero", "n_updates"):
            check_integer(name, getattr(self, name), optional=True)
        if not isinstance(self.init, str) and np.ndim(self.init) < 3:
            raise ValueError(
                "init: expected filters (n_components, channels, *kernel_size), "
                f"got shape {np.shape(self.init)}"
            )
        self._check_recording_parameters()
        if self.kernel_seconds is not None:
            self._refuse("kernel_seconds", "kernel_size")
        elif not self._sizes() or not all(is_integer(n) and n >= 1 for n in self._sizes()):
            raise ValueError(
                f"kernel_size: expected a positive integer or a tuple of them, got {self.kernel_size!r}"
            )
        check_number("learning_rate", self.learning_rate, above=0)
        if self.alpha != "auto":
            check_number("alpha", self.alpha, above=0)
        check_number("alpha_scaled", self.alpha_scaled, above=0, below=1, optional=True)
        if self.alpha_scaled is not None:
            self._refuse(f"alpha_scaled = {self.alpha_scaled:g}", "alpha")
        check_number("robust", self.robust, above=0, optional=True)
        if self.n_init != "auto":
            check_integer("n_init", self.n_init)
        if not isinstance(self.init, str):
            self._refuse("given filters as init", "n_init")
        if self.coder == "bcomp" and self.n_nonzero is None:
            raise ValueError(
                "n_nonzero: expected the number of events of a signal with coder 'bcomp', got None"
            )
        exact = self.coder == "exact" and _weights(self.penalty) is not None
        if self.penalty is not None and not (exact or self.coder in ("auto", "fista", "ista")):
            raise ValueError(f"penalty: expected None with coder {self.coder!r}, which does not use one")
        self._check_unused("likelihood", "trials")
        self._check_unused("penalty", *_WEIGHTS, "nonnegative")
        self._check_unused(
            "coder", *_WEIGHTS, "nonnegative", "n_unfold", *([] if self.debias else ["n_nonzero"])
        )
        self._check_unused("optimizer", "learning_rate")
        self._check_unused("rule", "gradient", "n_updates", "optimizer", "learning_rate")
        if isinstance(self.rule, ConvolutionalRule):
            self._check_unused(
                "rule",
                "coder",
                "penalty",
                *_WEIGHTS,
                "n_nonzero",
                "nonnegative",
                "n_unfold",
                "debias",
                "robust",
            )
            if self.rule.stride != self.stride:
                raise ValueError(f"stride: expected {self.rule.stride}, that of the rule, got {self.stride}")
        if not (self.offset is None or self.offset == "estimate" or is_number(self.offset)):
            raise ValueError(f"offset: expected a finite number, 'estimate' or None, got {self.offset!r}")
        if not (self.detrend in (None, "auto", "constant", "linear") or is_integer(self.detrend)):
            raise ValueError(
                "detrend: expected 'auto', 'constant', 'linear', a number of samples or None, "
                f"got {self.detrend!r:.60}"
            )
        if is_integer(self.detrend):
            check_integer("detrend", self.detrend)
        if self.detrend not in (None, "auto"):
            if not isinstance(self._likelihood(), Gaussian):
                self._refuse(f"likelihood {self.likelihood!r:.60}", "detrend")
            if self.offset == "estimate":
                self._refuse("offset = 'estimate'", "detrend")

    def _refuse_unused(self) -> None:
        """Raise ValueError for parameters without effect on learning; afterwards the coder may change."""
        if isinstance(self.coder, str):
            unused = [name for name in CODERS[self.coder] if not (self.debias and name == "n_nonzero")]
            self._refuse(f"coder {self.coder!r}", *unused)
        if isinstance(self.likelihood, str) and self.likelihood != "binomial":
            self._refuse(f"likelihood {self.likelihood!r}", "trials")
        if self.rule is None and self.robust is not None and not self._is_online():
            self._refuse("another optimizer than 'online'", "robust")

    def _sizes(self) -> tuple[Any, ...]:
        """Return the sizes of a filter: one for each axis, or one for all axes."""
        if self.kernel_seconds is not None:
            return (self._samples_of_kernel(),)
        size = self._or_of_init("kernel_size", lambda filters: filters[2:])
        return tuple(size) if isinstance(size, tuple | list) else (size,)

    def _kernel(self, n_axes: int) -> tuple[int, ...]:
        sizes = self._sizes()
        for name in ("kernel_seconds", "sampling_rate"):
            if getattr(self, name) is not None and n_axes > 1:
                raise ValueError(f"{name}: expected None for signals with {n_axes} spatial axes")
        if len(sizes) == 1 and not isinstance(self.kernel_size, tuple | list):
            return sizes * n_axes
        if len(sizes) != n_axes:
            raise ValueError(
                f"kernel_size: expected {n_axes} numbers, one for each spatial axis of X, got {sizes}"
            )
        return sizes

    def _number_of_atoms(self) -> int:
        return self._or_of_init("n_components", lambda filters: filters[0])

    def _or_of_init(self, name: str, read: Callable[[tuple[int, ...]], Any]) -> Any:
        """Return a parameter, or what the shape of given initial filters says if it is the default."""
        given, default = getattr(self, name), inspect.signature(type(self).__init__).parameters[name].default
        return given if isinstance(self.init, str) or given != default else read(np.shape(self.init))

    def _likelihood(self) -> Likelihood:
        if not isinstance(self.likelihood, str):
            return self.likelihood
        check_one_of("likelihood", self.likelihood, FAMILIES)
        family = FAMILIES[self.likelihood]
        return family(self.trials) if family is Binomial else family()

    def _fits_baseline(self, offset: Any) -> bool:
        counts = isinstance(self._likelihood(), Binomial | Poisson)
        return offset is None and (self.offset == "estimate" or (self.offset is None and counts))

    def _constant_offset(self) -> float:
        return float(self.offset) if is_number(self.offset) else 0.0

    def _trend(self, offset: Any, kernel: tuple[int, ...]) -> Trend | None:
        """Return how the baselines of signals are found, for these offsets of the signals."""
        if self.detrend is None or not isinstance(self._likelihood(), Gaussian):
            return None
        if self.detrend == "auto":
            known = offset is not None or self.offset is not None or isinstance(self.rule, ConvolutionalRule)
            return None if known else Trend("linear", width=math.prod(kernel))
        return Trend(cast(Any, self.detrend))

    def _make_coder(self, n_axes: int, alpha: float | None, *, learning: bool) -> Coder:
        if not isinstance(self.coder, str):
            return self.coder
        if self.coder == "bcomp":
            assert self.n_nonzero is not None
            return ConvolutionalPursuitCoder(self.n_nonzero, nonnegative=self.nonnegative)
        penalty = (NonNegativeL1 if self.nonnegative else L1)(alpha or 0.0)
        if self.coder == "exact" or (self.coder == "auto" and self._can_be_exact(n_axes)):
            known = _weights(self.penalty or penalty)
            assert known is not None
            coder = ConvolutionalLassoCoder(**known)
            return replace(coder, tol=_LEARNING_TOL) if learning else coder
        return ProximalCoder(
            self.penalty or penalty,
            self.n_unfold,
            solver="ista" if self.coder == "ista" else "fista",
            nonnegative=_is_nonnegative(self.penalty or penalty),
        )

    def _decays(self) -> bool:
        """Return whether filters begin with the event, where no centring may move them."""
        return self.filters is not None and self.filters.autoregressive is not None

    def _can_be_exact(self, n_axes: int) -> bool:
        """Return whether coder "exact" takes the problem, and the parameters do not speak of another."""
        default = inspect.signature(type(self).__init__).parameters["n_unfold"].default
        plain = self.penalty is None or _weights(self.penalty) is not None
        plain = plain and self.n_unfold == default
        fits = self.stride == 1 and n_axes <= 2 and self.gradient == "dec"
        return plain and fits and isinstance(self._likelihood(), Gaussian) and self.device in (None, "cpu")

    def _is_online(self) -> bool:
        """Return whether filters move to the minimum of the loss with the codes of a pass."""
        if self.optimizer != "auto":
            return isinstance(self.optimizer, str) and self.optimizer == "online"
        default = inspect.signature(type(self).__init__).parameters["learning_rate"].default
        quadratic = isinstance(self._likelihood(), Gaussian) and self.gradient == "dec"
        return quadratic and self.learning_rate == default

    def _require_quadratic(self) -> None:
        """Raise ValueError for parameters that optimizer "online" does not take."""
        if not isinstance(self._likelihood(), Gaussian):
            raise ValueError(
                f"optimizer: expected 'adam', 'sgd' or a callable with likelihood {self.likelihood!r:.60}; "
                "'online' needs gaussian data"
            )
        self._refuse("optimizer 'online'", "gradient", "learning_rate")

    def _make_rule(self, baseline: bool, n_axes: int, n_steps: int | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        own = self.rule is None or isinstance(self.rule, ConvolutionalRule)
        if not own:
            return self.rule
        return self._convolutional_rule(baseline, n_axes, getattr(self, "alpha_", None), n_steps)

    def _convolutional_rule(
        self,
        baseline: bool,
        n_axes: int,
        alpha: float | None,
        n_steps: int | None = None,
        *,
        learning: bool = True,
    ) -> ConvolutionalRule:
        if isinstance(self.rule, ConvolutionalRule):
            return replace(self.rule, baseline=baseline or self.rule.baseline)
        common: dict[str, Any] = {
            "stride": self.stride,
            "debias": peak_radius(self._sizes()) if self.debias else None,
            "n_peaks": self.n_nonzero if self.debias else None,
            "baseline": baseline,
            "centre": isinstance(self.init, str) and not self._decays(),
            "filters": self.filters,
        }
        coder = self._make_coder(n_axes, alpha, learning=learning)
        if self._is_online():
            updates: dict[str, Any] = {} if self.n_updates is None else {"n_updates": self.n_updates}
            return ConvolutionalOnline(coder, horizon=n_steps, robust=self.robust, **common, **updates)
        optimizer: Any = "adam" if self.optimizer == "auto" else self.optimizer
        if isinstance(optimizer, str):
            optimizer = partial(OPTIMIZERS[optimizer], lr=float(self.learning_rate))
        n_updates = self.n_updates or (_UPDATES if self.gradient == "dec" else 1)
        return Convolutional(
            coder, gradient=self.gradient, n_updates=n_updates, optimizer=optimizer, **common
        )


def _weights(penalty: Penalty | None) -> dict[str, Any] | None:
    """Return what coder "exact" is told of a penalty; None if it does not take it."""
    if not isinstance(penalty, L1 | NonNegativeL1 | ElasticNet) or isinstance(penalty.alpha, Tensor):
        return None
    if not penalty.alpha > 0:
        return None
    ridge = penalty.ridge if isinstance(penalty, ElasticNet) else 0.0
    return {
        "alpha": float(penalty.alpha), "ridge": float(ridge), "nonnegative": _is_nonnegative(penalty),
    }  # fmt: skip


def _is_nonnegative(penalty: Penalty) -> bool:
    return isinstance(penalty, NonNegativeL1) or bool(getattr(penalty, "nonnegative", False))
