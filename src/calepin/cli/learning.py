"""Common parts of ``calepin learn`` and ``calepin learn-filters``: initial atoms, run, summary."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.options import Default, Writes
from calepin.cli.output import Output, peak_memory_mb

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Checkpoint", "CheckpointSeconds", "DictionaryOut", "Resume", "fit", "read_init", "report"]

DictionaryOut = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="DICT.safetensors", help="File for the dictionary."),
    Writes(".safetensors"),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE.safetensors",
        help="File for the state of the run, also written on Ctrl-C and SIGTERM.",
    ),
    Writes(".safetensors", checkpoint=True),
]
CheckpointSeconds = Annotated[
    float | None,
    typer.Option("--checkpoint-seconds", metavar="S", help="Time between two checkpoints."),
    Default("calepin.learning.train:train", "checkpoint_seconds"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint.")]


def read_init(init: str | None) -> "str | np.ndarray | None":
    """Return the word for the initial atoms, or the atoms of a file."""
    from calepin.core.files import load_atoms

    ways = {None, "data", "dct", "random"}
    if init in ways:
        return init
    if not Path(init or "").exists():
        raise ValueError(f"init: expected data, dct, random or the file of a dictionary, got {init!r}")
    return load_atoms(init or "")


def fit(learner: Any, X: "np.ndarray", output: Output) -> None:
    """Learn; after Ctrl-C or SIGTERM print the file with the state of the run."""
    try:
        learner.fit(X)
    except KeyboardInterrupt:
        if learner.checkpoint is not None and Path(learner.checkpoint).exists():
            output.note(f"{learner.checkpoint} holds the state of the run; --resume continues it")
        raise


def report(output: Output, learner: Any, path: Path, *, what: str, shape: dict[str, Any], unit: str) -> None:
    """Print what was learned, the number of passes, and the file."""
    history = learner.history_
    result = {
        "n_components": len(learner.components_),
        **shape,
        "n_iter": learner.n_iter_,
        "converged": learner.converged_,
        "objective": history[-1]["objective"] if history else None,
        "n_replaced": int(sum(record["n_replaced"] for record in history)),
        "seconds": round(history[-1]["seconds"], 3) if history else 0.0,
        "peak_memory_mb": peak_memory_mb(),
        "output": str(path),
    }
    end = "converged" if learner.converged_ else "max-iter reached"
    objective = f", objective {result['objective']:.6g}" if history else ""
    output.line(
        f"{what}, {learner.n_iter_} passes ({end}){objective}, {result['n_replaced']} {unit} replaced\n"
        f"{path} in {result['seconds']:.1f} s"
    )
    output.result(result)
