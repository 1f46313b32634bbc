import h5py
import numpy as np
import pytest
from scipy.io import savemat

from calepin.core.errors import FileFormatError
from calepin.reconstruction import count_slices, read_kspace, read_sensitivities, write_cfl


@pytest.fixture
def slices(rng):
    """Two slices of three coils, 6 x 5."""
    shape = (2, 3, 6, 5)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def test_a_cfl_file_comes_back(tmp_path, slices):
    write_cfl(tmp_path / "scan.cfl", slices)
    for name in ("scan.cfl", "scan.hdr"):
        np.testing.assert_array_equal(read_kspace(tmp_path / name), slices)
    header = (tmp_path / "scan.hdr").read_text().split()
    assert header[2:6] == ["6", "5", "1", "3"]


def test_the_first_index_of_a_cfl_file_runs_fastest(tmp_path):
    (tmp_path / "a.hdr").write_text("# Dimensions\n2 1 3 1\n")
    np.arange(6, dtype=np.complex64).tofile(tmp_path / "a.cfl")
    np.testing.assert_array_equal(read_kspace(tmp_path / "a.cfl")[0, 0], [[0, 2, 4], [1, 3, 5]])


def test_sets_of_sensitivities_are_dimension_4_of_a_cfl_file(tmp_path, slices):
    """``bart ecalib -m2`` writes readout, phase 1, phase 2, coils, sets."""
    (tmp_path / "a.hdr").write_text("# Dimensions\n6 5 1 3 2 1\n# Command\necalib -m2 k a\n")
    slices.transpose(2, 3, 1, 0).ravel(order="F").tofile(tmp_path / "a.cfl")
    np.save(tmp_path / "a.npy", slices)
    np.save(tmp_path / "one.npy", slices[0])
    for name in ("a.cfl", "a.hdr", "a.npy"):
        np.testing.assert_array_equal(read_sensitivities(tmp_path / name), slices)
    np.testing.assert_array_equal(read_sensitivities(tmp_path / "one.npy"), slices[:1])
    with pytest.raises(FileFormatError, match=r"expected only two for k-space, coils \(3\) and slices \(13"):
        read_kspace(tmp_path / "a.cfl")
    write_cfl(tmp_path / "b.cfl", slices)
    with pytest.raises(
        FileFormatError, match=r"expected only two for sensitivities, coils \(3\) and sets \(4"
    ):
        read_sensitivities(tmp_path / "b.cfl")
    np.zeros(6, np.complex64).tofile(tmp_path / "c.cfl")
    (tmp_path / "c.hdr").write_text("# Dimensions\n2 3 1 1\n")
    with pytest.raises(FileFormatError, match="c.cfl holds only zeros, expected sensitivities"):
        read_sensitivities(tmp_path / "c.cfl")


def test_fastmri_files_with_and_without_coils(tmp_path, slices):
    for name, samples in (("multi", slices), ("single", slices[:, 0])):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["kspace"] = samples
            file["reconstruction_rss"] = np.ones((2, 6, 5))
    np.testing.assert_array_equal(read_kspace(tmp_path / "multi.h5"), slices)
    np.testing.assert_array_equal(read_kspace(tmp_path / "single.h5"), slices[:, :1])


def test_a_mat_file_has_its_coils_last(tmp_path, slices):
    savemat(tmp_path / "a.mat", {"DATA": slices[0].transpose(1, 2, 0), "te": 3.0})
    np.testing.assert_array_equal(read_kspace(tmp_path / "a.mat"), slices[:1])
    savemat(tmp_path / "b.mat", {"one": slices[0, 0], "two": slices[0, 1]})
    np.testing.assert_array_equal(read_kspace(tmp_path / "b.mat", variable="two"), slices[:1, 1:2])


def test_an_npy_file_may_lack_slices_and_coils(tmp_path, slices):
    for samples in (slices, slices[0], slices[0, 0]):
        np.save(tmp_path / "a.npy", samples)
        assert read_kspace(tmp_path / "a.npy").shape == (1,) * (4 - samples.ndim) + samples.shape


def test_the_real_scan_has_eight_coils(public_data):
    samples = read_kspace(public_data / "mri" / "brain_alias_8ch.mat")
    assert samples.shape == (1, 8, 320, 256)
    assert not samples[..., :44].any()
    assert samples[..., 44:212].any(axis=(0, 1, 2)).all()


def test_what_is_missing_is_said_with_what_is_there(tmp_path, slices):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images/real"] = np.ones((2, 3))
    with pytest.raises(FileFormatError, match=r"holds no 'kspace', but images/real \(2, 3\) float64"):
        read_kspace(tmp_path / "a.h5")
    savemat(tmp_path / "a.mat", {"x": np.ones((2, 3))})
    with pytest.raises(FileFormatError, match=r"0 complex arrays, expected one: it has x \(2, 3\)"):
        read_kspace(tmp_path / "a.mat")
    savemat(tmp_path / "b.mat", {"one": slices[0, 0], "two": slices[0, 1]})
    with pytest.raises(FileFormatError, match="2 complex arrays, expected one"):
        read_kspace(tmp_path / "b.mat")


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.ones((4, 4)), "float64, expected complex k-space"),
        (np.full((4, 4), np.nan + 0j), "NaN or infinity"),
        (np.zeros((4, 4), complex), "only zeros"),
        (np.ones(4, complex), r"shape \(4,\), expected two to four axes"),
    ],
)
def test_what_is_no_k_space_is_refused(tmp_path, samples, message):
    np.save(tmp_path / "a.npy", samples)
    with pytest.raises(FileFormatError, match=message):
        read_kspace(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.npy", "a.mat", "a.h5"])
def test_a_damaged_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"no such thing")
    with pytest.raises(FileFormatError, match=f"{name} is not (a readable|an .npy)"):
        read_kspace(tmp_path / name)


def test_other_errors_name_the_file(tmp_path, slices):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*gone.npy"):
        read_kspace(tmp_path / "gone.npy")
    with pytest.raises(FileFormatError, match=r"suffix '.dcm', expected one of .npy"):
        read_kspace(tmp_path / "a.dcm")
    np.save(tmp_path / "a.npy", slices)
    with pytest.raises(ValueError, match=r"variable: expected None for a .npy file"):
        read_kspace(tmp_path / "a.npy", variable="kspace")
    (tmp_path / "b.cfl").write_bytes(b"12345678")
    with pytest.raises(FileNotFoundError, match=r"b.hdr \(BART stores"):
        read_kspace(tmp_path / "b.cfl")
    (tmp_path / "b.hdr").write_text("# Dimensions\n4 4 1 1\n")
    with pytest.raises(FileFormatError, match=r"holds 1 samples, b.hdr says 4 4 1 1"):
        read_kspace(tmp_path / "b.cfl")
    with pytest.raises(ValueError, match="samples: expected four axes"):
        write_cfl(tmp_path / "c.cfl", slices[0])


@pytest.mark.parametrize("suffix", ["npy", "h5", "cfl", "mat"])
def test_slices_are_counted_and_read_one_by_one(tmp_path, slices, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, slices)
    elif suffix == "cfl":
        write_cfl(path, slices)
    elif suffix == "h5":
        with h5py.File(path, "w") as file:
            file["kspace"] = slices
    else:
        savemat(path, {"DATA": slices[0].transpose(1, 2, 0)})
    n = 1 if suffix == "mat" else 2
    assert count_slices(path) == n
    for index in range(n - (suffix == "h5"), n):  # a process reads HDF5, which takes a second
        np.testing.assert_array_equal(read_kspace(path, index=index), slices[index : index + 1])
    if suffix != "h5":
        with pytest.raises(ValueError, match=rf"index: expected 0 to {n - 1}, the slices of .*, got {n}"):
            read_kspace(path, index=n)


def test_a_slice_of_zeros_is_refused_and_the_others_are_not(tmp_path, slices):
    slices[1] = 0
    np.save(tmp_path / "a.npy", slices)
    assert read_kspace(tmp_path / "a.npy", index=0).any()
    with pytest.raises(FileFormatError, match="holds only zeros"):
        read_kspace(tmp_path / "a.npy", index=1)
