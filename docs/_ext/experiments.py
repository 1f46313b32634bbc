"""The directive ``experiments``: a table of the experiments of calepin whose names match patterns."""

from collections.abc import Sequence

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from calepin.experiments import find, installed

WIDTHS = (25, 50, 25)


class Experiments(SphinxDirective):
    """What each experiment shows and its source, from the experiments themselves."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        group = nodes.tgroup(cols=len(WIDTHS))
        group += [nodes.colspec(colwidth=width) for width in WIDTHS]
        group += nodes.thead("", _row([nodes.Text(t) for t in ("experiment", "what it shows", "source")]))
        group += nodes.tbody(
            "",
            *(
                _row([nodes.literal("", e.name), nodes.Text(e.shows), nodes.Text(e.source)])
                for e in find(self.arguments[0].split(), installed())
            ),
        )
        return [nodes.table("", group)]


def _row(cells: Sequence[nodes.Node]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("experiments", Experiments)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
