"""Dictionary learning through unfolded sparse coding, in scikit-learn's conventions."""

import math
import os
from collections.abc import Sequence
from functools import partial
from numbers import Real
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from calepin.estimators._base import BaseLearner, on_device, one_of, positive_integer
from calepin.learning.atoms import AtomSet
from calepin.learning.gradients import Differentiate, GradientRule, UnfoldedSolver
from calepin.learning.optimizers import Optimizer
from calepin.learning.rules.unrolled import Unfolded
from calepin.learning.train import Callback
from calepin.penalties import L1, HardThreshold, NonNegativeL1

__all__ = ["UnfoldedDictionaryLearner"]

PENALTIES = {"l1": L1, "nonnegative-l1": NonNegativeL1, "hard": HardThreshold}
OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
ATOMS = ("sphere", "ball", "tangent")
BLOCK = 4096  # samples coded at once


class UnfoldedDictionaryLearner(BaseLearner):
    """Learn atoms by back-propagation through layers of sparse coding (PUDLE).

    An encoder of `n_unfold` layers codes a sample x from zero, a linear decoder explains it,

        z <- prox( z - step * (z D - x) D^T ),      loss = 0.5 * ||x - z D||^2 (+ alpha * ||z||_1)

    and an optimiser moves the atoms D, the rows of ``components_``, along the loss's gradient (Tolooshams
    and Ba, "Stable and interpretable unrolled dictionary learning", 2022). Compared with
    `DictionaryLearner`, which holds codes fixed while atoms move, "ae-ls" is less biased by the penalty
    and ends nearer to the dictionary that made the data.

    Parameters
    ----------
    n_components : int, optional
        Number of atoms. Default: the number of features.
    alpha : float, default=0.1
        Weight of the l1 norm, or, with penalty "hard", the magnitude under which a coefficient is set to
        zero in every layer.
    penalty : {"l1", "nonnegative-l1", "hard"}, default="l1"
        Nonlinearity of the layers: two-sided or one-sided soft threshold, hard threshold.
    rule : {"dec", "ae-lasso", "ae-ls"}, default="ae-ls"
        What the gradient is of: "dec" through the decoder alone, codes held fixed; "ae-lasso" through
        both, with the penalty in the loss; "ae-ls" through both, without.
    n_unfold : int, default=50
        Layers of the encoder; unused with differentiate "implicit".
    step : float, optional
        Step size of the layers. Default: 1 / L, with L the squared spectral norm of the atoms at hand.
        Above 1 / L a warning says so; 2 / L and more is an error.
    solver : {"ista", "fista"}, default="ista"
        Layers without or with momentum.
    differentiate : {"unroll", "last-k", "implicit"}, default="unroll"
        Back-propagate through all layers, through the last `last_k`, or through the exact lasso solution:
        the gradient of infinitely many layers, at constant memory and mostly faster. "implicit" needs an
        l1 penalty without decay.
    last_k : int, optional
        Layers to differentiate, with "last-k" only.
    checkpoint_every : int, optional
        Keep only every that many layers in memory; about the square root of `n_unfold` needs least.
    decay, decay_drop, decay_every : float, float, int, default=1.0, 0.0, 30
        From layer to layer alpha is multiplied by beta, which begins at `decay` and falls by `decay_drop`
        after every `decay_every` steps of the optimiser. Removes the bias of the amplitudes.
    learn_step, learn_threshold : bool, default=False
        Let the optimiser move the step size, and an alpha of each atom, too; not with "dec".
    optimizer : {"adam", "sgd"} or callable, default="adam"
        A callable makes a torch optimiser of a list of parameters:
        ``partial(torch.optim.AdamW, lr=1e-3)``.
    learning_rate : float, default=1e-3
        Of "adam" and "sgd"; a callable brings its own.
    atoms : {"sphere", "ball", "tangent"}, default="sphere"
        After every step atoms are normalised, or shortened where they are longer than one; "tangent"
        normalises and takes from the gradient the part along each atom before.
    init : {"data", "dct", "random"} or array (n_components, n_features), default="data"
        Where the atoms start.
    batch_size : int or "auto", default="auto"
        Samples in a step. "auto": 512.
    max_iter : int, default=30
        Passes over the data, at most.
    tol : float, default=1e-3
        Stop when a pass changes the mean objective by less than this share of it; 0 never stops.
    checkpoint : path, optional
        File that receives the state of the run at its end, on Ctrl-C, and every minute.
    resume : bool, default=False
        Go on from `checkpoint` where that file exists.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the order of the samples and of the first atoms.
    device : str, optional
        Where to compute, "cuda" for example. Default: the CPU.
    verbose : bool, default=False
        Show a progress bar.

    Attributes
    ----------
    components_ : ndarray (n_components, n_features)
        The atoms.
    step_ : float
        The learned step size, with `learn_step`.
    alpha_ : ndarray (n_components,)
        The learned weights of the atoms, with `learn_threshold`.
    n_iter_, n_steps_ : int
        Passes, and batches, done.
    converged_ : bool
        Whether `tol` ended the fit.
    history_ : list of dict
        For each pass: pass, objective, seconds, n_replaced (always 0: every atom keeps its place).
    n_features_in_ : int
        Features seen by `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from calepin import UnfoldedDictionaryLearner
    >>> X = np.random.default_rng(0).standard_normal((200, 16))
    >>> learner = UnfoldedDictionaryLearner(32, alpha=0.5, n_unfold=10, max_iter=3, random_state=0).fit(X)
    >>> learner.transform(X).shape
    (200, 32)
    """

    rule: GradientRule
    solver: UnfoldedSolver
    differentiate: Differentiate
    atoms: Literal["sphere", "ball", "tangent"]

    step_: float
    alpha_: np.ndarray

    def __init__(
        self,
        n_components: int | None = None,
        *,
        alpha: float = 0.1,
        penalty: Literal["l1", "nonnegative-l1", "hard"] = "l1",
        rule: GradientRule = "ae-ls",
        n_unfold: int = 50,
        step: float | None = None,
        solver: UnfoldedSolver = "ista",
        differentiate: Differentiate = "unroll",
        last_k: int | None = None,
        checkpoint_every: int | None = None,
        decay: float = 1.0,
        decay_drop: float = 0.0,
        decay_every: int = 30,
        learn_step: bool = False,
        learn_threshold: bool = False,
        optimizer: Literal["adam", "sgd"] | Optimizer = "adam",
        learning_rate: float = 1e-3,
        atoms: Literal["sphere", "ball", "tangent"] = "sphere",
        init: str | np.ndarray = "data",
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 30,
        tol: float = 1e-3,
        checkpoint: str | os.PathLike | None = None,
        resume: bool = False,
        random_state: Any = None,
        device: str | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.penalty = penalty
        self.rule = rule
        self.n_unfold = n_unfold
        self.step = step
        self.solver = solver
        self.differentiate = differentiate
        self.last_k = last_k
        self.checkpoint_every = checkpoint_every
        self.decay = decay
        self.decay_drop = decay_drop
        self.decay_every = decay_every
        self.learn_step = learn_step
        self.learn_threshold = learn_threshold
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.atoms = atoms
        self.init = init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.checkpoint = checkpoint
        self.resume = resume
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, callbacks: Sequence[Callback] = ()) -> Self:
        """Learn the atoms.

        Parameters
        ----------
        X : array (n_samples, n_features), or iterable of such arrays
            In memory or memory-mapped; of an iterable each pass begins a new iteration.
        y : ignored
        callbacks : sequence of callables
            Each is called with the `TrainState` after every batch; a true result ends the fit.

        Raises
        ------
        ValueError
            A parameter or the data is not what is documented, or `step` is 2 / L or more.
        calepin.learning.DivergedError
            Atoms, a gradient or the objective became NaN or infinite; the last checkpoint is kept.

        Warns
        -----
        RuntimeWarning
            A `step` above 1 / L, or an `alpha` so large that all codes of a batch vanish.
        """
        return self._fit(X, None, callbacks)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Take one pass over `X` from where the last call, or `fit`, left off.

        Parameters
        ----------
        X : array (n_samples, n_features)
            New samples.
        y : ignored
        """
        return self._partial_fit(X, None)

    def transform(self, X: Any) -> np.ndarray:
        """Return the codes (n_samples, n_components) of samples, by the encoder of `fit`.

        They are what the layers give, or the exact lasso codes with differentiate "implicit", so that
        ``inverse_transform(transform(X))`` is what the network makes of X. `calepin.sparse_encode` has
        exact codes for any atoms.

        Parameters
        ----------
        X : array (n_samples, n_features)
            Samples.
        """
        codes, _ = self._encode(X)
        return codes

    def score(self, X: Any, y: Any = None) -> float:
        """Return minus the mean of half the squared error plus the penalty: larger is better.

        A hard threshold has no penalty.
        """
        _, objective = self._encode(X)
        return -float(objective.mean())

    def _encode(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return codes and objectives of samples."""
        check_is_fitted(self, "components_")
        X, _ = self._validate(X, None, reset=False)
        self._check_parameters()
        rule = self._make_rule(None)
        arrays = self._fitted_arrays(X.dtype)
        codes = np.empty((len(X), len(self.components_)), X.dtype)
        objective = np.empty(len(X))
        for start in range(0, len(X), BLOCK):
            rows = slice(start, start + BLOCK)
            block = np.ascontiguousarray(X[rows])
            codes[rows] = rule.encode(arrays, block)
            objective[rows] = rule.objective(arrays, block, codes[rows])
        return codes, objective

    def _fitted_arrays(self, dtype: np.dtype) -> dict[str, Any]:
        """Return what the rule codes with: what was learned, and the place in the decay's schedule."""
        learned = {"atoms": self.components_, **self._arrays_to_save()}
        arrays = {name: on_device(self.device, values.astype(dtype)) for name, values in learned.items()}
        # the codes of the last step, not those of a step that was never taken
        return arrays | {"t": np.array([max(getattr(self, "n_steps_", 0) - 1, 0)])}

    def _check_parameters(self) -> None:
        one_of("penalty", self.penalty, list(PENALTIES))
        one_of("rule", self.rule, get_args(GradientRule))
        one_of("solver", self.solver, get_args(UnfoldedSolver))
        one_of("differentiate", self.differentiate, get_args(Differentiate))
        one_of("atoms", self.atoms, ATOMS)
        if not callable(self.optimizer):
            one_of("optimizer", self.optimizer, list(OPTIMIZERS))
        positive_integer("n_unfold", self.n_unfold)
        positive_integer("decay_every", self.decay_every)
        for name in ("alpha", "learning_rate"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not 0 < float(value) < math.inf:
                raise ValueError(f"{name}: expected a finite number > 0, got {value!r}")
        super()._check_parameters()

    def _make_rule(self, n_steps: int | None) -> Unfolded:
        optimizer: Any = self.optimizer
        if isinstance(optimizer, str):
            optimizer = partial(OPTIMIZERS[optimizer], lr=float(self.learning_rate))
        return Unfolded(
            PENALTIES[self.penalty](float(self.alpha)),
            n_unfold=self.n_unfold,
            step_size=self.step,
            gradient=self.rule,
            solver=self.solver,
            differentiate=self.differentiate,
            last_k=self.last_k,
            checkpoint_every=self.checkpoint_every,
            decay=self.decay,
            decay_drop=self.decay_drop,
            decay_every=self.decay_every,
            optimizer=optimizer,
            atom_set=AtomSet("ball" if self.atoms == "ball" else "sphere"),
            tangent=self.atoms == "tangent",
            learn_step=self.learn_step,
            learn_threshold=self.learn_threshold,
        )

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        learned = {}
        if self.learn_step:
            learned["step"] = np.array([self.step_])
        if self.learn_threshold:
            learned["alpha"] = self.alpha_
        return learned

    def _take_learned(self, arrays: dict[str, Any]) -> None:
        for name in {"step", "alpha"} & arrays.keys():
            values = torch.as_tensor(arrays[name]).cpu().numpy()
            setattr(self, f"{name}_", float(values[0]) if name == "step" else values)
