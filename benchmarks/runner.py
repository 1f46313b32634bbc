"""Runs contenders side by side: alternating rounds in one process, so that all see the same machine.

A comparison prepares its data once and names its contenders, ours first. Every round runs each
contender once; the table gives the fastest round, which is the one least disturbed by other work.
"""

import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

PACKAGES = ("calepin", "torch", "numpy", "numba", "scikit-learn", "spams-bin", "bm3d", "sigpy")


@dataclass(frozen=True)
class Contender:
    """A function to be timed, and what its result is worth (objective, gap, PSNR, ...)."""

    name: str
    run: Callable[[], Any]
    measure: Callable[[Any], dict[str, float]]


@dataclass(frozen=True)
class Comparison:
    """A question that a benchmark answers."""

    name: str
    title: str
    bar: str
    prepare: Callable[[], list[Contender]]
    rounds: int = 5


@dataclass
class Row:
    """What one contender took and reached."""

    contender: str
    seconds: float
    median_seconds: float
    cpu_seconds: float
    measures: dict[str, float] = field(default_factory=dict)


def run_comparison(comparison: Comparison, rounds: int | None = None) -> list[Row]:
    """Run every contender of a comparison in alternating rounds, after one round that only warms up."""
    contenders = comparison.prepare()
    results = [contender.run() for contender in contenders]
    measures = [c.measure(result) for c, result in zip(contenders, results, strict=True)]
    wall = np.zeros((rounds or comparison.rounds, len(contenders)))
    cpu = np.zeros_like(wall)
    for i in range(len(wall)):
        for j, contender in enumerate(contenders):
            begun, cpu_begun = time.perf_counter(), time.process_time()
            contender.run()
            wall[i, j], cpu[i, j] = time.perf_counter() - begun, time.process_time() - cpu_begun
    return [
        Row(
            c.name, float(wall[:, j].min()), float(np.median(wall[:, j])), float(cpu[:, j].min()), measures[j]
        )
        for j, c in enumerate(contenders)
    ]


def print_rows(comparison: Comparison, rows: list[Row], console: Console) -> None:
    """Print a comparison as a table: seconds, ratio to ours, and what was reached."""
    table = Table(title=comparison.title, caption=f"bar: {comparison.bar}", title_justify="left")
    names = list(dict.fromkeys(name for row in rows for name in row.measures))
    for column in ("", "best s", "median s", "CPU s", "peer / ours", *names):
        table.add_column(column, justify="left" if not column else "right")
    for row in rows:
        table.add_row(
            row.contender,
            f"{row.seconds:.3f}",
            f"{row.median_seconds:.3f}",
            f"{row.cpu_seconds:.3f}",
            f"{row.seconds / rows[0].seconds:.2f}",
            *(f"{row.measures[name]:.5g}" if name in row.measures else "" for name in names),
        )
    console.print(table)


def environment() -> dict[str, Any]:
    """Return what the figures depend on: machine, threads, versions."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
    }


def write_report(path: Path, comparisons: dict[str, list[Row]]) -> None:
    """Write all rows and the environment as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "environment": environment(),
        "comparisons": {name: [asdict(row) for row in rows] for name, rows in comparisons.items()},
    }
    path.write_text(json.dumps(report, indent=2) + "\n")


def peak_growth_mb(code: str) -> float:
    """Return by how many MB a fresh process's peak memory grows while it runs ``main()`` of `code`.

    The code's top level loads and warms everything up; only ``main()`` counts.
    """
    script = (
        f"{code}\nimport resource\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "kept = main()\nprint((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def peak_memory_mb() -> float:
    """Return this process's peak memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
