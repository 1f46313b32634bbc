"""Estimator of dictionary learning with generative coefficient priors, in scikit-learn's conventions."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from calepin.core.arrays import as_array
from calepin.core.checkpoint import CHECKPOINT_SECONDS
from calepin.core.checks import check_integer, check_one_of, is_number
from calepin.core.errors import FileFormatError
from calepin.core.files import load_arrays
from calepin.core.random import numpy_generator, torch_generator
from calepin.core.reading import check_sizes, reading
from calepin.core.threads import single_threaded_blas, single_threaded_torch
from calepin.estimators._base import FITTED, BaseLearner, is_count
from calepin.estimators._samples import joined
from calepin.generators.base import (
    Generator,
    check_generator,
    in_dtype,
    latent_dimension,
    like_generator,
)
from calepin.generators.files import arrays_of, describe, fingerprint, rebuild, same_generator
from calepin.learning.batches import ArrayBatches
from calepin.learning.rules.generative import Algorithm1, AltMin, Autodiff, GenerativeRule, LeastSquares
from calepin.learning.train import Callback, TrainState

__all__ = ["GenerativeDictionaryLearner", "UnderdeterminedWarning"]

KIND = "generative-dictionary"
RULES: dict[str, type[GenerativeRule]] = {
    rule.name: rule for rule in (Algorithm1, AltMin, Autodiff, LeastSquares)
}
LARGEST_BATCH = 256
_GENERATOR = "generator."  # prefix of the generator's arrays in a file
_SAMPLES_PER_DIRECTION = 4


class UnderdeterminedWarning(UserWarning):
    """The samples do not determine the dictionary on all directions of the coefficients."""


class GenerativeDictionaryLearner(BaseLearner):
    """Learn a linear layer A after a known generator: ``x = G(z) A`` with a low-dimensional latent z.

    Minimises the mean over samples of ``0.5 ||x - G(z) A||^2 + (prior / 2) ||z||^2`` over A and the
    latents. With the first layers of a trained network as the generator, this is transfer learning from a few
    dozen samples ("Dictionary learning under generative coefficient priors, with applications to
    compression", 2022).

    Parameters
    ----------
    generator : callable
        G, a torch function from latents (n, k) to coefficients (n, n_coefficients); see `calepin.generators`.
        It is evaluated in the dtype of X.
    latent_dim : int, optional
        Number k of latents. Needed if the generator has neither such an attribute nor a first linear layer.
    rule : {"least-squares", "algorithm1", "altmin", "autodiff"} or GenerativeRule, default="least-squares"
        Update rule of A; see `calepin.learning.rules.generative`. A rule object is also used in `transform`,
        with its own `n_starts`, `prior` and `radius`.
    ridge : float or "evidence", default=1.0
        Weight of the distance to the previous A, for rule "least-squares"; see
        `calepin.learning.LeastSquares`.
    n_starts : int, default=4
        Number of random starts of the decoder, in `fit` and in `transform`. For each sample the best result
        is kept.
    prior : float, default=0.0
        Precision of the normal prior on the latents, in units of the squared error. For latents of unit
        variance it is the variance of the noise.
    radius : float, optional
        Upper bound on the norm of the latents. Default: no bound.
    init : "random" or array (n_coefficients, n_features), default="random"
        The initial A. "random": normal entries, scaled to the energy of X.
    batch_size : int or "auto", default="auto"
        Number of samples in a mini-batch. "auto": 256, or all samples if there are fewer.
    max_iter : int, default=3
        Maximal number of passes over the data. If the generator is a network with many coefficients and the
        samples are few, A is overfitted after more than 3 passes; generators with few latents gain from 20.
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
        Seed of the initial A, of the random starts and of the order of the samples.
    device : str, optional
        Device of the computation, for example "cuda". The generator must be on this device. Default: the
        CPU.
    verbose : bool, default=False
        Whether to show a progress bar.

    Attributes
    ----------
    components_ : ndarray (n_coefficients, n_features)
        The layer A; its rows are the atoms.
    latent_dim_ : int
        Number k of latents.
    n_determined_, n_directions_ : int
        Dimension of the span of the coefficients of the samples in the last fit, and of all coefficients of
        the generator. A is determined only on the first span.
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
    >>> from calepin import GenerativeDictionaryLearner
    >>> from calepin.generators import PolynomialSine
    >>> X = np.random.default_rng(0).standard_normal((50, 12))
    >>> learner = GenerativeDictionaryLearner(PolynomialSine(3), random_state=0).fit(X)
    >>> learner.transform(X).shape
    (50, 3)
    """

    _kind: ClassVar[str] = KIND
    _fitted: ClassVar[Mapping[str, Callable[[Any], bool]]] = FITTED | dict.fromkeys(
        ("latent_dim_", "n_determined_", "n_directions_"), is_count
    )

    latent_dim_: int

    def __init__(
        self,
        generator: Generator,
        *,
        latent_dim: int | None = None,
        rule: Literal["least-squares", "algorithm1", "altmin", "autodiff"] | GenerativeRule = "least-squares",
        ridge: float | Literal["evidence"] = 1.0,
        n_starts: int = 4,
        prior: float = 0.0,
        radius: float | None = None,
        init: str | np.ndarray | Tensor = "random",
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 3,
        tol: float = 1e-3,
        checkpoint: str | os.PathLike | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        resume: bool = False,
        random_state: Any = None,
        device: str | None = None,
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
        self.checkpoint = checkpoint
        self.checkpoint_seconds = checkpoint_seconds
        self.resume = resume
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, callbacks: Sequence[Callback] = ()) -> Self:
        """Learn A.

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
            If a parameter, the generator or the data are invalid.

        Warns
        -----
        UnderdeterminedWarning
            If the coefficients of the samples span fewer directions than those of the generator.
        """
        self._check_parameters()
        rng = numpy_generator(self.random_state)
        seed = self._rule_seed(rng)
        data = self._batches(X, None, self._seed(rng), reset=True)
        with single_threaded_torch():
            first = self._first_samples(data)
            self._run(data, self._make_generative(seed, first.dtype), rng, callbacks)
            self._count_directions(first)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Do one pass over new samples, continuing from the last call of `partial_fit` or `fit`."""
        self._check_parameters()
        rng = numpy_generator(self.random_state)
        seed = int(rng.integers(2**31))
        data = self._batches(X, None, int(rng.integers(2**31)), reset=not hasattr(self, "components_"))
        with single_threaded_torch():
            first = self._first_samples(data)
            dtype = self._state.learned.atoms.dtype if hasattr(self, "_state") else first.dtype
            self._pass_over(data, self._make_generative(seed, dtype), rng)
            self._count_directions(first)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the latents (n_samples, latent_dim) of samples; X as in `fit`."""
        check_is_fitted(self, "components_")
        return joined(self._decoded(self._tensor(rows)).cpu().numpy() for rows, _ in self._blocks(X))

    @single_threaded_torch()
    def inverse_transform(self, Z: Any) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the reconstruction (n_samples, n_features) of samples from their latents."""
        check_is_fitted(self, "components_")
        Z = as_array(Z)
        if Z.ndim != 2 or Z.shape[1] != self.latent_dim_:
            raise ValueError(f"Z: expected shape (n_samples, {self.latent_dim_}), got {Z.shape}")
        latents = self._tensor(Z if Z.dtype == np.float32 else np.asarray(Z, np.float64))
        generator = in_dtype(self.generator, latents.dtype, self.latent_dim_)
        with torch.no_grad(), single_threaded_blas():
            return generator(latents).cpu().numpy() @ self.components_

    def score(self, X: Any, y: Any = None) -> float:
        """Return the negative mean over samples of half the squared error; larger is better."""
        check_is_fitted(self, "components_")
        errors = []
        for rows, _ in self._blocks(X):
            residual = rows - self.inverse_transform(self._decoded(self._tensor(rows)).cpu().numpy())
            errors.append((residual * residual).sum(1))
        return -0.5 * float(joined(errors).mean())

    @classmethod
    def load(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, path: str | os.PathLike, *, generator: Generator | None = None, **objects: Any
    ) -> Self:
        """Read a dictionary that was written by `save`.

        Parameters
        ----------
        path : path
            The file to read.
        generator : callable, optional
            The generator of the fit. Needed if it is not stored in the file.
        **objects
            Other parameters that were objects, such as a rule.

        Raises
        ------
        FileNotFoundError, calepin.FileFormatError
            If the file does not exist, or holds no generative dictionary.
        ValueError
            If the generator is neither stored nor given, or differs from that of the fit.
        """
        arrays, parameters = load_arrays(path, KIND)
        if not {"components", "fingerprint"} <= arrays.keys():
            raise FileFormatError(f"{path} lacks the components or the fingerprint of its generator")
        with reading(path, "generative dictionary"):
            stored, latent_dim = parameters["generator"], cls._fitted_in(path, parameters)["latent_dim_"]
            check_sizes([stored, latent_dim], arrays)
        if generator is None:
            if stored is None:
                raise ValueError(f"generator: expected one, because {path} does not contain it, got None")
            own = {k.removeprefix(_GENERATOR): v for k, v in arrays.items() if k.startswith(_GENERATOR)}
            with reading(path, "generative dictionary"):
                generator = rebuild(stored, own)
                latent_dimension(generator, latent_dim)
        if not same_generator(generator, arrays["fingerprint"], latent_dim):
            raise ValueError(f"generator: expected the one {path} was learned with, got another")
        return super().load(path, generator=generator, **objects)

    @property
    def _n_features_out(self) -> int:
        return self.latent_dim_

    @property
    def _automatic_batch_size(self) -> int | None:
        return LARGEST_BATCH

    @classmethod
    def _parameters_of(cls, components: np.ndarray) -> dict[str, Any]:
        return {}

    def _adopt(self, components: np.ndarray) -> None:
        super()._adopt(components)
        self.latent_dim_ = latent_dimension(self.generator, self._latent_dim)

    def _header_to_save(self) -> dict[str, Any]:
        return {"generator": describe(self.generator)}

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        arrays = {"fingerprint": fingerprint(self.generator, self.latent_dim_)}
        if describe(self.generator) is None:
            return arrays
        return arrays | {_GENERATOR + name: array for name, array in arrays_of(self.generator).items()}

    def _validate(self, X: Any, mask: Any, *, reset: bool) -> tuple[Any, None]:
        X, _ = super()._validate(X, mask, reset=reset)
        self.latent_dim_ = latent_dimension(self.generator, self._latent_dim)
        if reset:
            like = self._tensor(X[:0])
            self._n_coefficients = check_generator(
                in_dtype(self.generator, like.dtype, self.latent_dim_),
                self.latent_dim_, n_features=X.shape[1], like=like,
            )  # fmt: skip
        return X, None

    @property
    def _latent_dim(self) -> int | None:
        """Return the number of latents that this learner or its rule was given."""
        return getattr(self.rule, "latent_dim", None) if self.latent_dim is None else self.latent_dim

    def _rule_seed(self, rng: np.random.Generator) -> int:
        """Return the seed of the random starts; a resumed run keeps its seed if `random_state` is None."""
        seed = int(rng.integers(2**31))
        if self.random_state is None and self._resumes():
            return self._checkpoint_settings().get("seed", seed)
        return seed

    def _make_generative(self, seed: int, dtype: torch.dtype) -> GenerativeRule:
        """Return the rule, with a generator of the samples' dtype."""
        if isinstance(self.rule, GenerativeRule):
            k = self.latent_dim if self.rule.latent_dim is None else self.rule.latent_dim
            return replace(self.rule, generator=in_dtype(self.rule.generator, dtype, k), latent_dim=k)
        if not isinstance(self.rule, str):
            return self.rule
        more = {"ridge": self.ridge} if self.rule == "least-squares" else {}
        generator = in_dtype(self.generator, dtype, self._latent_dim)
        return RULES[self.rule](
            generator, self._latent_dim, n_starts=self.n_starts, prior=self.prior, radius=self.radius,
            seed=seed, **more,
        )  # fmt: skip

    def _decoded(self, X: Tensor) -> Tensor:
        """Return the latents of samples for the current A, from random starts with a fixed seed."""
        atoms = torch.from_numpy(self.components_).to(X)
        return self._make_generative(0, X.dtype).decode(atoms, X, generator=torch_generator(0)).z

    def _fresh(self, data: Any, rule: Any, rng: np.random.Generator) -> TrainState:
        return TrainState(rule.init(self._first_atoms(data, rng)).to(self.device))

    def _first_atoms(self, data: Any, rng: np.random.Generator) -> Tensor:
        if isinstance(data, ArrayBatches):  # no draw of rng: rows of a file start as the array in memory
            X = self._first_samples(data, LARGEST_BATCH)
        else:
            X = self._tensor(data.head(LARGEST_BATCH, rng).X)
        shape = (self._n_coefficients, X.shape[1])
        if not isinstance(self.init, str):
            init = torch.as_tensor(as_array(self.init)).to(X)
            if init.shape != shape or not torch.isfinite(init).all():
                raise ValueError(f"init: expected finite atoms of shape {shape}, got {tuple(init.shape)}")
            return init
        drawn = torch.from_numpy(rng.standard_normal(shape)).to(X)
        energy = self._probe(1000, X).square().sum(1).mean() * X.shape[1]
        scale = (X.square().sum(1).mean() / energy.clamp_min(torch.finfo(X.dtype).tiny)).sqrt()
        return drawn * (scale if scale > 0 else 1.0)

    def _first_samples(self, data: Any, least: int = 0) -> Tensor:
        """Return all samples of an array in memory, otherwise a few times as many samples as atoms."""
        if _in_memory(data):
            return self._tensor(data.X)
        n = getattr(self, "_n_coefficients", None) or len(self.components_)
        enough = max(least, _SAMPLES_PER_DIRECTION * n)
        return self._tensor(data.head(enough, np.random.default_rng(0)).X)

    def _count_directions(self, X: Tensor) -> None:
        """Compare the span of the samples' coefficients with that of all coefficients of the generator."""
        with torch.no_grad():
            spanned = in_dtype(self.generator, X.dtype, self.latent_dim_)(self._decoded(X))
        self.n_determined_ = int(torch.linalg.matrix_rank(spanned))
        all_of_it = self._probe(2 * self.components_.shape[0] + 10, X)
        self.n_directions_ = max(self.n_determined_, int(torch.linalg.matrix_rank(all_of_it)))
        if self.n_determined_ < self.n_directions_:
            warnings.warn(
                f"X: its {len(X)} samples determine A on {self.n_determined_} of the {self.n_directions_} "
                "directions of the generator's coefficients; on the others A keeps its initial values",
                UnderdeterminedWarning,
                stacklevel=3,
            )

    @torch.no_grad()
    def _probe(self, n: int, like: Tensor) -> Tensor:
        """Return the coefficients of n standard normal latents, in the dtype of a tensor."""
        draws = torch.from_numpy(np.random.default_rng(0).standard_normal((n, self.latent_dim_)))
        return in_dtype(self.generator, like.dtype, self.latent_dim_)(draws.to(like))

    def _tensor(self, values: Any) -> Tensor:
        """Return a copy as a tensor on the generator's device."""
        found = torch.from_numpy(np.array(as_array(values)))
        return found.to(like_generator(self.generator, found.dtype).device)

    def _check_parameters(self) -> None:
        if isinstance(self.rule, str):
            check_one_of("rule", self.rule, sorted(RULES))
        self._check_unused("rule", "ridge", "n_starts", "prior", "radius")
        if isinstance(self.rule, str) and self.rule != "least-squares":
            self._refuse(f"rule {self.rule!r}, which has no ridge", "ridge")
        check_integer("n_starts", self.n_starts)
        if getattr(self.rule, "latent_dim", None) not in (None, self._latent_dim):
            raise ValueError(
                f"latent_dim: expected {self.rule.latent_dim}, that of the rule, got {self.latent_dim}"  # type: ignore[union-attr]
            )
        evidence = isinstance(self.ridge, str) and self.ridge == "evidence"
        if not evidence and not (is_number(self.ridge) and self.ridge >= 0):
            raise ValueError(f"ridge: expected a number of at least 0 or 'evidence', got {self.ridge!r}")
        if isinstance(self.init, str):
            check_one_of("init", self.init, ("random",))
        super()._check_parameters()


def _in_memory(data: Any) -> bool:
    return isinstance(data, ArrayBatches) and isinstance(data.X, np.ndarray)
