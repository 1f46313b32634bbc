"""The option --report: what a command did, as one HTML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.options import Writes
from calepin.cli.record import record

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from calepin.report.page import Section

__all__ = [
    "MOST_SHOWN",
    "ReportOut",
    "atom_sections",
    "check_report",
    "data_section",
    "history_figure",
    "save_report",
    "write_page",
]

MOST_SHOWN = 64  # atoms


def check_report() -> None:
    """Raise an error if a report could not be written for want of Jinja2."""
    from calepin.report.page import require_jinja2

    require_jinja2("--report")


ReportOut = Annotated[
    Path | None,
    typer.Option("--report", metavar="HTML", help="Write a report: settings, data, figures, versions."),
    Writes(".html", check=check_report),
]


def save_report(
    path: Path | None, title: str, result: Mapping[str, Any], sections: Sequence["Section"]
) -> None:
    """Write the report of the running command.

    Parameters
    ----------
    path
        The file; with None nothing is done.
    title
        What was done.
    result
        What --json prints; the first section is a table of it.
    sections
        Sections of the command; settings, warnings and versions are added.
    """
    if path is None:
        return
    from calepin.report.page import Section

    shown = {name: value for name, value in _flat(result).items() if value is not None}
    write_page(path, title, [Section("Result", table=shown), *sections])


def write_page(path: Path, title: str, sections: Sequence["Section"]) -> None:
    """Write sections, and those of every command: messages, settings, command, versions."""
    from calepin.report.page import Report

    running = record()
    made = f"calepin, {running.started:%Y-%m-%d %H:%M:%S %z}, {running.seconds:.1f} s"
    Report(title, [*sections, *_run_sections()], made).save(path)


def _run_sections() -> list["Section"]:
    from calepin.report.facts import versions
    from calepin.report.page import Section, Table

    running = record()
    rows = [
        (name, value, "given" if name in running.given else "default")
        for name, value in running.settings.items()
    ]
    messages = "\n\n".join(running.messages) or "None."
    made = {"command": running.command, "date": f"{running.started:%Y-%m-%d %H:%M:%S %z}"}
    return [
        Section("Warnings and notes", messages),
        Section("Settings", table=Table(("option", "value", ""), rows)),
        Section("How it was made", table=made | {"seconds in all": round(running.seconds, 1)} | versions()),
    ]


def data_section(files: Sequence[Path | None], arrays: Mapping[str, Any]) -> "Section":
    """Return a section with the sizes and hashes of input files, and shapes and ranges of arrays by name."""
    from calepin.report.facts import array_facts, file_facts
    from calepin.report.page import Section, Table

    facts = [file_facts(path) for path in files if path is not None]
    facts += [{"array": name} | array_facts(values) for name, values in arrays.items()]
    return Section("Data", table=Table(("", ""), [row for each in facts for row in each.items()]))


def history_figure(lines: Mapping[str, Sequence[float]], *, xlabel: str, ylabel: str) -> "Figure":
    """Return a figure of values by pass or iteration, from 1; logarithmic if they span a factor of 10."""
    import numpy as np

    from calepin.report.figures import Curve, curves

    values = np.concatenate([np.asarray(line, float) for line in lines.values()])
    steep = values.min() > 0 and values.max() > 10 * values.min()
    shown = {name: Curve(np.arange(1, len(line) + 1), line) for name, line in lines.items()}
    return curves(shown, xlabel=xlabel, ylabel=ylabel, yscale="log" if steep else "linear")


def atom_sections(
    atoms: "NDArray[np.floating]", use: "NDArray[np.floating]", *, meaning: str, measured: str, **labels: Any
) -> list["Section"]:
    """Return a section with the most used atoms, or filters, and the use of all.

    Parameters
    ----------
    atoms
        (n_components, n_features), or filters (n_components, channels, *kernel).
    use
        The use of each.
    meaning, measured
        What a use is, and on what it was measured.
    **labels
        Sampling rate and channel names of filters, for `atom_figure`.
    """
    import numpy as np

    from calepin.report.atoms import atom_figure
    from calepin.report.figures import Curve, curves
    from calepin.report.page import Section

    unit = "filters" if atoms.ndim > 2 else "atoms"
    order = np.argsort(-use, kind="stable")[:MOST_SHOWN]
    curve = Curve(np.arange(1, len(use) + 1), np.sort(use)[::-1])
    figures: dict[str, Figure | NDArray] = {}
    if atoms.ndim <= 4:
        caption = f"The {len(order)} most used of {len(atoms)} {unit}: number and {meaning}"
        figures[caption] = atom_figure(atoms[order], labels=[f"{i}: {use[i]:.2g}" for i in order], **labels)
    caption = f"Use of all {len(atoms)} {unit}, the most used first"
    figures[caption] = curves({unit: curve}, xlabel=f"{unit} by their use", ylabel=meaning)
    text = f"Measured on {measured}. {int((use == 0).sum())} of {len(atoms)} {unit} are not used."
    return [Section(unit.capitalize(), text, figures=figures)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values with the names of all levels."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name} ") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
