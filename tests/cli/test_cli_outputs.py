"""No command replaces what it reads, another output, or a file of another kind without --force."""

import os
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import typer

from calepin.cli import main
from calepin.cli.app import app
from calepin.cli.options import written_by
from calepin.core.files import save_arrays

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
WRITING = {name: command for name, command in COMMANDS.items() if written_by(command.callback)}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fails(capsys, *arguments):
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


def name_of(option):
    return max(option.opts, key=len)


def call(command, **files):
    """Return the shortest call of a command in which parameters name the given files."""
    words, options = [], []
    for option in command.params:
        if option.name in files or option.required:
            value = str(files.get(option.name, f"{option.name}.x"))
            if option.param_type_name == "argument":
                words.append(value)
            else:
                options += [name_of(option), value]
    return [command.name, *words, *options]


def pairs():
    """Yield each written file of each command with each other parameter that may name a file."""
    for name, command in WRITING.items():
        marks = written_by(command.callback)
        for written in marks:
            for other, hint in get_type_hints(command.callback).items():
                if other != written and {hint, *get_args(hint)} & {Path, str}:
                    yield pytest.param(name, written, other, id=f"{name}-{written}-{other}")


def test_every_command_that_takes_an_output_says_so():
    silent = {"info", "doctor"}  # they write nothing
    assert COMMANDS.keys() - WRITING.keys() == silent
    for name, command in WRITING.items():
        assert "force" in {option.name for option in command.params}, name


@pytest.mark.parametrize(("name", "written", "other"), list(pairs()))
def test_a_written_file_is_no_other_file_of_the_command(capsys, name, written, other):
    command = WRITING[name]
    marks = written_by(command.callback)
    path = f"a{marks[written].suffixes[0]}"
    Path(path).touch()
    files = {mark: f"{mark}{how.suffixes[0]}" for mark, how in marks.items()}
    err = fails(capsys, *call(command, **files | {written: path, other: path}), "--force")
    assert "expected another file than" in err or f"cannot write {path}: expected a name" in err


@pytest.mark.parametrize(
    ("name", "written"), [(name, mark) for name in WRITING for mark in written_by(WRITING[name].callback)]
)
def test_suffixes_and_special_files_are_refused_everywhere(capsys, name, written):
    command = WRITING[name]
    marks = written_by(command.callback)
    files = {mark: f"{mark}{how.suffixes[0]}" for mark, how in marks.items()}
    assert "cannot write notes.txt: expected a name that ends in" in fails(
        capsys, *call(command, **files | {written: "notes.txt"})
    )
    os.mkfifo(files[written])
    assert f"cannot write {files[written]}: expected a file" in fails(
        capsys, *call(command, **files), "--force"
    )


def test_data_survive_as_output_and_as_checkpoint(capsys):
    X = np.random.default_rng(0).standard_normal((30, 6))
    np.save("X.npy", X)
    os.symlink("X.npy", "X.safetensors")
    os.link("X.npy", "H.safetensors")
    for path in ("X.npy", "X.safetensors", "H.safetensors"):
        for option in ("-o", "--checkpoint"):
            rest = ["-o", "D.safetensors"] if option == "--checkpoint" else []
            fails(capsys, "learn", "X.npy", *rest, option, path, "--max-iter", "1", "--force")
    np.testing.assert_array_equal(np.load("X.npy"), X)
    assert not Path("D.safetensors").exists()


def test_a_file_of_another_kind_is_replaced_by_force_only(capsys):
    np.save("X.npy", np.random.default_rng(0).standard_normal((30, 6)))
    learn = ["learn", "X.npy", "-o", "D.safetensors", "--max-iter", "1", "-q"]
    Path("D.safetensors").write_bytes(b"notes")
    assert "--force replaces it" in fails(capsys, *learn)
    assert Path("D.safetensors").read_bytes() == b"notes"
    assert main([*learn, "--force"]) == 0
    assert main(learn) == 0  # our own kind


def test_a_link_stays_and_its_target_is_written():
    save_arrays("D.safetensors", "dictionary", {"components": np.eye(4)}, {})
    Path("figures").mkdir()
    os.symlink("figures/atoms.png", "link.png")
    assert main(["show", "D.safetensors", "-o", "link.png", "-q"]) == 0
    assert os.readlink("link.png") == "figures/atoms.png"
    assert os.listdir("figures") == ["atoms.png"]
