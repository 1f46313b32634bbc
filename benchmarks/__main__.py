"""``make bench``: calepin beside its peers. ``python -m benchmarks lasso omp-10 --rounds 5``."""

import argparse
import fnmatch
import importlib
import os
import warnings
from pathlib import Path

from rich.console import Console

from benchmarks.runner import environment, print_rows, run_comparison, write_report

MODULES = (
    "benchmarks.coders",
    "benchmarks.learning",
    "benchmarks.unfolded",
    "benchmarks.untrained",
    "benchmarks.mri",
    "benchmarks.white_noise",
    "benchmarks.generative",
    "benchmarks.startup",
)


def main() -> None:
    """Run the comparisons that the command line names (all by default) and write their figures."""
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"  # peers' warnings, in their worker processes too
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=["*"], help="comparisons, with * and ? as wildcards")
    parser.add_argument("--rounds", type=int, help="timed rounds instead of each comparison's own number")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks.json"))
    parser.add_argument("--list", action="store_true", help="only list the comparisons")
    arguments = parser.parse_args()

    known = [c for module in MODULES for c in importlib.import_module(module).COMPARISONS]
    chosen = [c for c in known if any(fnmatch.fnmatch(c.name, name) for name in arguments.names)]
    console = Console(width=130)
    if arguments.list or not chosen:
        for comparison in known:
            console.print(f"{comparison.name:16} {comparison.title}")
        raise SystemExit(0 if arguments.list else f"no comparison is called {arguments.names}")
    console.print(environment())
    done = {}
    for comparison in chosen:
        try:
            with console.status(comparison.title):
                done[comparison.name] = run_comparison(comparison, arguments.rounds)
        except FileNotFoundError as missing:
            console.print(f"{comparison.name}: skipped, {missing}")
            continue
        print_rows(comparison, done[comparison.name], console)
        write_report(arguments.out, done)
    console.print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
