"""Estimator of convolutional dictionary learning, in scikit-learn's conventions as far as possible."""

import copy
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from calepin.core.arrays import as_array
from calepin.core.checkpoint import CHECKPOINT_SECONDS
from calepin.core.checks import check_number, is_number
from calepin.core.random import numpy_generator
from calepin.core.reading import reading
from calepin.estimators._anomalies import anomalies_of, warn_of_artefacts
from calepin.estimators._base import FITTED
from calepin.estimators._convolutional_parameters import FAMILIES, ConvolutionalParameters
from calepin.estimators._recordings import read_recording
from calepin.estimators._samples import is_stream
from calepin.estimators._scale import Scale, scale_of
from calepin.estimators._signals import (
    SignalStream,
    check_masks,
    check_observations,
    check_signals,
    groups_of,
    one_each,
    shapes_of,
)
from calepin.estimators._starts import best_start, remove_files_of_starts
from calepin.learning.filter_set import FilterSet
from calepin.learning.filters import initial_filters
from calepin.learning.optimizers import Optimizer
from calepin.learning.rule import BaseRule, Rule
from calepin.learning.rules.convolutional_base import ConvolutionalRule, code_signals
from calepin.learning.rules.convolutional_online import ConvolutionalOnline
from calepin.learning.signals import SignalBatches
from calepin.learning.train import Callback, TrainState
from calepin.likelihoods import Binomial, Likelihood, Poisson
from calepin.operators.conv import ConvDictionary
from calepin.penalties import Penalty
from calepin.solvers.coders.coder import (
    Coder,
    Codes,
    GradientRule,
    objective,
    violation,
    warn_if_far,
)
from calepin.solvers.coders.proximal import ProximalCoder

__all__ = ["ConvolutionalDictionaryLearner", "Encoding"]

_BATCH = 64
_BATCH_ENTRIES = 2**24  # largest number of entries of a batch of codes: bounds the memory
_FOR_SCALE = 64  # signals from which their scale is found
_STARTS = 8  # of learning from moments


class Encoding(NamedTuple):
    """Codes of signals, and the offsets that they were computed with."""

    codes: Any
    offset: Any


class ConvolutionalDictionaryLearner(ConvolutionalParameters):
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
        Penalty of the codes, in place of alpha times the l1 norm: of any kind with coders "fista" and "ista",
        such as `calepin.penalties.GroupL1`, whose groups are atoms at one position; the l1 norm or
        `calepin.penalties.ElasticNet` with "exact". It has the weight that it is given, in the units of the
        signals.
    nonnegative : bool, default=False
        Whether the codes are constrained to be nonnegative.
    stride : int, default=1
        Distance between neighbouring positions of a filter, in samples (coders "fista" and "ista").
    coder : {"auto", "fista", "ista", "exact", "bcomp"} or Coder, default="auto"
        Sparse coder, in `fit` and `transform`. "fista", "ista": proximal gradient descent. "exact": the
        lasso up to a certified duality gap, for gaussian data; the gap in `fit` is larger than in
        `transform`. "bcomp": greedy pursuit of `n_nonzero` events, for all families. "auto": "exact" where
        it can be used (gaussian data with one or two axes on the CPU, stride 1, gradient "dec", a `penalty`
        that it takes, no `n_unfold`), otherwise "fista".
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
        ends, of several sizes, decays, or of at most unit norm (`calepin.learning.FilterSet`). Default: any
        of unit norm.
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
        The filters, of unit norm, or at most unit norm if `filters` says so.
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

    def anomalies(self, X: Any, *, robust: float | None = None, mask: Any = None, offset: Any = None) -> Any:
        """Return where signals of real numbers are not like the others: bool (n_signals, *spatial).

        An entry is marked if it lies in a window that `fit` would leave out as an artefact if it learned from
        these signals: the logarithm of its loss, half the squared residual and the penalty, is more than
        `robust` deviations above the median over events. For a list of signals a list is returned.

        Parameters
        ----------
        X : array, list of arrays or recording
            Signals, as for `fit`.
        robust : float, optional
            Deviations; 3 or 4 to search for doubtful stretches. Default: those of the learner, with which
            artefacts are left out of learning.
        mask, offset : array, optional
            As for `transform`.

        Raises
        ------
        ValueError
            If the learner has `robust` None, the data are counts, or the signals are a stream.

        Warns
        -----
        UserWarning
            Too few events to tell what is usual: nothing is marked.
        """
        check_is_fitted(self, "components_")
        check_number("robust", robust, above=0, optional=True)
        self._check_parameters()
        told = self.robust is not None and self._is_online() and self.coder != "bcomp"
        if not told or self.rule is not None:
            raise ValueError(
                "anomalies: expected a learner with robust, optimizer 'online' and another coder than 'bcomp'"
            )
        deviations = self.robust if robust is None else robust
        assert deviations is not None
        recording = read_recording(X)
        if is_stream(recording.signals):
            raise ValueError("X: expected an array or a list of signals, got a stream of batches")
        data = self._signals(recording, offset, None, mask, seed=0, reset=False, learning=False)
        alpha = self._alpha_of_fit(data, offset)
        rule = self._convolutional_rule(self._fits_baseline(offset), _axes(data), alpha, learning=False)
        assert isinstance(rule, ConvolutionalOnline)
        marks = anomalies_of(rule, data, torch.as_tensor(self.components_, device=self.device), deviations)
        return marks if isinstance(recording.signals, list | tuple) else np.stack(marks)

    def save(self, path: str | os.PathLike) -> None:
        """Write the fitted filters to one safetensors file, atomically.

        A likelihood of calepin is stored by its name, and a `FilterSet` by its fields. Other objects are not
        stored: pass them to `load` again. A callable `optimizer` is replaced by the default in the loaded
        estimator.
        """
        check_is_fitted(self, "components_")
        plain = copy.copy(self)
        likelihood = self._likelihood()
        if type(likelihood) in FAMILIES.values():
            plain.likelihood = type(likelihood).__name__.lower()  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(likelihood, Binomial):
            plain.trials = int(likelihood.trials)
        if isinstance(self.filters, FilterSet):
            plain.filters = list(asdict(self.filters).items())  # pyright: ignore[reportAttributeAccessIssue]
        super(ConvolutionalDictionaryLearner, plain).save(path)

    @classmethod
    def load(cls, path: str | os.PathLike, **objects: Any) -> Self:
        """Read filters that were written by `save`; see `DictionaryLearner.load`."""
        learner = super().load(path, **objects)
        if isinstance(learner.kernel_size, list):  # JSON has no tuples
            learner.kernel_size = tuple(learner.kernel_size)
        if isinstance(learner.filters, list):
            with reading(path, cls._kind):
                learner.filters = _filter_set(learner.filters)
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
        return best_start(
            rule,
            data,
            starts,
            max_iter=self.max_iter,
            checkpoint=self.checkpoint,
            checkpoint_seconds=self.checkpoint_seconds,
            resume=self.resume,
            seeded=self.random_state is not None,
            device=self.device,
            verbose=self.verbose,
        )

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

    def _run(self, data: Any, rule: Any, rng: np.random.Generator, callbacks: Sequence[Callback]) -> Self:
        super()._run(data, rule, rng, callbacks)
        remove_files_of_starts(self.checkpoint, self._n_starts(data, rule))
        if self.history_:
            warn_of_artefacts(data, self.history_[-1].get("n_trimmed", 0))
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
        for rows, signals in groups_of(data):
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


def _filter_set(fields: Any) -> FilterSet:
    """Return the set of filters whose names and values of fields were read from a file."""
    read: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in fields}
    return FilterSet(**read)
