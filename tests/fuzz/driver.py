"""Try mutated calls, commands and files until the time is over, in child processes.

Each part is a module with ``check(seed)``, which raises AssertionError for a fault. Children run the seeds,
so that a crash or a hang is found; the parent reports what was tried, and a seed for each distinct fault.
"""

import argparse
import importlib
import multiprocessing as mp
import multiprocessing.connection as connections
import os
import re
import resource
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["PARTS", "main"]

PACKAGE = __package__
PARTS = ("api", "commands", "readers")
HANG = 120.0  # CPU seconds that a seed may take
STILL = 10 * HANG  # seconds, on a machine that has other work
MEMORY = 8 << 30
ROUND = 2000  # seeds of a child: a new one starts fresh


@dataclass
class Worker:
    """A child and the seed that it is working on."""

    part: str
    process: Any
    pipe: Any
    seed: int
    since: float = field(default_factory=time.monotonic)
    spent: float = 0.0  # CPU seconds of the child before this seed


def main() -> int:
    """Return 1 if there are faults."""
    options = _options()
    faults: dict[str, tuple[str, int, str]] = {}
    tried: Counter[str] = Counter()
    begin = dict.fromkeys(options.parts, options.seed)
    stop = time.monotonic() + options.seconds
    workers: list[Worker] = []
    turn = 0
    while time.monotonic() < stop or workers:
        while len(workers) < options.jobs and time.monotonic() < stop:
            part = options.parts[turn % len(options.parts)]
            workers.append(_start(part, begin[part]))
            begin[part] += ROUND
            turn += 1
        connections.wait([worker.pipe for worker in workers], timeout=1.0)
        for worker in list(workers):
            if not _listen(worker, tried, faults) or time.monotonic() > stop:
                worker.process.kill()
                worker.process.join()
                workers.remove(worker)
    _report(tried, faults)
    return int(bool(faults))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=None)
    parser.add_argument("--show", nargs=2, metavar=("PART", "SEED"), help="run one seed here")
    options = parser.parse_args()
    if options.show:
        _part(options.show[0]).check(int(options.show[1]))
        sys.exit(f"{' '.join(options.show)}: no fault")
    if options.parts is None:
        options.parts = [part for part in PARTS if Path(__file__).with_name(f"{part}.py").exists()]
    return options


def _part(name: str, package: str | None = None) -> Any:
    return importlib.import_module(f"{package or PACKAGE}.{name}")


def _start(part: str, begin: int) -> Worker:
    ours, theirs = mp.Pipe(duplex=False)
    process = mp.get_context("spawn").Process(target=_run, args=(PACKAGE, part, begin, theirs))
    process.start()
    theirs.close()
    return Worker(part, process, ours, begin)


def _run(package: str, part: str, begin: int, pipe: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    module = _part(part, package)
    for seed in range(begin, begin + ROUND):
        pipe.send((seed, None))
        try:
            module.check(seed)
        except AssertionError as fault:
            pipe.send((seed, str(fault)))
        except BaseException:
            pipe.send((seed, f"the harness failed: {traceback.format_exc()[-500:]}"))


def _listen(worker: Worker, tried: Counter[str], faults: dict[str, tuple[str, int, str]]) -> bool:
    """Note what a child reports; return whether it lives and may go on."""

    def note(fault: str) -> None:
        faults.setdefault(f"{worker.part} {_kind(fault)}", (worker.part, worker.seed, fault))

    try:
        while worker.pipe.poll():
            seed, fault = worker.pipe.recv()
            if fault is None:
                tried[worker.part] += 1
                worker.seed, worker.since = seed, time.monotonic()
                worker.spent = _cpu_seconds(worker.process.pid)
            else:
                note(fault)
    except EOFError:
        worker.process.join()
        if worker.process.exitcode:
            note(f"{_description(worker)}: crashed with exit code {worker.process.exitcode}")
        return False
    still = time.monotonic() - worker.since
    if still > STILL or (still > HANG and _cpu_seconds(worker.process.pid) - worker.spent > HANG):
        note(f"{_description(worker)}: took more than {HANG:g} s")
        return False
    return True


def _cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its children, or those of the clock if they cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # not Linux, or the process is gone
        return time.monotonic()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _description(worker: Worker) -> str:
    describe = getattr(_part(worker.part), "describe", "seed {}".format)
    return describe(worker.seed)


def _kind(fault: str) -> str:
    """Return what faults of one kind have in common: place and argument, without mutation and numbers."""
    place, _, what = fault.partition("): ")
    return re.sub(r"[\d.]+", "#", f"{place.partition(': ')[0]} {what[:40]}")


def _report(tried: Counter[str], faults: dict[str, tuple[str, int, str]]) -> None:
    for part, seed, fault in sorted(faults.values(), key=lambda one: one[2]):
        print(f"{part} {seed}: {fault}")
    for part, number in tried.items():
        print(f"{part}: {number} tried, {sum(one[0] == part for one in faults.values())} distinct faults")
    if faults:
        print("one of them again: python -m tests.fuzz --show PART SEED")
