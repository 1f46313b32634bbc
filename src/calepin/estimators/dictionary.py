"""Dictionary learning with a dense dictionary, in scikit-learn's conventions."""

import os
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from calepin.core.checks import check_integer, check_one_of
from calepin.estimators._base import BaseLearner, on_device
from calepin.learning.atoms import AtomSet
from calepin.learning.rule import Rule
from calepin.learning.rules.classical import KSVD, MOD, NOODL, ClassicalRule, Online
from calepin.learning.train import Callback
from calepin.penalties import Penalty
from calepin.problem import Problem
from calepin.solvers.coders.coder import Coder, objective
from calepin.solvers.coders.encode import dense_problem
from calepin.solvers.coders.lasso import LassoCoder
from calepin.solvers.coders.proximal import ProximalCoder
from calepin.solvers.coders.pursuit import PursuitCoder
from calepin.solvers.coders.thresholding import IHTCoder

__all__ = ["DictionaryLearner"]

RULES: dict[str, type[ClassicalRule]] = {rule.name: rule for rule in (Online, MOD, KSVD, NOODL)}
CODERS = ("lasso", "omp", "ols", "iht")


class DictionaryLearner(BaseLearner):
    """Learn atoms such that each sample is a sparse combination of a few of them.

    Minimises the mean over samples of ``0.5 * ||x - z D||^2 + alpha * ||z||_1`` (or with at most
    ``n_nonzero`` entries in each z) over codes z and atoms D, the rows of ``components_``, which
    stay in the unit ball (online, mod) or on the unit sphere (ksvd, noodl).

    Parameters
    ----------
    n_components : int, optional
        Number of atoms. Default: the number of features.
    alpha : float, default=1.0
        Weight of the l1 norm (coder "lasso"), or the magnitude up to which a coefficient is set to
        zero (coder "iht": the papers' HT_b).
    rule : {"online", "mod", "ksvd", "noodl"} or Rule, default="online"
        How atoms move: Mairal et al. (2009), Engan et al. (1999), Rubinstein et al. (2008),
        Rambhatla et al. (2019). A `Rule` of your own brings its own coder for `fit`.
    coder : {"lasso", "omp", "ols", "iht"} or Coder, optional
        How samples are coded, in `fit` and in `transform`: exact lasso, orthogonal matching
        pursuit, orthogonal least squares, iterative hard thresholding. Default: "iht" for noodl, that of
        `rule` if it is an object with one, else "lasso".
    penalty : Penalty, optional
        Instead of alpha ||z||_1: codes minimise ``0.5 ||x - z D||^2 + penalty(z)``, by FISTA.
    n_nonzero : int, optional
        Atoms in a code of coder "omp" and "ols". Default: a tenth of the features, at least 1.
    nonnegative, nonnegative_atoms : bool, default=False
        Keep the codes, or the atoms, nonnegative.
    init : {"data", "dct", "random"} or array (n_components, n_features), default="data"
        Where the atoms start.
    batch_size : int or "auto", default="auto"
        Samples in a step. "auto": 512, and all samples for ksvd.
    max_iter : int, default=30
        Passes over the data, at most.
    tol : float, default=1e-3
        Stop when a pass changes the mean objective by less than this share of it; 0 never stops.
    missing : {"error", "allow"}, default="error"
        Whether NaN marks a missing entry.
    checkpoint : path, optional
        File that receives the state of the run at its end, on Ctrl-C, and every minute.
    resume : bool, default=False
        Go on from `checkpoint` where that file exists.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the order of the samples and of the first atoms.
    device : str, optional
        "cuda" works in torch on that device. Default: compiled code on the CPU.
    verbose : bool, default=False
        Show a progress bar.

    Attributes
    ----------
    components_ : ndarray (n_components, n_features)
        The atoms.
    n_iter_ : int
        Passes done.
    n_steps_ : int
        Batches done.
    converged_ : bool
        Whether `tol` ended the fit.
    history_ : list of dict
        For each pass: pass, objective, seconds, n_replaced (idle atoms that gave way to badly
        represented samples).
    n_features_in_ : int
        Features seen by `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from calepin import DictionaryLearner
    >>> X = np.random.default_rng(0).standard_normal((200, 16))
    >>> learner = DictionaryLearner(32, alpha=0.5, random_state=0).fit(X)
    >>> learner.transform(X).shape
    (200, 32)
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        alpha: float = 1.0,
        rule: Literal["online", "mod", "ksvd", "noodl"] | Rule = "online",
        coder: Literal["lasso", "omp", "ols", "iht"] | Coder | None = None,
        penalty: Penalty | None = None,
        n_nonzero: int | None = None,
        nonnegative: bool = False,
        nonnegative_atoms: bool = False,
        init: str | np.ndarray = "data",
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 30,
        tol: float = 1e-3,
        missing: Literal["error", "allow"] = "error",
        checkpoint: str | os.PathLike | None = None,
        resume: bool = False,
        random_state: Any = None,
        device: str | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.rule = rule
        self.coder = coder
        self.penalty = penalty
        self.n_nonzero = n_nonzero
        self.nonnegative = nonnegative
        self.nonnegative_atoms = nonnegative_atoms
        self.init = init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.missing = missing
        self.checkpoint = checkpoint
        self.resume = resume
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, mask: Any = None, callbacks: Sequence[Callback] = ()) -> Self:
        """Learn the atoms.

        Parameters
        ----------
        X : array (n_samples, n_features), or iterable of such arrays
            In memory or memory-mapped; of an iterable each pass begins a new iteration.
        y : ignored
        mask : bool array of X's shape, optional
            True where X was observed.
        callbacks : sequence of callables
            Each is called with the `TrainState` after every batch; a true result ends the fit.

        Raises
        ------
        ValueError
            A parameter or the data is not what is documented.
        calepin.learning.DivergedError
            The objective became NaN or infinite.
        """
        return self._fit(X, mask, callbacks)

    def partial_fit(self, X: Any, y: Any = None, *, mask: Any = None) -> Self:
        """Take one pass over `X` from where the last call, or `fit`, left off.

        Rule "online" weighs all calls together, which makes it the one for streams.

        Parameters
        ----------
        X : array (n_samples, n_features)
            New samples.
        y : ignored
        mask : bool array of X's shape, optional
            True where X was observed.
        """
        return self._partial_fit(X, mask)

    def transform(
        self, X: Any, *, mask: Any = None, alpha: float | None = None, n_nonzero: int | None = None
    ) -> np.ndarray:
        """Return the codes (n_samples, n_components) of samples, by the coder and penalty of `fit`.

        Parameters
        ----------
        X : array (n_samples, n_features)
            Samples.
        mask : bool array of X's shape, optional
            True where X was observed.
        alpha, n_nonzero : optional
            Use these instead of the fit's.
        """
        check_is_fitted(self, "components_")
        X, mask = self._validate(X, mask, reset=False)
        coder = self._coder(alpha=alpha, n_nonzero=n_nonzero)
        return coder.encode(self._problem(X, mask)).dense().detach().cpu().numpy()

    def score(self, X: Any, y: Any = None, *, mask: Any = None) -> float:
        """Return minus the mean objective of samples: larger is better."""
        check_is_fitted(self, "components_")
        X, mask = self._validate(X, mask, reset=False)
        problem, coder = self._problem(X, mask), self._coder()
        return -float(objective(problem, coder.encode(problem), coder.penalty).mean())

    @property
    def _takes_missing(self) -> bool:
        return self.missing == "allow"

    @property
    def _automatic_batch_size(self) -> int | None:
        return None if self.rule == "ksvd" else super()._automatic_batch_size

    def _check_parameters(self) -> None:
        if isinstance(self.rule, str):
            check_one_of("rule", self.rule, sorted(RULES))
        if isinstance(self.coder, str):
            check_one_of("coder", self.coder, CODERS)
        check_one_of("missing", self.missing, ("error", "allow"))
        check_integer("n_components", self.n_components, optional=True)
        check_integer("n_nonzero", self.n_nonzero, optional=True)
        if self.penalty is not None and self.coder not in (None, "lasso"):
            raise ValueError(f"penalty: expected None with coder {self.coder!r}, which does not use one")
        super()._check_parameters()

    def _make_rule(self, n_steps: int | None) -> Any:
        if not isinstance(self.rule, str):
            return self.rule
        coder = self._coder()
        sphere = self.rule in ("ksvd", "noodl") or coder.penalty is None or isinstance(coder, IHTCoder)
        atom_set = AtomSet("sphere" if sphere else "ball", self.nonnegative_atoms)
        if self.rule == "online":
            return Online(coder, atom_set, horizon=n_steps)
        return RULES[self.rule](coder, atom_set)

    def _coder(self, *, alpha: float | None = None, n_nonzero: int | None = None) -> Coder:
        own = None if isinstance(self.rule, str) else getattr(self.rule, "coder", None)
        coder = self.coder or own or ("iht" if self.rule == "noodl" else "lasso")
        if not isinstance(coder, str):
            for name, value in (("alpha", alpha), ("n_nonzero", n_nonzero)):
                if value is not None:
                    raise ValueError(f"{name}: expected None with a coder that has its own, got {value!r}")
            return coder
        alpha = self.alpha if alpha is None else alpha
        if coder == "lasso":
            if self.penalty is not None:
                return ProximalCoder(self.penalty, nonnegative=self.nonnegative)
            return LassoCoder(alpha, nonnegative=self.nonnegative, certify=False)
        if coder == "iht":
            return IHTCoder(alpha, nonnegative=self.nonnegative)
        n_nonzero = self.n_nonzero if n_nonzero is None else n_nonzero
        if n_nonzero is None:
            n_nonzero = max(1, self.n_features_in_ // 10)
        selection = "ols" if coder == "ols" else "omp"
        return PursuitCoder(n_nonzero, nonnegative=self.nonnegative, selection=selection, certify=False)

    def _problem(self, X: np.ndarray, mask: np.ndarray | None) -> Problem:
        atoms = self.components_.astype(X.dtype, copy=False)
        return dense_problem(*(on_device(self.device, values) for values in (X, atoms, mask)))
