"""Files are written where that was asked for, and nothing else is lost: checks before a computation."""

import os
import socket

import numpy as np
import pytest

from calepin.core.files import save_arrays
from calepin.core.paths import (
    check_checkpoint,
    check_output,
    check_replaced,
    check_separate,
    kind_of,
    stem_of,
    suffix_of,
    target_of,
)


def model(path, kind="dictionary"):
    save_arrays(path, kind, {"components": np.eye(2)}, {})
    return path


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    return tmp_path / "pipe.npy"


@pytest.fixture
def listening(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket has at most a hundred characters
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket.npy")
        yield tmp_path / "socket.npy"


def test_pipes_sockets_and_devices_are_refused_also_through_links(pipe, listening, tmp_path):
    os.symlink("/dev/null", tmp_path / "link.npy")
    for path in (pipe, listening, "/dev/null", tmp_path / "link.npy"):
        with pytest.raises(ValueError, match=rf"cannot write {path}: expected a file, it is a device"):
            check_output(path)


def test_folders_are_refused_also_through_links(tmp_path):
    os.symlink(tmp_path, tmp_path / "link")
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(IsADirectoryError, match="it is a folder"):
            check_output(path)


def test_what_a_link_leads_to_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    os.symlink(tmp_path / "there" / "new.npy", tmp_path / "first")
    os.symlink("first", tmp_path / "second")
    assert target_of(tmp_path / "second") == tmp_path / "there" / "new.npy"
    assert target_of(tmp_path / "plain.npy") == tmp_path / "plain.npy"
    os.symlink(tmp_path / "none" / "new.npy", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="folder .* does not exist"):
        check_output(tmp_path / "nowhere")


def test_a_link_to_itself_is_refused(tmp_path):
    os.symlink("loop.npy", tmp_path / "loop.npy")
    with pytest.raises(ValueError, match="it is a link to itself"):
        check_output(tmp_path / "loop.npy")


@pytest.mark.parametrize(("locked", "said"), [("old.npy", "the file is"), ("", "its folder is")])
def test_read_only_files_and_folders_are_refused(tmp_path, monkeypatch, locked, said):
    (tmp_path / "old.npy").touch()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / locked and access(path, mode))
    with pytest.raises(PermissionError, match=f"cannot write .*old.npy: {said} read-only"):
        check_output(tmp_path / "old.npy")


def test_suffixes_are_checked(tmp_path):
    check_output(tmp_path / "a.PNG", ".png", ".tif")
    with pytest.raises(ValueError, match=r"ends in .png, .tif"):
        check_output(tmp_path / "a.npy", ".png", ".tif")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.safetensors", b"notes"),
        ("a.safetensors", (2**63).to_bytes(8, "little") + b"{}"),
        ("a.safetensors", (2).to_bytes(8, "little") + b"{}"),
        ("a.safetensors", (5).to_bytes(8, "little") + b"[[[[["),
        ("a.npy", b"notes"),
        ("a.npz", b"PK\x03\x04 but no archive"),
        ("a.png", b"\xff\xd8\xff"),
        ("a.clp", b"notes"),
        ("notes.txt", b"notes"),
    ],
)
def test_a_file_of_another_kind_is_not_replaced(tmp_path, name, content):
    path = tmp_path / name
    check_replaced(path)
    path.write_bytes(b"")  # as mktemp makes it
    check_replaced(path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"cannot write {path}: .*--force replaces it"):
        check_replaced(path)


def test_an_archive_of_other_arrays_is_not_replaced_by_codes(tmp_path):
    np.savez(tmp_path / "data.npz", X=np.eye(3))
    with pytest.raises(ValueError, match="it is no .npz file of calepin"):
        check_replaced(tmp_path / "data.npz")
    np.savez(tmp_path / "codes.npz", codes=np.eye(3), offset=np.zeros(3))
    check_replaced(tmp_path / "codes.npz")


def test_models_replace_models_but_no_checkpoint_and_the_other_way_round(tmp_path):
    run, atoms = model(tmp_path / "run.safetensors", "checkpoint"), model(tmp_path / "atoms.safetensors")
    assert (kind_of(run), kind_of(atoms)) == ("checkpoint", "dictionary")
    check_replaced(atoms)
    with pytest.raises(ValueError, match="it holds the state of a run; --force replaces it"):
        check_replaced(run)
    check_checkpoint(run, "checkpoint")
    check_checkpoint(tmp_path / "new", "checkpoint")
    np.save(tmp_path / "X.npy", np.eye(2))
    for path in (atoms, tmp_path / "X.npy"):
        with pytest.raises(
            ValueError, match=f"checkpoint: expected a new file or a checkpoint .* got {path}"
        ):
            check_checkpoint(path, "checkpoint")
    with pytest.raises(IsADirectoryError, match="checkpoint: cannot write .* it is a folder"):
        check_checkpoint(tmp_path, "checkpoint")


@pytest.mark.parametrize("how", ["same", "relative", "symbolic", "hard", "new"])
def test_a_file_is_not_read_and_written(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    data, other = tmp_path / "X.npy", tmp_path / "Y.npy"
    if how != "new":
        np.save(data, np.eye(2))
    if how == "symbolic":
        os.symlink("X.npy", other)
    elif how == "hard":
        os.link(data, other)
    written = {"symbolic": other, "hard": other, "relative": data.relative_to(tmp_path)}.get(how, data)
    with pytest.raises(ValueError, match=r"--output: expected another file than DATA, got .* for both"):
        check_separate({"--output": written}, [("NOISE", tmp_path / "N.npy"), ("DATA", data)])
    with pytest.raises(ValueError, match=r"--figure: expected another file than --output"):
        check_separate({"--output": data, "--figure": written}, [])
    check_separate({"--output": tmp_path / "Z.npy", "--figure": tmp_path / "W.npy"}, [("DATA", data)])


@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [
        ("brain.nii.gz", "brain", ".nii.gz"),
        ("Brain.v2.NII.GZ", "Brain.v2", ".nii.gz"),
        ("brain.nii", "brain", ".nii"),
        ("scan.ome.TIF", "scan.ome", ".tif"),
        ("digits.gz", "digits", ".gz"),
        ("none", "none", ""),
    ],
)
def test_the_suffix_of_compressed_nifti_is_double(name, stem, suffix):
    assert (stem_of(f"folder.nii/{name}"), suffix_of(f"folder.nii/{name}")) == (stem, suffix)


def test_files_of_nifti_are_replaced_and_others_under_their_name_are_not(tmp_path):
    for name, ours in [("a.nii", b"\x5c\x01\0\0"), ("b.nii", b"\0\0\x02\x1c"), ("c.nii.gz", b"\x1f\x8b")]:
        (tmp_path / name).write_bytes(ours + bytes(10))
        check_replaced(tmp_path / name)
        (tmp_path / name).write_bytes(b"notes of mine")
        with pytest.raises(ValueError, match="it is no .nii.* file of calepin"):
            check_replaced(tmp_path / name)
