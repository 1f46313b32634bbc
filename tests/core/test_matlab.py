"""MATLAB files of every version, read in a child process, and HDF5 whose data lie in other files."""

import h5py
import numpy as np
import pytest
from scipy import sparse
from scipy.io import savemat

from calepin.core.errors import FileFormatError
from calepin.core.matlab import read_mat
from calepin.reconstruction import read_kspace
from calepin.spikes import read_nwb_spikes, read_spikes

A = np.arange(6.0).reshape(2, 3)


def write_73(path):
    """Write the variables of `savemat` as MATLAB does in version 7.3."""

    def add(file, name, array, kind):
        file.create_dataset(name, data=array.T).attrs["MATLAB_class"] = np.bytes_(kind)

    with h5py.File(path, "w", userblock_size=512) as file:
        add(file, "a", A, "double")
        pairs = np.zeros(A.shape, [("real", "f8"), ("imag", "f8")])
        pairs["real"], pairs["imag"] = A, 1
        add(file, "c", pairs, "double")
        add(file, "l", (A > 2).astype(np.uint8), "logical")
        add(file, "t", np.zeros((1, 3), np.uint16), "char")
        matrix, group = sparse.csc_array(A), file.create_group("s")
        group.attrs["MATLAB_class"], group.attrs["MATLAB_sparse"] = np.bytes_("double"), np.uint64(2)
        for name, part in (("data", matrix.data), ("ir", matrix.indices), ("jc", matrix.indptr)):
            group[name] = part
        file.create_group("#refs#")
    with path.open("r+b") as start:
        start.write(b"MATLAB 7.3 MAT-file")


@pytest.mark.parametrize("version", ["4", "5", "compressed", "7.3"])
def test_numeric_variables_of_every_version_are_read_and_sparse_ones_are_dense(tmp_path, version):
    path = tmp_path / "a.mat"
    variables = {"a": A, "c": A + 1j, "s": sparse.csc_array(A), "l": A > 2, "t": "text"}
    if version == "7.3":
        write_73(path)
    elif version == "4":
        savemat(path, {"a": A, "c": A + 1j, "s": sparse.csc_array(A)}, format="4")
    else:
        savemat(path, variables, do_compression=version == "compressed")
    found = read_mat(path)
    assert set(found) == {"a", "c", "s"} | ({"l"} if version != "4" else set())
    for name, expected in (("a", A), ("c", A + 1j), ("s", A), ("l", A > 2)):
        if name in found:
            np.testing.assert_array_equal(found[name], expected)


def test_the_byte_that_crashes_scipy_is_an_error_of_the_file(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"train": np.ones((3, 4))})
    content = bytearray(path.read_bytes())
    content[184] = 0xFF  # scipy 1.17.1: segmentation fault
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"a\.mat is "):
        read_spikes(path)


def test_a_sparse_matrix_that_would_fill_the_memory_is_refused(tmp_path):
    savemat(tmp_path / "a.mat", {"k": sparse.csc_array((30_000, 30_000))})
    with pytest.raises(FileFormatError, match=r"a\.mat declares 7200000000 bytes, the file holds"):
        read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("way", ["external link", "another file", "stores /kspace in another file"])
def test_hdf5_cannot_show_the_bytes_of_another_file(tmp_path, way):
    secret, path = tmp_path / "secret.bin", tmp_path / "a.h5"
    secret.write_bytes(np.ones((8, 8), np.complex64).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kspace"] = np.ones((8, 8), np.complex64)
    with h5py.File(path, "w") as file:
        if way == "external link":
            file["kspace"] = h5py.ExternalLink("other.h5", "kspace")
        elif way == "another file":
            file.create_dataset("kspace", (8, 8), np.complex64, external=[(str(secret), 0, 512)])
        else:
            layout = h5py.VirtualLayout((8, 8), np.complex64)
            layout[:] = h5py.VirtualSource("other.h5", "kspace", (8, 8))
            file.create_virtual_dataset("kspace", layout)
    with pytest.raises(FileFormatError, match=rf"a\.h5 .*{way}.*: refused"):
        read_kspace(path)
    if way == "external link":
        path.rename(tmp_path / "a.nwb")
        with pytest.raises(FileFormatError, match=rf"a\.nwb .*{way}.*: refused"):
            read_nwb_spikes(tmp_path / "a.nwb")


def test_groups_that_contain_themselves_and_links_within_a_file_are_followed_once(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("group")
        group["itself"], group["root"] = group, file["/"]
        group["data"] = np.ones((8, 8), np.complex64)
        file["kspace"] = h5py.SoftLink("/group/data")
        file["nowhere"] = h5py.SoftLink("/gone")
    with pytest.raises(FileFormatError, match=r"a\.h5 holds no 'kspace', but group/data"):
        read_kspace(tmp_path / "a.h5")
    assert read_kspace(tmp_path / "a.h5", variable="group/data").shape == (1, 1, 8, 8)


def test_hdf5_that_declares_gigabytes_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("kspace", (4, 10_000, 10_000), np.complex64, chunks=(1, 100, 100))
    with pytest.raises(FileFormatError, match=r"a\.h5 declares 3200000000 bytes, the file holds [0-9]+"):
        read_kspace(tmp_path / "a.h5")
