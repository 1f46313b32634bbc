"""Formulas as MathML, which browsers show by themselves, by the converter that docutils has."""

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError


def _converted(node: nodes.Element, *, block: bool) -> str:
    formula = node.astext()
    try:
        return tex2mathml(formula, as_block=block)
    except Exception as error:  # the converter's own MathError, and whatever a slip in a formula leads to
        raise ExtensionError(f"{node.source}:{node.line}: {formula!r} is no formula: {error}") from error


def _inline(writer: Any, node: nodes.Element) -> None:
    writer.body.append(_converted(node, block=False))
    raise nodes.SkipNode


def _display(writer: Any, node: nodes.Element) -> None:
    writer.body.append(f'<div class="math-display">{_converted(node, block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
