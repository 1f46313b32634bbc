"""Common parts of the commands that learn: initial atoms, run, summary, report."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.options import Default, Writes
from calepin.cli.output import Output, peak_memory_mb
from calepin.cli.report import atom_sections, data_section, history_figure, save_report

if TYPE_CHECKING:
    import numpy as np

    from calepin.report.page import Section

__all__ = [
    "Checkpoint",
    "CheckpointSeconds",
    "DictionaryOut",
    "Resume",
    "fit",
    "history_section",
    "read_init",
    "residual_section",
    "show_result",
    "some_samples",
    "without_missing",
    "write_report",
]

MOST_CODED, MOST_ENTRIES = 2000, 2**22  # samples of a report, and their entries

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


@contextmanager
def without_missing() -> Iterator[None]:
    """Let errors about missing entries say what takes them, since no option of a command does."""
    try:
        yield
    except ValueError as error:
        text, named, _ = str(error).partition("; missing='allow'")
        if not named:
            raise
        raise ValueError(
            f"{text}; in Python, DictionaryLearner(missing='allow') takes it as missing"
        ) from None


def fit(learner: Any, X: "np.ndarray", output: Output) -> None:
    """Learn; after Ctrl-C or SIGTERM print the file with the state of the run."""
    try:
        with without_missing():
            learner.fit(X)
    except KeyboardInterrupt:
        if learner.checkpoint is not None and Path(learner.checkpoint).exists():
            output.note(f"{learner.checkpoint} holds the state of the run; --resume continues it")
        raise


def show_result(
    output: Output, learner: Any, path: Path, *, what: str, shape: dict[str, Any], unit: str
) -> dict[str, Any]:
    """Print what was learned, the number of passes, and the file; return what --json prints."""
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
    return result


def write_report(
    path: Path | None, learner: Any, X: "np.ndarray", data: Path, result: dict[str, Any], output: Output
) -> None:
    """Write the report of a learned dictionary: data, history, atoms with their use, residuals."""
    if path is None:
        return
    from calepin.core.progress import progress_bar

    with progress_bar("report", total=None, shown=not output.quiet):
        sections = [
            history_section(learner.history_),
            *_use_sections(learner, X),
            data_section([data], {"samples": X}),
        ]
        save_report(path, f"Dictionary learned from {data.name}", result, sections)


def history_section(history: list[dict[str, float]]) -> "Section":
    """Return a section with the objective of each pass, and a table of the first and the last passes."""
    from calepin.report.page import Section, Table

    if not history:
        return Section("History", "No pass was finished.")
    objective = {"objective": [record["objective"] for record in history]}
    shown = [*history[:3], *history[-3:]] if len(history) > 6 else history
    columns = list(history[0])
    figure = history_figure(objective, xlabel="pass over the data", ylabel="objective")
    return Section(
        "History",
        f"The first and the last of {len(history)} passes." if len(history) > 6 else "",
        table=Table(columns, [[record.get(name) for name in columns] for record in shown]),
        figures={f"Mean objective of the samples in each of {len(history)} passes": figure},
    )


def _use_sections(learner: Any, X: "np.ndarray") -> list["Section"]:
    """Return sections with the atoms by their use, and with the residuals, of some of the samples."""
    samples, rows = some_samples(X)
    codes, decoded = _coded(learner, samples)
    # an atom is in a code or not, a filter at several positions
    nonzero = codes.reshape(len(rows), len(learner.components_), -1) != 0
    use = nonzero.sum(axis=2).mean(axis=0)
    meaning = "events in a signal" if codes.ndim > 2 else "fraction of samples that use it"
    measured = f"{len(rows):,} of {len(X):,} samples, evenly spaced"
    more = {"nonzero entries of a code, mean": nonzero.sum() / len(rows)}
    rate = getattr(learner, "sampling_rate_", None)
    labels = {} if rate is None else {"sampling_rate": rate}
    return [
        *atom_sections(learner.components_, use, meaning=meaning, measured=measured, **labels),
        residual_section(samples, decoded, rows, more),
    ]


def some_samples(X: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Return at most `MOST_CODED` samples, evenly spaced, and their numbers."""
    import numpy as np

    n_rows = min(MOST_CODED, len(X), max(1, MOST_ENTRIES // X[0].size))
    rows = np.linspace(0, len(X) - 1, n_rows).astype(np.intp)
    return np.asarray(X[rows]), rows


def residual_section(
    samples: "np.ndarray", decoded: "np.ndarray", rows: "np.ndarray", more: dict[str, Any]
) -> "Section":
    """Return a section with the residuals of samples, whose numbers are `rows`, and more values."""
    import numpy as np

    from calepin.report.figures import Curve, curves
    from calepin.report.page import Section

    n_rows = len(samples)
    energy = np.square(samples, dtype=np.float64).reshape(n_rows, -1).sum(axis=1)
    error = np.square(samples - decoded, dtype=np.float64).reshape(n_rows, -1).sum(axis=1)
    relative = np.sqrt(error / np.where(energy > 0, energy, 1))
    table = {
        "samples": n_rows,
        "mean squared residual of an entry": error.mean() / samples[0].size,
        "relative residual ||x - Dz|| / ||x||, median": np.median(relative),
        "the same, largest": relative.max(),
        "sample with the largest": int(rows[relative.argmax()]),
    }
    curve = Curve(np.sort(relative), np.arange(1, n_rows + 1) / n_rows)
    figure = curves(
        {"samples": curve}, xlabel="relative residual of a sample", ylabel="fraction of samples below it"
    )
    return Section(
        "Residuals", table=table | more, figures={"Distribution of the relative residuals": figure}
    )


def _coded(learner: Any, samples: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Return codes of samples, and the samples decoded from them."""
    if hasattr(learner, "encode"):  # a convolutional dictionary, whose offsets may be fitted
        found = learner.encode(samples)
        return found.codes, learner.inverse_transform(found.codes, offset=found.offset)
    codes = learner.transform(samples)
    return codes, learner.inverse_transform(codes)
