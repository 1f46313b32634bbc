"""Estimator of dictionary learning through unfolded sparse coding, in scikit-learn's conventions."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from calepin.core.checkpoint import CHECKPOINT_SECONDS
from calepin.core.checks import check_integer, check_number, check_one_of
from calepin.estimators._base import BaseLearner, on_device
from calepin.estimators._samples import joined
from calepin.learning.atoms import AtomSet
from calepin.learning.batches import Batches
from calepin.learning.centring import warn_if_means_dominate
from calepin.learning.optimizers import Optimizer
from calepin.learning.rule import Rule
from calepin.learning.rules.unrolled import Unfolded
from calepin.learning.train import Callback
from calepin.likelihoods import Gaussian, Likelihood
from calepin.penalties import L1, HardThreshold, NonNegativeL1, Penalty
from calepin.solvers.coders.coder import GradientRule
from calepin.solvers.coders.proximal import Differentiate, UnfoldedSolver

__all__ = ["UnfoldedDictionaryLearner"]

PENALTIES = {"l1": L1, "nonnegative-l1": NonNegativeL1, "hard": HardThreshold}
OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
ATOMS = ("sphere", "ball", "tangent")
ENCODER = (
    "alpha", "penalty", "likelihood", "n_unfold", "step_size", "solver", "decay", "decay_drop", "decay_every",
)  # fmt: skip
UPDATE = (
    "gradient", "differentiate", "last_k", "checkpoint_every", "optimizer", "learning_rate", "atoms",
    "learn_step", "learn_threshold",
)  # fmt: skip
BLOCK = 4096  # samples coded together


class UnfoldedDictionaryLearner(BaseLearner):
    """Learn atoms by back-propagation through layers of sparse coding (PUDLE).

    An encoder of `n_unfold` layers computes the code z of a sample x, starting at zero. A linear decoder
    reconstructs the sample:

        z <- prox( z - step * (z D - x) D^T ),      loss = 0.5 * ||x - z D||^2 (+ alpha * ||z||_1)

    An optimiser minimises the loss over the atoms D, the rows of ``components_`` (Tolooshams and Ba, "Stable
    and interpretable unrolled dictionary learning", 2022). `DictionaryLearner` holds the codes constant
    while it updates the atoms. Compared with it, the gradient "ae-ls" has a smaller bias from the penalty,
    and the result is nearer to the dictionary that generated the data.

    Parameters
    ----------
    n_components : int, optional
        Number of atoms. Default: that of `init` if it is an array, otherwise the number of features.
    alpha : float, default=0.1
        Weight of the l1 norm. With penalty "hard", the threshold: in every layer, coefficients of at most
        this magnitude are set to zero.
    penalty : {"l1", "nonnegative-l1", "hard"} or Penalty, default="l1"
        Nonlinearity of the layers: soft threshold, one-sided soft threshold, hard threshold, or the proximal
        map of a penalty object, which has its own weight instead of `alpha`.
    likelihood : Likelihood, optional
        Family of the samples, Gaussian by default. Its negative log-likelihood is the loss.
    rule : Rule, optional
        Update rule of the atoms, in place of an optimiser with `gradient`. An `Unfolded` rule is also the
        encoder of `transform`.
    gradient : {"dec", "ae-lasso", "ae-ls"}, default="ae-ls"
        Gradient of the loss with respect to the atoms. "dec": through the decoder only, with constant codes.
        "ae-lasso": through encoder and decoder, with the penalty in the loss. "ae-ls": through both, without
        the penalty in the loss.
    n_unfold : int, default=50
        Number of layers of the encoder; not used with "implicit".
    step_size : float, optional
        Step size of the layers. Default: 1 / L, with L the squared spectral norm of the current atoms. A
        value above 1 / L raises a warning, a value of at least 2 / L an error.
    solver : {"ista", "fista"}, default="ista"
        Layers without ("ista") or with ("fista") momentum.
    differentiate : {"unroll", "last-k", "implicit"}, default="unroll"
        How the encoder is differentiated: through all layers, through the last `last_k` layers, or
        implicitly at the exact lasso solution. "implicit" gives the gradient of infinitely many layers,
        with constant memory and usually in less time. It needs an l1 penalty without decay.
    last_k : int, optional
        Number of layers to differentiate; with "last-k" only.
    checkpoint_every : int, optional
        Number of layers between those kept in memory; the others are recomputed in the backward pass. About
        the square root of `n_unfold` needs the least memory. Default: all layers are kept.
    decay, decay_drop, decay_every : float, float, int, default=1.0, 0.0, 30
        alpha is multiplied by beta from layer to layer, which reduces the bias of the amplitudes. beta is
        `decay` at first and decreases by `decay_drop` after every `decay_every` steps of the optimiser.
    learn_step, learn_threshold : bool, default=False
        Whether the step size, and one alpha for each atom, are learned too; not with "dec".
    optimizer : {"adam", "sgd"} or callable, default="adam"
        Optimiser of the atoms. A callable is a function from a list of parameters to a torch optimiser, for
        example ``partial(torch.optim.AdamW, lr=1e-3)``.
    learning_rate : float, default=1e-3
        Learning rate of "adam" and "sgd"; not used with a callable.
    atoms : {"sphere", "ball", "tangent"}, default="sphere"
        Constraint on the atoms. "sphere": they are normalised after every step. "ball": they are projected
        onto the unit ball after every step. "tangent": as "sphere", with the gradient projected onto the
        tangent space of the sphere.
    init : {"data", "dct", "random"} or array (n_components, n_features), default="data"
        Initialisation of the atoms: random samples, a cosine dictionary, random directions, or the atoms
        themselves.
    batch_size : int or "auto", default="auto"
        Number of samples in a mini-batch. "auto": 512.
    max_iter : int, default=30
        Maximal number of passes over the data.
    tol : float, default=1e-3
        Relative tolerance: stop when a pass changes the mean objective by at most this fraction. 0 disables
        this test.
    checkpoint : path, optional
        File to which the state of the run is written: at the end, on Ctrl-C or SIGTERM, and every
        `checkpoint_seconds`. If it cannot be written, the run continues with a warning. It is not stored in
        the file of the estimator.
    checkpoint_seconds : float, default=60.0
        Time between two checkpoints, in seconds.
    resume : bool, default=False
        Whether to resume the run from `checkpoint` if that file exists.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the order of the samples and of the initial atoms.
    device : str, optional
        Device of the computation, for example "cuda". Default: the CPU.
    verbose : bool, default=False
        Whether to show a progress bar.

    Attributes
    ----------
    components_ : ndarray (n_components, n_features)
        The atoms.
    step_size_ : float
        The learned step size, if `learn_step`.
    alpha_ : ndarray (n_components,)
        The learned weight of each atom, if `learn_threshold`.
    n_iter_, n_steps_ : int
        Number of passes and of mini-batches.
    converged_ : bool
        Whether the fit stopped because of `tol`.
    history_ : list of dict
        For each pass: pass, objective, seconds.
    n_features_in_ : int
        Number of features seen by `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from calepin import UnfoldedDictionaryLearner
    >>> X = np.random.default_rng(0).standard_normal((200, 16))
    >>> learner = UnfoldedDictionaryLearner(32, alpha=0.5, n_unfold=10, max_iter=3, random_state=0).fit(X)
    >>> learner.transform(X).shape
    (200, 32)
    """

    gradient: GradientRule
    solver: UnfoldedSolver
    differentiate: Differentiate
    atoms: Literal["sphere", "ball", "tangent"]

    step_size_: float
    alpha_: np.ndarray

    def __init__(
        self,
        n_components: int | None = None,
        *,
        alpha: float = 0.1,
        penalty: Literal["l1", "nonnegative-l1", "hard"] | Penalty = "l1",
        likelihood: Likelihood | None = None,
        rule: Rule | None = None,
        gradient: GradientRule = "ae-ls",
        n_unfold: int = 50,
        step_size: float | None = None,
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
        init: str | np.ndarray | Tensor = "data",
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 30,
        tol: float = 1e-3,
        checkpoint: str | os.PathLike | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        resume: bool = False,
        random_state: Any = None,
        device: str | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.penalty = penalty
        self.likelihood = likelihood
        self.rule = rule
        self.gradient = gradient
        self.n_unfold = n_unfold
        self.step_size = step_size
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
        self.checkpoint_seconds = checkpoint_seconds
        self.resume = resume
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, callbacks: Sequence[Callback] = ()) -> Self:
        """Learn the atoms.

        Parameters
        ----------
        X : array or sparse matrix (n_samples, n_features), or iterable of batches
            Samples; see `DictionaryLearner.fit`. An iterable is iterated over once in each pass.
        y : ignored
            Present for scikit-learn's conventions.
        callbacks : sequence of callables, default ()
            Functions that are called with the `TrainState` after every batch. If one returns True, the fit
            stops.

        Raises
        ------
        ValueError
            If a parameter or the data are invalid, or `step_size` is at least 2 / L.
        calepin.learning.DivergedError
            If atoms, a gradient or the objective become NaN or infinite. The last checkpoint is kept.

        Warns
        -----
        RuntimeWarning
            If `step_size` is above 1 / L, or `alpha` so large that all codes of a batch are zero.
        """
        return self._fit(X, None, callbacks)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Do one pass over `X`, continuing from the last call of `partial_fit` or `fit`.

        Parameters
        ----------
        X : array or sparse matrix (n_samples, n_features), or iterable of batches
            New samples; see `DictionaryLearner.fit`.
        y : ignored
            Present for scikit-learn's conventions.
        """
        return self._partial_fit(X, None)

    def transform(self, X: Any) -> np.ndarray:
        """Return the codes (n_samples, n_components) of samples, from the encoder of `fit`.

        They are the output of the last layer, or the exact lasso codes with "implicit". Hence
        ``inverse_transform(transform(X))`` is the output of the network. For exact codes with any atoms, see
        `calepin.sparse_encode`.

        Parameters
        ----------
        X : array or sparse matrix (n_samples, n_features), or iterable of batches
            Samples; see `DictionaryLearner.fit`.
        """
        return joined(codes for codes, _ in self._encode(X))

    def score(self, X: Any, y: Any = None) -> float:
        """Return the negative mean objective of samples; larger is better.

        The objective is half the squared error (in general the negative log-likelihood) plus the penalty. A
        hard threshold has no penalty.
        """
        return -float(joined(objective for _, objective in self._encode(X)).mean())

    def _encode(self, X: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield codes and objectives of samples, block by block."""
        check_is_fitted(self, "components_")
        self._check_parameters()
        for rows, _ in self._blocks(X):
            yield self._encode_rows(rows)

    def _encode_rows(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rule = self._unfolded()
        state = rule.init(torch.from_numpy(self.components_.astype(X.dtype)))
        self._resume_learned(state)
        # decay as in the last step of the fit
        state.n_steps = max(getattr(self, "n_steps_", 0) - 1, 0)
        state = state.to(self.device)
        codes = np.empty((len(X), len(self.components_)), X.dtype)
        objective = np.empty(len(X))
        for start in range(0, len(X), BLOCK):
            rows = slice(start, start + BLOCK)
            found, objective[rows] = rule.encode(state, on_device(self.device, X[rows]))
            codes[rows] = found.cpu().numpy()
        return codes, objective

    def _batches(self, X: Any, mask: Any, seed: int, *, reset: bool) -> Batches:
        data = super()._batches(X, mask, seed, reset=reset)
        rule = self._unfolded()
        if reset and isinstance(rule.likelihood, Gaussian) and isinstance(rule.penalty, L1):
            warn_if_means_dominate(data, "subtract them from X")
        return data

    def _check_parameters(self) -> None:
        if isinstance(self.penalty, str):
            check_one_of("penalty", self.penalty, PENALTIES)
        check_one_of("gradient", self.gradient, get_args(GradientRule))
        check_one_of("solver", self.solver, get_args(UnfoldedSolver))
        check_one_of("differentiate", self.differentiate, get_args(Differentiate))
        check_one_of("atoms", self.atoms, ATOMS)
        if isinstance(self.optimizer, str):
            check_one_of("optimizer", self.optimizer, OPTIMIZERS)
        check_integer("n_components", self.n_components, optional=True)
        check_integer("n_unfold", self.n_unfold)
        check_integer("decay_every", self.decay_every)
        check_number("alpha", self.alpha, above=0)
        check_number("learning_rate", self.learning_rate, above=0)
        if self.step_size is None and getattr(self.likelihood, "curvature", 0.0) is None:
            raise ValueError(
                f"step_size: expected a number, because {type(self.likelihood).__name__} has no bound of its "
                "curvature, got None"
            )
        if self.differentiate == "implicit":
            self._refuse("differentiate 'implicit'", "n_unfold", "solver", "checkpoint_every")
        self._check_unused("penalty", "alpha")
        self._check_unused("optimizer", "learning_rate")
        self._check_unused("rule", *(ENCODER + UPDATE if isinstance(self.rule, Unfolded) else UPDATE))
        super()._check_parameters()

    def _make_rule(self, n_steps: int | None) -> Any:
        return self._unfolded() if self.rule is None else self.rule

    def _unfolded(self) -> Unfolded:
        if isinstance(self.rule, Unfolded):
            return self.rule
        optimizer: Any = self.optimizer
        if isinstance(optimizer, str):
            optimizer = partial(OPTIMIZERS[optimizer], lr=float(self.learning_rate))
        penalty = self.penalty
        return Unfolded(
            PENALTIES[penalty](float(self.alpha)) if isinstance(penalty, str) else penalty,
            n_unfold=self.n_unfold,
            step_size=self.step_size,
            gradient=self.gradient,
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
            likelihood=Gaussian() if self.likelihood is None else self.likelihood,
            learn_step=self.learn_step,
            learn_threshold=self.learn_threshold,
        )

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        learned = {}
        if hasattr(self, "step_size_"):
            learned["step_size"] = np.array([self.step_size_])
        if hasattr(self, "alpha_"):
            learned["alpha"] = self.alpha_
        return learned

    def _load_learned(self, arrays: dict[str, np.ndarray]) -> None:
        for name, shape in {"step_size": (1,), "alpha": (len(self.components_),)}.items():
            if name in arrays and (arrays[name].shape != shape or not np.isfinite(arrays[name]).all()):
                raise ValueError(f"{name}: expected finite values of shape {shape}")
        if "step_size" in arrays:
            self.step_size_ = float(arrays["step_size"][0])
        if "alpha" in arrays:
            self.alpha_ = arrays["alpha"]

    def _read_learned(self, learned: Any) -> None:
        for name in ("step_size_", "alpha_"):
            vars(self).pop(name, None)  # of an earlier fit, which learned them
        if getattr(learned, "step_size", None) is not None:
            self.step_size_ = float(learned.step_size[0])
        if getattr(learned, "alpha", None) is not None:
            self.alpha_ = learned.alpha.detach().cpu().numpy()

    def _resume_learned(self, learned: Any) -> None:
        for name, values in self._arrays_to_save().items():
            known = getattr(learned, name, None)
            if known is None:
                raise ValueError(
                    f"learn_{'step' if name == 'step_size' else 'threshold'}: expected True, as in the fit, "
                    "whose layers have learned it; fit again"
                )
            known.copy_(torch.from_numpy(values))
        learned.n_steps = getattr(self, "n_steps_", 0)  # the penalty decays with the steps
