"""Cartesian k-space in two dimensions from files of ISMRMRD, a raw format of all vendors (Inati 2017).

A file holds lines: the samples of all coils along the readout, with the counters of the scanner. Here each
line goes to its place in the encoded matrix, whatever its segment; lines that were acquired several times
(averages) are averaged.
Each combination of repetition, set, phase, contrast and slice is one slice. The readout, which scanners
sample more densely than the image needs, is cut to the field of view of the image. Arrays have shape
(n_slices, n_coils, readout, phase encoding), as in files of fastMRI.

Called in a child process (`calepin.core.isolated`).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.reading import check_declared

__all__ = ["find_ismrmrd", "slices_of_ismrmrd"]

SLICES = ("repetition", "set", "phase", "contrast", "slice")  # the last one varies fastest
OTHER_LINES = (  # that are no part of the image
    "ACQ_IS_NOISE_MEASUREMENT",
    "ACQ_IS_NAVIGATION_DATA",
    "ACQ_IS_PHASECORR_DATA",
    "ACQ_IS_HPFEEDBACK_DATA",
    "ACQ_IS_DUMMYSCAN_DATA",
    "ACQ_IS_RTFEEDBACK_DATA",
    "ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA",
    "ACQ_IS_PHASE_STABILIZATION",
    "ACQ_IS_PHASE_STABILIZATION_REFERENCE",
)
SEPARATE = ("separate", "external")  # calibration lines of another scan


def find_ismrmrd(path: Path, names: Any) -> str | None:
    """Return the group of an HDF5 file, by its datasets, that is one of ISMRMRD.

    Raises
    ------
    FileFormatError
        If its header or its lines are missing.
    """
    headers = sorted(name.removesuffix("/xml") for name in names if name.endswith("/xml"))
    lines = [
        name.removesuffix("/data")
        for name, (_, dtype) in names.items()
        if name.endswith("/data") and {"head", "traj", "data"} <= set(dtype.names or ())
    ]
    for group in headers:
        if f"{group}/data" in names:
            return group
    if headers or lines:
        lacking = "lines" if headers else "header"
        raise FileFormatError(f"{path} is a file of ISMRMRD without its {lacking}")
    return None


def slices_of_ismrmrd(path: Path, group: Any, index: int | None, *, trusted: bool) -> dict[str, NDArray]:
    """Return the slices of a group, all or one, their number, and notes on the one.

    Raises
    ------
    FileFormatError
        Trajectories that are not Cartesian, three dimensions, reversed lines (EPI), or lines that do not fit
        the matrix of the header.
    ModuleNotFoundError
        ismrmrd is missing.
    """
    try:
        import ismrmrd
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{path} is a file of ISMRMRD, which needs ismrmrd: pip install 'calepin[mri]'"
        ) from None
    encoding = _encoding(path, np.ravel(group["xml"][()])[0], ismrmrd)
    matrix, shown = encoding.encodedSpace, encoding.reconSpace
    kind = getattr(encoding.trajectory, "value", encoding.trajectory)
    if kind != "cartesian":
        raise FileFormatError(
            f"{path} holds a {kind} trajectory, expected a cartesian one; "
            "calepin.operators.NonCartesianFourier takes others"
        )
    width, height, depth = (int(getattr(matrix.matrixSize, axis)) for axis in "xyz")
    if depth != 1:
        raise FileFormatError(f"{path}: expected two dimensions, got {width} x {height} x {depth} samples")
    if width < 1 or height < 1:
        raise FileFormatError(f"{path} has an encoded matrix of {width} x {height}")
    heads = group["data"]["head"]
    left_out = sum(1 << (getattr(ismrmrd, name) - 1) for name in OTHER_LINES)
    parallel = encoding.parallelImaging
    mode = None if parallel is None else getattr(parallel.calibrationMode, "value", None)
    if mode in SEPARATE:
        left_out |= 1 << (ismrmrd.ACQ_IS_PARALLEL_CALIBRATION - 1)
    flags = heads["flags"].astype(np.uint64)
    used = ((flags & np.uint64(left_out)) == 0) & (heads["encoding_space_ref"] == 0)
    if not used.any():
        raise FileFormatError(f"{path} holds no line of an image")
    if heads["trajectory_dimensions"][used].any():
        raise FileFormatError(
            f"{path} holds lines with a trajectory, expected cartesian ones; "
            "calepin.operators.NonCartesianFourier takes others"
        )
    if (flags[used] & np.uint64(1 << (ismrmrd.ACQ_IS_REVERSE - 1))).any():
        raise FileFormatError(f"{path} holds lines that were read backwards (EPI), which need a correction")
    counters = np.stack([heads["idx"][name] for name in SLICES], 1)
    keys = np.unique(counters[used], axis=0)
    chosen = keys if index is None else keys[index : index + 1]
    n_coils = int(heads["active_channels"][used][0])
    if not n_coils or (heads["active_channels"][used] != n_coils).any():
        raise FileFormatError(f"{path} has lines of different numbers of coils")
    check_declared(path, 8 * len(chosen) * n_coils * width * height, trusted=trusted)
    limits = encoding.encodingLimits and encoding.encodingLimits.kspace_encoding_step_1
    first = height // 2 - (height // 2 if limits is None else int(limits.center))
    kept = round(width * float(shown.fieldOfView_mm.x) / float(matrix.fieldOfView_mm.x))
    slices = np.zeros((len(chosen), n_coils, min(max(kept, 1), width), height), np.complex64)
    notes: list[str] = []
    for one, key in zip(slices, chosen, strict=True):
        lines = np.flatnonzero(used & (counters == key).all(1))
        one[:] = _slice(path, group["data"], heads, lines, (n_coils, width, height), first, one.shape[1])
        notes = _notes(heads["idx"][lines], keys, height)
    found = {"samples": slices, "n_slices": np.array(len(keys))}
    return found if index is None else found | {"notes": np.array(notes, dtype=str)}


def _notes(counters: NDArray, keys: NDArray, height: int) -> list[str]:
    """Return which image of a file the lines with these counters are, and how they were measured."""
    notes = []
    varying = {name: np.unique(numbers) for name, numbers in zip(SLICES, keys.T, strict=True)}
    varying = {name: numbers for name, numbers in varying.items() if len(numbers) > 1}
    if varying:
        here = ", ".join(f"{name} {counters[name][0]}" for name in varying)
        there = ", ".join(f"{name} {numbers[0]} to {numbers[-1]}" for name, numbers in varying.items())
        notes.append(f"it is {here}; the {len(keys)} images of the file are {there}")
    rows, segments = counters["kspace_encode_step_1"], counters["segment"]
    n_segments = len(np.unique(segments))
    if n_segments > 1:
        notes.append(f"its {n_segments} segments are put together")
    found, n_times = np.unique(rows, return_counts=True)
    again = np.unique(np.unique(np.stack([rows, segments]), axis=1)[0], return_counts=True)[1]
    if (again > 1).any():
        n = np.count_nonzero(again > 1)
        notes.append(f"{n} of its lines are in several segments, whose means are taken")
    elif (n_times > 1).any():
        n = np.count_nonzero(n_times > 1)
        notes.append(f"{n} of its lines were acquired several times, whose means are taken")
    if len(found) < height:
        measured = f"{len(found)} of {height} lines of the encoded matrix were measured"
        notes.append(f"{measured} (acceleration {height / len(found):.3g})")
    return notes


def _encoding(path: Path, xml: Any, ismrmrd: Any) -> Any:
    """Return the encoding of the image from a header."""
    try:
        return ismrmrd.xsd.CreateFromDocument(xml).encoding[0]
    except Exception as error:  # of any XML parser
        text = " ".join(str(error).split())[:100]
        raise FileFormatError(f"{path} has no header of ISMRMRD: {text}") from error


def _slice(
    path: Path,
    data: Any,
    heads: NDArray,
    lines: NDArray,
    shape: tuple[int, int, int],
    first: int,
    kept: int,
) -> NDArray:
    """Return one slice (n_coils, readout, phase encoding)."""
    n_coils, width, height = shape
    total = np.zeros(shape, np.complex128)
    count = np.zeros((width, height), np.int64)
    for k in lines:
        head = heads[k]
        n, before, after = (int(head[name]) for name in ("number_of_samples", "discard_pre", "discard_post"))
        row = int(head["idx"]["kspace_encode_step_1"]) + first
        start = width // 2 - int(head["center_sample"])
        samples = np.asarray(data[k]["data"], np.float32)
        if samples.size != 2 * n_coils * n or not n or before + after >= n:
            raise FileFormatError(
                f"{path}: line {k} holds {samples.size} numbers, expected those of {n_coils} x {n} samples"
            )
        if not 0 <= row < height or start + before < 0 or start + n - after > width:
            raise FileFormatError(
                f"{path}: line {k} lies outside the encoded matrix of {width} x {height}: step {row}, "
                f"samples {start + before} to {start + n - after}"
            )
        place = slice(start + before, start + n - after)
        total[:, place, row] += samples.view(np.complex64).reshape(n_coils, n)[:, before : n - after]
        count[place, row] += 1
    return _cut(total / np.maximum(count, 1), count > 0, kept)


def _cut(samples: NDArray, acquired: NDArray, kept: int) -> NDArray:
    """Return samples of the `kept` middle pixels along the readout, zero where the readout has none."""
    width = samples.shape[1]
    if kept == width:
        return samples
    start = width // 2 - kept // 2
    images = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(samples, 1), axis=1, norm="ortho"), 1)
    images = images[:, start : start + kept]
    cut = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(images, 1), axis=1, norm="ortho"), 1)
    # the same frequencies, in cycles per pixel
    nearest = np.rint((np.arange(kept) - kept // 2) * width / kept).astype(int) + width // 2
    return cut * acquired[np.clip(nearest, 0, width - 1)]
