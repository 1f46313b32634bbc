"""Base class of the estimators of dictionary learning: data, training, checkpoints and files."""

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_device, check_integer, check_methods, check_number, check_one_of
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
OBJECTS = {
    "penalty": ("value", "prox"),
    "likelihood": ("nll", "score", "mean"),
    "coder": ("encode",),
    "rule": ("init", "step"),
}
FITTED = ("n_iter_", "n_steps_", "converged_", "history_")


class BaseLearner(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base class of the estimators: learns atoms with the training loop.

    A subclass has the parameters below and defines `_make_rule` (the update rule), `transform` and `score`.
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
    _n_axes: ClassVar[int | None] = 2  # of the components; None: 3 or more

    components_: np.ndarray
    history_: list[dict[str, float]]
    n_features_in_: int

    def inverse_transform(self, codes: Any) -> np.ndarray:
        """Return the reconstruction (n_samples, n_features) of samples from dense or sparse codes."""
        check_is_fitted(self, "components_")
        if not sparse.issparse(codes):
            codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != len(self.components_):
            raise ValueError(f"codes: expected shape (n_samples, {len(self.components_)}), got {codes.shape}")
        return codes @ self.components_

    @classmethod
    def from_components(cls, components: Any, **parameters: Any) -> Self:
        """Return an estimator with given atoms, which can transform samples without a fit.

        Parameters
        ----------
        components : array (n_components, ...)
            The atoms, in the shape of `components_`. They are neither copied nor normalised.
        **parameters
            Parameters of the estimator, without those that the atoms determine, such as `n_components`.

        Raises
        ------
        ValueError
            The atoms are not finite or have the wrong number of axes, or a parameter is out of range.
        """
        components = np.asarray(components)
        n_axes = "3 or more" if cls._n_axes is None else str(cls._n_axes)
        if components.dtype.kind != "f" or not components.size or not np.isfinite(components).all():
            raise ValueError("components: expected finite floating-point numbers, at least one")
        if components.ndim < 3 if cls._n_axes is None else components.ndim != cls._n_axes:
            raise ValueError(
                f"components: expected an array with {n_axes} axes, got shape {components.shape}"
            )
        determined = cls._parameters_of(components)
        for name in determined.keys() & parameters.keys():
            raise ValueError(f"{name}: expected none, because the components determine it")
        learner = cls(**determined, **parameters)
        learner._adopt(components)
        learner._check_parameters()
        return learner

    @classmethod
    def _parameters_of(cls, components: np.ndarray) -> dict[str, Any]:
        """Return the parameters of the estimator that given atoms determine."""
        return {"n_components": len(components)}

    def save(self, path: str | os.PathLike) -> None:
        """Write the fitted dictionary to one safetensors file, atomically.

        Objects, such as a coder, are not stored: pass them to `load` again. Objects that only `fit` needs
        (`random_state` and `optimizer`) are replaced by their defaults in the loaded estimator.
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
        """Read a dictionary that was written by `save` or another part of calepin.

        Parameters
        ----------
        path : path
            The file to read.
        **objects
            Parameters that were objects when the dictionary was saved (a coder, a likelihood, ...), because
            they are not stored in the file. Other parameters replace those of the file.

        Raises
        ------
        FileNotFoundError, calepin.FileFormatError
            If the file does not exist, holds no dictionary, or was written by another estimator.
        ValueError
            If a required object is missing.
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
        learner = cls(**given | objects)
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
        """Whether NaN in X marks a missing entry."""
        return False

    @property
    def _automatic_batch_size(self) -> int | None:
        """Number of samples of a batch for batch_size "auto"; None for all samples."""
        return BATCH_SIZE

    @property
    def _fitted_scalars(self) -> tuple[str, ...]:
        """Names of the fitted attributes that are stored in the header of a file."""
        return tuple(name for name in FITTED if hasattr(self, name))

    def _make_rule(self, n_steps: int | None) -> Any:
        """Return the update rule; `n_steps` is the number of batches of a pass, or None if unknown."""
        raise NotImplementedError

    def _adopt(self, components: np.ndarray) -> None:
        """Set the fitted attributes from given atoms."""
        self.components_ = components
        self.n_features_in_ = components.shape[1]

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        """Return the arrays for a file other than the atoms."""
        return {}

    def _header_to_save(self) -> dict[str, Any]:
        """Return the entries for the header of a file other than the parameters."""
        return {}

    def _load_learned(self, arrays: dict[str, np.ndarray]) -> None:
        """Set the fitted attributes from the arrays of `_arrays_to_save`."""

    def _read_learned(self, learned: Any) -> None:
        """Set the fitted attributes other than the atoms from the state of the rule."""

    def _resume_learned(self, learned: Any) -> None:
        """Set learned values other than the atoms in a new state of the rule."""

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
        """Train from the initial atoms, or from the checkpoint if the run is resumed."""
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
            self._publish(state)  # also after Ctrl-C, so that the result so far can be used
        return self

    def _pass_over(self, data: Any, rule: Any, rng: np.random.Generator) -> Self:
        """Do one pass over the data, starting from the current state."""
        if not hasattr(self, "components_"):
            self._state = self._fresh(data, rule, rng)
        elif not hasattr(self, "_state"):  # loaded from a file, which has no state of the rule
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
        check_device("device", self.device)
        for name, methods in OBJECTS.items():
            value = getattr(self, name, None)
            if value is not None and not isinstance(value, str):
                check_methods(name, value, *methods)
        if self.resume and self.checkpoint is None:
            raise ValueError("resume=True needs the path of a checkpoint, got checkpoint=None")
        check_arguments(type(self).__init__, self.get_params(deep=False))

    def _check_unused(self, name: str, *unused: str) -> None:
        """Raise ValueError for a parameter that has no effect beside the object given as parameter `name`."""
        if getattr(self, name) is not None and not isinstance(getattr(self, name), str):
            self._refuse(f"an object as {name}, which has its own", *unused)

    def _refuse(self, given: str, *unused: str) -> None:
        """Raise ValueError for a parameter that has no effect and is not the default."""
        defaults = inspect.signature(type(self).__init__).parameters
        for other in unused:
            value, default = getattr(self, other), defaults[other].default
            if value is not default and value != default:
                raise ValueError(f"{other}: expected the default {default!r} with {given}, got {value!r}")

    def _validate(self, X: Any, mask: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray | None]:
        finite = "allow-nan" if self._takes_missing or mask is not None else True
        try:
            X = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=finite)
        except ValueError as error:
            if "contains NaN" not in str(error):
                raise
            hint = "; missing='allow' or a mask marks missing entries" if hasattr(self, "missing") else ""
            raise ValueError(f"X: expected finite values, it contains NaN{hint}") from None
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
            # The resumed run had a random seed: use the same order of the samples.
            return self._checkpoint_settings().get("data", {}).get("seed", seed)
        return seed

    def _checkpoint_settings(self) -> dict[str, Any]:
        """Return the settings in the checkpoint of the run to resume."""
        return read_header(self.checkpoint or "")["parameters"].get("settings", {})

    def _resumes(self) -> bool:
        return self.resume and self.checkpoint is not None and os.path.exists(self.checkpoint)

    def _batches(self, X: Any, mask: Any, seed: int, *, reset: bool) -> Batches:
        if isinstance(X, IterableBatches) or _is_stream(X):
            if mask is not None:
                raise ValueError("mask: expected None if X is an iterable, whose missing entries are NaN")
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
            state = load_checkpoint(self.checkpoint or "", rule, data, device=self.device)
            self._check_resumed(tuple(state.learned.atoms.shape))
            return state
        return self._fresh(data, rule, rng)

    def _check_resumed(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless the atoms of a checkpoint have the shape that the parameters ask for."""
        if "n_components" in self._get_param_names():
            n_components = self.get_params(deep=False)["n_components"] or self.n_features_in_
            self._check_size("n_components", n_components, shape[0])

    def _check_size(self, name: str, size: Any, resumed: Any) -> None:
        if size != resumed:
            raise ValueError(
                f"{name}: expected {resumed}, as in the checkpoint {self.checkpoint}, got {size}"
            )

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
    """Return an array as a tensor on a device (by default the CPU), or None for None."""
    if values is None:
        return None
    # writable, because torch warns about read-only arrays
    return torch.from_numpy(np.require(values, None, ["C", "W"])).to(device)


def choose(name: str, value: Any, known: Mapping[str, Any]) -> Any:
    """Return the object with the name `value` in `known`, or `value` itself if it is not a name."""
    if not isinstance(value, str):
        return value
    check_one_of(name, value, known)
    return known[value]


@contextmanager
def _progress(shown: bool, data: Batches, state: TrainState, max_iter: int) -> Iterator[list[Callback]]:
    """Yield the callback of a progress bar if `shown`, otherwise no callback."""
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
    """Return whether X is an iterable of batches and not convertible to an array."""
    return hasattr(X, "__iter__") and not hasattr(X, "__array__") and not hasattr(X, "__getitem__")


def _fits_a_file(value: Any) -> bool:
    """Return whether a parameter can be stored in the header of a file."""
    return value is None or isinstance(value, bool | int | float | str | np.generic | tuple | list)


def _plain(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters for JSON, with NumPy numbers converted to Python numbers."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in parameters.items()}
