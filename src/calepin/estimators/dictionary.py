"""Dictionary learning with a dense dictionary, in scikit-learn's conventions."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from calepin._files import load_arrays, read_header, save_arrays
from calepin._random import numpy_generator
from calepin.learning.atoms import AtomSet, initial_atoms
from calepin.learning.batches import ArrayBatches, Batches, IterableBatches
from calepin.learning.classical import KSVD, MOD, NOODL, ClassicalRule, Coder, Online
from calepin.learning.train import Callback, TrainState, load_checkpoint, train
from calepin.solvers.coders import IHTCoder, LassoCoder, PursuitCoder, objective

__all__ = ["DictionaryLearner"]

KIND = "dictionary"
RULES: dict[str, type[ClassicalRule]] = {rule.name: rule for rule in (Online, MOD, KSVD, NOODL)}
CODERS = ("lasso", "omp", "ols", "iht")


class DictionaryLearner(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
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

    components_: np.ndarray
    history_: list[dict[str, float]]
    n_features_in_: int

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
        self._check_parameters()
        rng = numpy_generator(self.random_state)
        data = self._batches(X, mask, self._seed(rng), reset=True)
        rule = self._rule(self._coder(self.n_features_in_), horizon=data.n_steps)
        state = self._begin(data, rule, rng)
        try:
            with _progress(self.verbose, data, state, self.max_iter) as shown:
                train(
                    rule,
                    data,
                    state,
                    max_iter=self.max_iter,
                    tol=self.tol,
                    callbacks=[*shown, *callbacks],
                    checkpoint=self.checkpoint,
                )
        finally:
            self._publish(state)  # after Ctrl-C too, what was learned is there to be used
        return self

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
        self._check_parameters()
        first = not hasattr(self, "components_")
        rng = numpy_generator(self.random_state)
        data = self._batches(X, mask, int(rng.integers(2**31)), reset=first)
        rule = self._rule(self._coder(self.n_features_in_))
        if first:
            self._state = self._fresh(data, rule, rng)
        elif not hasattr(self, "_state"):  # loaded from a file: the atoms are known, nothing else
            self._state = TrainState(rule.init(_on(self.device, self.components_.copy())))
        train(rule, data, self._state, max_iter=self._state.n_passes + 1)
        self._publish(self._state)
        return self

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

    def inverse_transform(self, codes: Any) -> np.ndarray:
        """Return the samples (n_samples, n_features) that codes, dense or sparse, stand for."""
        check_is_fitted(self, "components_")
        if not sparse.issparse(codes):
            codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != len(self.components_):
            raise ValueError(f"codes must have shape (n_samples, {len(self.components_)}), got {codes.shape}")
        return codes @ self.components_

    def score(self, X: Any, y: Any = None, *, mask: Any = None) -> float:
        """Return minus the mean objective of samples: larger is better."""
        check_is_fitted(self, "components_")
        X, mask = self._validate(X, mask, reset=False)
        coder = self._coder(self.n_features_in_)
        codes, atoms = self._encode(coder, X, mask)
        values = objective(_on(self.device, X), codes, atoms, coder=coder, mask=_on(self.device, mask))
        return -float(values.mean())

    def save(self, path: str | os.PathLike) -> None:
        """Write the fitted dictionary as one safetensors file, atomically."""
        check_is_fitted(self, "components_")
        parameters = self.get_params(deep=False)
        arrays = {"components": self.components_}
        if not isinstance(self.init, str):
            arrays["init"] = np.asarray(parameters.pop("init"))
        if not isinstance(self.random_state, Integral | None):
            parameters["random_state"] = None  # a generator has no place in a file
        if self.checkpoint is not None:
            parameters["checkpoint"] = os.fspath(self.checkpoint)
        fitted = {
            "n_iter_": self.n_iter_,
            "n_steps_": self.n_steps_,
            "converged_": self.converged_,
            "history_": self.history_,
        }
        names = getattr(self, "feature_names_in_", None)
        if names is not None:
            fitted["feature_names_in_"] = list(names)
        save_arrays(path, KIND, arrays, {"estimator": _plain(parameters), "fitted": fitted})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a dictionary that `save`, or any other part of calepin, wrote.

        Raises
        ------
        FileNotFoundError, calepin.FileFormatError
            No such file, or not a dictionary.
        """
        arrays, parameters = load_arrays(path, KIND)
        known = cls._get_param_names()
        given = {k: v for k, v in parameters.get("estimator", {}).items() if k in known}
        if "init" in arrays:
            given["init"] = arrays["init"]
        learner = cls(**given)
        learner.components_ = arrays["components"]
        learner.n_features_in_ = learner.components_.shape[1]
        for name, value in parameters.get("fitted", {}).items():
            setattr(learner, name, np.asarray(value, object) if name == "feature_names_in_" else value)
        return learner

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "allow"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_parameters(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {sorted(RULES)}, got {self.rule!r}")
        if self.coder is not None and self.coder not in CODERS:
            raise ValueError(f"coder must be one of {list(CODERS)} or None, got {self.coder!r}")
        if self.missing not in ("error", "allow"):
            raise ValueError(f"missing must be 'error' or 'allow', got {self.missing!r}")
        _positive_integer("n_components", self.n_components, or_none=True)
        _positive_integer("n_nonzero", self.n_nonzero, or_none=True)
        _positive_integer("max_iter", self.max_iter)
        if self.batch_size != "auto":
            _positive_integer("batch_size", self.batch_size)
        if not isinstance(self.tol, Real) or not self.tol >= 0:
            raise ValueError(f"tol must be a number >= 0, got {self.tol!r}")
        if self.resume and self.checkpoint is None:
            raise ValueError("resume=True needs the path of a checkpoint, got checkpoint=None")

    def _validate(self, X: Any, mask: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray | None]:
        X = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan" if self.missing == "allow" or mask is not None else True,
        )
        if mask is not None:
            mask = np.asarray(mask)
            if mask.dtype != bool or mask.shape != X.shape:
                raise ValueError(
                    f"mask must be a boolean array of X's shape {X.shape}, got {mask.dtype} {mask.shape}"
                )
            if np.isnan(X[mask]).any() and self.missing == "error":
                raise ValueError("X contains NaN where mask says it was observed")
        if self.missing == "allow":
            missing = np.isnan(X)
            if missing.any():
                mask = ~missing if mask is None else mask & ~missing
        return X, mask

    def _seed(self, rng: np.random.Generator) -> int:
        seed = int(rng.integers(2**31))
        if self.random_state is None and self._resumes():
            # The run that is resumed drew its order at random: go on in that order.
            return read_header(self.checkpoint or "")["parameters"]["data"].get("seed", seed)
        return seed

    def _resumes(self) -> bool:
        return self.resume and self.checkpoint is not None and os.path.exists(self.checkpoint)

    def _batches(self, X: Any, mask: Any, seed: int, *, reset: bool) -> Batches:
        if isinstance(X, IterableBatches) or _is_stream(X):
            if mask is not None:
                raise ValueError("mask goes with an array X; an iterable marks missing entries by NaN")
            stream = (
                X
                if isinstance(X, IterableBatches)
                else IterableBatches(X, missing=self.missing == "allow", device=self.device)
            )
            head = stream.head(1, np.random.default_rng(seed)).X
            self._validate(np.nan_to_num(np.asarray(head)), None, reset=reset)
            return stream
        X, mask = self._validate(X, mask, reset=reset)
        automatic = None if self.rule == "ksvd" else 512
        size = automatic if isinstance(self.batch_size, str) else self.batch_size
        return ArrayBatches(X, size, seed=seed, mask=mask, device=self.device)

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
        atoms = _on(self.device, self.components_.astype(X.dtype, copy=False))
        return coder.encode(_on(self.device, X), atoms, _on(self.device, mask)), atoms

    def _rule(self, coder: Coder, *, horizon: int | None = None) -> ClassicalRule:
        sphere = self.rule in ("ksvd", "noodl") or not isinstance(coder, LassoCoder)
        atom_set = AtomSet("sphere" if sphere else "ball", self.positive_dict)
        if self.rule == "online":
            return Online(coder, atom_set, horizon=horizon)
        return RULES[self.rule](coder, atom_set)

    def _begin(self, data: Batches, rule: ClassicalRule, rng: np.random.Generator) -> TrainState:
        if self._resumes():
            return load_checkpoint(self.checkpoint or "", rule, data, device=self.device)
        return self._fresh(data, rule, rng)

    def _fresh(self, data: Batches, rule: ClassicalRule, rng: np.random.Generator) -> TrainState:
        atoms = initial_atoms(
            self.n_components or self.n_features_in_,
            data,
            init=self.init,
            atom_set=rule.atom_set,
            rng=rng,
        )
        return TrainState(rule.init(_on(self.device, atoms)))

    def _publish(self, state: TrainState) -> None:
        self._state = state
        atoms = state.arrays["atoms"]
        self.components_ = atoms if isinstance(atoms, np.ndarray) else atoms.cpu().numpy()
        self.n_iter_, self.n_steps_ = state.n_passes, state.n_steps
        self.converged_, self.history_ = state.converged, state.history


@contextmanager
def _progress(shown: bool, data: Batches, state: TrainState, max_iter: int) -> Iterator[list[Callback]]:
    """Yield the callbacks of a progress bar, or none."""
    if not shown:
        yield []
        return
    from calepin._progress import progress_bar

    total = None if data.n_steps is None else data.n_steps * max_iter
    with progress_bar("learning", total=total, done=state.n_steps) as bar:

        def advance(state: TrainState) -> None:
            objective = f"{state.history[-1]['objective']:.4g}" if state.history else ""
            bar.update(state.n_steps, f"pass {state.n_passes + 1} {objective}")

        yield [advance]


def _on(device: str | None, values: Any) -> Any:
    return values if device is None or values is None else torch.as_tensor(values, device=device)


def _is_stream(X: Any) -> bool:
    """Tell an iterable of batches from anything that NumPy would make an array of."""
    return hasattr(X, "__iter__") and not hasattr(X, "__array__") and not hasattr(X, "__getitem__")


def _positive_integer(name: str, value: Any, *, or_none: bool = False) -> None:
    if value is None and or_none:
        return
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer{' or None' * or_none}, got {value!r}")


def _plain(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as JSON can hold them (NumPy numbers become Python's)."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in parameters.items()}
