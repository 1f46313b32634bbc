"""Base class of the estimators of dictionary learning: data, training, checkpoints and files."""

import inspect
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.arrays import as_array, is_stored, unmasked
from calepin.core.checks import (
    check_device,
    check_integer,
    check_methods,
    check_number,
    check_one_of,
    check_scale,
    is_integer,
    largest_magnitude,
)
from calepin.core.errors import FileFormatError
from calepin.core.files import check_atoms, load_arrays, read_header, save_arrays
from calepin.core.random import numpy_generator
from calepin.core.reading import reading
from calepin.estimators._samples import as_samples, require_no_mask, row_blocks
from calepin.learning.atoms import AtomSet, initial_atoms
from calepin.learning.batches import ArrayBatches, Batches, BlockBatches, IterableBatches
from calepin.learning.rule import in_a_stream
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
OF_A_RUN = ("checkpoint", "checkpoint_seconds", "resume")  # a file never says where to write


def is_count(value: Any) -> bool:
    """Return whether a value of a file is a number of things."""
    return is_integer(value) and value >= 0


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(record, dict) and all(isinstance(entry, int | float) for entry in record.values())
        for record in value
    )


# what `load` sets from the header of a file, with a check of each value
FITTED: dict[str, Callable[[Any], bool]] = {
    "n_iter_": is_count,
    "n_steps_": is_count,
    "converged_": lambda value: isinstance(value, bool),
    "history_": _is_history,
}


class BaseLearner(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base class of the estimators: learns atoms with the training loop.

    A subclass has the parameters below and defines `_make_rule` (the update rule), `transform` and `score`.
    """

    init: str | np.ndarray | Tensor
    batch_size: Any
    max_iter: int
    tol: float
    checkpoint: str | os.PathLike | None
    checkpoint_seconds: float
    resume: bool
    random_state: Any
    device: str | None
    verbose: bool

    _kind: ClassVar[str] = KIND
    _window: ClassVar[int] = 1  # passes for the test with `tol`
    _n_axes: ClassVar[int | None] = 2  # of the components; None: 3 or more
    _fitted: ClassVar[Mapping[str, Callable[[Any], bool]]] = FITTED

    components_: np.ndarray
    history_: list[dict[str, float]]
    n_features_in_: int

    def inverse_transform(self, codes: Any) -> np.ndarray:
        """Return the reconstruction (n_samples, n_features) of samples from dense or sparse codes."""
        check_is_fitted(self, "components_")
        if not sparse.issparse(codes):
            codes = as_array(codes)
        if codes.ndim != 2 or codes.shape[1] != len(self.components_):
            raise ValueError(f"codes: expected shape (n_samples, {len(self.components_)}), got {codes.shape}")
        _check_codes(codes.data if sparse.issparse(codes) else codes)
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
        components = as_array(components)
        cls._check_components(components)
        determined = cls._parameters_of(components)
        for name in determined.keys() & parameters.keys():
            raise ValueError(f"{name}: expected none, because the components determine it")
        learner = cls(**determined, **parameters)
        learner._adopt(components)
        learner._check_parameters()
        return learner

    @classmethod
    def _check_components(cls, components: np.ndarray) -> None:
        n_axes = "3 or more" if cls._n_axes is None else str(cls._n_axes)
        if components.dtype.kind != "f" or not components.size or not np.isfinite(components).all():
            raise ValueError("components: expected finite floating-point numbers, at least one")
        largest, limit = float(np.abs(components).max()), largest_magnitude(components.dtype)
        if largest > limit:
            raise ValueError(f"components: expected magnitudes of at most {limit:g}, got {largest:.3g}")
        if components.ndim < 3 if cls._n_axes is None else components.ndim != cls._n_axes:
            raise ValueError(
                f"components: expected an array with {n_axes} axes, got shape {components.shape}"
            )

    @classmethod
    def _parameters_of(cls, components: np.ndarray) -> dict[str, Any]:
        """Return the parameters of the estimator that given atoms determine."""
        return {"n_components": len(components)}

    def save(self, path: str | os.PathLike) -> None:
        """Write the fitted dictionary to one safetensors file, atomically.

        A file that exists is replaced, whatever it holds; commands replace a file of another kind only with
        ``--force``.

        Objects, such as a coder, are not stored: pass them to `load` again. Objects that only `fit` needs
        (`random_state` and `optimizer`) are replaced by their defaults in the loaded estimator, as
        is everything about checkpoints: a file never says where to write.
        """
        check_is_fitted(self, "components_")
        given = {k: v for k, v in self.get_params(deep=False).items() if k not in OF_A_RUN}
        parameters = {k: v for k, v in given.items() if _fits_a_file(v)}
        arrays = {"components": self.components_}
        if not isinstance(self.init, str):
            arrays["init"] = as_array(self.init)
        fitted = {name: getattr(self, name) for name in self._fitted if hasattr(self, name)}
        names = getattr(self, "feature_names_in_", None)
        if names is not None:
            fitted["feature_names_in_"] = list(names)
        missing = given.keys() - parameters.keys() - set(_OF_FIT_ALONE)
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
            If the file does not exist, holds no dictionary, was written by another estimator, or holds what
            no estimator writes.
        ValueError
            If a required object is missing.
        TypeError
            If an object lacks a method of a coder, likelihood, penalty or rule.

        Warns
        -----
        UserWarning
            If the device of the file is not available here; the CPU is used in its place.
        """
        arrays, parameters = load_arrays(path, cls._kind, ["components"])
        made_by = parameters.get("class", cls.__name__)
        if made_by != cls.__name__:
            raise FileFormatError(f"{path} holds a {made_by}, expected a {cls.__name__}")
        given = cls._given_in(path, parameters)
        if "init" in arrays:
            given["init"] = arrays["init"]
        for name in _names_in(path, parameters, "objects"):
            if name not in objects and name not in OF_A_RUN:
                raise ValueError(f"{name}: expected the object that {path} was learned with, got none")
        if "device" not in objects:
            given["device"] = _usable_device(path, given.get("device"))
        learner = cls(**given | objects)
        learner._check_objects()
        with reading(path, cls._kind):
            components = check_atoms(path, arrays["components"])
            cls._check_components(components)
            learner._adopt(components)
            learner._load_learned(arrays)
        for name, value in cls._fitted_in(path, parameters).items():
            setattr(learner, name, value)
        return learner

    @classmethod
    def _given_in(cls, path: str | os.PathLike, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters of the estimator in the header of a file."""
        given = _mapping_in(path, parameters, "estimator")
        known = set(cls._get_param_names()) - set(OF_A_RUN)
        return {name: value for name, value in given.items() if name in known}

    @classmethod
    def _fitted_in(cls, path: str | os.PathLike, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the fitted attributes in the header of a file: known names with values of their types."""
        fitted = dict(_mapping_in(path, parameters, "fitted"))
        names = _names_in(path, fitted, "feature_names_in_")
        fitted.pop("feature_names_in_", None)
        for name, value in fitted.items():
            if name not in cls._fitted or not cls._fitted[name](value):
                raise FileFormatError(f"{path}: expected no fitted attribute {name!r} = {value!r:.40}")
        return fitted | ({"feature_names_in_": np.asarray(names, object)} if names else {})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._takes_missing
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def _html_repr(self) -> str:
        """Return scikit-learn's HTML for notebooks, and below it the atoms of a fitted learner."""
        html = super()._html_repr()
        if not hasattr(self, "components_"):
            return html
        try:
            from calepin.report.notebook import atoms_snippet, snippet

            return html + snippet("", self._facts(), atoms_snippet(self.components_, **self._labels()))
        except Exception:  # a notebook shows a learner after every cell: that may never fail
            return html

    def _labels(self) -> dict[str, Any]:
        """Return what figures of the atoms say about time and channels."""
        return {}

    def _facts(self) -> dict[str, Any]:
        """Return what a notebook shows of a fitted learner besides its atoms."""
        history = getattr(self, "history_", None)
        if not history:
            return {}
        return {"passes": self.n_iter_, "objective": history[-1]["objective"], "converged": self.converged_}

    @property
    def _takes_missing(self) -> bool:
        """Whether NaN in X marks a missing entry."""
        return False

    @property
    def _automatic_batch_size(self) -> int | None:
        """Number of samples of a batch for batch_size "auto"; None for all samples."""
        return BATCH_SIZE

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
        data: Any = self._batches(X, mask, int(rng.integers(2**31)), reset=not hasattr(self, "components_"))
        if hasattr(self, "components_"):
            data.dtype = self.components_.dtype  # that of the first samples
        return self._pass_over(data, self._make_rule(None), rng)

    def _run(self, data: Any, rule: Any, rng: np.random.Generator, callbacks: Sequence[Callback]) -> Self:
        """Train from the initial atoms, or from the checkpoint if the run is resumed."""
        if hasattr(data, "check_passes") and not callbacks:  # a callback may stop the run in the first pass
            data.check_passes(self.max_iter)
        state = self._begin(data, rule, rng)
        try:
            with _progress(self.verbose, data, state, self.max_iter) as shown:
                train(
                    rule,
                    data,
                    state,
                    max_iter=self.max_iter,
                    tol=self.tol,
                    window=self._window,
                    callbacks=[*shown, *callbacks],
                    checkpoint=self.checkpoint,
                    checkpoint_seconds=self.checkpoint_seconds,
                )
        finally:
            self._publish(state)  # also after Ctrl-C, so that the result so far can be used
        return self

    def _pass_over(self, data: Any, rule: Any, rng: np.random.Generator) -> Self:
        """Do one pass over the data, a part of a stream, starting from the current state."""
        rule = in_a_stream(rule)
        if not hasattr(self, "components_"):
            self._state = self._fresh(data, rule, rng)
        elif not hasattr(self, "_state"):  # loaded from a file, which has no state of the rule
            self._state = self._continued(rule)
        state = self._state
        state.converged = False  # on other data
        state.step_in_pass, state.total, state.n_samples = 0, 0.0, 0  # an interrupted pass had other data
        train(rule, data, state, max_iter=state.n_passes + 1)
        self._publish(self._state)
        return self

    def _continued(self, rule: Any) -> TrainState:
        """Return a state that goes on from the fitted attributes alone."""
        learned = rule.init(torch.from_numpy(self.components_.copy()))
        self._resume_learned(learned)
        history = list(getattr(self, "history_", []))
        return TrainState(
            learned.to(self.device),
            n_steps=getattr(self, "n_steps_", 0),
            n_passes=getattr(self, "n_iter_", 0),
            seconds=history[-1].get("seconds", 0.0) if history else 0.0,
            history=history,
        )

    def _check_parameters(self) -> None:
        check_integer("max_iter", self.max_iter)
        if not (isinstance(self.batch_size, str) and self.batch_size == "auto"):
            check_integer("batch_size", self.batch_size)
        check_number("tol", self.tol, least=0)
        check_number("checkpoint_seconds", self.checkpoint_seconds, least=0)
        if self.checkpoint is None:
            self._refuse("checkpoint=None", "checkpoint_seconds")
        check_device("device", self.device)
        self._check_objects()
        if self.resume and self.checkpoint is None:
            raise ValueError("resume=True needs the path of a checkpoint, got checkpoint=None")
        check_arguments(type(self).__init__, self.get_params(deep=False))

    def _check_objects(self) -> None:
        """Raise TypeError or ValueError for an object that lacks the methods of its protocol."""
        for name, methods in OBJECTS.items():
            value = getattr(self, name, None)
            if value is not None and not isinstance(value, str):
                check_methods(name, value, *methods)

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

    def _validate(self, X: Any, mask: Any, *, reset: bool) -> tuple[Any, np.ndarray | None]:
        """Return samples (n, n_features), dense or sparse, as float32 or float64, and their mask."""
        dense = not sparse.issparse(X)
        if isinstance(X, np.ma.MaskedArray):
            if np.ma.is_masked(X) and not hasattr(self, "missing"):
                raise ValueError(
                    f"X: expected no masked entries, {type(self).__name__} does not support them"
                )
            X, mask = unmasked(X, self._check_mask(mask, X.shape))
        finite = "allow-nan" if self._takes_missing or (mask is not None and dense) else True
        try:
            X = validate_data(
                self, X, reset=reset, accept_sparse="csr", dtype=[np.float64, np.float32],
                ensure_all_finite=finite,
            )  # fmt: skip
        except ValueError as error:
            text, *more = str(error).splitlines()
            if "contains NaN" not in text:
                hints = [line for line in more if line.startswith("Reshape")]  # without a print of X
                named = not more and re.search(r"\bX\b", text)
                raise ValueError(text if named else "; ".join([f"X: {text.rstrip(':')}", *hints])) from None
            hint = "; missing='allow' or a mask marks missing entries" if hasattr(self, "missing") else ""
            raise ValueError(f"X: expected finite values, it contains NaN{hint}") from None
        mask = self._check_mask(mask, X.shape)
        if mask is not None and dense and np.isnan(X[mask]).any() and not self._takes_missing:
            raise ValueError("X contains NaN where mask says it was observed")
        if self._takes_missing and dense:
            missing = np.isnan(X)
            if missing.any():
                mask = ~missing if mask is None else mask & ~missing
        return X, mask

    def _check_mask(self, mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
        if mask is None:
            return None
        mask = as_array(mask)
        if mask.dtype != bool or mask.shape != shape:
            raise ValueError(
                f"mask: expected a boolean array of X's shape {shape}, got {mask.dtype} {mask.shape}"
            )
        return mask

    def _blocks(self, X: Any, mask: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield validated samples and masks: at once if X is in memory, otherwise block by block."""
        X = as_samples(X, missing=self._takes_missing)
        if mask is not None and (sparse.issparse(X) or is_stored(X)):
            mask = self._check_mask(mask, tuple(X.shape))
        for rows, known in row_blocks(X, mask):
            yield self._validate(rows, known, reset=False)

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
        settings = {"missing": self._takes_missing, "device": self.device}
        X = as_samples(X, **settings)
        if isinstance(X, IterableBatches):
            require_no_mask(mask)
            head = as_array(X.head(1, np.random.default_rng(seed)).X)
            self._validate(np.nan_to_num(head), None, reset=reset)
            return X
        size = self._automatic_batch_size if isinstance(self.batch_size, str) else self.batch_size
        if is_stored(X):
            self._validate(np.nan_to_num(as_array(X[:1])), None, reset=reset)
            return BlockBatches(X, size, seed=seed, mask=self._check_mask(mask, tuple(X.shape)), **settings)
        X, mask = self._validate(X, mask, reset=reset)
        if mask is not None and not mask.any():
            raise ValueError("X: expected at least one observed entry, got none")
        check_scale("X", _peak(X), X.dtype)
        settings["missing"] &= sparse.issparse(X)  # of dense samples the mask knows
        return ArrayBatches(X, size, seed=seed, mask=mask, **settings)

    def _begin(self, data: Batches, rule: Any, rng: np.random.Generator) -> TrainState:
        if self._resumes():
            state = load_checkpoint(self.checkpoint or "", rule, data, device=self.device)
            self._check_resumed(tuple(state.learned.atoms.shape))
            return state
        return self._fresh(data, rule, rng)

    def _check_resumed(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless the atoms of a checkpoint have the shape that the parameters ask for."""
        if "n_components" in self._get_param_names():
            self._check_size("n_components", self._number_of_atoms(), shape[0])

    def _number_of_atoms(self) -> int:
        """Return n_components; by default the number of given initial atoms, or of features."""
        given = self.get_params(deep=False)["n_components"]
        if given is not None:
            return given
        if not isinstance(self.init, str) and np.ndim(self.init) != 2:
            raise ValueError(
                f"init: expected a name or atoms (n_components, n_features), got {self.init!r:.60}"
            )
        return self.n_features_in_ if isinstance(self.init, str) else len(self.init)

    def _check_size(self, name: str, size: Any, resumed: Any) -> None:
        if size != resumed:
            raise ValueError(
                f"{name}: expected {resumed}, as in the checkpoint {self.checkpoint}, got {size}"
            )

    def _fresh(self, data: Batches, rule: Any, rng: np.random.Generator) -> TrainState:
        atoms = initial_atoms(
            self._number_of_atoms(),
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


def _mapping_in(path: str | os.PathLike, parameters: dict[str, Any], name: str) -> dict[str, Any]:
    value = parameters.get(name, {})
    if not isinstance(value, dict):
        raise FileFormatError(f"{path}: {name}: expected values by name, got {value!r:.40}")
    return value


def _names_in(path: str | os.PathLike, parameters: dict[str, Any], name: str) -> list[str]:
    value = parameters.get(name, [])
    if not (isinstance(value, list) and all(isinstance(entry, str) for entry in value)):
        raise FileFormatError(f"{path}: {name}: expected a list of names, got {value!r:.40}")
    return value


def _usable_device(path: str | os.PathLike, device: Any) -> str | None:
    """Return the device of a file if this machine has it, else None with a warning."""
    if device is None:
        return None
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, TypeError, ValueError):
        warnings.warn(
            f"{path} was learned on device {device!r}, which is not available: the CPU is used", stacklevel=3
        )
        return None
    return device


def _fits_a_file(value: Any) -> bool:
    """Return whether a parameter can be stored in the header of a file."""
    return value is None or isinstance(value, bool | int | float | str | np.generic | tuple | list)


def _plain(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters for JSON, with NumPy numbers converted to Python numbers."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in parameters.items()}


def _check_codes(values: Any) -> None:
    if np.asarray(values).dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise ValueError("codes: expected finite real numbers")


def _peak(X: Any) -> float:
    values = X.data if sparse.issparse(X) else X
    return max(float(np.nanmax(values)), -float(np.nanmin(values))) if values.size else 0.0
