"""The directive ``experiments``: a table of the experiments of calepin whose names match patterns."""

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from calepin.experiments import find, installed


class Experiments(SphinxDirective):
    """What each experiment shows and its source, from the experiments themselves."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 25 50 25", ""]
        for row in [
            ("Experiment", "What it shows", "Where in the paper"),
            *((f"``{e.name}``", e.shows, e.source) for e in find(self.arguments[0].split(), installed())),
        ]:
            lines += [f"   {'* ' if cell is row[0] else '  '}- {cell}" for cell in row]
        holder = nodes.container()
        self.state.nested_parse(StringList(lines, source=__file__), self.content_offset, holder)
        return holder.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("experiments", Experiments)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
