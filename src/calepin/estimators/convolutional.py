"""Estimator of convolutional dictionary learning, in scikit-learn's conventions as far as possible."""

import copy
import inspect
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast, get_args

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from calepin.core.arrays import as_array
from calepin.core.checkpoint import CHECKPOINT_SECONDS
from calepin.core.checks import check_integer, check_number, check_one_of, is_integer, is_number
from calepin.core.files import read_header
from calepin.core.paths import kind_of
from calepin.core.progress import progress_bar
from calepin.core.random import numpy_generator
from calepin.estimators._base import FITTED
from calepin.estimators._labelled import RecordingLearner, peak_radius
from calepin.estimators._recordings import read_recording
from calepin.estimators._samples import is_stream
from calepin.estimators._scale import Scale, scale_of
from calepin.estimators._signals import (
    SignalStream,
    check_masks,
    check_observations,
    check_signals,
    one_each,
    shapes_of,
)
from calepin.learning.filter_set import FilterSet
from calepin.learning.filters import initial_filters
from calepin.learning.optimizers import Optimizer
from calepin.learning.rule import BaseRule, Rule
from calepin.learning.rules._trimming import covered, limit_of
from calepin.learning.rules.convolutional import Convolutional
from calepin.learning.rules.convolutional_base import ConvolutionalRule, code_signals
from calepin.learning.rules.convolutional_online import ConvolutionalOnline
from calepin.learning.signals import SignalBatches, Signals
from calepin.learning.train import CHECKPOINT, Callback, TrainState, load_checkpoint, train
from calepin.learning.trend import Trend
from calepin.likelihoods import Binomial, Gaussian, Likelihood, Poisson
from calepin.operators.conv import ConvDictionary
from calepin.penalties import L1, NonNegativeL1, Penalty
from calepin.solvers.coders.coder import (
    Coder,
    Codes,
    GradientRule,
    objective,
    violation,
    warn_if_far,
)
from calepin.solvers.coders.convolutional_lasso import ConvolutionalLassoCoder
from calepin.solvers.coders.convolutional_pursuit import ConvolutionalPursuitCoder
from calepin.solvers.coders.proximal import ProximalCoder

__all__ = ["ConvolutionalDictionaryLearner", "Encoding"]

FAMILIES: dict[str, Any] = {"gaussian": Gaussian, "binomial": Binomial, "poisson": Poisson}
CODERS = {  # and the parameters that they do not use; `debias` uses n_nonzero with any of them
    "auto": ("n_nonzero",),
    "fista": ("n_nonzero",),
    "ista": ("n_nonzero",),
    "exact": ("n_nonzero", "n_unfold"),
    "bcomp": ("alpha", "alpha_scaled", "n_unfold"),
}
_WEIGHTS = ("alpha", "alpha_scaled")
OPTIMIZERS = {"adam": partial(torch.optim.Adam, eps=1e-3), "sgd": torch.optim.SGD}
CHOICES = ("auto", "online", *OPTIMIZERS)
_BATCH = 64
_BATCH_ENTRIES = 2**24  # largest number of entries of a batch of codes: bounds the memory
_UPDATES = 4  # of "adam" and "sgd" with the same codes
_FOR_SCALE = 64  # signals from which their scale is found
_STARTS = 8  # of learning from moments
_MANY = 0.05  # of the signals; artefacts are rarer
_TRIAL = 2  # passes before half of the initialisations are given up
_LEARNING_TOL = 1e-3  # duality gap of codes in learning: the filters move between two codings of a signal


class Encoding(NamedTuple):
    """Codes of signals, and the offsets that they were computed with."""

    codes: Any
    offset: Any


class ConvolutionalDictionaryLearner(RecordingLearner):
    """Learn short filters such that each signal is a sum of a few shifted filters and a baseline.

    Minimises the mean over signals of ``nll(eta, x) + alpha * ||z||_1``, with the linear predictor
    ``eta = sum_m z_m * h_m + offset``, over codes z and filters h of unit norm, the entries of
    ``components_``. Signals have one, two or three axes. Their values are real numbers, counts out of
    `trials`, or counts without an upper bound.

    Parameters
    ----------
    n_components : int, default=8
        Number of filters. An array as `init` replaces the default by its own number.
    kernel_size : int or tuple of int, default=16
        Spatial size of the filters, in samples: one number for each axis, or one for all axes. An array as
        `init` replaces the default by its own size.
    kernel_seconds : float, optional
        Length of the filters in seconds, in place of `kernel_size`, for signals of one axis, whose sampling
        rate is known.
    sampling_rate : float, optional
        Sampling rate of the signals in Hz, if they do not say it themselves as recordings of MNE do.
    likelihood : {"gaussian", "binomial", "poisson"} or Likelihood, default="gaussian"
        Family of the data, with identity, logit or log link, or a likelihood object.
    trials : int, default=1
        Number of trials of each count, for likelihood "binomial". With 1, the data are binary.
    alpha : float or "auto", default="auto"
        Weight of the l1 norm (coders "fista", "ista" and "exact"), in the units of the signals; the negative
        log-likelihood of counts grows in proportion to the number of trials, and so should alpha. "auto": a
        tenth of the largest correlation of a unit filter with the signals, or 3.5 standard deviations of the
        correlation with noise if this is more. It follows the units of the signals; artefacts hardly change
        it, also if up to half of the signals have some. The weight in use is `alpha_`.
    alpha_scaled : float, optional
        The weight as a fraction of the largest correlation of a unit filter with the signals, in place of
        `alpha`.
    penalty : Penalty, optional
        Penalty of the codes, in place of alpha times the l1 norm (coders "fista" and "ista").
    nonnegative : bool, default=False
        Whether the codes are constrained to be nonnegative.
    stride : int, default=1
        Distance between neighbouring positions of a filter, in samples (coders "fista" and "ista").
    coder : {"auto", "fista", "ista", "exact", "bcomp"} or Coder, default="auto"
        Sparse coder, in `fit` and `transform`. "fista", "ista": proximal gradient descent. "exact": the
        lasso up to a certified duality gap, for gaussian data; the gap in `fit` is larger than in
        `transform`. "bcomp": greedy pursuit of `n_nonzero` events, for all families. "auto": "exact" where
        it can be used (gaussian data with one or two axes on the CPU, stride 1, gradient "dec", no
        `penalty`, `debias` or `n_unfold`), otherwise "fista".
    n_nonzero : int, optional
        Number of events of a signal, for coder "bcomp". With `debias`, the maximal number of peaks.
    n_unfold : int, default=100
        Number of iterations of "fista" and "ista". `transform` warns if they are too few.
    debias : bool, default=False
        Whether to re-fit the codes without the penalty on their peaks: entries that are the largest within
        a tenth of the kernel.
    offset : float, "estimate" or None, default=None
        Known part of the linear predictor. "estimate": a constant baseline of each channel of each signal is
        estimated together with its code. None: 0 for real numbers, of which `detrend` removes the baseline,
        and "estimate" for counts. An offset for each signal can be passed to `fit` and `transform`.
    detrend : {"auto", "constant", "linear"}, int or None, default="auto"
        Baseline of each channel of each signal of real numbers, which is estimated before the codes, without
        the influence of events and artefacts, and becomes a part of the offset: a constant; a straight line
        along the only axis; or, given a number of samples, a broken line with knots at least so far apart,
        which follows drifts that are slower (about eight kernels or more leave the events alone). "auto":
        a line, or a constant for images and volumes, where it is larger than chance; none if an offset is
        given. None: no baseline is removed.
    robust : float or None, default=8.0
        Windows of signals are left out of learning if the logarithm of their loss lies so many deviations
        above the median over events, which artefacts do (optimizer "online"; not with coder "bcomp", which
        has no penalty); `anomalies` finds such windows. None: all windows are used.
    filters : FilterSet, optional
        What filters are like: one pattern over the channels times one waveform, nonnegative, zero at their
        ends, or of several sizes (`calepin.learning.FilterSet`). Default: any.
    rule : Rule, optional
        Update rule of the filters, in place of an optimiser with `gradient`. A `Convolutional` rule also
        computes the codes of `transform`.
    gradient : {"dec", "ae-lasso", "ae-ls"}, default="dec"
        Gradient of the loss with respect to the filters: with constant codes ("dec"), or through the encoder
        (see `calepin.learning.dictionary_gradient`).
    n_updates : int, optional
        Number of updates of the filters with the same codes. Default: 30 for "online"; for other optimisers
        4 with gradient "dec", otherwise 1.
    optimizer : {"auto", "online", "adam", "sgd"} or callable, default="auto"
        How filters are updated. "online": they move to the minimum of the loss with the codes of all batches
        of a pass, for gaussian data and gradient "dec" (`calepin.learning.ConvolutionalOnline`). "adam",
        with eps 1e-3, and "sgd": steps along the gradient. A callable is a function from a list of
        parameters to a torch optimiser. "auto": "online" where it can be used, unless a `learning_rate` is
        given, otherwise "adam".
    learning_rate : float, default=0.02
        Learning rate of "adam" and "sgd".
    init : {"data", "random"} or array (n_components, channels, *kernel_size), default="data"
        Initialisation of the filters: windows of the signals, Gaussian noise, or the filters themselves.
    n_init : int or "auto", default="auto"
        Number of initialisations with `init` "data" or "random". All are learned from for two passes, then
        the half with the smaller objectives for two more, until one is left. The problem is not convex:
        several starts find more of the patterns. "auto": eight with optimizer "online", whose passes are
        cheap, otherwise one. Streams are learned from one.
    batch_size : int or "auto", default="auto"
        Number of signals in a mini-batch. "auto": 64, or fewer so that the codes of a batch have at most
        16 million entries.
    max_iter : int, default=100
        Maximal number of passes over the signals.
    tol : float, default=1e-4
        Relative tolerance: stop when the mean objective changes by at most this fraction in a pass, judged by
        five passes: by five times this fraction in all; with optimizer "online" also no filter may move by
        more than 100 times this in a pass. 0 disables this test.
    checkpoint : path, optional
        File to which the state of the run is written: at the end, on Ctrl-C or SIGTERM, and every
        `checkpoint_seconds`. If it cannot be written, the run continues with a warning. It is not stored in
        the file of the estimator. While several initialisations are compared, each has a file beside it,
        named path.start-0, path.start-1, ...
    checkpoint_seconds : float, default=60.0
        Time between two checkpoints, in seconds.
    resume : bool, default=False
        Whether to resume the run from `checkpoint` if that file exists.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the order of the signals and of the initial filters.
    device : str, optional
        Device of the computation, for example "cuda". Default: the CPU.
    verbose : bool, default=False
        Whether to show a progress bar.

    Attributes
    ----------
    components_ : ndarray (n_components, channels, *kernel_size)
        The filters, of unit norm.
    alpha_ : float
        The weight of the l1 norm. Absent if a coder, a rule or a penalty is given.
    n_iter_, n_steps_ : int
        Number of passes and of mini-batches.
    converged_ : bool
        Whether the fit stopped because of `tol`.
    history_ : list of dict
        For each pass: pass, objective, seconds, n_replaced, the number of idle filters that were replaced by
        windows with large residuals. With optimizer "online" also n_trimmed, the number of places (samples of
        a signal, pixels) that were left out as artefacts, and change, the largest distance that a filter
        moved. The objective is that of what is not left out.
    n_features_in_ : int
        Number of channels seen by `fit`.
    sampling_rate_ : float or None
        Sampling rate in Hz, of the recording or `sampling_rate`. Recordings of another rate are refused.
    channel_names_ : tuple of str or None
        Names of the channels of the recording. Recordings of other channels are refused.

    Examples
    --------
    >>> from calepin import ConvolutionalDictionaryLearner
    >>> from calepin.datasets import simulate_convolutional
    >>> data = simulate_convolutional(20, (200,), n_components=2, kernel_size=(20,), trials=10, offset=-1.0)
    >>> learner = ConvolutionalDictionaryLearner(
    ...     2, 20, likelihood="binomial", trials=10, alpha=3.0, nonnegative=True, max_iter=2, random_state=0
    ... ).fit(data.X)
    >>> learner.transform(data.X).shape
    (20, 2, 181)

    The response of a neuron of the thalamus to deflections of a whisker, and the times of the responses,
    estimated from the spikes of 17 trials of 3 s (needs CALEPIN_DATA, see ``docs/reference/data.md``). The 16
    deflections are 125 ms apart:

    >>> from calepin.datasets import data_path
    >>> from calepin.spikes import read_spikes
    >>> path = data_path("spikes/whisker_thalamus/Dir3_Neuron1_Stim1_trngdataBis.mat")
    >>> spikes = read_spikes(path).counts
    >>> counts = spikes.sum(0)[None, None]
    >>> learner = ConvolutionalDictionaryLearner(
    ...     1, 125, likelihood="binomial", trials=len(spikes), alpha=3.0, nonnegative=True,
    ...     n_nonzero=16, debias=True, random_state=0,
    ... ).fit(counts)
    >>> onsets = learner.transform(counts)[0, 0].nonzero()[0]
    >>> onsets[:4], len(onsets)
    (array([472, 598, 722, 847]), 16)

    `calepin.spikes.analyse_spikes` adds history effects, held-out bits per spike and goodness of fit.
    """

    _n_axes: ClassVar[int | None] = None
    _fitted: ClassVar[Mapping[str, Callable[[Any], bool]]] = {
        **FITTED,
        "alpha_": lambda value: is_number(value) and value > 0,
    }
    _window: ClassVar[int] = 5  # optimisers of filters are stochastic: a single pass may change little

    gradient: GradientRule

    def __init__(
        self,
        n_components: int = 8,
        kernel_size: int | tuple[int, ...] = 16,
        *,
        kernel_seconds: float | None = None,
        sampling_rate: float | None = None,
        likelihood: Literal["gaussian", "binomial", "poisson"] | Likelihood = "gaussian",
        trials: int = 1,
        alpha: float | Literal["auto"] = "auto",
        alpha_scaled: float | None = None,
        penalty: Penalty | None = None,
        nonnegative: bool = False,
        stride: int = 1,
        coder: Literal["auto", "fista", "ista", "exact", "bcomp"] | Coder = "auto",
        n_nonzero: int | None = None,
        n_unfold: int = 100,
        debias: bool = False,
        offset: float | Literal["estimate"] | None = None,
        detrend: Literal["auto", "constant", "linear"] | int | None = "auto",
        robust: float | None = 8.0,
        filters: FilterSet | None = None,
        rule: Rule | None = None,
        gradient: GradientRule = "dec",
        n_updates: int | None = None,
        optimizer: Literal["auto", "online", "adam", "sgd"] | Optimizer = "auto",
        learning_rate: float = 0.02,
        init: str | np.ndarray | Tensor = "data",
        n_init: int | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 100,
        tol: float = 1e-4,
        checkpoint: str | os.PathLike | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        resume: bool = False,
        random_state: Any = None,
        device: str | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.kernel_size = kernel_size
        self.kernel_seconds = kernel_seconds
        self.sampling_rate = sampling_rate
        self.likelihood = likelihood
        self.trials = trials
        self.alpha = alpha
        self.alpha_scaled = alpha_scaled
        self.penalty = penalty
        self.nonnegative = nonnegative
        self.stride = stride
        self.coder = coder
        self.n_nonzero = n_nonzero
        self.n_unfold = n_unfold
        self.debias = debias
        self.offset = offset
        self.detrend = detrend
        self.robust = robust
        self.filters = filters
        self.rule = rule
        self.gradient = gradient
        self.n_updates = n_updates
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.init = init
        self.n_init = n_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.checkpoint = checkpoint
        self.checkpoint_seconds = checkpoint_seconds
        self.resume = resume
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        mask: Any = None,
        offset: Any = None,
        trials: Any = None,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Learn the filters.

        Parameters
        ----------
        X : array (n_signals, channels, *spatial), list of arrays (channels, *spatial), recording or batches
            Signals. Those of a list may have different lengths. An array may be memory-mapped, or a dataset
            of h5py or zarr. An iterable that is no list, such as a DataLoader or a function that returns a
            generator, gives batches (n, channels, *spatial) and is iterated over once in each pass. NaN marks
            missing entries, which are not fitted.

            A recording, or a list of them, says its sampling rate and channel names: Raw, Epochs and Evoked
            of MNE (good channels of one type; NaN where annotations begin with "bad"), a DataArray of xarray
            with a dimension "time", a DataFrame of pandas (columns are channels, the index is time), Tsd and
            TsdFrame of pynapple (each interval of the time support is a signal).
        y : ignored
            Present for scikit-learn's conventions.
        mask : array or list of arrays of bool, of the shape of X, optional
            True where an entry is observed; not with an iterable of batches.
        offset, trials : array, optional
            Offset and number of trials of each signal, in place of the parameters of the estimator; not with
            an iterable of batches. For each signal: a number, one number for each channel, or an array that
            broadcasts against the signal.
        callbacks : sequence of callables, default ()
            Functions that are called with the `TrainState` after every batch, but not while several
            initialisations are compared. If one returns True, the fit stops.

        Raises
        ------
        ValueError
            If a parameter or the data are invalid.
        calepin.learning.DivergedError
            If filters, a gradient or the objective become NaN or infinite. The last checkpoint is kept.

        Warns
        -----
        ConvergenceWarning
            The fit has not converged after `max_iter` passes, if these are more than the five by which `tol`
            judges.
        UserWarning
            More than 5 % of the signals were left out as artefacts.
        """
        self._check_parameters()
        self._refuse_unused()
        rng = numpy_generator(self.random_state)
        data = self._signals(X, offset, trials, mask, seed=self._seed(rng), reset=True, learning=True)
        self._set_alpha(data, offset)
        rule = self._make_rule(self._fits_baseline(offset), _axes(data), data.n_steps)
        return self._run(data, rule, rng, callbacks)

    def partial_fit(
        self, X: Any, y: Any = None, *, mask: Any = None, offset: Any = None, trials: Any = None
    ) -> Self:
        """Do one pass over `X`, continuing from the last call of `partial_fit` or `fit`."""
        self._check_parameters()
        self._refuse_unused()
        rng = numpy_generator(self.random_state)
        seed, first = int(rng.integers(2**31)), not hasattr(self, "components_")
        data = self._signals(X, offset, trials, mask, seed=seed, reset=first, learning=True)
        if first or not hasattr(self, "alpha_"):
            self._set_alpha(data, offset)
        if not first:
            data.dtype = torch.from_numpy(self.components_[:0]).dtype
        rule = self._make_rule(self._fits_baseline(offset), _axes(data), None)
        known = getattr(self, "_state", None)
        if known is not None and isinstance(rule, BaseRule) and type(known.learned) is not rule.state:
            del self._state  # of another optimiser: its filters go on, its memory has no meaning here
        return self._pass_over(data, rule, rng)

    def transform(self, X: Any, *, mask: Any = None, offset: Any = None, trials: Any = None) -> Any:
        """Return the codes (n_signals, n_components, *positions) of signals, from the coder of `fit`.

        Missing entries, which are NaN or False in `mask`, are not fitted. With `debias` the codes are
        re-fitted. For a list of signals a list of codes is returned; for a DataArray of xarray a DataArray
        with the dimensions (signals, "component", time) of `X`.

        Warns
        -----
        ConvergenceWarning
            `n_unfold` iterations of coder "fista" or "ista" end far from the minimiser, and the codes are too
            small. With another gradient than "dec" the iterations are the layers of a network, whose output
            is what is asked for.
        """
        return self.encode(X, mask=mask, offset=offset, trials=trials).codes

    def encode(self, X: Any, *, mask: Any = None, offset: Any = None, trials: Any = None) -> Encoding:
        """Return the codes of signals, as `transform` does, and their offsets, with the baselines."""
        recording = read_recording(X)
        codes, offsets, _ = self._code(recording, offset, trials, mask)
        if isinstance(recording.signals, list | tuple):
            return Encoding(codes, offsets)
        stacked = np.stack(codes)
        label = recording.label
        return Encoding(stacked if label is None else label(stacked, self.stride), np.stack(offsets))

    def inverse_transform(self, codes: Any, *, offset: Any = None, trials: Any = None) -> Any:
        """Return the means ``f^{-1}(sum_m z_m * h_m + offset)`` of signals, reconstructed from their codes.

        The offsets are those that `encode` returns together with the codes. Of counts they must be passed if
        they are estimated; without them, real numbers are reconstructed without their baseline.
        """
        check_is_fitted(self, "components_")
        as_list = isinstance(codes, list | tuple)
        given = [as_array(z) for z in codes]
        if not all(np.isfinite(z).all() for z in given):
            raise ValueError("codes: expected finite real numbers")
        kernel = self.components_.shape[2:]
        for z in given:
            if z.ndim != 1 + len(kernel) or len(z) != len(self.components_):
                raise ValueError(
                    f"codes: expected shape (n_signals, {len(self.components_)}, *positions) with "
                    f"{len(kernel)} axes of positions, got {(len(given), *z.shape)}"
                )
        shapes = [self._signal_shape(z) for z in given]
        if offset is None and self._fits_baseline(None):
            raise ValueError("offset: expected the offsets of all signals, which `encode` returns, got None")
        offsets = (
            [self._constant_offset()] * len(given) if offset is None else one_each("offset", offset, shapes)
        )
        n_trials = None if trials is None else one_each("trials", trials, shapes)
        means = [
            self._mean(z, shape, offsets[i], None if n_trials is None else n_trials[i])
            for i, (z, shape) in enumerate(zip(given, shapes, strict=True))
        ]
        return means if as_list else np.stack(means)

    def score(
        self, X: Any, y: Any = None, *, mask: Any = None, offset: Any = None, trials: Any = None
    ) -> float:
        """Return the negative mean objective of signals; larger is better.

        The objective is the negative log-likelihood, without terms that depend only on the data, plus the
        penalty of the codes. "bcomp" has no penalty.
        """
        return -float(np.mean(self._code(X, offset, trials, mask)[2]))

    def anomalies(self, X: Any, *, mask: Any = None, offset: Any = None) -> Any:
        """Return where signals of real numbers are not like the others: bool (n_signals, *spatial).

        An entry is marked if it lies in a window that `fit` would leave out as an artefact if it learned from
        these signals: the logarithm of its loss, half the squared residual and the penalty, is more than
        `robust` deviations above the median over events. For a list of signals a list is returned.

        Raises
        ------
        ValueError
            If `robust` is None, the data are counts, or the signals are a stream.
        """
        check_is_fitted(self, "components_")
        self._check_parameters()
        told = self.robust is not None and self._is_online() and self.coder != "bcomp"
        if not told or self.rule is not None:
            raise ValueError(
                "anomalies: expected a learner with robust, optimizer 'online' and another coder than 'bcomp'"
            )
        assert self.robust is not None
        recording = read_recording(X)
        if is_stream(recording.signals):
            raise ValueError("X: expected an array or a list of signals, got a stream of batches")
        data = self._signals(recording, offset, None, mask, seed=0, reset=False, learning=False)
        alpha = self._alpha_of_fit(data, offset)
        rule = self._convolutional_rule(self._fits_baseline(offset), _axes(data), alpha, learning=False)
        assert isinstance(rule, ConvolutionalOnline)
        found = {}
        for rows, signals in _groups(data):
            found |= zip(rows.tolist(), rule.losses(signals, self._filters(signals.y.dtype)), strict=True)
        limit, kernel = limit_of(list(found.values()), self.robust), self.components_.shape[2:]
        marks = [covered(found[row].windows > limit, kernel)[0].cpu().numpy() for row in range(len(found))]
        return marks if isinstance(recording.signals, list | tuple) else np.stack(marks)

    def save(self, path: str | os.PathLike) -> None:
        """Write the fitted filters to one safetensors file, atomically.

        A likelihood of calepin is stored by its name. Other objects are not stored: pass them to `load`
        again. A callable `optimizer` is replaced by the default in the loaded estimator.
        """
        check_is_fitted(self, "components_")
        plain = copy.copy(self)
        likelihood = self._likelihood()
        if type(likelihood) in FAMILIES.values():
            plain.likelihood = type(likelihood).__name__.lower()  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(likelihood, Binomial):
            plain.trials = int(likelihood.trials)
        super(ConvolutionalDictionaryLearner, plain).save(path)

    @classmethod
    def load(cls, path: str | os.PathLike, **objects: Any) -> Self:
        """Read filters that were written by `save`; see `DictionaryLearner.load`."""
        learner = super().load(path, **objects)
        if isinstance(learner.kernel_size, list):  # JSON has no tuples
            learner.kernel_size = tuple(learner.kernel_size)
        return learner

    @classmethod
    def _parameters_of(cls, components: np.ndarray) -> dict[str, Any]:
        return {"n_components": len(components), "kernel_size": components.shape[2:]}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.positive_only = isinstance(self._likelihood(), Binomial | Poisson)
        return tags

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if isinstance(self.likelihood, str):
            check_one_of("likelihood", self.likelihood, FAMILIES)
        if isinstance(self.coder, str):
            check_one_of("coder", self.coder, CODERS)
        check_one_of("gradient", self.gradient, get_args(GradientRule))
        if isinstance(self.optimizer, str):
            check_one_of("optimizer", self.optimizer, CHOICES)
            if self.optimizer == "online":
                self._require_quadratic()
        for name in ("n_components", "trials", "stride", "n_unfold"):
            check_integer(name, getattr(self, name))
        for name in ("n_nonzero", "n_updates"):
            check_integer(name, getattr(self, name), optional=True)
        if not isinstance(self.init, str) and np.ndim(self.init) < 3:
            raise ValueError(
                "init: expected filters (n_components, channels, *kernel_size), "
                f"got shape {np.shape(self.init)}"
            )
        self._check_recording_parameters()
        if self.kernel_seconds is not None:
            self._refuse("kernel_seconds", "kernel_size")
        elif not self._sizes() or not all(is_integer(n) and n >= 1 for n in self._sizes()):
            raise ValueError(
                f"kernel_size: expected a positive integer or a tuple of them, got {self.kernel_size!r}"
            )
        check_number("learning_rate", self.learning_rate, above=0)
        if self.alpha != "auto":
            check_number("alpha", self.alpha, above=0)
        check_number("alpha_scaled", self.alpha_scaled, above=0, below=1, optional=True)
        if self.alpha_scaled is not None:
            self._refuse(f"alpha_scaled = {self.alpha_scaled:g}", "alpha")
        check_number("robust", self.robust, above=0, optional=True)
        if self.n_init != "auto":
            check_integer("n_init", self.n_init)
        if not isinstance(self.init, str):
            self._refuse("given filters as init", "n_init")
        if self.coder == "bcomp" and self.n_nonzero is None:
            raise ValueError(
                "n_nonzero: expected the number of events of a signal with coder 'bcomp', got None"
            )
        if self.penalty is not None and self.coder not in ("auto", "fista", "ista"):
            raise ValueError(f"penalty: expected None with coder {self.coder!r}, which does not use one")
        self._check_unused("likelihood", "trials")
        self._check_unused("penalty", *_WEIGHTS, "nonnegative")
        self._check_unused(
            "coder", *_WEIGHTS, "nonnegative", "n_unfold", *([] if self.debias else ["n_nonzero"])
        )
        self._check_unused("optimizer", "learning_rate")
        self._check_unused("rule", "gradient", "n_updates", "optimizer", "learning_rate")
        if isinstance(self.rule, ConvolutionalRule):
            self._check_unused(
                "rule",
                "coder",
                "penalty",
                *_WEIGHTS,
                "n_nonzero",
                "nonnegative",
                "n_unfold",
                "debias",
                "robust",
            )
            if self.rule.stride != self.stride:
                raise ValueError(f"stride: expected {self.rule.stride}, that of the rule, got {self.stride}")
        if not (self.offset is None or self.offset == "estimate" or is_number(self.offset)):
            raise ValueError(f"offset: expected a finite number, 'estimate' or None, got {self.offset!r}")
        if not (self.detrend in (None, "auto", "constant", "linear") or is_integer(self.detrend)):
            raise ValueError(
                "detrend: expected 'auto', 'constant', 'linear', a number of samples or None, "
                f"got {self.detrend!r:.60}"
            )
        if is_integer(self.detrend):
            check_integer("detrend", self.detrend)
        if self.detrend not in (None, "auto"):
            if not isinstance(self._likelihood(), Gaussian):
                self._refuse(f"likelihood {self.likelihood!r:.60}", "detrend")
            if self.offset == "estimate":
                self._refuse("offset = 'estimate'", "detrend")

    def _refuse_unused(self) -> None:
        """Raise ValueError for parameters without effect on learning; afterwards the coder may change."""
        if isinstance(self.coder, str):
            unused = [name for name in CODERS[self.coder] if not (self.debias and name == "n_nonzero")]
            self._refuse(f"coder {self.coder!r}", *unused)
        if isinstance(self.likelihood, str) and self.likelihood != "binomial":
            self._refuse(f"likelihood {self.likelihood!r}", "trials")
        if self.rule is None and self.robust is not None and not self._is_online():
            self._refuse("another optimizer than 'online'", "robust")

    def _sizes(self) -> tuple[Any, ...]:
        """Return the sizes of a filter: one for each axis, or one for all axes."""
        if self.kernel_seconds is not None:
            return (self._samples_of_kernel(),)
        size = self._or_of_init("kernel_size", lambda filters: filters[2:])
        return tuple(size) if isinstance(size, tuple | list) else (size,)

    def _kernel(self, n_axes: int) -> tuple[int, ...]:
        sizes = self._sizes()
        for name in ("kernel_seconds", "sampling_rate"):
            if getattr(self, name) is not None and n_axes > 1:
                raise ValueError(f"{name}: expected None for signals with {n_axes} spatial axes")
        if len(sizes) == 1 and not isinstance(self.kernel_size, tuple | list):
            return sizes * n_axes
        if len(sizes) != n_axes:
            raise ValueError(
                f"kernel_size: expected {n_axes} numbers, one for each spatial axis of X, got {sizes}"
            )
        return sizes

    def _number_of_atoms(self) -> int:
        return self._or_of_init("n_components", lambda filters: filters[0])

    def _or_of_init(self, name: str, read: Callable[[tuple[int, ...]], Any]) -> Any:
        """Return a parameter, or what the shape of given initial filters says if it is the default."""
        given, default = getattr(self, name), inspect.signature(type(self).__init__).parameters[name].default
        return given if isinstance(self.init, str) or given != default else read(np.shape(self.init))

    def _likelihood(self) -> Likelihood:
        if not isinstance(self.likelihood, str):
            return self.likelihood
        check_one_of("likelihood", self.likelihood, FAMILIES)
        family = FAMILIES[self.likelihood]
        return family(self.trials) if family is Binomial else family()

    def _fits_baseline(self, offset: Any) -> bool:
        counts = isinstance(self._likelihood(), Binomial | Poisson)
        return offset is None and (self.offset == "estimate" or (self.offset is None and counts))

    def _constant_offset(self) -> float:
        return float(self.offset) if is_number(self.offset) else 0.0

    def _trend(self, offset: Any, kernel: tuple[int, ...]) -> Trend | None:
        """Return how the baselines of signals are found, for these offsets of the signals."""
        if self.detrend is None or not isinstance(self._likelihood(), Gaussian):
            return None
        if self.detrend == "auto":
            known = offset is not None or self.offset is not None or isinstance(self.rule, ConvolutionalRule)
            return None if known else Trend("linear", width=math.prod(kernel))
        return Trend(cast(Any, self.detrend))

    def _weight(self, data: SignalBatches | SignalStream, offset: Any) -> float | None:
        """Return the weight of the l1 norm, found from the signals if it is not given; None without one."""
        if not isinstance(self.coder, str) or self.penalty is not None or self.coder == "bcomp":
            return None
        if isinstance(self.rule, ConvolutionalRule):
            return None
        if self.alpha != "auto":
            return float(self.alpha)
        if self._resumes():
            return _weight_in(self._checkpoint_settings())
        scale = self._scale(data, offset)
        alpha = scale.alpha if self.alpha_scaled is None else float(self.alpha_scaled) * scale.correlation
        return max(alpha, float(np.finfo(np.float32).tiny))

    def _scale(self, data: SignalBatches | SignalStream, offset: Any) -> Scale:
        """Return the scale of some of the signals."""
        groups = data.head(_FOR_SCALE, np.random.default_rng(0)).X
        kernel = self._kernel(groups[0].y.ndim - 2)
        return scale_of(groups, kernel, baseline=self._fits_baseline(offset))

    def _make_coder(self, n_axes: int, alpha: float | None, *, learning: bool) -> Coder:
        if not isinstance(self.coder, str):
            return self.coder
        if self.coder == "bcomp":
            assert self.n_nonzero is not None
            return ConvolutionalPursuitCoder(self.n_nonzero, nonnegative=self.nonnegative)
        if self.coder == "exact" or (self.coder == "auto" and self._can_be_exact(n_axes)):
            assert alpha is not None
            coder = ConvolutionalLassoCoder(alpha, nonnegative=self.nonnegative)
            return replace(coder, tol=_LEARNING_TOL) if learning else coder
        return ProximalCoder(
            self.penalty or (NonNegativeL1 if self.nonnegative else L1)(alpha or 0.0),
            self.n_unfold,
            solver="ista" if self.coder == "ista" else "fista",
            nonnegative=self.nonnegative,
        )

    def _can_be_exact(self, n_axes: int) -> bool:
        """Return whether coder "exact" takes the problem, and the parameters do not speak of another."""
        default = inspect.signature(type(self).__init__).parameters["n_unfold"].default
        plain = self.penalty is None and not self.debias and self.n_unfold == default
        fits = self.stride == 1 and n_axes <= 2 and self.gradient == "dec"
        return plain and fits and isinstance(self._likelihood(), Gaussian) and self.device in (None, "cpu")

    def _is_online(self) -> bool:
        """Return whether filters move to the minimum of the loss with the codes of a pass."""
        if self.optimizer != "auto":
            return isinstance(self.optimizer, str) and self.optimizer == "online"
        default = inspect.signature(type(self).__init__).parameters["learning_rate"].default
        quadratic = isinstance(self._likelihood(), Gaussian) and self.gradient == "dec"
        return quadratic and self.learning_rate == default

    def _require_quadratic(self) -> None:
        """Raise ValueError for parameters that optimizer "online" does not take."""
        if not isinstance(self._likelihood(), Gaussian):
            raise ValueError(
                f"optimizer: expected 'adam', 'sgd' or a callable with likelihood {self.likelihood!r:.60}; "
                "'online' needs gaussian data"
            )
        self._refuse("optimizer 'online'", "gradient", "learning_rate")

    def _make_rule(self, baseline: bool, n_axes: int, n_steps: int | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        own = self.rule is None or isinstance(self.rule, ConvolutionalRule)
        if not own:
            return self.rule
        return self._convolutional_rule(baseline, n_axes, getattr(self, "alpha_", None), n_steps)

    def _convolutional_rule(
        self,
        baseline: bool,
        n_axes: int,
        alpha: float | None,
        n_steps: int | None = None,
        *,
        learning: bool = True,
    ) -> ConvolutionalRule:
        if isinstance(self.rule, ConvolutionalRule):
            return replace(self.rule, baseline=baseline or self.rule.baseline)
        common: dict[str, Any] = {
            "stride": self.stride,
            "debias": peak_radius(self._sizes()) if self.debias else None,
            "n_peaks": self.n_nonzero if self.debias else None,
            "baseline": baseline,
            "centre": isinstance(self.init, str),
            "filters": self.filters,
        }
        coder = self._make_coder(n_axes, alpha, learning=learning)
        if self._is_online():
            updates: dict[str, Any] = {} if self.n_updates is None else {"n_updates": self.n_updates}
            return ConvolutionalOnline(coder, horizon=n_steps, robust=self.robust, **common, **updates)
        optimizer: Any = "adam" if self.optimizer == "auto" else self.optimizer
        if isinstance(optimizer, str):
            optimizer = partial(OPTIMIZERS[optimizer], lr=float(self.learning_rate))
        n_updates = self.n_updates or (_UPDATES if self.gradient == "dec" else 1)
        return Convolutional(
            coder, gradient=self.gradient, n_updates=n_updates, optimizer=optimizer, **common
        )

    def _set_alpha(self, data: SignalBatches | SignalStream, offset: Any) -> None:
        """Set the weight of the l1 norm that is used with these signals, if there is one."""
        alpha = self._weight(data, offset)
        if alpha is not None:
            self.alpha_ = alpha
        elif hasattr(self, "alpha_"):
            del self.alpha_

    def _signals(
        self, X: Any, offset: Any, trials: Any, mask: Any, *, seed: int, reset: bool, learning: bool
    ) -> SignalBatches | SignalStream:
        """Return the checked signals, with their offsets and trials, as batches."""
        family = self._likelihood()
        if isinstance(family, Binomial) and np.ndim(family.trials):
            raise ValueError(
                "likelihood: expected a single number of trials; pass trials of each signal to fit"
            )
        if trials is not None and not isinstance(family, Binomial):
            raise ValueError("trials: expected None unless the likelihood is binomial")
        recording = self._read(X, reset=reset)
        X = recording.signals
        if is_stream(X):
            return self._stream(X, offset, trials, mask, reset=reset)
        signals, dtype = check_signals(X)
        shapes = shapes_of(signals)
        kernel = self._check_shapes(shapes, reset=reset)
        data = SignalBatches(
            signals,
            self._signals_at_once(shapes, kernel),
            likelihood=family,
            trials=None if trials is None else one_each("trials", trials, shapes),
            offset=self._constant_offset() if offset is None else one_each("offset", offset, shapes),
            mask=None if mask is None else check_masks(mask, shapes),
            trend=self._trend(offset, kernel),
            seed=seed,
            dtype=torch.float32 if dtype == np.float32 else torch.float64,
            device=self.device,
        )
        check_observations(
            data,
            baseline=self._fits_baseline(offset),
            learning=learning,
            names=recording.channel_names,
        )
        return data

    def _stream(self, X: Any, offset: Any, trials: Any, mask: Any, *, reset: bool) -> SignalStream:
        for name, value in (("offset", offset), ("trials", trials), ("mask", mask)):
            if value is not None:
                raise ValueError(f"{name}: expected None if X is an iterable of batches, got {value!r:.60}")
        data = SignalStream(
            X,
            likelihood=self._likelihood(),
            offset=self._constant_offset(),
            baseline=self._fits_baseline(None),
            device=self.device,
        )
        (first,) = data.head(1, np.random.default_rng(0)).X
        data.trend = self._trend(None, self._check_shapes([tuple(first.y.shape[1:])], reset=reset))
        return data

    def _check_shapes(self, shapes: list[tuple[int, ...]], *, reset: bool) -> tuple[int, ...]:
        """Return the kernel for signals of these shapes, which are checked."""
        kernel = self._kernel(len(shapes[0]) - 1)
        slack = [min(n - k for n, k in zip(shape[1:], kernel, strict=True)) for shape in shapes]
        shortest = slack.index(min(slack))
        if slack[shortest] < 0:
            raise ValueError(
                f"{'kernel_size' if self.kernel_seconds is None else 'kernel_seconds'}: expected at most the "
                f"signal's size {shapes[shortest][1:]}, got {kernel} for signal {shortest}, the shortest"
            )
        if reset:
            self.n_features_in_ = shapes[0][0]
        elif shapes[0][0] != self.n_features_in_:
            raise ValueError(
                f"X has {shapes[0][0]} channels, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} channels as input"
            )
        return kernel

    def _signals_at_once(self, shapes: list[tuple[int, ...]], kernel: tuple[int, ...]) -> int:
        if not isinstance(self.batch_size, str):
            return self.batch_size
        longest = max(
            math.prod((n - k) // self.stride + 1 for n, k in zip(shape[1:], kernel, strict=True))
            for shape in set(shapes)
        )
        return max(1, min(_BATCH, _BATCH_ENTRIES // (self._number_of_atoms() * longest)))

    def _check_resumed(self, shape: tuple[int, ...]) -> None:
        super()._check_resumed(shape)
        self._check_size("kernel_size", self._kernel(len(shape) - 2), shape[2:])

    def _fresh(self, data: Any, rule: Any, rng: np.random.Generator) -> TrainState:
        kernel = self._kernel(_axes(data))
        if self.filters is not None:
            self.filters.check(self._number_of_atoms(), kernel)
        robust = isinstance(rule, ConvolutionalOnline) and rule.robust is not None
        largest = self._scale(data, None).artefact if robust else None
        starts = [
            initial_filters(
                self._number_of_atoms(), kernel, data, init=self.init, generator=rng, largest=largest
            )
            for _ in range(self._n_starts(data, rule))
        ]
        if len(starts) == 1:
            return TrainState(rule.init(starts[0]).to(self.device))
        return self._best_start(data, rule, starts)

    def _n_starts(self, data: Any, rule: Any) -> int:
        """Return the number of initialisations of a run."""
        if not isinstance(self.init, str) or getattr(rule, "stream", False):
            return 1
        if isinstance(data, SignalStream):
            if self.n_init not in ("auto", 1):
                raise ValueError(
                    f"n_init: expected 'auto' or 1 if X is an iterable of batches, got {self.n_init!r}"
                )
            return 1
        if self.n_init != "auto":
            return int(self.n_init)
        return _STARTS if isinstance(rule, ConvolutionalOnline) else 1

    def _best_start(self, data: Any, rule: Any, starts: Sequence[Tensor]) -> TrainState:
        """Learn from all initial filters, and at the end of each round give up the worse half of them."""
        files = self._files_of_starts(len(starts))
        kept = [file if self.resume and file is not None and os.path.exists(file) else None for file in files]
        if self.random_state is None and kept[0] is not None:  # the resumed run had a random seed
            data.seed = read_header(kept[0])["parameters"]["settings"]["data"]["seed"]
        states = [
            TrainState(rule.init(filters).to(self.device))
            if file is None
            else load_checkpoint(file, rule, data, device=self.device)
            for filters, file in zip(starts, kept, strict=True)
        ]
        left, n_passes = list(range(len(starts))), 0
        with progress_bar("comparing starts", total=2 * len(left), shown=self.verbose) as bar:
            n_done = 0
            while len(left) > 1:
                n_passes = min(n_passes + _TRIAL, self.max_iter)
                for k in left:
                    train(
                        rule,
                        data,
                        states[k],
                        max_iter=n_passes,
                        checkpoint=files[k],
                        checkpoint_seconds=self.checkpoint_seconds,
                    )
                    n_done += 1
                    bar.update(n_done, f"{len(left)} left")
                # a resumed start may be rounds ahead
                left.sort(key=lambda k: states[k].history[n_passes - 1]["objective"])
                left = left[: -(-len(left) // 2)]
        return states[left[0]]

    def _files_of_starts(self, n_starts: int) -> list[str | None]:
        """Return the files in which the runs from several initial filters are kept until one is chosen."""
        given = self.checkpoint
        return [None if given is None else f"{os.fspath(given)}.start-{k}" for k in range(n_starts)]

    def _run(self, data: Any, rule: Any, rng: np.random.Generator, callbacks: Sequence[Callback]) -> Self:
        super()._run(data, rule, rng, callbacks)
        n_starts = self._n_starts(data, rule)
        for file in self._files_of_starts(n_starts if n_starts > 1 else 0):
            if file is not None and os.path.exists(file) and kind_of(Path(file)) == CHECKPOINT:
                os.unlink(file)
        self._warn_of_artefacts(data)
        self._warn_unless_converged()
        return self

    def _warn_unless_converged(self) -> None:
        """Warn if the test with `tol` could be made and the last pass did not meet it."""
        if self.converged_ or self.tol == 0 or not self.n_iter_ >= self.max_iter > self._window:
            return
        from sklearn.exceptions import ConvergenceWarning

        before, last = (self.history_[k]["objective"] for k in (-1 - self._window, -1))
        moved = self.history_[-1].get("change")
        of_filters = "" if moved is None else f", a filter moved by {moved:.2g} in the last one"
        warnings.warn(
            f"the fit has not converged after max_iter = {self.max_iter} passes: the objective changed by "
            f"{abs(last - before) / abs(before):.1e} of its value in {self._window} passes{of_filters} "
            f"(tol = {self.tol:g})",
            ConvergenceWarning,
            stacklevel=4,
        )

    def _warn_of_artefacts(self, data: Any) -> None:
        """Warn if so much was left out of the last pass that it can hardly be artefacts alone."""
        if not isinstance(data, SignalBatches) or not self.history_:
            return
        left_out = self.history_[-1].get("n_trimmed", 0)
        places = sum(math.prod(shape[1:]) for shape in shapes_of(data.signals))
        if left_out > _MANY * places:
            warnings.warn(
                f"{left_out / places:.0%} of the signals were left out of learning as artefacts: `anomalies` "
                "shows where; a larger robust, or None, keeps them",
                stacklevel=4,
            )

    def _code(
        self, X: Any, known_offset: Any, trials: Any, mask: Any
    ) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        """Return code, offset and objective of each signal."""
        check_is_fitted(self, "components_")
        self._check_parameters()
        data = self._signals(X, known_offset, trials, mask, seed=0, reset=False, learning=False)
        n_axes = self.components_.ndim - 2
        alpha = self._alpha_of_fit(data, known_offset)
        rule = self._convolutional_rule(self._fits_baseline(known_offset), n_axes, alpha, learning=False)
        promises = (
            isinstance(rule.coder, ProximalCoder)
            and isinstance(self.coder, str)
            and self.rule is None
            and self.gradient == "dec"
            and not self.debias
        )
        found: dict[int, tuple[np.ndarray, np.ndarray, float, float]] = {}
        for rows, signals in _groups(data):
            problem, codes = code_signals(rule, signals, self._filters(signals.y.dtype))
            coded = Codes(codes, problem.offset)
            objectives = objective(problem, coded, rule.coder.penalty)
            violations = violation(problem, coded, rule.coder.penalty) if promises else np.zeros(len(rows))
            codes = rule.debiased(problem, codes)
            offset = torch.as_tensor(problem.offset, dtype=codes.dtype)
            offset = offset.expand(len(rows), *[1] * (codes.ndim - 1)) if offset.ndim == 0 else offset
            found |= zip(
                rows.tolist(),
                zip(codes.cpu().numpy(), offset.cpu().numpy(), objectives, violations, strict=True),
                strict=True,
            )
        codes, offsets, objectives, far = zip(*(found[row] for row in range(len(found))), strict=True)
        warn_if_far(np.array(far), f"n_unfold = {self.n_unfold}")
        return list(codes), list(offsets), np.array(objectives)

    def _alpha_of_fit(self, data: SignalBatches | SignalStream, offset: Any) -> float | None:
        """Return the weight of the fit, or one found from the signals if there was no fit."""
        found = getattr(self, "alpha_", None) if self.alpha == "auto" else None
        return self._weight(data, offset) if found is None else found

    def _filters(self, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(self.components_, dtype=dtype, device=self.device)

    def _signal_shape(self, codes: np.ndarray) -> tuple[int, ...]:
        n_channels, *kernel = self.components_.shape[1:]
        sizes = zip(codes.shape[1:], kernel, strict=True)
        return (n_channels, *((n - 1) * self.stride + k for n, k in sizes))

    def _mean(self, codes: np.ndarray, shape: tuple[int, ...], offset: Any, trials: Any) -> np.ndarray:
        z = torch.as_tensor(codes[None], device=self.device)
        dictionary = ConvDictionary(self._filters(z.dtype), signal_shape=shape[1:], stride=self.stride)
        eta = dictionary(z) + torch.as_tensor(offset, dtype=z.dtype, device=z.device)
        family = self._likelihood() if trials is None else Binomial(torch.as_tensor(trials).to(eta))
        return family.mean(eta)[0].cpu().numpy()


def _weight_in(settings: dict[str, Any]) -> float | None:
    """Return the weight of the l1 norm in the settings of a run."""
    coder = settings.get("coder", {})
    return coder.get("alpha", coder.get("penalty", {}).get("alpha"))


def _axes(data: Any) -> int:
    """Return the number of spatial axes of the signals."""
    return data.head(1, np.random.default_rng(0)).X[0].y.ndim - 2


def _groups(data: SignalBatches | SignalStream) -> Iterator[tuple[np.ndarray, Signals]]:
    """Yield the signals of the same size that are coded together, each group with the rows of its signals."""
    if isinstance(data, SignalBatches):
        n = len(data.signals)
        for start in range(0, n, data.batch_size):
            yield from data.take(np.arange(start, min(start + data.batch_size, n)))
        return
    n = 0
    for batch in data.walk(0):
        (signals,) = batch.X
        yield np.arange(n, n + len(signals.y)), signals
        n += len(signals.y)
