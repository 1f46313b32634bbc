"""Reconstruction from measurements without training data."""

import copy
import os
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from calepin.core.checkpoint import CHECKPOINT_SECONDS
from calepin.core.checks import check_device, check_methods
from calepin.core.random import torch_generator
from calepin.likelihoods import Likelihood
from calepin.networks.deep_decoder import DeepDecoder
from calepin.networks.untrained import ComplexPair, UntrainedNetwork
from calepin.operators.base import LinearOperator
from calepin.reconstruction.fit import MAX_ITER, PATIENCE, TOL, UntrainedSolution, fit_untrained
from calepin.solvers.first_order import Optimizer

__all__ = ["UntrainedReconstructor", "default_network", "with_precision"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class UntrainedReconstructor(BaseEstimator):
    """Recover signals from few measurements: an untrained network is fitted to each.

    There is no training and no `fit`: `reconstruct` minimises ``nll(A N_w, y)`` over the
    weights w of each observation (`calepin.reconstruction.fit_untrained`).

    Parameters
    ----------
    operator : LinearOperator
        A, the measurement. It is never moved: on another device, or in another precision than y, a copy is
        used.
    network : UntrainedNetwork, optional
        Maps weights to signals. Default: a `DeepDecoder` with 64 channels and 5 layers that starts from an
        eighth of the image's size; for complex measurements it is complex, and starts from at most 16 pixels
        per side. It is never moved either.
    likelihood : Likelihood, optional
        Family of the observations; Gaussian by default.
    optimizer : Optimizer, optional
        `Adam`, `LBFGS` or `GradientDescent` of `calepin.solvers`, or your own. Default:
        ``Adam(0.03)``.
    max_iter : int, default=1000
        Iterations at most.
    tol : float, default=1e-2
        A fit has converged when ``||y - mean|| / ||y||`` is at most this.
    patience : int or None, default=300
        It has also converged when its loss decreased by less than one percent in so many iterations.
    n_starts : int, default=1
        Number of random starts; their signals are averaged.
    held_out : float, default=0
        Fraction of the measurements that is held out and determines when to stop.
    consistent : bool, default=False
        Whether to replace the signals by the nearest ones that agree with the measurements.
    checkpoint : path, optional
        File for the state of the run, written at the end, on Ctrl-C and SIGTERM, and every
        `checkpoint_seconds`.
    checkpoint_seconds : float, default=60.0
        Time between two checkpoints, in seconds.
    resume : bool, default=False
        Continue from `checkpoint` if that file exists.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the weights and the held-out measurements.
    device : str, optional
        Device of the computation; by default that of y, the CPU for arrays.
    verbose : bool, default=False
        Show a progress bar.

    Attributes
    ----------
    solution_ : UntrainedSolution
        Result of the last reconstruction: weights, residuals, histories.
    network_ : UntrainedNetwork
        The network that was used.
    n_iter_ : int
        Iterations done.
    converged_ : ndarray of bool
        Whether each fit has converged.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from calepin import UntrainedReconstructor
    >>> from calepin.operators import SubsampledHadamard
    >>> operator = SubsampledHadamard((1, 16, 16), 96)
    >>> image = np.outer(*2 * [np.hanning(16)]).astype(np.float32)[None, None]
    >>> y = operator(torch.from_numpy(image)).numpy()
    >>> x = UntrainedReconstructor(operator, tol=0.05, random_state=0).reconstruct(y)
    >>> x.shape
    (1, 1, 16, 16)
    """

    solution_: UntrainedSolution

    def __init__(
        self,
        operator: LinearOperator,
        *,
        network: UntrainedNetwork | None = None,
        likelihood: Likelihood | None = None,
        optimizer: Optimizer | None = None,
        max_iter: int = MAX_ITER,
        tol: float = TOL,
        patience: int | None = PATIENCE,
        n_starts: int = 1,
        held_out: float = 0.0,
        consistent: bool = False,
        checkpoint: str | os.PathLike | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        resume: bool = False,
        random_state: Any = None,
        device: str | None = None,
        verbose: bool = False,
    ) -> None:
        self.operator = operator
        self.network = network
        self.likelihood = likelihood
        self.optimizer = optimizer
        self.max_iter = max_iter
        self.tol = tol
        self.patience = patience
        self.n_starts = n_starts
        self.held_out = held_out
        self.consistent = consistent
        self.checkpoint = checkpoint
        self.checkpoint_seconds = checkpoint_seconds
        self.resume = resume
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def reconstruct(self, y: Any) -> Any:
        """Return the signals behind observations.

        Parameters
        ----------
        y : array or Tensor, shape (n, *operator.out_shape)
            A batch of independent observations. Without the sample axis it is one observation, and the
            result has no sample axis either.

        Returns
        -------
        ndarray or Tensor, shape (n, *operator.in_shape)
            Same type as y.

        Warns
        -----
        ConvergenceWarning
            A fit has not converged within `max_iter`; the message has its residual.
        """
        check_methods("operator", self.operator, "forward", "adjoint")
        if self.network is not None:
            check_methods("network", self.network, "initial", "forward")
        check_device("device", self.device)
        observed = self._tensor(y)
        alone = observed.shape == self.operator.out_shape
        observed = observed[None] if alone else observed
        network = default_network(self.operator, observed) if self.network is None else self.network
        self.network_ = _on_device(network, observed.device)
        self.solution_ = fit_untrained(
            self.network_,
            with_precision(_on_device(self.operator, observed.device), observed),
            observed,
            likelihood=self.likelihood,
            optimizer=self.optimizer,
            max_iter=self.max_iter,
            tol=self.tol,
            patience=self.patience,
            n_starts=self.n_starts,
            held_out=self.held_out,
            consistent=self.consistent,
            generator=torch_generator(self.random_state),
            checkpoint=self.checkpoint,
            checkpoint_seconds=self.checkpoint_seconds,
            resume=self.resume,
            verbose=self.verbose,
        )
        self.n_iter_ = self.solution_.n_iter
        self.converged_ = self.solution_.converged.cpu().numpy()
        x = self.solution_.x[0] if alone else self.solution_.x
        return x if isinstance(y, Tensor) else x.cpu().numpy()

    def _tensor(self, y: Any) -> Tensor:
        """Return y on the right device, without a graph; integers and half precision become float32."""
        if isinstance(y, Tensor):
            wide = y.is_complex() or y.dtype in (torch.float32, torch.float64)
            return y.detach().to(self.device or y.device, y.dtype if wide else torch.float32)
        array: NDArray = np.asarray(y)
        if array.dtype.kind not in "fciu":
            raise ValueError(f"y: expected numbers, got dtype {array.dtype}")
        single = array.astype(np.float32) if array.dtype.kind in "iu" or array.itemsize == 2 else array
        return torch.as_tensor(np.ascontiguousarray(single), device=self.device)


def _on_device(module: ModuleT, device: torch.device) -> ModuleT:
    """Return a module on a device: itself if it is already there, else a copy."""
    if all(tensor.device == device for tensor in chain(module.parameters(), module.buffers())):
        return module
    return copy.deepcopy(module).to(device)


def with_precision(operator: LinearOperator, y: Tensor) -> LinearOperator:
    """Return an operator whose tensors have the precision of y: itself if they do, else a copy."""
    real = y.dtype.to_real()

    def precise(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(real.to_complex())
        return tensor.to(real) if tensor.is_floating_point() else tensor

    if all(precise(tensor) is tensor for tensor in chain(operator.parameters(), operator.buffers())):
        return operator
    return copy.deepcopy(operator)._apply(precise)


def default_network(operator: LinearOperator, y: Tensor) -> UntrainedNetwork:
    """Return a deep decoder for the signals of an operator: (channels, h, w), (channels, n) or (n,)."""
    shape = operator.in_shape
    if len(shape) not in (2, 3):
        raise ValueError(
            f"network: expected one for signals of shape {shape}; the default is for (channels, h, w) or "
            "(channels, n)"
        )
    size = shape[1:]
    # whole regions of k-space are missing; networks with a finer start grid hallucinate detail there
    largest = 16 if y.is_complex() else max(size)
    decoder = DeepDecoder(
        size,
        out_channels=shape[0] * (2 if y.is_complex() else 1),
        channels=64,
        in_size=tuple(max(1, min(-(-n // 8), largest)) for n in size),
        output="none" if y.is_complex() else "sigmoid",
    )
    return ComplexPair(decoder) if y.is_complex() else decoder
