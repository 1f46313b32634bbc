"""Sparse coding unfolded into a network whose weights are a convolutional dictionary.

The encoder consists of T proximal gradient steps from zero, the decoder of one synthesis:

    z_0 = 0
    z_{k+1} = prox( z_k + s W_e^T r(H z_k + mu, y), s alpha beta^k )        k = 0 .. T - 1
    eta = W_d z_T + mu

Here r is the score of the likelihood and mu an offset, zero by default. The residual may be bounded from
below, r = ELU_b(score). The Poisson score y - exp(eta) is unbounded below, and without the bound one large
step would make the following layers diverge.

With tied weights, W_e = W_d = H, the encoder is ISTA, the same iteration as in `calepin.solvers`. Untied
weights keep only its form. Sources: Tolooshams and Ba, "Stable and interpretable unrolled dictionary
learning", 2022, algorithm 2 and, for the decay beta, section 4; Tolooshams et al., "Convolutional
dictionary learning based auto-encoders for natural exponential-family distributions", 2020, eq. 6.

A dictionary with a stride places its atoms on one of stride^d grids, which are shifts of each other. The
signal is coded on several grids and the linear predictors are averaged. This removes artefacts of the grid
and reduces the noise (Simon and Elad, "Rethinking the CSC model for natural images", 2019).
"""

import itertools
import numbers
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_floating, check_integer, check_number, check_one_of, check_tensor
from calepin.core.errors import FileFormatError, IncompatibleError
from calepin.core.files import load_arrays, save_arrays
from calepin.core.reading import check_sizes, reading
from calepin.likelihoods import Binomial, Gaussian, Likelihood, Poisson
from calepin.networks._grids import Shift, continue_by_reflection, cover, drawn_shifts, local_mean, window
from calepin.networks._reference import read_reference
from calepin.operators.conv import ConvDictionary, from_phases, to_phases
from calepin.penalties import L1, HardThreshold, NonNegativeL1, Penalty
from calepin.solvers.convolutional_layers import KINDS, ConvolutionalLayers

__all__ = ["UnfoldedAutoencoder", "default_step"]

Threshold = L1 | NonNegativeL1 | HardThreshold
KIND = "unfolded-autoencoder"
PADDINGS = ("reflect", "none")
PENALTIES: dict[str, type[Threshold]] = {kind.__name__: kind for kind in (L1, NonNegativeL1, HardThreshold)}
LIKELIHOODS: dict[str, type[Likelihood]] = {kind.__name__: kind for kind in (Gaussian, Binomial, Poisson)}
_KERNELS = 8  # size, in kernels, of the periodic signal that L is computed for


class UnfoldedAutoencoder(nn.Module):
    """An encoder of T convolutional sparse coding steps and a linear decoder, for signals of any size.

    Parameters
    ----------
    atoms : Tensor, shape (n_components, channels, *kernel)
        Initial values of all dictionaries, copied; one to three kernel axes.
    penalty : Penalty
        Penalty of the codes. L1, NonNegativeL1 and HardThreshold give the layers a soft threshold, a
        rectifier or a hard threshold; the weight (level) is a number, or a tensor (n_components, 1, ...) with
        one for each atom. For any other penalty the layers use its proximal map, without learned thresholds.
    n_unfold : int, default 15
        Number of layers T.
    stride : int, default 1
        Distance between neighbouring positions of an atom, in samples or pixels.
    step_size : float, optional
        Step size s of the layers. Default: ``1 / L`` of the initial atoms on a large signal, which needs a
        likelihood with bounded curvature.
    likelihood : Likelihood, optional
        Family of y; Gaussian by default. Its score is the residual of the layers, its linear predictor
        the output. A Binomial must have a single number of trials.
    decay : float, default 1
        Factor beta of the thresholds from layer to layer. It is an attribute that schedules may change.
    tied : bool, default True
        Whether one dictionary, ``atoms``, is used as H, W_e and W_d. Otherwise ``encoder_atoms`` (W_e) and
        ``decoder_atoms`` (W_d) are separate parameters.
    learn_threshold, learn_step : bool, default False
        Whether ``alpha``, (n_components, 1, ...), and ``step_size`` are learned. The level of a hard
        threshold cannot be learned, because its gradient is zero.
    padding : {"reflect", "none"}, default "reflect"
        "reflect": each axis is padded by reflection, by ``stride - shift`` entries at the beginning and
        ``stride + rest + shift`` at the end, where rest makes the last position of an atom end with the
        signal. Every entry is then coded for every shift. "none": the signal is coded without padding and
        shifts, and the last ``(size - kernel) % stride`` entries are predicted as 0.
    local_mean : int, optional
        Odd width of a moving average of y, in samples or pixels. It is used as the offset mu if none is
        given, so that the atoms do not need to represent grey levels. For Gaussian data only.
    residual_bound : float, optional
        Bound b of the residual of the layers: negative residuals are ``b (exp(score) - 1) >= -b``. Default:
        no bound.
    shifts_at_once : int, default 1
        Number of shifts coded as one batch; memory grows with it. With more shifts than this, the backward
        pass recomputes the layers of each batch, so that memory does not grow with the number of shifts.
    """

    alpha: Tensor
    step_size: Tensor
    card: dict[str, Any]

    def __init__(
        self,
        atoms: Tensor,
        penalty: Penalty,
        *,
        n_unfold: int = 15,
        stride: int = 1,
        step_size: float | None = None,
        likelihood: Likelihood | None = None,
        decay: float = 1.0,
        tied: bool = True,
        learn_threshold: bool = False,
        learn_step: bool = False,
        padding: str = "reflect",
        local_mean: int | None = None,
        residual_bound: float | None = None,
        shifts_at_once: int = 1,
    ) -> None:
        super().__init__()
        for name, value in (("n_unfold", n_unfold), ("shifts_at_once", shifts_at_once)):
            check_integer(name, value)
        check_number("decay", decay, above=0, most=1)
        check_one_of("padding", padding, PADDINGS)
        check_number("residual_bound", residual_bound, above=0, optional=True)
        if local_mean is not None:
            _check_local_mean(local_mean, Gaussian())
        check_arguments(UnfoldedAutoencoder.__init__, locals())
        check_floating("atoms", atoms)
        known = type(penalty) in PENALTIES.values()
        if learn_threshold and not known:
            raise IncompatibleError(
                f"learn_threshold needs one of {', '.join(PENALTIES)}, which {type(penalty).__name__} is not"
            )
        if learn_threshold and isinstance(penalty, HardThreshold):
            raise ValueError(
                "learn_threshold: expected False with a HardThreshold, whose gradient in its level is zero"
            )
        if isinstance(penalty, HardThreshold) and penalty.nonnegative:
            raise ValueError(
                "penalty: expected a HardThreshold of both signs, got a nonnegative one; "
                "NonNegativeL1 keeps codes nonnegative"
            )
        likelihood = _checked_likelihood(Gaussian() if likelihood is None else likelihood)
        _check_local_mean(local_mean, likelihood)
        # built only for its checks of the atoms and the stride
        ConvDictionary(atoms, signal_shape=tuple(check_tensor("atoms", atoms).shape[2:]), stride=stride)
        self.penalty: Any = type(penalty) if known else penalty
        self.likelihood, self.padding = likelihood, padding
        self.n_unfold, self.stride, self.decay = n_unfold, stride, decay
        self.tied, self.local_mean = tied, local_mean
        self.residual_bound, self.shifts_at_once = residual_bound, shifts_at_once
        self.card = {}

        first = atoms.detach()
        self.atoms = nn.Parameter(first.clone())
        if not tied:
            self.encoder_atoms = nn.Parameter(first.clone())
            self.decoder_atoms = nn.Parameter(first.clone())
        if isinstance(penalty, L1 | NonNegativeL1 | HardThreshold) and known:
            self._hold("alpha", _levels(penalty, first), learnable=learn_threshold)
        step_size = default_step(first, stride, likelihood) if step_size is None else step_size
        check_number("step_size", step_size, above=0)
        self._hold("step_size", first.new_tensor(step_size), learnable=learn_step)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Spatial shape of an atom."""
        return tuple(self.atoms.shape[2:])

    @takes_tensors
    def forward(
        self,
        y: Tensor,
        *,
        offset: Tensor | float | None = None,
        shifts: Sequence[Shift] | None = None,
        detach_codes: bool = False,
    ) -> Tensor:
        """Return the linear predictor of y, averaged over shifts. For Gaussian data this is the denoised y.

        Parameters
        ----------
        y : Tensor, shape (n, channels, *spatial)
            Observations. Each spatial axis must be at least as long as that of the kernel. Integer counts
            are converted to the dtype of the atoms.
        offset : float or Tensor, optional
            Offset mu of the linear predictor, a number or a tensor that broadcasts to the shape of y.
            Default: the moving average of y if `local_mean` is set, otherwise 0.
        shifts : sequence of tuples, optional
            Shifts of the grid, each entry from 0 to ``stride - 1``; all by default. See `all_shifts`
            and `random_shifts`.
        detach_codes : bool, default False
            Whether codes are constants of the gradient, which then reaches only the decoder ("dec").

        Returns
        -------
        Tensor, shape of y

        Raises
        ------
        ValueError
            If y has the wrong shape or number of channels, or if `shifts` is empty or has an invalid shift.
        """
        y, mu = self._observed(y), self._baseline(offset, y)
        shifts = self.all_shifts() if shifts is None else self._checked(shifts)
        if not shifts:
            raise ValueError("shifts: expected at least one, got none")
        total = torch.zeros_like(y)
        chunks = [shifts[i : i + self.shifts_at_once] for i in range(0, len(shifts), self.shifts_at_once)]
        for chunk in chunks:
            if len(chunks) > 1 and torch.is_grad_enabled():
                part = checkpoint(self._predict, y, mu, chunk, detach_codes, use_reentrant=False)
            else:
                part = self._predict(y, mu, chunk, detach_codes)
            total = total + part
        mean = total / len(shifts)
        return mean if mu is None else mean + mu

    @takes_tensors
    def encode(
        self, y: Tensor, *, offset: Tensor | float | None = None, shift: Shift | None = None
    ) -> Tensor:
        """Return the codes of y, (n, n_components, *code), for one shift of the grid (by default zero)."""
        y, mu = self._observed(y), self._baseline(offset, y)
        shifts = self._checked([shift or (0,) * len(self.kernel)])
        return self._code(self._phases(y, shifts), None if mu is None else self._phases(mu, shifts))

    def decode(self, codes: Tensor, *, signal_shape: tuple[int, ...], shift: Shift | None = None) -> Tensor:
        """Return W_d z, (n, channels, *signal_shape), without offset, for codes from `encode`."""
        check_tensor("codes", codes)
        shifts = self._checked([shift or (0,) * len(self.kernel)])
        return self._crop(from_phases(self._synthesise(codes), self.stride), shifts[0], signal_shape)

    def all_shifts(self) -> list[Shift]:
        """Return all shifts of the grid: stride^d of them with padding "reflect", one with "none"."""
        reach = self.stride if self.padding == "reflect" else 1
        return list(itertools.product(range(reach), repeat=len(self.kernel)))

    def random_shifts(self, n_shifts: int, *, generator: torch.Generator | None = None) -> list[Shift]:
        """Return `n_shifts` distinct random shifts, for a step of training."""
        return drawn_shifts(self.all_shifts(), n_shifts, generator)

    @torch.no_grad()
    def project_(self) -> None:
        """Keep the step size positive and the levels of soft thresholds nonnegative, in place."""
        self.step_size.clamp_(min=torch.finfo(self.step_size.dtype).eps)
        if self.penalty is L1:
            self.alpha.clamp_(min=0)

    def settings(self) -> dict[str, Any]:
        """Return the settings for JSON: everything but the weights that `load` needs."""
        return {
            "penalty": self._penalty_name,
            "likelihood": {"name": type(self.likelihood).__name__, **vars(self.likelihood)},
            "n_unfold": self.n_unfold,
            "stride": self.stride,
            "decay": self.decay,
            "tied": self.tied,
            "padding": self.padding,
            "local_mean": self.local_mean,
            "residual_bound": self.residual_bound,
            "learn_threshold": isinstance(getattr(self, "alpha", None), nn.Parameter),
            "learn_step": isinstance(self.step_size, nn.Parameter),
        }

    def save(self, path: str | os.PathLike, *, card: Mapping[str, Any] | None = None) -> None:
        """Write weights and settings to one safetensors file, atomically.

        Parameters
        ----------
        path : path
            The file to write.
        card : mapping, optional
            The model card: JSON values that describe the training data and the accuracy. Default:
            ``network.card``, which `load` sets.

        Raises
        ------
        IncompatibleError
            If the penalty or the likelihood is a class from outside of calepin, which a file cannot store.
        """
        for name, known in ((self._penalty_name, PENALTIES), (type(self.likelihood).__name__, LIKELIHOODS)):
            if name not in known:
                raise IncompatibleError(f"save needs one of {', '.join(known)}, which {name} is not")
        card = self.card if card is None else card
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}
        save_arrays(path, KIND, arrays, {"settings": self.settings(), "card": dict(card)})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a network that `save` wrote.

        Raises
        ------
        FileNotFoundError, calepin.FileFormatError
            If the file does not exist, holds no unfolded network, or uses a penalty or likelihood that this
            version of calepin does not know.
        """
        arrays, parameters = load_arrays(path, KIND)
        with reading(path, "unfolded network"):
            return cls._rebuild(path, arrays, parameters)

    @classmethod
    def _rebuild(
        cls, path: str | os.PathLike, arrays: Mapping[str, np.ndarray], parameters: Mapping[str, Any]
    ) -> Self:
        """Return the network of the content of a file."""
        settings = dict(parameters["settings"])
        check_sizes(settings, arrays)
        penalty, likelihood = settings.pop("penalty"), settings.pop("likelihood")
        for name, known in ((penalty, PENALTIES), (likelihood["name"], LIKELIHOODS)):
            if name not in known:
                raise FileFormatError(
                    f"{path} holds a network with {name!r}, expected one of {', '.join(known)}"
                )
        terms = {key: value for key, value in likelihood.items() if key != "name"}
        network = cls(
            torch.from_numpy(arrays["atoms"]),
            PENALTIES[penalty](0.0),
            step_size=1.0,
            likelihood=LIKELIHOODS[likelihood["name"]](**terms),
            **settings,
        )
        network.load_state_dict(
            {name: torch.from_numpy(arrays[name]).view_as(own) for name, own in network.state_dict().items()}
        )
        network.card = parameters["card"]
        return network

    @classmethod
    def load_reference(cls, path: str | os.PathLike) -> Self:
        """Read a Poisson network that the authors of DCEA released: ``NAME.npz`` with ``NAME.json``.

        The network maps counts (n, 1, height, width) to the log-rate, averaged over all shifts.

        Raises
        ------
        FileNotFoundError, calepin.FileFormatError
            If one of the two files does not exist, or has other contents. The message says which.
        """
        arrays, settings = read_reference(path)
        with reading(path, "network"):
            network = cls(
                torch.from_numpy(arrays["atoms"]),
                NonNegativeL1(0.0),
                n_unfold=settings["T"],
                stride=settings["stride"],
                step_size=1.0,
                likelihood=Poisson(),
                tied=settings["model"] == "tied",
                learn_threshold=True,
                residual_bound=settings["elu_alpha"],
            )
            # set directly, because a penalty would refuse the negative biases of some released networks
            with torch.no_grad():
                for name, array in arrays.items():
                    network.get_parameter(name).copy_(torch.from_numpy(array))
            return network

    def extra_repr(self) -> str:
        """Return the main settings, for ``repr``."""
        return (
            f"atoms={tuple(self.atoms.shape)}, {self._penalty_name}, {self.likelihood}, "
            f"n_unfold={self.n_unfold}, stride={self.stride}, decay={self.decay}, tied={self.tied}, "
            f"padding={self.padding!r}"
        )

    def _predict(
        self, y: Tensor, offset: Tensor | None, shifts: Sequence[Shift], detach_codes: bool
    ) -> Tensor:
        """Return the sum of W_d z over a few shifts of the grid, coded as one batch."""
        baseline = None if offset is None else self._phases(offset, shifts)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not detach_codes):
            codes = self._code(self._phases(y, shifts), baseline)
        predictors = from_phases(self._synthesise(codes), self.stride).chunk(len(shifts))
        cropped = [
            self._crop(predictor, shift, tuple(y.shape[2:]))
            for predictor, shift in zip(predictors, shifts, strict=True)
        ]
        return torch.stack(cropped).sum(0)

    def _phases(self, y: Tensor, shifts: Sequence[Shift]) -> Tensor:
        return torch.cat([to_phases(self._pad(y, shift), self.stride) for shift in shifts])

    def _code(self, phases: Tensor, offset: Tensor | None = None) -> Tensor:
        """Run the layers on the phases of signal and atoms, for which the convolution has stride 1."""
        coarse = tuple(phases.shape[2:])
        synthesis = self._dictionary(self.atoms, coarse)
        analysis = synthesis if self.tied else self._dictionary(self.encoder_atoms, coarse)
        if offset is not None and isinstance(self.likelihood, Gaussian):
            phases, offset = phases - offset, None  # the score is y - eta: subtract the offset only once
        compiled = self._compiled(phases, offset)
        if compiled is not None:
            return compiled
        z = phases.new_zeros(phases.shape[0], *synthesis.in_shape)
        for k in range(self.n_unfold):
            eta = synthesis(z) if k else torch.zeros_like(phases)
            if offset is not None:
                eta = eta + offset
            move = self.step_size * analysis.adjoint(self._residual(eta, phases))
            z = self._shrink(z + move if k else move, k)
        return z

    def _compiled(self, phases: Tensor, offset: Tensor | None) -> Tensor | None:
        """Return the codes by the compiled layers of signals, or None where these do not apply."""
        if self.residual_bound is not None or not isinstance(self.penalty, type):
            return None
        levels = self.alpha / self.step_size if self.penalty is HardThreshold else self.alpha
        layers = ConvolutionalLayers(
            self.likelihood, KINDS[self.penalty], self.decay ** np.arange(self.n_unfold)
        )
        return layers.codes(
            phases,
            to_phases(self.atoms, self.stride),
            to_phases(self.atoms if self.tied else self.encoder_atoms, self.stride),
            levels.clamp_min(0) if self.penalty is L1 else levels,
            self.step_size,
            offset=0.0 if offset is None else offset,
        )

    def _residual(self, eta: Tensor, phases: Tensor) -> Tensor:
        residual = self.likelihood.score(eta, phases)
        if self.residual_bound is None:
            return residual
        return F.elu(residual, self.residual_bound)

    @property
    def _penalty_name(self) -> str:
        return (self.penalty if isinstance(self.penalty, type) else type(self.penalty)).__name__

    def _shrink(self, v: Tensor, layer: int) -> Tensor:
        if not isinstance(self.penalty, type):
            return self.penalty.prox(v, self.step_size * self.decay**layer)
        level = self.alpha * self.decay**layer
        if self.penalty is HardThreshold:
            return HardThreshold(level).prox(v, self.step_size)
        if self.penalty is L1:
            return L1(1.0).prox(v, self.step_size * level.clamp_min(0))
        # the learned bias of a rectifier may be negative, unlike the weight of a penalty
        return NonNegativeL1(1.0).prox(v, self.step_size * level)

    def _synthesise(self, codes: Tensor) -> Tensor:
        """Return the phases of W_d z."""
        atoms = self.atoms if self.tied else self.decoder_atoms
        reach = [-(-width // self.stride) - 1 for width in self.kernel]
        coarse = tuple(size + more for size, more in zip(codes.shape[2:], reach, strict=True))
        return self._dictionary(atoms, coarse)(codes)

    def _dictionary(self, atoms: Tensor, coarse: tuple[int, ...]) -> ConvDictionary:
        # many channels with a small kernel: direct convolution is faster than the FFT
        how = "direct" if self.stride > 1 else None
        return ConvDictionary(to_phases(atoms, self.stride), signal_shape=coarse, implementation=how)

    def _pad(self, y: Tensor, shift: Shift) -> Tensor:
        if self.padding == "none":
            return cover(y, self.kernel, self.stride)
        return continue_by_reflection(y, self.kernel, self.stride, shift)

    def _crop(self, x: Tensor, shift: Shift, size: tuple[int, ...]) -> Tensor:
        before = [self.stride - moved for moved in shift] if self.padding == "reflect" else [0] * len(shift)
        return window(x, before, size)

    def _checked(self, shifts: Sequence[Shift]) -> list[Shift]:
        known = set(self.all_shifts())
        for shift in shifts:
            if tuple(shift) not in known:
                reach = self.stride if self.padding == "reflect" else 1
                raise ValueError(
                    f"shifts: expected {len(self.kernel)} integers from 0 to {reach - 1}, got {shift!r}"
                )
        return [tuple(shift) for shift in shifts]

    def _observed(self, y: Tensor) -> Tensor:
        """Return y as a floating tensor; raise ValueError for a wrong shape, dtype or value."""
        channels, kernel = self.atoms.shape[1], self.kernel
        check_tensor("y", y)
        if y.ndim != 2 + len(kernel) or y.shape[1] != channels:
            axes = ", ".join(["n", str(channels), *["size"] * len(kernel)])
            raise ValueError(f"y: expected shape ({axes}), got {tuple(y.shape)}")
        if not len(y):
            raise ValueError(f"y: expected at least one signal, got shape {tuple(y.shape)}")
        if any(size < width for size, width in zip(y.shape[2:], kernel, strict=True)):
            raise ValueError(
                f"y: expected signals of at least the kernel's size {kernel}, got {tuple(y.shape[2:])}"
            )
        if not (y.is_floating_point() or y.is_complex()):
            y = y.to(self.atoms.dtype)
        if y.dtype != self.atoms.dtype:
            raise ValueError(f"y: expected the dtype of the atoms, {self.atoms.dtype}, got {y.dtype}")
        self.likelihood.check(y)
        return y

    def _baseline(self, offset: Tensor | float | None, y: Tensor) -> Tensor | None:
        """Return the offset in the shape of y, or None if it is zero."""
        if offset is None:
            return None if self.local_mean is None else local_mean(y, self.local_mean)
        if not isinstance(offset, Tensor) and not isinstance(offset, numbers.Number):
            check_tensor("offset", offset)
        if not isinstance(offset, Tensor) and offset == 0:
            return None
        offset = torch.as_tensor(offset, dtype=self.atoms.dtype, device=y.device)
        if not torch.isfinite(offset).all():
            raise ValueError("offset: expected finite numbers, got others")
        try:
            return torch.broadcast_to(offset, y.shape)
        except RuntimeError:
            raise ValueError(
                f"offset: expected a number or a tensor that broadcasts to the shape of y, {tuple(y.shape)}, "
                f"got {tuple(offset.shape)}"
            ) from None

    def _hold(self, name: str, value: Tensor, *, learnable: bool) -> None:
        if learnable:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)


def _check_local_mean(width: int | None, likelihood: Likelihood) -> None:
    if width is None:
        return
    if not isinstance(width, numbers.Integral) or width < 1 or width % 2 == 0:
        raise ValueError(f"local_mean: expected an odd number, or None, got {width!r}")
    if not isinstance(likelihood, Gaussian):
        raise IncompatibleError(
            "local_mean needs a Gaussian likelihood, whose mean is the linear predictor, which "
            f"{type(likelihood).__name__} is not"
        )


def _checked_likelihood(likelihood: Likelihood) -> Likelihood:
    """Return the likelihood with its parameters as Python numbers, for `settings`."""
    if not isinstance(likelihood, Binomial):
        return likelihood
    trials = torch.as_tensor(likelihood.trials)
    if trials.numel() > 1:
        raise ValueError(
            f"likelihood: expected a Binomial whose trials are one number, got shape {tuple(trials.shape)}"
        )
    return Binomial(int(trials))


def _levels(penalty: Threshold, atoms: Tensor) -> Tensor:
    """Return the penalty's weight, or the hard threshold's level, of each atom: (n_components, 1, ...)."""
    level = penalty.threshold if isinstance(penalty, HardThreshold) else penalty.alpha
    level = torch.as_tensor(level, dtype=atoms.dtype, device=atoms.device).detach()
    shape = (atoms.shape[0], *[1] * (atoms.ndim - 2))
    if level.ndim and level.shape != shape:
        raise ValueError(
            f"penalty: expected a number, or a tensor of shape {shape} with one for each atom, "
            f"got shape {tuple(level.shape)}"
        )
    return level.expand(shape).clone()


def default_step(atoms: Tensor, stride: int, likelihood: Likelihood) -> float:
    """Return ``1 / L``, with the Lipschitz constant L for a large periodic signal."""
    if likelihood.curvature is None:
        raise IncompatibleError(
            f"UnfoldedAutoencoder needs likelihood.curvature, which {type(likelihood).__name__} does not "
            "have; give step_size a number"
        )
    size = tuple(-(-_KERNELS * width // stride) * stride for width in atoms.shape[2:])
    periodic = ConvDictionary(atoms, signal_shape=size, stride=stride, boundary="circular")
    lipschitz = likelihood.curvature * periodic.norm_squared()
    return 1 / lipschitz if lipschitz > 0 else 1.0
