"""Estimator of dictionary learning with a dense dictionary, in scikit-learn's conventions."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from calepin.core.checkpoint import CHECKPOINT_SECONDS
from calepin.core.checks import check_boolean, check_integer, check_number, check_one_of
from calepin.core.errors import FileFormatError
from calepin.estimators._base import BaseLearner, on_device
from calepin.estimators._samples import joined
from calepin.learning.atoms import AtomSet
from calepin.learning.batches import Batches
from calepin.learning.centring import CentredBatches, feature_means, warn_if_means_dominate
from calepin.learning.rule import Rule, within
from calepin.learning.rules.classical import KSVD, MOD, NOODL, ClassicalRule, ClassicalState, Online
from calepin.learning.train import Callback
from calepin.penalties import Penalty
from calepin.problem import Problem
from calepin.solvers.coders.coder import Coder, Codes, objective, violation, warn_if_far
from calepin.solvers.coders.encode import OUTPUTS, codes_as, dense_problem
from calepin.solvers.coders.lasso import LassoCoder
from calepin.solvers.coders.proximal import ProximalCoder
from calepin.solvers.coders.pursuit import PursuitCoder
from calepin.solvers.coders.thresholding import IHTCoder

__all__ = ["DictionaryLearner"]

RULES: dict[str, type[ClassicalRule]] = {rule.name: rule for rule in (Online, MOD, KSVD, NOODL)}
CODERS = ("lasso", "omp", "ols", "iht")


class DictionaryLearner(BaseLearner):
    """Learn a dictionary of atoms in which the samples have sparse codes.

    Minimises the mean over samples of ``0.5 * ||x - z D||^2 + alpha * ||z||_1`` over codes z and atoms D,
    the rows of ``components_``. With a pursuit as the coder, codes have at most ``n_nonzero`` nonzero entries
    instead of a penalty. Atoms are in the unit ball (online, mod) or on the unit sphere (ksvd, noodl).

    Parameters
    ----------
    n_components : int, optional
        Number of atoms. Default: that of `init` if it is an array, otherwise the number of features.
    alpha : float, default=1.0
        Weight of the l1 norm for coder "lasso". For coder "iht", the threshold: coefficients of at most
        this magnitude are set to zero.
    rule : {"online", "mod", "ksvd", "noodl"} or Rule, default="online"
        Update rule of the atoms: Mairal et al. (2009), Engan et al. (1999), Rubinstein et al. (2008),
        Rambhatla et al. (2019). A `Rule` object has its own coder for `fit`.
    coder : {"lasso", "omp", "ols", "iht"} or Coder, optional
        Sparse coder, in `fit` and in `transform`: exact lasso, orthogonal matching pursuit, orthogonal
        least squares, iterative hard thresholding. Default: "iht" for noodl, the coder of `rule` if it is
        an object with one, otherwise "lasso".
    penalty : Penalty, optional
        Penalty of the codes, in place of alpha ||z||_1. Codes then minimise
        ``0.5 ||x - z D||^2 + penalty(z)`` by FISTA.
    n_nonzero : int, optional
        Maximal number of nonzero entries of a code for coders "omp" and "ols". Default: a tenth of the
        number of features, at least 1.
    nonnegative, nonnegative_atoms : bool, default=False
        Whether the codes, or the atoms, are constrained to be nonnegative.
    init : {"data", "dct", "random"} or array (n_components, n_features), default="data"
        Initialisation of the atoms: random samples, a cosine dictionary, random directions, or the atoms
        themselves.
    batch_size : int or "auto", default="auto"
        Number of samples in a mini-batch. "auto": 512, and all samples for ksvd.
    max_iter : int, default=30
        Maximal number of passes over the data.
    tol : float, default=1e-3
        Relative tolerance: stop when a pass changes the mean objective by at most this fraction. 0 disables
        this test.
    center : bool, default=False
        Whether the mean of each feature, over its observed entries, is subtracted from the samples, and added
        to reconstructions. It is that of the data of `fit`, or of the first call of `partial_fit`, and takes
        a pass of its own. Data with a large mean give atoms that all point towards it. The mean is a part of
        the model of nonnegative codes or atoms, which should not be centred.
    missing : {"error", "allow"}, default="error"
        Whether NaN in X is an error or marks a missing entry.
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
        Device for a computation in torch, for example "cuda". Default: compiled code on the CPU.
    verbose : bool, default=False
        Whether to show a progress bar.

    Attributes
    ----------
    components_ : ndarray (n_components, n_features)
        The atoms.
    mean_ : ndarray (n_features,) or None
        The mean of the features with `center`, otherwise None.
    n_iter_ : int
        Number of passes.
    n_steps_ : int
        Number of mini-batches.
    converged_ : bool
        Whether the fit stopped because of `tol`.
    history_ : list of dict
        For each pass: pass, objective, seconds, and n_replaced, the number of idle atoms that were replaced
        by poorly represented samples.
    n_features_in_ : int
        Number of features seen by `fit`.

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
        init: str | np.ndarray | Tensor = "data",
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 30,
        tol: float = 1e-3,
        center: bool = False,
        missing: Literal["error", "allow"] = "error",
        checkpoint: str | os.PathLike | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
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
        self.center = center
        self.missing = missing
        self.checkpoint = checkpoint
        self.checkpoint_seconds = checkpoint_seconds
        self.resume = resume
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, mask: Any = None, callbacks: Sequence[Callback] = ()) -> Self:
        """Learn the atoms.

        Parameters
        ----------
        X : array or sparse matrix (n_samples, n_features), or iterable of batches
            Samples: an array or tensor, in memory, memory-mapped, or a dataset of h5py or zarr; or batches of
            them, such as a list of arrays, a DataLoader, or a function that returns a generator. An iterable
            is iterated over once in each pass.
        y : ignored
            Present for scikit-learn's conventions.
        mask : bool array of X's shape, optional
            True where X was observed. Default: everywhere.
        callbacks : sequence of callables, default ()
            Functions that are called with the `TrainState` after every batch. If one returns True, the fit
            stops. Rule "mod" moves its atoms at the end of a pass, after the calls for its last batch.

        Raises
        ------
        ValueError
            If a parameter or the data are invalid.
        calepin.learning.DivergedError
            If the objective becomes NaN or infinite.

        Warns
        -----
        RuntimeWarning
            If `alpha` is so large that all codes of a pass are zero, or if the means of the features
            dominate data that are not centred.
        """
        return self._fit(X, mask, callbacks)

    def partial_fit(self, X: Any, y: Any = None, *, mask: Any = None) -> Self:
        """Do one pass over `X`, continuing from the last call of `partial_fit` or `fit`.

        Calls are parts of a stream, down to single samples: statistics are accumulated over all calls, and
        idle atoms are replaced when there were enough uses to tell. Rule "online" moves the atoms in every
        call, "mod" when there were enough uses, "ksvd" and "noodl" in small steps.

        Parameters
        ----------
        X : array or sparse matrix (n_samples, n_features), or iterable of batches
            New samples; see `fit`.
        y : ignored
            Present for scikit-learn's conventions.
        mask : bool array of X's shape, optional
            True where X was observed. Default: everywhere.
        """
        return self._partial_fit(X, mask)

    def transform(
        self,
        X: Any,
        *,
        mask: Any = None,
        alpha: float | None = None,
        n_nonzero: int | None = None,
        output: Literal["dense", "csr"] = "dense",
    ) -> Any:
        """Return the codes (n_samples, n_components) of samples, from the coder and the penalty of `fit`.

        Parameters
        ----------
        X : array or sparse matrix (n_samples, n_features), or iterable of batches
            Samples; see `fit`.
        mask : bool array of X's shape, optional
            True where X was observed. Default: everywhere.
        alpha, n_nonzero : optional
            Values to use in place of the estimator's parameters of the same name.
        output : {"dense", "csr"}, default "dense"
            "csr" gives a SciPy CSR array.

        Warns
        -----
        ConvergenceWarning
            The iterations for a `penalty` end far from the minimiser.
        """
        check_is_fitted(self, "components_")
        check_one_of("output", output, OUTPUTS)
        coder = self._coder(alpha=alpha, n_nonzero=n_nonzero)
        return joined(codes_as(output, codes.values) for _, codes in self._coded(X, mask, coder))

    def inverse_transform(self, codes: Any) -> np.ndarray:
        """Return the reconstruction (n_samples, n_features) of samples from dense or sparse codes."""
        found = super().inverse_transform(codes)
        return found if self.mean_ is None else found + self.mean_.astype(found.dtype)

    def score(self, X: Any, y: Any = None, *, mask: Any = None) -> float:
        """Return minus the mean objective of samples: larger is better."""
        check_is_fitted(self, "components_")
        coder = self._coder()
        coded = self._coded(X, mask, coder)
        values = joined(objective(problem, codes, coder.penalty) for problem, codes in coded)
        return -float(values.mean())

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
        check_boolean("center", self.center)
        check_integer("n_components", self.n_components, optional=True)
        check_integer("n_nonzero", self.n_nonzero, optional=True)
        if self.penalty is not None and self.coder not in (None, "lasso"):
            raise ValueError(f"penalty: expected None with coder {self.coder!r}, which does not use one")
        self._check_unused("coder", "alpha", "n_nonzero", "nonnegative")
        self._check_unused("penalty", "alpha", "nonnegative")
        self._check_unused("rule", "nonnegative_atoms")
        if self.coder in (None, "lasso", "iht"):
            check_number("alpha", self.alpha, above=0)
        if self.coder in ("omp", "ols"):
            self._refuse(f"coder {self.coder!r}", "alpha")
        elif self.coder is None or isinstance(self.coder, str):
            self._refuse(f"coder {self.coder or 'lasso'!r}", "n_nonzero")
        if self.coder is None and hasattr(self.rule, "coder"):
            self._check_unused("rule", "alpha", "n_nonzero", "nonnegative", "penalty")
        super()._check_parameters()

    def _read_learned(self, learned: Any) -> None:
        self._past = learned.past() if isinstance(learned, ClassicalState) else {}

    def _resume_learned(self, learned: Any) -> None:
        if isinstance(learned, ClassicalState):
            learned.recall(self._past)

    def _adopt(self, components: np.ndarray) -> None:
        super()._adopt(components)
        self._past: dict[str, np.ndarray] = {}
        self.mean_: np.ndarray | None = None

    @classmethod
    def _parameters_of(cls, components: np.ndarray) -> dict[str, Any]:
        return {**super()._parameters_of(components), "center": False}

    def _batches(self, X: Any, mask: Any, seed: int, *, reset: bool) -> Batches:
        data = super()._batches(X, mask, seed, reset=reset)
        if reset:
            self.mean_ = feature_means(data) if self.center else None
            if not self.center and not (self.nonnegative_atoms or self._coder().nonnegative):
                warn_if_means_dominate(data, "center=True subtracts them")
        return data if self.mean_ is None else CentredBatches(data, self.mean_)

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        mean = {} if self.mean_ is None else {"mean": self.mean_}
        return mean | {f"past.{name}": values for name, values in self._past.items()}

    def _load_learned(self, arrays: dict[str, np.ndarray]) -> None:
        self.mean_ = arrays.get("mean")
        if self.mean_ is not None and self.mean_.shape != (self.n_features_in_,):
            raise FileFormatError(
                f"mean: expected shape {(self.n_features_in_,)} as for the atoms, got {self.mean_.shape}"
            )
        self._past = within("past", arrays)
        shapes = {name: values.shape for name, values in self._past.items()}
        if self._past and shapes != {"energy": (len(self.components_),), "n_samples": (1,)}:
            raise FileFormatError(f"past: expected an energy for each atom, got the shapes {shapes}")

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
                return ProximalCoder(self.penalty)
            return LassoCoder(alpha, nonnegative=self.nonnegative, certify=False)
        if coder == "iht":
            return IHTCoder(alpha, nonnegative=self.nonnegative)
        n_nonzero = self.n_nonzero if n_nonzero is None else n_nonzero
        if n_nonzero is None:
            n_nonzero = max(1, self.n_features_in_ // 10)
        selection = "ols" if coder == "ols" else "omp"
        return PursuitCoder(n_nonzero, nonnegative=self.nonnegative, selection=selection, certify=False)

    def _coded(self, X: Any, mask: Any, coder: Coder) -> Iterator[tuple[Problem, Codes]]:
        """Yield problem and codes of each block; warn once if the iterations for a penalty were too few."""
        far = [np.empty(0)]
        for block in self._blocks(X, mask):
            problem = self._problem(*block)
            codes = coder.encode(problem)
            if self.penalty is not None and codes.converged is not None and not bool(codes.converged.all()):
                far.append(violation(problem, codes, coder.penalty))
            yield problem, codes
        if isinstance(coder, ProximalCoder):
            warn_if_far(np.concatenate(far), f"n_iter = {coder.n_iter}")

    def _problem(self, X: np.ndarray, mask: np.ndarray | None) -> Problem:
        atoms = self.components_.astype(X.dtype, copy=False)
        if self.mean_ is not None:
            X = X - self.mean_.astype(X.dtype)
        return dense_problem(*(on_device(self.device, values) for values in (X, atoms, mask)))
