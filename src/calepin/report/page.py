"""Reports: titles, text, tables and figures in one HTML file that needs no other file and no network."""

import base64
import io
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calepin.core.arguments import check_arguments, check_fields
from calepin.core.checks import check_array, check_integer
from calepin.core.files import atomic_write

__all__ = ["Report", "Section", "Table", "cell_text", "data_uri", "require_jinja2"]

DPI = 150
CSS_DPI = 96  # pixels of an inch in CSS


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes
    ----------
    columns : sequence of str
        Titles of the columns.
    rows : sequence of sequences
        Cells: text, numbers, booleans or None. Columns of numbers are aligned to the right.
    failed : collection of int
        Numbers of the rows that are highlighted as failures.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    failed: Collection[int] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        for i in self.failed:
            check_integer("failed", i, least=0, most=max(0, len(self.rows) - 1))
        for row in self.rows:
            if isinstance(row, str) or len(row) != len(self.columns):
                raise ValueError(f"rows: expected {len(self.columns)} cells in each row, got {row!r:.60}")


@dataclass(frozen=True)
class Section:
    """A section of a report; every part but the title is optional.

    Attributes
    ----------
    title : str
        Title of the section.
    text : str
        Paragraphs, separated by empty lines. Not HTML: all text of a report is escaped.
    alert : str
        Text in a box that cannot be overlooked, for failures.
    aside : str
        Paragraphs to show beside the figures, such as what a paper says about its own figure.
    table : Table or mapping, optional
        A table; a mapping becomes a table of names and values.
    details : mapping of str to table or mapping
        More tables by their titles, which are folded until they are clicked.
    figures : mapping of str to Figure or array
        Figures of matplotlib, or pixels (h, w) or (h, w, 3) in [0, 1], by their captions, which are also the
        text for readers who do not see them.
    """

    title: str
    text: str = ""
    alert: str = ""
    aside: str = ""
    table: Table | Mapping[str, Any] | None = None
    details: Mapping[str, Table | Mapping[str, Any]] = field(default_factory=dict)
    figures: Mapping[str, Figure | NDArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        for caption, figure in self.figures.items():
            if isinstance(figure, Figure):
                continue
            shape = check_array(f"figures[{caption!r}]", figure).shape
            if len(shape) != 2 and shape[2:] != (3,):
                raise ValueError(
                    f"figures[{caption!r}]: expected a Figure, or pixels (h, w) or (h, w, 3), got {shape}"
                )


@dataclass(frozen=True)
class Report:
    """A report: one HTML file with text, tables and figures, without scripts and without network.

    Attributes
    ----------
    title : str
        Title of the page.
    sections : sequence of Section
        The sections, in their order.
    made : str, optional
        How and when the report was made, below the title. Default: the present date.

    Examples
    --------
    >>> from calepin.report import Report, Section
    >>> report = Report("Noise", [Section("Level", table={"sigma": 0.1})])
    >>> report.save("noise.html")  # doctest: +SKIP
    """

    title: str
    sections: Sequence[Section]
    made: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for section in self.sections:
            if not isinstance(section, Section):
                raise TypeError(f"sections: expected sections, got {section!r:.60}")

    def html(self) -> str:
        """Return the page as text.

        Raises
        ------
        ModuleNotFoundError
            Jinja2 is missing.
        """
        require_jinja2("a report")
        from jinja2 import Environment, StrictUndefined

        # everything is escaped: names of files and texts of metadata come from strangers
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        template = environment.from_string(
            files("calepin.report").joinpath("templates/report.html").read_text("utf-8")
        )
        made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z") if self.made is None else self.made
        return template.render(
            title=self.title, made=made, sections=[_content(section) for section in self.sections]
        )

    def save(self, path: str | os.PathLike) -> None:
        """Write the page to a file, atomically."""
        check_arguments(Report.save, locals())
        page = self.html()
        with atomic_write(path) as temporary:
            # a name of a file may hold bytes that are no text
            temporary.write_text(page, encoding="utf-8", errors="replace")


def require_jinja2(what: str) -> None:
    """Raise ModuleNotFoundError, in one line that names the extra, if Jinja2 is missing."""
    try:
        import jinja2  # noqa: F401
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{what} needs Jinja2: pip install 'calepin[report]'") from None


def data_uri(figure: Figure | NDArray) -> str:
    """Return a figure, or pixels in [0, 1], as the URI of a PNG image that contains all its data."""
    buffer = io.BytesIO()
    if isinstance(figure, Figure):
        figure.savefig(buffer, format="png", dpi=DPI)
    else:
        from PIL import Image

        pixels = np.clip(np.nan_to_num(figure), 0, 1)
        Image.fromarray(np.rint(255 * pixels).astype(np.uint8)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _content(section: Section) -> dict[str, Any]:
    """Return what the template shows of a section: text, rows of text, images."""
    return {
        "title": section.title,
        "alert": section.alert,
        "text": _paragraphs(section.text),
        "aside": _paragraphs(section.aside),
        "table": None if section.table is None else _rows(section.table),
        "details": {title: _rows(table) for title, table in section.details.items()},
        "figures": [
            {"caption": caption, "uri": data_uri(figure), "width": _width(figure)}
            for caption, figure in section.figures.items()
        ],
    }


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _rows(table: Table | Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(table, Table):
        table = Table(("", ""), [(name, value) for name, value in table.items()])
    numeric = [
        any(_is_number(row[i]) for row in table.rows)
        and all(row[i] is None or _is_number(row[i]) for row in table.rows)
        for i in range(len(table.columns))
    ]
    cells = [
        [{"text": cell_text(cell), "numeric": right} for cell, right in zip(row, numeric, strict=True)]
        for row in table.rows
    ]
    return {
        "columns": [
            {"text": title, "numeric": right} for title, right in zip(table.columns, numeric, strict=True)
        ],
        "titled": any(table.columns),
        "rows": [{"cells": row, "failed": i in table.failed} for i, row in enumerate(cells)],
    }


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float | np.number) and not isinstance(cell, bool)


def cell_text(cell: Any) -> str:
    """Return a cell as text; numbers have six digits."""
    if cell is None:
        return "-"
    if isinstance(cell, bool | np.bool_):
        return "yes" if cell else "no"
    if isinstance(cell, float | np.floating):
        return f"{cell:.6g}"
    if isinstance(cell, list | tuple):
        return ", ".join(cell_text(one) for one in cell)
    return str(cell)


def _width(figure: Figure | NDArray) -> int:
    """Return the width of an image in CSS pixels; small images of pixels are enlarged."""
    if isinstance(figure, Figure):
        return round(CSS_DPI * float(figure.get_size_inches()[0]))
    width = figure.shape[1]
    return width * max(1, 256 // width)
