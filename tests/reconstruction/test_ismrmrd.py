"""Files of ISMRMRD, written by the ismrmrd package itself, become k-space."""

import h5py
import ismrmrd
import numpy as np
import pytest
import torch
from ismrmrd.xsd import (
    accelerationFactorType,
    calibrationModeType,
    encodingLimitsType,
    encodingSpaceType,
    encodingType,
    experimentalConditionsType,
    fieldOfViewMm,
    ismrmrdHeader,
    limitType,
    matrixSizeType,
    parallelImagingType,
    trajectoryType,
)

from calepin.cli import main
from calepin.core.errors import FileFormatError
from calepin.core.hdf5 import opened_hdf5
from calepin.operators import centred_fft
from calepin.reconstruction import count_slices, read_kspace
from calepin.reconstruction.ismrmrd import slices_of_ismrmrd
from calepin.reconstruction.kspace import read_kspace_slice

READOUT, PHASE, COILS = 12, 10, 3
NOISE, CALIBRATION = ismrmrd.ACQ_IS_NOISE_MEASUREMENT, ismrmrd.ACQ_IS_PARALLEL_CALIBRATION


def images(n_slices=1, seed=0):
    """Return images of coils (n_slices, COILS, READOUT, PHASE)."""
    rng = np.random.default_rng(seed)
    shape = (2, n_slices, COILS, READOUT, PHASE)
    return np.tensordot([1, 1j], rng.standard_normal(shape), 1).astype(np.complex64)


def transform(x):
    return centred_fft(torch.from_numpy(x)).numpy()


def header(width=2 * READOUT, *, depth=1, kind="cartesian", mode=None, centre=PHASE // 2):
    """Return the header of a scan with a readout twice as dense as the image needs."""
    space = encodingSpaceType(
        matrixSize=matrixSizeType(x=width, y=PHASE, z=depth),
        fieldOfView_mm=fieldOfViewMm(x=20.0 * width, y=200.0, z=5.0),
    )
    shown = encodingSpaceType(
        matrixSize=matrixSizeType(x=READOUT, y=PHASE, z=1),
        fieldOfView_mm=fieldOfViewMm(x=20.0 * READOUT, y=200.0, z=5.0),
    )
    parallel = None
    if mode is not None:
        factor = accelerationFactorType(kspace_encoding_step_1=2, kspace_encoding_step_2=1)
        parallel = parallelImagingType(accelerationFactor=factor, calibrationMode=calibrationModeType(mode))
    steps = limitType(minimum=0, maximum=PHASE - 1, center=centre)
    encoding = encodingType(
        encodedSpace=space,
        reconSpace=shown,
        encodingLimits=encodingLimitsType(kspace_encoding_step_1=steps),
        trajectory=trajectoryType(kind),
        parallelImaging=parallel,
    )
    return ismrmrdHeader(
        experimentalConditions=experimentalConditionsType(H1resonanceFrequency_Hz=63_000_000),
        encoding=[encoding],
    )


def line(samples, row, *flags, centre=None, trajectory=0, **counters):
    """Return an acquisition of samples (coils, n), with coordinates of so many dimensions."""
    places = np.zeros((samples.shape[1], trajectory), np.float32)
    found = ismrmrd.Acquisition.from_array(np.ascontiguousarray(samples, np.complex64), places)
    found.center_sample = samples.shape[1] // 2 if centre is None else centre
    found.idx.kspace_encode_step_1 = row
    for name, value in counters.items():
        setattr(found.idx, name, value)
    for flag in flags:
        found.set_flag(flag)
    return found


def dense(x):
    """Return k-space (coils, 2 * READOUT, PHASE) whose readout covers twice the field of view."""
    wide = np.zeros((len(x), 2 * READOUT, PHASE), np.complex64)
    wide[:, READOUT // 2 : READOUT // 2 + READOUT] = x
    return transform(wide)


def write(path, lines, head=None):
    with ismrmrd.Dataset(str(path), "dataset", create_if_needed=True) as file:
        file.write_xml_header((header() if head is None else head).toXML("utf-8"))
        for one in lines:
            file.append_acquisition(one)


def read(path, index=None):
    """Return all slices as the child process reads them."""
    with opened_hdf5(path, "HDF5 file", trusted=False) as file:
        return slices_of_ismrmrd(path, file["dataset"], index, trusted=False)["samples"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.h5"


def test_slices_and_repetitions_come_back_without_the_dense_readout(path):
    x = images(4)
    wide = [dense(one) for one in x]
    lines = [
        line(wide[2 * repetition + number][:, :, row], row, slice=number, repetition=repetition)
        for row in range(PHASE)
        for repetition in range(2)
        for number in range(2)
    ]
    noise = line(np.ones((COILS, 7)), 0, NOISE)
    write(path, [noise, *lines])
    np.testing.assert_allclose(read_kspace(path), transform(x), atol=1e-5)
    assert count_slices(path) == 4
    np.testing.assert_array_equal(read(path, 2), read(path)[2:3])


def test_averages_are_averaged_and_missing_lines_are_zeros(path):
    wide = dense(images()[0])
    rows = [0, 4, 5, 6]
    write(path, [line(f * wide[:, :, row], row, average=k) for row in rows for k, f in enumerate((0.5, 1.5))])
    found = read(path)[0]
    missing = [row for row in range(PHASE) if row not in rows]
    assert not found[..., missing].any()
    np.testing.assert_allclose(found[..., rows], transform(images()[0])[..., rows], atol=1e-5)


def test_segments_are_put_together_and_what_was_measured_is_told(path):
    wide = dense(images()[0])
    rows = [0, 4, 5, 6]
    write(path, [line(wide[:, :, row], row, segment=row % 2) for row in rows])
    samples, notes = read_kspace_slice(path, 0)
    np.testing.assert_allclose(samples[..., rows], transform(images()[0])[..., rows], atol=1e-5)
    measured = "4 of 10 lines of the encoded matrix were measured (acceleration 2.5)"
    assert notes == ["its 2 segments are put together", measured]


def test_a_line_of_several_segments_or_acquisitions_is_told(path):
    wide = dense(images()[0])
    every = [line(wide[:, :, row], row) for row in range(PHASE)]
    again = [line(wide[:, :, row], row, segment=1) for row in range(3)]
    write(path, [*every, *again])
    segments = "3 of its lines are in several segments, whose means are taken"
    assert read_kspace_slice(path, 0)[1] == ["its 2 segments are put together", segments]
    other = path.with_name("averages.h5")
    write(other, [*every, *every[:4]])
    times = "4 of its lines were acquired several times, whose means are taken"
    assert read_kspace_slice(other, 0)[1] == [times]


def test_which_image_of_a_file_is_read_is_told_and_a_plain_file_has_no_notes(path):
    wide = dense(images()[0])
    several = [{"slice": k, "repetition": r} for r in range(2) for k in range(3)]
    write(path, [line(wide[:, :, row], row, **place) for row in range(PHASE) for place in several])
    where = "the 6 images of the file are repetition 0 to 1, slice 0 to 2"
    assert read_kspace_slice(path, 4)[1] == [f"it is repetition 1, slice 1; {where}"]
    plain = path.with_name("plain.h5")
    write(plain, [line(wide[:, :, row], row) for row in range(PHASE)])
    assert read_kspace_slice(plain, 0)[1] == []


def test_the_command_notes_what_a_file_tells(path, capsys):
    wide = dense(images()[0])[:1]
    lines = [line(wide[:, :, row], row, repetition=r) for row in range(0, PHASE, 2) for r in (0, 1)]
    write(path, lines)
    options = ["--mri", "--prior", "tv", "--slice", "all"]
    assert main(["reconstruct", str(path), "-o", str(path.with_name("x.npy")), *options]) == 0
    err = capsys.readouterr().err
    assert "slice 1: it is repetition 1; the 2 images of the file are repetition 0 to 1" in err
    assert err.count("5 of 10 lines of the encoded matrix were measured (acceleration 2)") == 2


@pytest.mark.parametrize(("mode", "used"), [("embedded", True), ("separate", False)])
def test_calibration_lines_are_used_if_they_are_of_the_same_scan(path, mode, used):
    wide = dense(images()[0])
    lines = [line(wide[:, :, row], row, *([CALIBRATION] if row % 2 else [])) for row in range(PHASE)]
    write(path, lines, header(mode=mode))
    assert read(path)[0, :, :, 1::2].any() == used
    assert read(path)[0, :, :, ::2].any()


def test_lines_lie_where_their_centre_says(path):
    wide = dense(images()[0])
    cut = 5  # samples that a partial echo has not
    lines = [line(wide[:, cut:, row], row - 2, centre=READOUT - cut) for row in range(2, PHASE)]
    write(path, lines, header(centre=PHASE // 2 - 2))
    found = read(path)[0]
    assert not found[:, :3].any()
    assert found[:, 3:, 2:].all()
    assert not found[:, :, :2].any()


def test_a_readout_of_the_size_of_the_image_is_not_changed(path):
    samples = transform(images())[0]
    write(path, [line(samples[:, :, row], row) for row in range(PHASE)], header(READOUT))
    np.testing.assert_array_equal(read(path)[0], samples)


@pytest.mark.parametrize(
    ("head", "change", "message"),
    [
        ({"kind": "radial"}, {}, "holds a radial trajectory, expected a cartesian one"),
        ({"depth": 4}, {}, "expected two dimensions, got 24 x 10 x 4 samples"),
        ({}, {"row": PHASE}, "line 0 lies outside the encoded matrix of 24 x 10: step 10"),
        ({}, {"centre": 3}, "line 0 lies outside the encoded matrix"),
        ({}, {"flags": [ismrmrd.ACQ_IS_REVERSE]}, "lines that were read backwards"),
        ({}, {"flags": [NOISE]}, "holds no line of an image"),
    ],
)
def test_what_cannot_be_read_is_one_line(path, head, change, message):
    settings = {"row": 0, "centre": READOUT, "flags": []} | change
    samples = np.ones((COILS, 2 * READOUT))
    one = line(samples, settings["row"], *settings["flags"], centre=settings["centre"])
    write(path, [one], header(**head))
    with pytest.raises(FileFormatError, match=message) as raised:
        read(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_damaged_header_is_one_line(path):
    write(path, [line(np.ones((COILS, 2 * READOUT)), 0)])
    with h5py.File(path, "r+") as file:
        file["dataset/xml"][0] = "<ismrmrdHeader><encoding>"
    with pytest.raises(FileFormatError, match="has no header of ISMRMRD: ") as raised:
        read(path)
    assert "\n" not in str(raised.value)


def test_a_file_without_header_or_lines_is_told(path):
    samples = dense(images()[0])
    write(path, [line(samples[:, :, 0], 0)])
    with h5py.File(path, "a") as file:
        del file["dataset/xml"]
    with pytest.raises(FileFormatError, match="is a file of ISMRMRD without its header"):
        read_kspace(path)
    write(path.with_name("empty.h5"), [])
    with pytest.raises(FileFormatError, match="is a file of ISMRMRD without its lines"):
        read_kspace(path.with_name("empty.h5"))


def test_lines_with_a_trajectory_are_refused_whatever_the_header_says(path):
    samples = dense(images()[0])[:, :, 0]
    write(path, [line(samples, 0, trajectory=2)])
    with pytest.raises(FileFormatError, match="holds lines with a trajectory"):
        read(path)
