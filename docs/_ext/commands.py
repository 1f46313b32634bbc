"""A page for each command, ``reference/commands/NAME.rst``, from what the command line itself says."""

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from calepin.cli.app import app as calepin

if TYPE_CHECKING:
    from sphinx.application import Sphinx

INDEX = """\
The command line
================

``calepin COMMAND --help`` shows what these pages show. Every command reports an error in one line
(``--debug`` shows the traceback). Its exit status is 0 for success, 1 for a failure or a reproduced claim
that does not hold, 2 for an invalid argument, option or input file, and 130 after Ctrl-C or SIGTERM.

{table}

.. toctree::
   :hidden:

{entries}
"""
PAGE = """\
calepin {name}
{rule}

.. program:: calepin {name}

.. code-block:: text

   {usage}

{text}

{options}

Examples
--------

.. code-block:: console

{examples}
"""


class _Rows:
    """Takes the sections and rows of a help where a formatter of click would lay them out."""

    def __init__(self) -> None:
        self.sections: list[tuple[str, list[tuple[str, str]]]] = []

    @contextmanager
    def section(self, heading: str) -> Iterator[None]:
        self.sections.append((heading, []))
        yield

    def write_dl(self, rows: Sequence[tuple[str, str]], *arguments: Any, **settings: Any) -> None:
        self.sections[-1][1].extend(rows)


def commands() -> dict[str, Any]:
    """Return the commands by name, in the order of the help."""
    group: Any = typer.main.get_command(calepin)
    return group.commands


def page(name: str, command: Any) -> str:
    """Return the page of a command as reStructuredText."""
    context = command.context_class(command, info_name=f"calepin {name}")
    usage = " ".join([f"calepin {name}", *command.collect_usage_pieces(context)])
    return PAGE.format(
        name=name,
        rule="=" * len(f"calepin {name}"),
        usage=usage,
        text=escaped(inspect.cleandoc(command.help or "").replace("\b", "")),
        options="\n".join(_sections(command, context)),
        examples="\n".join(f"   {line}" for line in _examples(command.epilog)),
    )


def _sections(command: Any, context: Any) -> Iterator[str]:
    rows = _Rows()
    command.format_options(context, rows)
    for heading, entries in rows.sections:
        yield f"{heading}\n{'-' * len(heading)}\n"
        for term, text in entries:
            directive = "option" if heading == "Options" else "describe"
            yield f".. {directive}:: {term}\n\n   {escaped(' '.join(text.split()))}\n"


def _examples(epilog: str) -> Iterator[str]:
    for line in epilog.splitlines():
        shown = line.strip()
        if shown.startswith("calepin "):
            yield f"$ {shown}"
        elif shown.startswith("# "):
            yield shown


def escaped(text: str) -> str:
    """Return plain text such that reStructuredText takes no character of it for markup."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def write(folder: Path) -> None:
    """Write all pages, and the list of them, into a folder; files that would stay as they are, are left."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {name: page(name, command) for name, command in commands().items()}
    table = "\n".join(
        f":doc:`calepin {name} <{name}>`\n   {escaped(commands()[name].get_short_help_str(200))}"
        for name in pages
    )
    pages["index"] = INDEX.format(table=table, entries="\n".join(f"   {name}" for name in pages))
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: "Sphinx") -> dict[str, bool]:
    """Write the pages before the sources are read."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "reference" / "commands"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
