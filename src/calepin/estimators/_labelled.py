"""What a learner of convolutional dictionaries knows of recordings: sampling rate, channel names, events."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from calepin.core.checks import check_number
from calepin.core.files import recording_labels
from calepin.estimators._base import BaseLearner
from calepin.estimators._recordings import Recording, names_in_short, read_recording, same_rate
from calepin.solvers.support import peaks

if TYPE_CHECKING:
    from mne import Annotations, Evoked, Info

__all__ = ["RecordingLearner", "peak_radius"]

EVENT = np.dtype([("signal", np.int64), ("atom", np.int64), ("onset", np.float64), ("amplitude", np.float64)])


def peak_radius(kernel: Sequence[int]) -> int:
    """Return the radius within which the largest entry of a code is its event: a tenth of the kernel."""
    return max(1, min(kernel) // 10)


class RecordingLearner(BaseLearner):
    """Base class of learners of recordings, which know sampling rate and channel names."""

    sampling_rate: float | None
    kernel_seconds: float | None
    stride: int
    encode: Callable[..., Any]

    sampling_rate_: float | None
    channel_names_: tuple[str, ...] | None

    def events(self, X: Any, *, offset: Any = None, trials: Any = None) -> NDArray[np.void]:
        """Return the events of signals, in seconds.

        An event is an entry of the code that is the largest within a tenth of the kernel. Amplitudes are
        shrunken by the l1 norm, unless `debias` is set.

        Parameters
        ----------
        X : array or recording
            Signals of one spatial axis, as in `fit`.
        offset, trials : array, optional
            As in `transform`.

        Returns
        -------
        structured array (n_events,)
            With the fields ``signal`` (index of the signal), ``atom``, ``onset`` (where the atom begins, in
            seconds, on the clock of the recording: 0 is the first sample of an array or Raw, the event of
            Epochs, 0 of an index of seconds) and ``amplitude``, ordered by signal and onset.
            ``pandas.DataFrame`` takes it as it is.

        Raises
        ------
        ValueError
            If the sampling rate is not known, or signals have several spatial axes.
        """
        check_is_fitted(self, "components_")
        if self.components_.ndim != 3:
            raise ValueError(
                f"X: expected signals of one axis for events, got {self.components_.ndim - 2} spatial axes"
            )
        recording = self._read(X, reset=False)
        rate = recording.sampling_rate or self._require_rate("events are in seconds")
        radius, found = peak_radius(self.components_.shape[2:]), []
        for i, code in enumerate(self.encode(recording, offset=offset, trials=trials).codes):
            code = np.asarray(code)
            atom, place = peaks(torch.from_numpy(code[None]), radius)[0].numpy().nonzero()
            events = np.empty(len(atom), EVENT)
            events["signal"], events["atom"], events["amplitude"] = i, atom, code[atom, place]
            start = recording.starts[i] if recording.starts else 0.0
            events["onset"] = start + place * self.stride / rate
            found.append(np.sort(events, order=["onset", "atom"]))
        return np.concatenate(found)

    def annotations(self, X: Any, *, offset: Any = None) -> "Annotations":
        """Return the events of one recording as annotations of MNE, for ``raw.set_annotations``.

        Each lasts as long as the kernel, and is described by its atom: "atom 0". Needs MNE:
        ``pip install 'calepin[neuro]'``.

        Parameters
        ----------
        X : Raw, or any other single recording
            The recording. Of a Raw with a date, onsets are counted from that date, as MNE does.
        offset : array, optional
            As in `transform`.

        Raises
        ------
        ValueError
            If X has several signals, or the sampling rate is not known.
        """
        mne = _require_mne("annotations")
        recording = self._read(X, reset=False)
        events = self.events(recording, offset=offset)
        if events["signal"].any():
            raise ValueError(f"X: expected one signal to annotate, got {events['signal'].max() + 1}")
        origin = getattr(getattr(X, "annotations", None), "orig_time", None)
        shift = 0.0 if origin is None else X.first_time
        rate = recording.sampling_rate or self._require_rate("annotations are in seconds")
        return mne.Annotations(
            events["onset"] + shift,
            self.components_.shape[2] / rate,
            [f"atom {atom}" for atom in events["atom"]],
            orig_time=origin,
        )

    def to_mne(self, info: "Info | None" = None) -> "list[Evoked]":
        """Return each atom as Evoked of MNE, which plots its time course and, with positions, its topography.

        Needs MNE: ``pip install 'calepin[neuro]'``.

        Parameters
        ----------
        info : mne.Info, optional
            What MNE knows of the channels, such as their positions: ``raw.info`` of the recording. Default:
            EEG channels with the names of the recording, or their numbers, without positions.

        Raises
        ------
        ValueError
            If the sampling rate is not known or not that of `info`, or `info` lacks a channel.
        """
        check_is_fitted(self, "components_")
        mne = _require_mne("to_mne")
        if self.components_.ndim != 3:
            raise ValueError(f"components_: expected one axis in time, got shape {self.components_.shape}")
        rate = self._require_rate("Evoked has times in seconds")
        n_channels = self.components_.shape[1]
        if info is None:
            names = self.channel_names_ or [str(i) for i in range(n_channels)]
            info = mne.create_info(list(names), rate, "eeg")
        else:
            names = self.channel_names_ or info["ch_names"]
            missing = [name for name in names if name not in info["ch_names"]]
            if missing or len(names) != n_channels:
                raise ValueError(
                    f"info: expected {n_channels} channels {names_in_short(names)}, "
                    f"got {names_in_short(info['ch_names'])}"
                )
            if not same_rate(info["sfreq"], rate):
                raise ValueError(f"info: expected a sampling rate of {rate:g} Hz, got {info['sfreq']:g} Hz")
            info = mne.pick_info(info, [info["ch_names"].index(name) for name in names])
        return [
            mne.EvokedArray(atom.astype(np.float64), info, comment=f"atom {k}", verbose="error")
            for k, atom in enumerate(self.components_)
        ]

    def _read(self, X: Any, *, reset: bool) -> Recording:
        """Return the signals of X after a check of sampling rate and channel names, which are kept."""
        recording = read_recording(X)
        rate, names = recording.sampling_rate, recording.channel_names
        if reset:
            if rate is not None and not same_rate(rate, self.sampling_rate or rate):
                raise ValueError(
                    f"sampling_rate: expected None or {rate:g}, that of X, got {self.sampling_rate!r}"
                )
            self.sampling_rate_, self.channel_names_ = rate or self.sampling_rate, names
            return recording
        if None not in (rate, self.sampling_rate_) and not same_rate(rate, self.sampling_rate_):
            raise ValueError(
                f"X: expected a sampling rate of {self.sampling_rate_:g} Hz, as in fit, got {rate:g} Hz"
            )
        if self.channel_names_ is not None and names not in (None, self.channel_names_):
            raise ValueError(
                f"X: expected the channels {names_in_short(self.channel_names_)}, as in fit, got "
                + names_in_short(names)
                + ", in another order" * (set(names) == set(self.channel_names_))
            )
        return recording

    def _require_rate(self, reason: str) -> float:
        rate = getattr(self, "sampling_rate_", None) or self.sampling_rate
        if rate is None:
            raise ValueError(
                f"sampling_rate: expected a number of Hz, because {reason} and X does not say it, got None"
            )
        return rate

    def _check_recording_parameters(self) -> None:
        check_number("sampling_rate", self.sampling_rate, above=0, optional=True)
        check_number("kernel_seconds", self.kernel_seconds, above=0, optional=True)

    def _samples_of_kernel(self) -> int:
        """Return `kernel_seconds` as a number of samples."""
        assert self.kernel_seconds is not None
        rate = self._require_rate("kernel_seconds is given")
        n_samples = round(self.kernel_seconds * rate)
        if n_samples < 1:
            raise ValueError(
                f"kernel_seconds: expected at least one sample, {1 / rate:g} s, got {self.kernel_seconds!r}"
            )
        return n_samples

    def _adopt(self, components: np.ndarray) -> None:
        super()._adopt(components)
        self.sampling_rate_, self.channel_names_ = self.sampling_rate, None

    def _header_to_save(self) -> dict[str, Any]:
        labels = self._labels()
        return {"recording": labels} if labels else {}

    @classmethod
    def _fitted_in(cls, path: Any, parameters: dict[str, Any]) -> dict[str, Any]:
        labels = recording_labels(path, parameters)
        return super()._fitted_in(path, parameters) | {f"{name}_": value for name, value in labels.items()}

    def _labels(self) -> dict[str, Any]:
        """Return the sampling rate and the channel names, as far as they are known."""
        known = {name: getattr(self, f"{name}_", None) for name in ("sampling_rate", "channel_names")}
        return {name: value for name, value in known.items() if value is not None}


def _require_mne(name: str) -> Any:
    try:
        import mne
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{name} needs MNE: pip install 'calepin[neuro]'", name="mne") from error
    return mne
