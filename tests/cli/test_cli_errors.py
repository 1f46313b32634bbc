"""Whatever goes wrong is one line on stderr and the status that shells expect."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calepin import __version__
from calepin.cli import main
from calepin.cli.errors import one_line, run
from calepin.core.files import save_arrays

COMMANDS = ["denoise", "learn", "learn-filters", "encode", "decode", "show", "info", "spikes", "reconstruct"]
COMMANDS += ["spectrum", "reproduce", "doctor"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("data.npy", np.random.default_rng(0).standard_normal((30, 6)))
    save_arrays("dict.safetensors", "dictionary", {"components": np.eye(4, 6)}, {})


def fails(capsys, *arguments, status=2):
    """Run a command that must fail and return its only line."""
    assert main(list(arguments)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("calepin: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def test_the_console_script_shows_its_help_without_loading_what_computes():
    code = (
        "import sys; from calepin.cli import main; status = main(['--help']);"
        "heavy = {'torch', 'numpy', 'scipy', 'skimage', 'matplotlib', 'numba'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    "command",
    [[os.path.join(os.path.dirname(sys.executable), "calepin")], [sys.executable, "-m", "calepin"]],
    ids=["script", "module"],
)
def test_the_installed_command_returns_its_status_to_the_shell(command):
    done = subprocess.run([*command, "info", "none.npy"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "calepin: error: no such file: none.npy\n",
    )


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"calepin {__version__}\n"


def test_without_a_command_the_help_is_shown_and_the_status_is_2(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Commands:" in err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help_with_examples(capsys, command, flag):
    assert main([command, flag]) == 0
    out = capsys.readouterr().out
    assert f"  calepin {command} " in out.split("Examples:")[1]
    assert all(option in out for option in ("--quiet", "--json", "--debug"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["info"], "Missing argument 'FILE'"),
        (["info", "--nonsense", "data.npy"], "No such option"),
        (["denoise"], "give one of IMAGE and --sample NAME"),
        (["denoise", "a.png"], "--output"),
        (["denoise", "-o", "out.png"], "IMAGE"),
        (["denoise", "a.png", "--sample", "camera", "-o", "out.png"], "IMAGE"),
        (["denoise", "--sample", "lena", "-o", "out.png"], "sample: expected one of"),
        (["denoise", "--sample", "camera", "-o", "out.gif"], "out.gif"),
        (["denoise", "--sample", "camera", "-o", "none/out.png"], "the folder none does not exist"),
        (["denoise", "--sample", "camera", "-o", "out.png", "--sigma", "loud"], "--sigma"),
        (["denoise", "--sample", "camera", "-o", "out.png", "--sigma", "-3"], "--sigma"),
        (["denoise", "--sample", "camera", "-o", "out.png", "--add-noise", "nan"], "--add-noise"),
        (["denoise", "--sample", "camera", "-o", "out.png", "--rule", "svd"], "--rule"),
        (["denoise", "--sample", "camera", "--add-noise", "5", "--reference", "a.png"], "--reference"),
        (["denoise", "none.png", "-o", "out.png"], "no such file: none.png"),
        (["denoise", "data.npy", "-o", "out.png", "-q"], "image: expected shape (h, w)"),
        (["learn", "none.npy", "-o", "d.safetensors"], "no such file: none.npy"),
        (["learn", "data.npy"], "--output"),
        (["learn", "data.npy", "-o", "none/d.safetensors"], "the folder none does not exist"),
        (["learn", "data.npy", "-o", "d.safetensors", "--alpha", "-1"], "alpha"),
        (["learn", "data.npy", "-o", "d.safetensors", "--init", "nonsense"], "init: expected"),
        (["learn", "data.npy", "-o", "d.safetensors", "--resume"], "checkpoint"),
        (["learn", "dict.safetensors", "-o", "d.safetensors"], "dict.safetensors is not an .npy array"),
        (["encode", "data.npy", "--dict", "none.safetensors", "-o", "c.npz"], "none.safetensors"),
        (
            ["encode", "data.npy", "--dict", "data.npy", "-o", "c.npz"],
            "data.npy is not a readable safetensors",
        ),
        (["encode", "data.npy", "--dict", "dict.safetensors", "-o", "c.npz"], "give --alpha"),
        (["encode", "data.npy", "--dict", "dict.safetensors", "-o", "c.npy"], "ends in .npz"),
        (
            ["decode", "data.npy", "--dict", "dict.safetensors", "-o", "x.npy"],
            "data.npy is not a readable sparse",
        ),
        (["show", "data.npy", "-o", "a.png"], "data.npy is not a readable safetensors"),
        (["show", "dict.safetensors", "-o", "a.png", "--shape", "big"], "--shape"),
        (["show", "dict.safetensors", "-o", "a.png", "--shape", "4x4"], "6 entries, got (4, 4)"),
        (["info", "."], "is a folder"),
        (["reproduce"], "NAME"),
        (["reproduce", "nonsense-*"], "no experiment is called 'nonsense-*'"),
        (["reproduce", "x", "--device", "tpu"], "--device"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it_with_status_2(capsys, arguments, message):
    assert message in fails(capsys, *arguments)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), "(n_samples, n_features), got float64 of shape (5,)"),
        (np.zeros((0, 5)), "shape (0, 5)"),
        (np.array([["a"]]), "real numbers"),
        (np.zeros((2, 2), complex), "real numbers"),
    ],
)
def test_arrays_of_the_wrong_kind_are_refused(capsys, array, message):
    np.save("bad.npy", array)
    assert message in fails(capsys, "learn", "bad.npy", "-o", "d.safetensors")
    assert not os.path.exists("d.safetensors")


@pytest.mark.parametrize("command", ["learn", "encode"])
def test_pickles_are_never_loaded(capsys, command):
    class Trap:
        def __reduce__(self):
            return os.mkdir, ("trapped",)

    with open("pickle.npy", "wb") as file:
        pickle.dump(Trap(), file)
    np.save("objects.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    options = ["--dict", "dict.safetensors", "--alpha", "1"] if command == "encode" else []
    output = "c.npz" if command == "encode" else "d.safetensors"
    for name in ("pickle.npy", "objects.npy"):
        assert "calepin never loads" in fails(capsys, command, name, "-o", output, *options)
    with open("pickle.safetensors", "wb") as file:
        pickle.dump(Trap(), file)
    assert "never loads" in fails(capsys, "show", "pickle.safetensors", "-o", "a.png")
    assert not os.path.exists("trapped")


def test_truncated_files_are_refused(capsys):
    for name in ("data.npy", "dict.safetensors"):
        content = Path(name).read_bytes()
        Path(name).write_bytes(content[: len(content) * 2 // 3])
        assert name in fails(capsys, "info", name)


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "pipe.npy"],
        ["denoise", "pipe.png", "-o", "out.png"],
        ["learn", "pipe.npy", "-o", "d.safetensors"],
        ["encode", "data.npy", "--dict", "pipe.safetensors", "--alpha", "1", "-o", "c.npz"],
        ["spikes", "pipe.mat", "-o", "m.safetensors"],
        ["reconstruct", "pipe.h5", "--mri", "-o", "out.png"],
        ["reconstruct", "pipe.cfl", "--mri", "-o", "out.png"],
    ],
)
def test_a_pipe_is_refused_instead_of_waited_for(capsys, arguments):
    names = [name for name in arguments if name.startswith("pipe")]
    for name in [*names, "pipe.hdr"]:
        os.mkfifo(name)
    line = fails(capsys, *arguments)
    assert f"{names[0]} is a pipe, socket or device" in line


def test_a_full_disk_is_a_failure_and_the_old_file_stays(capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    old = b"\x89PNG\r\n\x1a\n and the rest"
    Path("a.png").write_bytes(old)
    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device: a.png" in fails(
        capsys, "show", "dict.safetensors", "-o", "a.png", status=1
    )
    assert Path("a.png").read_bytes() == old
    assert sorted(os.listdir()) == ["a.png", "data.npy", "dict.safetensors"]


def test_debug_shows_where(capsys):
    assert main(["info", "none.npy", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("calepin: error: no such file: none.npy\n")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "calepin: interrupted"),
        (MemoryError(), 1, "calepin: error: not enough memory"),
        (
            MemoryError("Unable to allocate 7 TiB"),
            1,
            "calepin: error: not enough memory: Unable to allocate 7 TiB",
        ),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
                "you tried to allocate 40000000000000 bytes. Error code 12 (Cannot allocate memory)"
            ),
            1,
            "calepin: error: not enough memory: 3.725e+04 GiB could not be allocated",
        ),
        (
            RuntimeError(
                "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of ..."
            ),
            1,
            "calepin: error: not enough memory: 20 GiB could not be allocated",
        ),
        (ArithmeticError("diverged"), 1, "calepin: error: diverged"),
        (RuntimeError("two\nlines"), 1, "calepin: error: RuntimeError: two lines (--debug shows where)"),
        (OSError(5, "Input/output error", "a.png"), 1, "calepin: error: Input/output error: a.png"),
        (PermissionError(13, "Permission denied", "a.png"), 2, "calepin: error: Permission denied: a.png"),
        (SystemExit(3), 3, None),
    ],
)
def test_every_exception_has_its_line_and_status(capsys, error, status, line):
    def app(**_):
        raise error

    assert run(app, []) == status
    assert capsys.readouterr().err == ("" if line is None else f"{line}\n")


def test_ctrl_c_in_a_compiled_function_is_an_interruption(capsys):
    """Python reports it as a SystemError when the function returns."""

    def app(**_):
        raise SystemError("a function returned a result with an exception set") from KeyboardInterrupt()

    assert run(app, []) == 130
    assert capsys.readouterr().err == "calepin: interrupted\n"


def test_messages_are_folded_to_one_line():
    assert one_line(ValueError("a\n  b\tc")) == "a b c"


def test_a_warning_is_one_line_and_silent_under_quiet(capsys):
    import warnings

    def app(**_):
        warnings.simplefilter("always")
        warnings.warn("not\nconverged", UserWarning, stacklevel=1)
        return 0

    assert run(app, []) == 0
    assert capsys.readouterr().err == "calepin: warning: not converged\n"
    assert run(app, ["--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_sigterm_ends_a_command_as_ctrl_c_does(capsys, tmp_path):
    from calepin.core.files import atomic_write

    def app(**_):
        with atomic_write(tmp_path / "a.npy"):
            os.kill(os.getpid(), signal.SIGTERM)

    before = sorted(os.listdir(tmp_path))
    assert run(app, []) == 130
    assert capsys.readouterr().err == "calepin: interrupted\n"
    assert sorted(os.listdir(tmp_path)) == before
