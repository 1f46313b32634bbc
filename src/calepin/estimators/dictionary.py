"""Dictionary learning with a dense dictionary, in scikit-learn's conventions."""

import os
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from calepin.estimators._base import BaseLearner, on_device, one_of, positive_integer
from calepin.learning.atoms import AtomSet
from calepin.learning.rules.classical import KSVD, MOD, NOODL, ClassicalRule, Coder, Online
from calepin.learning.train import Callback
from calepin.solvers.coders.encode import IHTCoder, LassoCoder, PursuitCoder, objective

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
        Weight of the l1 norm (coder "lasso"), or the magnitude under which a coefficient is set to
        zero (coder "iht": the papers' HT_b).
    rule : {"online", "mod", "ksvd", "noodl"}, default="online"
        How atoms move: Mairal et al. (2009), Engan et al. (1999), Rubinstein et al. (2008),
        Rambhatla et al. (2019).
    coder : {"lasso", "omp", "ols", "iht"}, optional
        How samples are coded, in `fit` and in `transform`: exact lasso, orthogonal matching
        pursuit, orthogonal least squares, iterative hard thresholding. Default: "iht" for noodl,
        else "lasso".
    n_nonzero : int, optional
        Atoms in a code of coder "omp" and "ols". Default: a tenth of the features, at least 1.
    positive_code, positive_dict : bool, default=False
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
        rule: Literal["online", "mod", "ksvd", "noodl"] = "online",
        coder: Literal["lasso", "omp", "ols", "iht"] | None = None,
        n_nonzero: int | None = None,
        positive_code: bool = False,
        positive_dict: bool = False,
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
        self.n_nonzero = n_nonzero
        self.positive_code = positive_code
        self.positive_dict = positive_dict
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
        coder = self._coder(self.n_features_in_, alpha=alpha, n_nonzero=n_nonzero)
        codes, _ = self._encode(coder, X, mask)
        return codes.toarray() if sparse.issparse(codes) else codes.cpu().numpy()

    def score(self, X: Any, y: Any = None, *, mask: Any = None) -> float:
        """Return minus the mean objective of samples: larger is better."""
        check_is_fitted(self, "components_")
        X, mask = self._validate(X, mask, reset=False)
        coder = self._coder(self.n_features_in_)
        codes, atoms = self._encode(coder, X, mask)
        values = objective(
            on_device(self.device, X), codes, atoms, coder=coder, mask=on_device(self.device, mask)
        )
        return -float(values.mean())

    @property
    def _takes_missing(self) -> bool:
        return self.missing == "allow"

    @property
    def _automatic_batch_size(self) -> int | None:
        return None if self.rule == "ksvd" else super()._automatic_batch_size

    def _check_parameters(self) -> None:
        one_of("rule", self.rule, sorted(RULES))
        if self.coder is not None and self.coder not in CODERS:
            raise ValueError(f"coder: expected one of {list(CODERS)} or None, got {self.coder!r}")
        one_of("missing", self.missing, ("error", "allow"))
        positive_integer("n_nonzero", self.n_nonzero, or_none=True)
        super()._check_parameters()

    def _make_rule(self, n_steps: int | None) -> ClassicalRule:
        coder = self._coder(self.n_features_in_)
        sphere = self.rule in ("ksvd", "noodl") or not isinstance(coder, LassoCoder)
        atom_set = AtomSet("sphere" if sphere else "ball", self.positive_dict)
        if self.rule == "online":
            return Online(coder, atom_set, horizon=n_steps)
        return RULES[self.rule](coder, atom_set)

    def _coder(self, n_features: int, *, alpha: float | None = None, n_nonzero: int | None = None) -> Coder:
        name = self.coder or ("iht" if self.rule == "noodl" else "lasso")
        alpha = self.alpha if alpha is None else alpha
        n_nonzero = self.n_nonzero if n_nonzero is None else n_nonzero
        if name == "lasso":
            return LassoCoder(alpha, positive=self.positive_code)
        if name == "iht":
            return IHTCoder(alpha, positive=self.positive_code)
        n_nonzero = max(1, n_features // 10) if n_nonzero is None else n_nonzero
        return PursuitCoder(
            n_nonzero, positive=self.positive_code, selection="ols" if name == "ols" else "omp"
        )

    def _encode(self, coder: Coder, X: np.ndarray, mask: np.ndarray | None) -> tuple[Any, Any]:
        atoms = on_device(self.device, self.components_.astype(X.dtype, copy=False))
        return coder.encode(on_device(self.device, X), atoms, on_device(self.device, mask)), atoms
