"""What the dictionary-learning estimators share: data, the training loop, checkpoints, files."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from calepin.core.checks import check_integer, check_number, check_one_of
from calepin.core.errors import FileFormatError
from calepin.core.files import load_arrays, read_header, save_arrays
from calepin.core.random import numpy_generator
from calepin.learning.atoms import AtomSet, initial_atoms
from calepin.learning.batches import ArrayBatches, Batches, IterableBatches
from calepin.learning.train import Callback, TrainState, load_checkpoint, train

__all__ = ["BaseLearner", "choose", "on_device"]

KIND = "dictionary"
BATCH_SIZE = 512
_OF_FIT_ALONE = ("random_state", "optimizer", "init")
FITTED = ("n_iter_", "n_steps_", "converged_", "history_")


class BaseLearner(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learns atoms in the training loop; a subclass says by which rule, and how samples are coded.

    A subclass has the parameters below, `_make_rule`, `transform` and `score`.
    """

    init: str | np.ndarray
    batch_size: Any
    max_iter: int
    tol: float
    checkpoint: str | os.PathLike | None
    resume: bool
    random_state: Any
    device: str | None
    verbose: bool

    _kind: ClassVar[str] = KIND

    components_: np.ndarray
    history_: list[dict[str, float]]
    n_features_in_: int

    def inverse_transform(self, codes: Any) -> np.ndarray:
        """Return the samples (n_samples, n_features) that codes, dense or sparse, stand for."""
        check_is_fitted(self, "components_")
        if not sparse.issparse(codes):
            codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != len(self.components_):
            raise ValueError(f"codes: expected shape (n_samples, {len(self.components_)}), got {codes.shape}")
        return codes @ self.components_

    @classmethod
    def from_components(cls, components: Any, **parameters: Any) -> Self:
        """Return a fitted learner of known atoms, ready to transform: nothing is learned.

        Parameters
        ----------
        components : array (n_components, ...)
            The atoms, as `components_` has them; they are neither copied nor normalised.
        **parameters
            Of the learner; `n_components` follows from the atoms.
        """
        components = np.asarray(components)
        learner = cls(**cls._parameters_of(components), **parameters)
        learner._adopt(components)
        return learner

    @classmethod
    def _parameters_of(cls, components: np.ndarray) -> dict[str, Any]:
        """Return the parameters that known atoms determine."""
        return {"n_components": len(components)}

    def save(self, path: str | os.PathLike) -> None:
        """Write the fitted dictionary as one safetensors file, atomically.

        Objects have no place in a file: `load` asks for those that coding needs again. What only `fit` needs,
        a generator as `random_state` and a callable as `optimizer`, is read back as its default.
        """
        check_is_fitted(self, "components_")
        parameters = {k: v for k, v in self.get_params(deep=False).items() if _fits_a_file(v)}
        arrays = {"components": self.components_}
        if not isinstance(self.init, str):
            arrays["init"] = np.asarray(self.init)
        if self.checkpoint is not None:
            parameters["checkpoint"] = os.fspath(self.checkpoint)
        fitted = {name: getattr(self, name) for name in self._fitted_scalars}
        names = getattr(self, "feature_names_in_", None)
        if names is not None:
            fitted["feature_names_in_"] = list(names)
        missing = self.get_params(deep=False).keys() - parameters.keys() - set(_OF_FIT_ALONE)
        header = {
            "class": type(self).__name__,
            "estimator": _plain(parameters),
            "fitted": fitted,
            "objects": sorted(missing),
        }
        save_arrays(path, self._kind, arrays | self._arrays_to_save(), header | self._header_to_save())

    @classmethod
    def load(cls, path: str | os.PathLike, **objects: Any) -> Self:
        """Read a dictionary that `save`, or another part of calepin, wrote.

        Parameters
        ----------
        path : path
        **objects
            Parameters that were objects when the dictionary was saved (a coder, a likelihood, ...): files
            hold none.

        Raises
        ------
        FileNotFoundError, calepin.FileFormatError
            No such file, not a dictionary, or one of another kind of estimator.
        ValueError
            An object that coding needs was not given.
        """
        arrays, parameters = load_arrays(path, cls._kind)
        made_by = parameters.get("class", cls.__name__)
        if made_by != cls.__name__:
            raise FileFormatError(f"{path} holds a {made_by}, expected a {cls.__name__}")
        known = cls._get_param_names()
        given = {k: v for k, v in parameters.get("estimator", {}).items() if k in known}
        if "init" in arrays:
            given["init"] = arrays["init"]
        for name in parameters.get("objects", []):
            if name not in objects:
                raise ValueError(f"{name}: expected the object that {path} was learned with, got none")
        learner = cls(**given, **objects)
        learner._adopt(arrays["components"])
        for name, value in parameters.get("fitted", {}).items():
            setattr(learner, name, np.asarray(value, object) if name == "feature_names_in_" else value)
        learner._load_learned(arrays)
        return learner

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._takes_missing
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    @property
    def _takes_missing(self) -> bool:
        """Whether NaN marks a missing entry."""
        return False

    @property
    def _automatic_batch_size(self) -> int | None:
        """Samples of a step where the user has not said; None for all."""
        return BATCH_SIZE

    @property
    def _fitted_scalars(self) -> tuple[str, ...]:
        """Names of the fitted attributes that a file's header holds."""
        return tuple(name for name in FITTED if hasattr(self, name))

    def _make_rule(self, n_steps: int | None) -> Any:
        """Return the `Rule` of learning; a pass has `n_steps`, where that is known."""
        raise NotImplementedError

    def _adopt(self, components: np.ndarray) -> None:
        """Take atoms as fitted ones."""
        self.components_ = components
        self.n_features_in_ = components.shape[1]

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        """Return what was learned besides the atoms."""
        return {}

    def _header_to_save(self) -> dict[str, Any]:
        """Return what a file's header holds besides parameters."""
        return {}

    def _load_learned(self, arrays: dict[str, np.ndarray]) -> None:
        """Set attributes from what `_arrays_to_save` wrote."""

    def _read_learned(self, learned: Any) -> None:
        """Set attributes from the state of the rule, besides the atoms."""

    def _resume_learned(self, learned: Any) -> None:
        """Give a fresh state of the rule what was learned besides the atoms."""

    def _fit(self, X: Any, mask: Any, callbacks: Sequence[Callback]) -> Self:
        self._check_parameters()
        rng = numpy_generator(self.random_state)
        data = self._batches(X, mask, self._seed(rng), reset=True)
        return self._run(data, self._make_rule(data.n_steps), rng, callbacks)

    def _partial_fit(self, X: Any, mask: Any) -> Self:
        self._check_parameters()
        rng = numpy_generator(self.random_state)
        data = self._batches(X, mask, int(rng.integers(2**31)), reset=not hasattr(self, "components_"))
        return self._pass_over(data, self._make_rule(None), rng)

    def _run(self, data: Any, rule: Any, rng: np.random.Generator, callbacks: Sequence[Callback]) -> Self:
        """Learn from the start, or from the checkpoint."""
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

    def _pass_over(self, data: Any, rule: Any, rng: np.random.Generator) -> Self:
        """Take one pass from where the last one ended."""
        if not hasattr(self, "components_"):
            self._state = self._fresh(data, rule, rng)
        elif not hasattr(self, "_state"):  # of a file: what was learned is known, nothing else
            learned = rule.init(torch.from_numpy(self.components_.copy()))
            self._resume_learned(learned)
            self._state = TrainState(learned.to(self.device))
        train(rule, data, self._state, max_iter=self._state.n_passes + 1)
        self._publish(self._state)
        return self

    def _check_parameters(self) -> None:
        check_integer("max_iter", self.max_iter)
        if not (isinstance(self.batch_size, str) and self.batch_size == "auto"):
            check_integer("batch_size", self.batch_size)
        check_number("tol", self.tol, least=0)
        if self.resume and self.checkpoint is None:
            raise ValueError("resume=True needs the path of a checkpoint, got checkpoint=None")

    def _validate(self, X: Any, mask: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray | None]:
        X = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan" if self._takes_missing or mask is not None else True,
        )
        if mask is not None:
            mask = np.asarray(mask)
            if mask.dtype != bool or mask.shape != X.shape:
                raise ValueError(
                    f"mask: expected a boolean array of X's shape {X.shape}, got {mask.dtype} {mask.shape}"
                )
            if np.isnan(X[mask]).any() and not self._takes_missing:
                raise ValueError("X contains NaN where mask says it was observed")
        if self._takes_missing:
            missing = np.isnan(X)
            if missing.any():
                mask = ~missing if mask is None else mask & ~missing
        return X, mask

    def _seed(self, rng: np.random.Generator) -> int:
        seed = int(rng.integers(2**31))
        if self.random_state is None and self._resumes():
            # The run that is resumed drew its order at random: go on in that order.
            return self._checkpoint_settings()["data"].get("seed", seed)
        return seed

    def _checkpoint_settings(self) -> dict[str, Any]:
        """Return the settings of the run that is resumed."""
        return read_header(self.checkpoint or "")["parameters"]["settings"]

    def _resumes(self) -> bool:
        return self.resume and self.checkpoint is not None and os.path.exists(self.checkpoint)

    def _batches(self, X: Any, mask: Any, seed: int, *, reset: bool) -> Batches:
        if isinstance(X, IterableBatches) or _is_stream(X):
            if mask is not None:
                raise ValueError("mask goes with an array X; an iterable marks missing entries by NaN")
            stream = (
                X
                if isinstance(X, IterableBatches)
                else IterableBatches(X, missing=self._takes_missing, device=self.device)
            )
            head = stream.head(1, np.random.default_rng(seed)).X
            self._validate(np.nan_to_num(np.asarray(head)), None, reset=reset)
            return stream
        X, mask = self._validate(X, mask, reset=reset)
        size = self._automatic_batch_size if isinstance(self.batch_size, str) else self.batch_size
        return ArrayBatches(X, size, seed=seed, mask=mask, device=self.device)

    def _begin(self, data: Batches, rule: Any, rng: np.random.Generator) -> TrainState:
        if self._resumes():
            return load_checkpoint(self.checkpoint or "", rule, data, device=self.device)
        return self._fresh(data, rule, rng)

    def _fresh(self, data: Batches, rule: Any, rng: np.random.Generator) -> TrainState:
        atoms = initial_atoms(
            getattr(self, "n_components", None) or self.n_features_in_,
            data,
            init=self.init,
            atom_set=getattr(rule, "atom_set", AtomSet("sphere")),
            generator=rng,
        )
        return TrainState(rule.init(torch.from_numpy(atoms)).to(self.device))

    def _publish(self, state: TrainState) -> None:
        self._state = state
        self.components_ = state.learned.atoms.detach().cpu().numpy()
        self._read_learned(state.learned)
        self.n_iter_, self.n_steps_ = state.n_passes, state.n_steps
        self.converged_, self.history_ = state.converged, state.history


def on_device(device: str | None, values: Any) -> Any:
    """Return an array as a tensor, on a device if one is given; None stays None."""
    if values is None:
        return None
    # torch warns of arrays that it may not write to
    return torch.from_numpy(np.require(values, None, ["C", "W"])).to(device)


def choose(name: str, value: Any, known: Mapping[str, Any]) -> Any:
    """Return what a word stands for, or the object that was given in its place."""
    if not isinstance(value, str):
        return value
    check_one_of(name, value, known)
    return known[value]


@contextmanager
def _progress(shown: bool, data: Batches, state: TrainState, max_iter: int) -> Iterator[list[Callback]]:
    """Yield the callbacks of a progress bar, or none."""
    if not shown:
        yield []
        return
    from calepin.core.progress import progress_bar

    total = None if data.n_steps is None else data.n_steps * max_iter
    with progress_bar("learning", total=total, done=state.n_steps) as bar:

        def advance(state: TrainState) -> None:
            objective = f"{state.history[-1]['objective']:.4g}" if state.history else ""
            bar.update(state.n_steps, f"pass {state.n_passes + 1} {objective}")

        yield [advance]


def _is_stream(X: Any) -> bool:
    """Tell an iterable of batches from anything that NumPy would make an array of."""
    return hasattr(X, "__iter__") and not hasattr(X, "__array__") and not hasattr(X, "__getitem__")


def _fits_a_file(value: Any) -> bool:
    """Return whether a parameter has a place in a file's header."""
    return value is None or isinstance(value, bool | int | float | str | np.generic | tuple | list)


def _plain(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as JSON can hold them (NumPy numbers become Python's)."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in parameters.items()}
