"""A build fails if a page would load anything from the network: scripts, styles, fonts or images."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

REMOTE = r"""["']?\s*(?:https?:)?//[^"'\s)>]+"""
LOADED = re.compile(
    rf"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\b(?:src|srcset)\s*=\s*{REMOTE}"
    rf"|<link\b(?![^>]*rel=[\"']?canonical)[^>]*?\bhref\s*=\s*{REMOTE}"
    rf"|\burl\(\s*{REMOTE}"
    rf"|@import\s+{REMOTE}",
    re.IGNORECASE,
)


def loaded(text: str) -> list[str]:
    """Return what a page or a style sheet loads from the network; links that a reader follows are none."""
    return [match[0] for match in LOADED.finditer(text)]


def _check(app: "Sphinx", error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    offenders = [
        f"{path.relative_to(folder)}: {what}"
        for suffix in ("html", "css")
        for path in sorted(folder.rglob(f"*.{suffix}"))
        for what in loaded(path.read_text(errors="replace"))
    ]
    if offenders:
        from sphinx.errors import ExtensionError

        raise ExtensionError("pages load from the network:\n" + "\n".join(offenders[:20]))


def setup(app: "Sphinx") -> dict[str, bool]:
    """Check the pages at the end."""
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
