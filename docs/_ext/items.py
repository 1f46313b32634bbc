"""The directive ``coverage``: the items of one paper, or of all, beside the stored results of our runs."""

from collections import Counter

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from calepin.experiments import installed
from calepin.experiments.coverage import Row, coverage, rows, stored_results

COLUMNS = ("item", "the paper says", "verdict", "theirs", "ours", "where")
WIDTHS = (12, 22, 24, 10, 20, 12)


class Coverage(SphinxDirective):
    """A table with a row for each item."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the table, and a sentence that counts the verdicts."""
        items = [item for item in coverage() if item.paper == self.arguments[0]]
        if not items:
            papers = ", ".join(dict.fromkeys(item.paper for item in coverage()))
            raise self.error(f"no items of a paper {self.arguments[0]!r}: there are {papers}")
        found = rows(items, stored_results(installed().values()))
        counts = Counter(item.verdict for item in items)
        text = f"{len(items)} items. " + ", ".join(f"{name}: {n}" for name, n in counts.items()) + "."
        group = nodes.tgroup(cols=len(WIDTHS))
        group += [nodes.colspec(colwidth=width) for width in WIDTHS]
        group += nodes.thead("", _row([nodes.Text(title) for title in COLUMNS]))
        group += nodes.tbody("", *(_row(_cells(row)) for row in found))
        return [nodes.paragraph("", text), nodes.table("", group, classes=["coverage"])]


def _cells(row: Row) -> list[nodes.Node]:
    item = row.item
    ours = "; ".join(text for text in (row.ours, row.run and f"[{row.run}]") if text)
    claims = f" ({row.held} of {row.n_claims} claims)" if row.n_claims else ""
    verdict = item.verdict + claims + (f": {item.because}" if item.because else "")
    where = nodes.literal("", item.where) if item.where else nodes.Text("")
    return [*map(nodes.Text, (item.item, item.says, verdict, item.theirs, ours)), where]


def _row(cells: list[nodes.Node]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("coverage", Coverage)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
