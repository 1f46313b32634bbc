"""Kill learners and commands at random moments, and see whether anything is lost, half written or different.

``make torture`` runs this file. A victim is a command, or a learner called from Python, in its own folder.
It is a fork of this process, which has run everything once, so that nothing is imported or compiled any
more. One disturbance is drawn after another: a signal (SIGKILL, SIGTERM, SIGINT) at a random moment or in a
write, a disk that is full after some bytes, a read-only folder, a second writer of the same files.
Afterwards each output is the old one or the finished one, inputs are as before, and no temporary file is
left (after SIGKILL: until the next start). Then the victim runs to its end, resuming where it can, and its
outputs equal those of an undisturbed run bit for bit.
"""

import argparse
import ctypes
import json
import os
import random
import resource
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

import calepin
import calepin.cli.app
from calepin.cli import main
from calepin.core.files import save_array, save_arrays
from calepin.generators import PolynomialSine
from calepin.generators.files import save_generator
from calepin.operators import SubsampledHadamard

CHECKPOINT = "run.safetensors"
STAYS = "--checkpoint run.safetensors --checkpoint-seconds 0 --resume"
LONGEST = 300.0  # seconds for one run


def unfolded() -> None:
    """Learn the atoms of an unfolded encoder."""
    learner = calepin.UnfoldedDictionaryLearner(
        16, alpha=0.2, n_unfold=5, batch_size=20, max_iter=4, tol=0, random_state=0, resume=True,
        checkpoint=CHECKPOINT, checkpoint_seconds=0,
    )  # fmt: skip
    learner.fit(np.load("X.npy")).save("D.safetensors")


def generative() -> None:
    """Learn a layer after a generator."""
    learner = calepin.GenerativeDictionaryLearner(
        PolynomialSine(2), n_starts=1, batch_size=50, max_iter=2, tol=0, random_state=0, resume=True,
        checkpoint=CHECKPOINT, checkpoint_seconds=0,
    )  # fmt: skip
    learner.fit(np.load("X.npy")).save("D.safetensors")


def untrained() -> None:
    """Fit an untrained network."""
    y = np.random.default_rng(0).standard_normal((1, 40)).astype(np.float32)
    reconstructor = calepin.UntrainedReconstructor(
        SubsampledHadamard((1, 8, 8), 40), max_iter=30, tol=0, random_state=0, resume=True,
        checkpoint=CHECKPOINT, checkpoint_seconds=0,
    )  # fmt: skip
    save_array("x.npy", reconstructor.reconstruct(y))


@dataclass(frozen=True)
class Job:
    """What is run: a command line or a function; and the files that it writes."""

    run: str | Callable[[], None]
    outputs: tuple[str, ...]


JOBS = {
    **{
        f"learn {rule}": Job(
            f"learn X.npy -o D.safetensors --n-components 16 --rule {rule} {coder} --batch-size 20 "
            f"--max-iter 6 --tol 0 -q {STAYS}",
            ("D.safetensors",),
        )
        for rule, coder in {
            "online": "--alpha 0.2",
            "mod": "--coder omp --n-nonzero 2",
            "ksvd": "--coder ols --n-nonzero 2",
            "noodl": "--alpha 0.2",
        }.items()
    },
    "learn-filters": Job(
        "learn-filters S.npy -o F.safetensors --n-components 2 --kernel-size 6 --alpha 0.5 --batch-size 2 "
        f"--max-iter 3 --tol 0 -q {STAYS}",
        ("F.safetensors",),
    ),
    "UnfoldedDictionaryLearner": Job(unfolded, ("D.safetensors",)),
    "GenerativeDictionaryLearner": Job(generative, ("D.safetensors",)),
    "UntrainedReconstructor": Job(untrained, ("x.npy",)),
    "encode": Job("encode X.npy -d atoms.safetensors -o Y.npz -q", ("Y.npz",)),
    "decode": Job("decode Z.npz -d atoms.safetensors -o Y.npy -q", ("Y.npy",)),
    "show": Job("show atoms.safetensors -o atoms.png -q", ("atoms.png",)),
    "denoise": Job(
        "denoise noisy.png -o clean.png --sigma 25 --atoms-image a.png --seed 0 -q", ("clean.png", "a.png")
    ),
    "transfer": Job(
        "transfer -g G.safetensors --data X.npy -o M.safetensors --n-starts 1 --max-iter 1 -q",
        ("M.safetensors",),
    ),
    "compress": Job("compress X.npy -m model.safetensors -o X.clp -q", ("X.clp",)),
    "decompress": Job("decompress C.clp -m model.safetensors -o Y.npy -q", ("Y.npy",)),
    "denoise-samples": Job("denoise-samples X.npy -m model.safetensors -o Y.npy -q", ("Y.npy",)),
    "spikes": Job(
        "spikes N.npy -o U.safetensors --kernel-size 12 --order 2 --n-events 2 --n-rounds 1 -q",
        ("U.safetensors",),
    ),
    "reconstruct": Job(
        "reconstruct coins.png --operator hadamard --size 16 --max-iter 10 --n-starts 1 -o R.png -q",
        ("R.png",),
    ),
    "spectrum": Job("spectrum --length 60 --figure W.png -q", ("W.png",)),
}


@dataclass
class Victim:
    """A running fork."""

    process: int
    pipe: int
    begun: float = field(default_factory=time.monotonic)

    def end(self) -> tuple[int, str]:
        """Wait; return the exit status, negative for a signal, and what was said on stderr."""
        said = b""
        while select.select([self.pipe], [], [], max(0.0, self.begun + LONGEST - time.monotonic()))[0]:
            part = os.read(self.pipe, 65536)
            if not part:
                break
            said += part
        else:
            os.kill(self.process, signal.SIGKILL)
            said += b"it hangs"
        os.close(self.pipe)
        status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        return status, said.decode()


def begin(job: Job, folder: Path, prepare: Callable[[], None] = lambda: None) -> Victim:
    """Start a job in a folder; `prepare` is called in the fork, just before the job."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return Victim(process, reading)
    status = 99
    try:
        os.close(reading)
        os.dup2(writing, 2)
        sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115  the fork ends with it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(folder)
        prepare()
        status = call(job)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def call(job: Job) -> int:
    """Run a job here and return its exit status."""
    if isinstance(job.run, str):
        return main(job.run.split())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            job.run()
        except KeyboardInterrupt:
            return 130
        except OSError as error:
            print(f"calepin: error: {error}", file=sys.stderr)
            return 2 if isinstance(error, PermissionError) else 1
    return 0


def contents(path: Path) -> Any:
    """Return what has to be equal in two runs: arrays and header without times, pixels, or the bytes."""
    if path.suffix == ".safetensors":
        with safe_open(str(path), framework="numpy") as file:
            arrays = {name: file.get_tensor(name).tobytes() for name in sorted(file.keys())}
            return arrays, _without_times(json.loads(file.metadata()["parameters"]))
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: file[name].tobytes() for name in sorted(file.files)}
    return path.read_bytes()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(part) for name, part in value.items() if "seconds" not in name}
    return [_without_times(part) for part in value] if isinstance(value, list) else value


def make_inputs(folder: Path) -> None:
    """Write the files that the jobs read."""
    from calepin.datasets import load_sample, simulate_sparse
    from calepin.datasets.images import Image, write_image

    rng = np.random.default_rng(0)
    os.chdir(folder)
    np.save("X.npy", simulate_sparse(200, 12, 16, n_nonzero=2, noise=0.05).X)
    np.save("S.npy", rng.standard_normal((8, 1, 60)))
    np.save("N.npy", rng.poisson(0.3, (20, 120)).clip(0, 1))
    write_image("noisy.png", Image(rng.random((24, 24))))
    write_image("coins.png", Image(load_sample("coins").pixels[:64, :64]))
    save_generator("G.safetensors", PolynomialSine(2))
    X = np.load("X.npy")
    calepin.DictionaryLearner(16, coder="omp", n_nonzero=2, max_iter=1, random_state=0).fit(X).save(
        "atoms.safetensors"
    )
    calepin.GenerativeDictionaryLearner(PolynomialSine(2), n_starts=1, max_iter=1, random_state=0).fit(
        X
    ).save("model.safetensors")
    for command in (
        "encode X.npy -d atoms.safetensors -o Z.npz",
        "compress X.npy -m model.safetensors -o C.clp",
    ):
        assert main([*command.split(), "-q"]) == 0


def write_old(path: Path) -> None:
    """Write an older file of the kind of an output."""
    if path.suffix == ".safetensors":
        save_arrays(path, "dictionary", {"components": np.eye(2)}, {})
    elif path.suffix == ".npy":
        save_array(path, np.eye(2))
    elif path.suffix == ".npz":
        np.savez(path, codes=np.eye(2), offset=np.zeros(2))
    else:
        path.write_bytes({".png": b"\x89PNG\r\n\x1a\n", ".clp": b"CLP1"}[path.suffix] + b"old")


def temporaries(folder: Path) -> list[str]:
    """Return the names of temporary files."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


class Rack:
    """The place of the torture: inputs, undisturbed results, and what went wrong."""

    def __init__(self, root: Path, jobs: list[str], seed: int) -> None:
        self.root, self.random = root, random.Random(seed)
        self.inputs = root / "inputs"
        self.inputs.mkdir()
        make_inputs(self.inputs)
        self.bytes = {path.name: path.read_bytes() for path in self.inputs.iterdir()}
        self.seconds: dict[str, float] = {}
        self.wanted: dict[str, dict[str, Any]] = {}
        self.largest: dict[str, int] = {}
        self.failed: list[str] = []
        self.done: Counter[str] = Counter()
        self.exact = 0
        for name in jobs:
            folder = self.new_folder()
            os.chdir(folder)
            status = call(JOBS[name])  # here, for the modules and the kernels that it loads
            begun = time.monotonic()
            (folder / CHECKPOINT).unlink(missing_ok=True)
            again, said = self.complete(name, folder)
            if status or again:
                sys.exit(f"torture: {name} fails undisturbed: {said}")
            self.seconds[name] = time.monotonic() - begun
            self.wanted[name] = {path: contents(folder / path) for path in JOBS[name].outputs}
            self.largest[name] = max((folder / path).stat().st_size for path in JOBS[name].outputs)

    def new_folder(self) -> Path:
        """Return a new folder with the inputs."""
        folder = Path(tempfile.mkdtemp(dir=self.root))
        folder.chmod(0o755)
        for path in self.inputs.iterdir():
            shutil.copy(path, folder)
        return folder

    def complete(self, name: str, folder: Path) -> tuple[int, str]:
        """Run a job to its end."""
        return begin(JOBS[name], folder).end()

    def torture(self, name: str) -> None:
        """Disturb a job one to three times, then let it end, and compare."""
        folder = self.new_folder()
        before = {}
        if self.random.random() < 0.5:
            for path in JOBS[name].outputs:
                write_old(folder / path)
                before[path] = contents(folder / path)
        for _ in range(self.random.randint(1, 3)):
            how = self.random.choice(list(WAYS))
            self.done[how] += 1
            known = temporaries(folder)
            status, said, allowed = WAYS[how](self, name, folder)
            what = f"{name}, {how}, {folder.name}"
            self.check(what, folder, before, name, status, said, allowed)
            left = set(temporaries(folder)) - set(known)
            if left and "SIGKILL" not in how and how != "second writer":
                self.failed.append(f"{what}: left {sorted(left)}")
        status, said = self.complete(name, folder)
        what = f"{name}, run to its end, {folder.name}"
        self.check(what, folder, before, name, status, said, {0})
        different = [path for path, wanted in self.wanted[name].items() if contents(folder / path) != wanted]
        if different or temporaries(folder):
            self.failed.append(f"{what}: differs: {different}, left: {temporaries(folder)}")
        else:
            self.exact += 1
            shutil.rmtree(folder)

    def check(
        self,
        what: str,
        folder: Path,
        before: dict[str, Any],
        name: str,
        status: int,
        said: str,
        allowed: set[int],
    ) -> None:
        """Note everything that is not as it should be after one run."""
        lines = [line for line in said.splitlines() if not line.startswith("calepin: ")]
        if status not in allowed or lines:
            self.failed.append(f"{what}: status {status}, expected {sorted(allowed)}; {said!r}")
        for path, content in self.bytes.items():
            if (folder / path).read_bytes() != content:
                self.failed.append(f"{what}: the input {path} was changed")
        finished = []
        for path in JOBS[name].outputs:
            if not (folder / path).exists():
                found = None
            else:
                try:
                    found = contents(folder / path)
                except Exception as error:
                    self.failed.append(f"{what}: {path} cannot be read: {error}")
                    continue
            finished.append(found == self.wanted[name][path])
            if not finished[-1] and found != before.get(path):
                self.failed.append(f"{what}: {path} is neither old nor finished")
        if status == 0 and not all(finished):
            self.failed.append(f"{what}: status 0, and the outputs are not finished")

    def moment(self, name: str) -> float:
        """Return a random moment of a run."""
        return self.random.uniform(0.01, 1.05) * self.seconds[name]


def kill(number: signal.Signals) -> Callable[[Rack, str, Path], tuple[int, str, set[int]]]:
    """Return the disturbance by a signal, at a random moment."""

    def disturb(rack: Rack, name: str, folder: Path) -> tuple[int, str, set[int]]:
        victim = begin(JOBS[name], folder)
        time.sleep(rack.moment(name))
        os.kill(victim.process, number)
        return *victim.end(), _allowed(JOBS[name], number)

    return disturb


def kill_in_write(number: signal.Signals) -> Callable[[Rack, str, Path], tuple[int, str, set[int]]]:
    """Return the disturbance by a signal while a file is written: at one of the system calls for it."""

    def disturb(rack: Rack, name: str, folder: Path) -> tuple[int, str, set[int]]:
        call, count = rack.random.choice(["fsync", "replace", "chmod"]), [rack.random.randint(1, 3)]

        def prepare() -> None:
            original = getattr(os, call)

            def counted(*arguments: Any, **options: Any) -> Any:
                count[0] -= 1
                if count[0] == 0:
                    os.kill(os.getpid(), number)
                return original(*arguments, **options)

            setattr(os, call, counted)

        return *begin(JOBS[name], folder, prepare).end(), _allowed(JOBS[name], number)

    return disturb


def _allowed(job: Job, number: signal.Signals) -> set[int]:
    if number == signal.SIGKILL:
        return {0, -number}
    # a program that calls a learner has no handler of SIGTERM outside of the training
    return {0, 130} if isinstance(job.run, str) else {0, 130, -number}


def full_disk(rack: Rack, name: str, folder: Path) -> tuple[int, str, set[int]]:
    """Let no file grow beyond a random size."""
    size = rack.random.randint(0, rack.largest[name])

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return *begin(JOBS[name], folder, prepare).end(), {0, 1}


def read_only(rack: Rack, name: str, folder: Path) -> tuple[int, str, set[int]]:
    """Let the folder be read-only."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    folder.chmod(0o555)
    try:
        return *begin(JOBS[name], folder, _obey_permissions).end(), {2}
    finally:
        folder.chmod(mode)


def _obey_permissions() -> None:
    """Give up CAP_DAC_OVERRIDE, by which root can write everywhere."""
    if os.getuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice 32 bits
    if libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    for i in range(3):
        sets[i] &= ~0b10
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def second_writer(rack: Rack, name: str, folder: Path) -> tuple[int, str, set[int]]:
    """Let another process write the same files, and be killed at a random moment."""
    other, victim = begin(JOBS[name], folder), begin(JOBS[name], folder)
    time.sleep(rack.moment(name))
    os.kill(other.process, signal.SIGKILL)
    other.end()
    return *victim.end(), {0}


WAYS: dict[str, Callable[[Rack, str, Path], tuple[int, str, set[int]]]] = {
    **{number.name: kill(number) for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)},
    **{
        f"{number.name} in a write": kill_in_write(number)
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    },
    "full disk": full_disk,
    "read-only folder": read_only,
    "second writer": second_writer,
}


def torture() -> int:
    """Read the arguments, torture, and print what was done; the exit status is 1 if anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="disturbances at least (default 100)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of what is drawn; moments vary all the same"
    )
    parser.add_argument("--jobs", nargs="*", choices=list(JOBS), default=list(JOBS), metavar="JOB")
    arguments = parser.parse_args()
    begun = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="calepin-torture-"))
    root.chmod(0o755)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rack = Rack(root, arguments.jobs, arguments.seed)
    os.chdir(root)
    order: list[str] = []
    runs = 0
    while rack.done.total() < arguments.kills:
        if not order:
            order = rack.random.sample(arguments.jobs, len(arguments.jobs))
        rack.torture(order.pop())
        runs += 1
    for way in WAYS:
        print(f"{way:20} {rack.done[way]:5}")
    print(
        f"{rack.done.total()} disturbances of {len(arguments.jobs)} jobs in {time.monotonic() - begun:.0f} s"
    )
    print(f"{rack.exact} of {runs} runs ended with the bits of an undisturbed one")
    for failure in rack.failed:
        print(f"FAILED {failure}")
    if rack.failed:
        print(f"{len(rack.failed)} failures; the folders are in {root}")
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(torture())
