"""Dictionary learning under a generative coefficient prior, in scikit-learn's conventions."""

import os
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from calepin.core.errors import FileFormatError
from calepin.core.files import load_arrays, save_arrays
from calepin.core.random import numpy_generator, torch_generator
from calepin.core.threads import single_threaded_blas, single_threaded_torch
from calepin.generators.base import Generator, check_generator, latent_dimension, like_generator
from calepin.generators.files import arrays_of, describe, fingerprint, rebuild, same_generator
from calepin.learning.batches import ArrayBatches
from calepin.learning.rules.generative import Algorithm1, AltMin, Autodiff, GenerativeRule, LeastSquares
from calepin.learning.train import Callback, TrainState, train

__all__ = ["GenerativeDictionaryLearner", "UnderdeterminedWarning"]

KIND = "generative-dictionary"
RULES: dict[str, type[GenerativeRule]] = {
    rule.name: rule for rule in (Algorithm1, AltMin, Autodiff, LeastSquares)
}
LARGEST_BATCH = 256
_GENERATOR = "generator."  # prefix of its arrays in a file


class UnderdeterminedWarning(UserWarning):
    """Fewer samples than the dictionary has directions to be determined."""


class GenerativeDictionaryLearner(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learn a linear layer A on top of a known generator: ``x = G(z) A`` with a short latent z.

    Minimises the mean over samples of ``0.5 ||x - G(z) A||^2 + (prior / 2) ||z||^2`` over A and the
    latents. With a generator cut out of a trained network it is transfer learning from a few dozen
    samples ("Dictionary learning under generative coefficient priors, with applications to
    compression", 2022).

    Parameters
    ----------
    generator : callable
        G, from latents (n, k) to coefficients (n, n_coefficients), in torch; see `calepin.generators`.
    latent_dim : int, optional
        k, for a generator that does not tell.
    rule : {"least-squares", "algorithm1", "altmin", "autodiff"}, default="least-squares"
        How A moves; see `calepin.learning.rules.generative`.
    ridge : float or "evidence", default=1.0
        Of rule "least-squares": how strongly A stays near its last value.
    n_starts : int, default=4
        Starts of a decoding, in `fit` and in `transform`; the best is kept for each sample.
    prior : float, default=0.0
        Precision of a normal prior on the latents, in the units of the squared error: the variance
        of the noise for latents of unit variance.
    radius : float, optional
        Largest norm of a latent.
    init : "random" or array (n_coefficients, n_features), default="random"
        The first A; random entries are normal and scaled to the energy of X.
    batch_size : int, optional
        Samples in a step. Default: all, at most 256.
    max_iter : int, default=20
        Passes over the data, at most. A network's many atoms fit the noise of few samples after 2 to 5.
    tol : float, default=1e-3
        Stop when a pass changes the mean objective by less than this share of it; 0 never stops.
    random_state : int, RandomState, Generator or None, default=None
        Seed of A, of the starts and of the order of the samples.
    verbose : bool, default=False
        Show a progress bar.

    Attributes
    ----------
    components_ : ndarray (n_coefficients, n_features)
        A: its rows are the atoms.
    latent_dim_ : int
        k.
    n_determined_, n_directions_ : int
        Directions of the coefficients that the samples of the last fit spanned, and those that the
        generator has: A is determined on the former alone.
    n_iter_ : int
        Passes done.
    history_ : list of dict
        For each pass: pass, objective, seconds.
    n_features_in_ : int
        Features seen by `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from calepin import GenerativeDictionaryLearner
    >>> from calepin.generators import PolynomialSine
    >>> X = np.random.default_rng(0).standard_normal((50, 12))
    >>> learner = GenerativeDictionaryLearner(PolynomialSine(3), random_state=0).fit(X)
    >>> learner.transform(X).shape
    (50, 3)
    """

    components_: np.ndarray
    history_: list[dict[str, float]]
    n_features_in_: int

    def __init__(
        self,
        generator: Generator,
        *,
        latent_dim: int | None = None,
        rule: Literal["least-squares", "algorithm1", "altmin", "autodiff"] = "least-squares",
        ridge: float | Literal["evidence"] = 1.0,
        n_starts: int = 4,
        prior: float = 0.0,
        radius: float | None = None,
        init: str | np.ndarray = "random",
        batch_size: int | None = None,
        max_iter: int = 20,
        tol: float = 1e-3,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.generator = generator
        self.latent_dim = latent_dim
        self.rule = rule
        self.ridge = ridge
        self.n_starts = n_starts
        self.prior = prior
        self.radius = radius
        self.init = init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, callbacks: Sequence[Callback] = ()) -> Self:
        """Learn A from samples X, (n_samples, n_features).

        Parameters
        ----------
        X : array (n_samples, n_features)
        y : ignored
        callbacks : sequence of callables
            Each is called with the `TrainState` after every batch; a true result ends the fit.

        Raises
        ------
        ValueError
            A parameter, the generator or the data is not what is documented.

        Warns
        -----
        UnderdeterminedWarning
            The samples span fewer directions of the coefficients than the generator has.
        """
        self._state: TrainState | None = None
        self._learn(X, reset=True, callbacks=callbacks, max_iter=self.max_iter)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Take one pass over new samples, from where the last call, or `fit`, left off."""
        first = not hasattr(self, "components_")
        n_passes = 0 if first or self._state is None else self._state.n_passes
        self._learn(X, reset=first, callbacks=(), max_iter=n_passes + 1)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the latents (n_samples, latent_dim) of samples."""
        check_is_fitted(self, "components_")
        X = self._tensor(validate_data(self, X, reset=False, dtype=[np.float64, np.float32]))
        atoms = torch.from_numpy(self.components_).to(X)
        return self._rule(0).decode(atoms, X, rng=torch_generator(0)).z.cpu().numpy()

    @single_threaded_torch()
    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Return the samples (n_samples, n_features) that latents stand for."""
        check_is_fitted(self, "components_")
        Z = np.asarray(Z)
        if Z.ndim != 2 or Z.shape[1] != self.latent_dim_:
            raise ValueError(f"Z: expected shape (n_samples, {self.latent_dim_}), got {Z.shape}")
        with torch.no_grad(), single_threaded_blas():
            return self.generator(self._tensor(Z)).cpu().numpy() @ self.components_

    def score(self, X: Any, y: Any = None) -> float:
        """Return minus the mean over samples of half the squared error: larger is better."""
        check_is_fitted(self, "components_")
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        residual = X - self.inverse_transform(self.transform(X))
        return -0.5 * float((residual * residual).sum(1).mean())

    def save(self, path: str | os.PathLike) -> None:
        """Write the learned layer and, where a file can hold it, the generator; atomically.

        Any other generator has to be given to `load` again, which recognises it by what it makes of a
        few fixed latents.
        """
        check_is_fitted(self, "components_")
        parameters = {k: v for k, v in self.get_params(deep=False).items() if k not in ("generator", "init")}
        if not isinstance(self.random_state, Integral | None):
            parameters["random_state"] = None  # a generator of numbers has no place in a file
        description = describe(self.generator)
        arrays = {
            "components": self.components_,
            "fingerprint": fingerprint(self.generator, self.latent_dim_),
        }
        if description is not None:
            arrays |= {_GENERATOR + name: array for name, array in arrays_of(self.generator).items()}
        names = ("latent_dim_", "n_iter_", "n_determined_", "n_directions_", "history_")
        fitted = {name: getattr(self, name) for name in names}
        save_arrays(path, KIND, arrays, {"estimator": parameters, "generator": description, "fitted": fitted})

    @classmethod
    def load(cls, path: str | os.PathLike, *, generator: Generator | None = None) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path
        generator : callable, optional
            The generator of the fit; needed where the file does not hold it.

        Raises
        ------
        FileNotFoundError, calepin.FileFormatError
            No such file, or not a generative dictionary.
        ValueError
            If no generator is in the file or given, or if the one given is another one.
        """
        arrays, parameters = load_arrays(path, KIND)
        if not {"components", "fingerprint"} <= arrays.keys():
            raise FileFormatError(f"{path} lacks the components or the fingerprint of its generator")
        if generator is None:
            if parameters["generator"] is None:
                raise ValueError(f"generator: expected one, since {path} does not hold it, got None")
            own = {k.removeprefix(_GENERATOR): v for k, v in arrays.items() if k.startswith(_GENERATOR)}
            generator = rebuild(parameters["generator"], own)
        if not same_generator(generator, arrays["fingerprint"], parameters["fitted"]["latent_dim_"]):
            raise ValueError(f"generator: expected the one {path} was learned with, got another")
        learner = cls(generator, **parameters["estimator"])
        learner.components_ = arrays["components"]
        learner.n_features_in_ = learner.components_.shape[1]
        learner._state = None
        for name, value in parameters["fitted"].items():
            setattr(learner, name, value)
        return learner

    @property
    def _n_features_out(self) -> int:
        return self.latent_dim_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # latents have the dtype of the generator
        return tags

    @single_threaded_torch()
    def _learn(self, X: Any, *, reset: bool, callbacks: Sequence[Callback], max_iter: int) -> None:
        self._check_parameters()
        X = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32])
        rng = numpy_generator(self.random_state)
        self.latent_dim_ = latent_dimension(self.generator, self.latent_dim)
        n_coefficients = check_generator(self.generator, self.latent_dim, n_features=X.shape[1])
        X = self._tensor(X)
        rule = self._rule(int(rng.integers(2**31)))
        seed = int(rng.integers(2**31))
        data = ArrayBatches(X.numpy(), min(self.batch_size or LARGEST_BATCH, len(X)), seed=seed)
        if reset:
            self._state = TrainState(rule.init(self._first_atoms(X, n_coefficients, rng)))
        elif self._state is None:  # loaded from a file: the atoms are known, nothing else
            self._state = TrainState(rule.init(torch.from_numpy(self.components_).to(X)))
        state = self._state
        assert state is not None
        try:
            self._train(rule, data, state, callbacks, max_iter)
        finally:
            self.components_ = np.asarray(state.arrays["atoms"])
            self.n_iter_, self.history_ = state.n_passes, state.history
        self._count_directions(X, rule)

    def _train(
        self,
        rule: GenerativeRule,
        data: ArrayBatches,
        state: TrainState,
        callbacks: Sequence[Callback],
        max_iter: int,
    ) -> None:
        if not self.verbose:
            train(rule, data, state, max_iter=max_iter, tol=self.tol, callbacks=callbacks)
            return
        from calepin.core.progress import progress_bar

        with progress_bar("learning", total=max_iter * (data.n_steps or 1), done=state.n_steps) as bar:
            show: Callback = lambda state: bar.update(state.n_steps, f"pass {state.n_passes + 1}")  # noqa: E731
            train(rule, data, state, max_iter=max_iter, tol=self.tol, callbacks=[show, *callbacks])

    def _rule(self, seed: int) -> GenerativeRule:
        more = {"ridge": self.ridge} if self.rule == "least-squares" else {}
        return RULES[self.rule](
            self.generator, self.latent_dim, n_starts=self.n_starts, prior=self.prior, radius=self.radius,
            seed=seed, **more,
        )  # fmt: skip

    def _first_atoms(self, X: Tensor, n_coefficients: int, rng: np.random.Generator) -> Tensor:
        shape = (n_coefficients, X.shape[1])
        if not isinstance(self.init, str):
            init = torch.as_tensor(np.asarray(self.init)).to(X)
            if init.shape != shape or not torch.isfinite(init).all():
                raise ValueError(f"init: expected finite atoms of shape {shape}, got {tuple(init.shape)}")
            return init
        drawn = torch.from_numpy(rng.standard_normal(shape)).to(X)
        energy = self._probe(1000).square().sum(1).mean() * X.shape[1]
        scale = (X.square().sum(1).mean() / energy.clamp_min(torch.finfo(X.dtype).tiny)).sqrt()
        return drawn * (scale if scale > 0 else 1.0)

    def _count_directions(self, X: Tensor, rule: GenerativeRule) -> None:
        """Compare the span of the samples' coefficients with that of the generator's."""
        found = rule.decode(torch.from_numpy(self.components_).to(X), X, rng=torch_generator(0))
        with torch.no_grad():
            spanned = self.generator(found.z)
        self.n_determined_ = int(torch.linalg.matrix_rank(spanned))
        all_of_it = self._probe(2 * self.components_.shape[0] + 10)
        self.n_directions_ = max(self.n_determined_, int(torch.linalg.matrix_rank(all_of_it)))
        if self.n_determined_ < self.n_directions_:
            warnings.warn(
                f"X: its {len(X)} samples determine A on {self.n_determined_} of the {self.n_directions_} "
                "directions that the generator's coefficients have; elsewhere A stays as it began",
                UnderdeterminedWarning,
                stacklevel=5,  # the caller of fit, past what decorates _learn
            )

    @torch.no_grad()
    def _probe(self, n: int) -> Tensor:
        """Return the coefficients of n normal latents."""
        draws = np.random.default_rng(0).standard_normal((n, self.latent_dim_))
        return self.generator(self._tensor(draws))

    def _tensor(self, values: Any) -> Tensor:
        like = like_generator(self.generator, torch.get_default_dtype())
        return torch.from_numpy(np.array(values)).to(like)

    def _check_parameters(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule: expected one of {sorted(RULES)}, got {self.rule!r}")
        for name in ("n_starts", "max_iter"):
            _positive_integer(name, getattr(self, name))
        if self.batch_size is not None:
            _positive_integer("batch_size", self.batch_size)
        if not isinstance(self.tol, Real) or not self.tol >= 0:
            raise ValueError(f"tol: expected a number >= 0, got {self.tol!r}")
        ridge: Any = self.ridge
        if ridge != "evidence" and (not isinstance(ridge, int | float) or not ridge >= 0):
            raise ValueError(f"ridge: expected a number >= 0 or 'evidence', got {ridge!r}")
        if isinstance(self.init, str) and self.init != "random":
            raise ValueError(f"init: expected 'random' or an array, got {self.init!r}")


def _positive_integer(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value!r}")
