"""QRS complexes found by a learned atom beside sleepecg, on records annotated by cardiologists.

    CALEPIN_PEERS=/path/to/python CALEPIN_ECG=folder python -m benchmarks.heartbeats [RECORD ...]

CALEPIN_PEERS names the Python of an environment with sleepecg. CALEPIN_ECG is a folder of records of the
MIT-BIH arrhythmia database: RECORD.pk.gz (first lead, 360 Hz) and RECORD_all.csv (samples of all beats), as
the repository mad-lab-fau/tpcp has them in ``example_data/ecg_mit_bih_arrhythmia/data``.

The first five minutes of each record. The atom sees no annotation: it lasts .2 s and is learned from the
first minute, without its drift, and its events in five minutes are coded by the lasso. A beat is an event of
more than ``FRACTION`` of the usual one, with no larger event within .2 s. It is where the atom is largest. A
beat counts as found within 150 ms of its annotation (ANSI/AAMI EC57), each annotation once. Sensitivity is
the fraction of annotated beats that are found, precision the fraction of found beats that are annotated.
"""

import gzip
import os
import pickletools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import find_peaks

from calepin import ConvolutionalDictionaryLearner

RATE, MINUTES, WITHIN = 360, 5, 54
FRACTION = 0.4
PEER = "import sys, numpy, sleepecg; print(*sleepecg.detect_heartbeats(numpy.load(sys.argv[1]), 360))"


def read_record(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the ECG and the samples of its beats; the pickle is searched for its array, and never run."""
    pickled = gzip.decompress((folder / f"{name}.pk.gz").read_bytes())
    parts = (argument for _, argument, _ in pickletools.genops(pickled))
    values = max((part for part in parts if isinstance(part, bytes | bytearray)), key=len)
    ecg = np.frombuffer(values, np.float64)[: RATE * 60 * MINUTES]
    beats = np.loadtxt(folder / f"{name}_all.csv", delimiter=",", skiprows=1, usecols=1, dtype=int)
    return ecg, beats[beats < len(ecg)]


def by_atoms(ecg: np.ndarray) -> np.ndarray:
    """Return the samples of beats that one learned atom finds."""
    flat = ecg - median_filter(ecg, size=RATE // 2 + 1, mode="nearest")
    flat = (flat / flat.std())[None, None]
    learner = ConvolutionalDictionaryLearner(
        1, kernel_seconds=0.2, sampling_rate=RATE, alpha=2.0, max_iter=15, random_state=0
    ).fit(flat[:, :, : RATE * 60])
    events = learner.events(flat)
    atom = learner.components_[0, 0]
    strength = np.zeros(len(ecg))
    places = np.round(events["onset"] * RATE).astype(int) + int(np.abs(atom).argmax())
    strength[places] = np.abs(events["amplitude"])
    usual = np.median(np.sort(strength)[-60 * MINUTES :])  # of as many events as a pulse of 60 has
    return find_peaks(strength, height=FRACTION * usual, distance=RATE // 5)[0]


def by_sleepecg(ecg: np.ndarray) -> np.ndarray:
    """Return the samples of beats that sleepecg finds, in an environment of its own."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "ecg.npy", ecg)
        command = [os.environ["CALEPIN_PEERS"], "-c", PEER, str(Path(folder) / "ecg.npy")]
        return np.array(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(), int
        )


def count(found: np.ndarray, beats: np.ndarray) -> int:
    """Return how many beats have a found one within the tolerance, each used once, in order of time."""
    hits = at = 0
    for beat in beats:
        while at < len(found) and found[at] < beat - WITHIN:
            at += 1
        if at < len(found) and found[at] <= beat + WITHIN:
            hits, at = hits + 1, at + 1
    return hits


def main() -> None:
    """Print sensitivity and precision for each record and for all beats together."""
    folder = Path(os.environ["CALEPIN_ECG"])
    names = sys.argv[1:] or sorted(path.name.split(".")[0] for path in folder.glob("*.pk.gz"))
    methods = {"atoms": by_atoms} | ({"sleepecg": by_sleepecg} if "CALEPIN_PEERS" in os.environ else {})
    total = {name: np.zeros(3, int) for name in methods}
    for record in names:
        ecg, beats = read_record(folder, record)
        for name, detect in methods.items():
            found = detect(ecg)
            counts = np.array([count(found, beats), len(beats), len(found)])
            total[name] += counts
            print_row(record, name, counts)
    for name, counts in total.items():
        print_row("all", name, counts)


def print_row(record: str, name: str, counts: np.ndarray) -> None:
    hits, n_beats, n_found = counts
    print(
        f"{record:5} {name:10} {n_beats:5} beats   sensitivity {hits / n_beats:.4f}   "
        f"precision {hits / max(n_found, 1):.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
