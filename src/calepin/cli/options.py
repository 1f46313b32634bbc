"""Defaults of options, checks of the files they name, and errors for options without effect.

An option that is not given is None, a flag False. Options that are given are passed to the function that the
command calls; all others keep the default in the signature of that function, which is the only place where it
is written. `Default` names this place, so that ``calepin COMMAND --help`` can show it.

An option that names a file to write is marked by `Writes`. Before a command runs, `Command` checks that these
files can be written, that none of them is also read, and that no file of another kind is replaced without
--force.
"""

import copy
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import inf
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer
from typer.core import TyperCommand

from calepin.cli.record import record
from calepin.core.paths import ARRAY_FILES, IMAGE_FILES, check_output, check_replaced, check_separate
from calepin.core.temporaries import remove_stale

__all__ = [
    "ARRAY_FILES",
    "FIGURE_FILES",
    "IMAGE_FILES",
    "SEED",
    "Command",
    "Default",
    "Force",
    "Seed",
    "Writes",
    "defaults",
    "given",
    "is_folder",
    "parse_range",
    "refuse",
    "written_by",
]

T = TypeVar("T")

SEED = 0  # by default a command draws the same numbers in each run, even if its function does not

Seed = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of all randomness.")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files of another kind.")]

OF_OUTPUT = {"quiet", "as_json", "debug", "force"}  # no settings of the computation

FIGURE_FILES = (*IMAGE_FILES, ".pdf", ".svg")


@dataclass(frozen=True)
class Default:
    """The place of the default of an option: a parameter of a function or class.

    It follows `typer.Option` in the annotation of the option:

        max_iter: Annotated[int | None, typer.Option(help="..."), Default("calepin.a:Learner", "max_iter")]

    Attributes
    ----------
    function
        "module:name"; the module is imported when the default is needed.
    parameter
        Name of the parameter in the signature.
    """

    function: str
    parameter: str

    def value(self) -> Any:
        """Return the default."""
        module, name = self.function.split(":")
        function = getattr(importlib.import_module(module), name)
        return inspect.signature(function).parameters[self.parameter].default


class Writes:
    """The suffixes of a file that a command writes; it stands in the annotation of the option, as `Default`.

    Parameters
    ----------
    *suffixes
        The suffixes that the name of the file may have.
    checkpoint
        Whether it is a checkpoint, which `calepin.core.checkpoint` checks: it replaces checkpoints only.
    check
        Called before the command runs; raises an error if the file could not be written after it.
    folders
        Whether the option may name a folder for many files, which the command checks itself.
    """

    def __init__(
        self,
        *suffixes: str,
        checkpoint: bool = False,
        check: Callable[[], None] = lambda: None,
        folders: bool = False,
    ) -> None:
        self.suffixes, self.checkpoint, self.check, self.folders = suffixes, checkpoint, check, folders


def defaults(command: Callable[..., Any]) -> dict[str, Default]:
    """Return the places of the defaults of a command's options, by the name of the parameter."""
    return _marked(command, Default)


def written_by(command: Callable[..., Any]) -> dict[str, Writes]:
    """Return the files that a command writes, by the name of the parameter."""
    return _marked(command, Writes)


def _marked(command: Callable[..., Any], mark: type[T]) -> dict[str, T]:
    hints = get_type_hints(inspect.unwrap(command), include_extras=True)
    found = {name: [a for a in get_args(hint) if isinstance(a, mark)] for name, hint in hints.items()}
    return {name: marks[0] for name, marks in found.items() if marks}


def given(**options: Any) -> dict[str, Any]:
    """Return the given options, as arguments of the called function."""
    return {
        name: value.value if isinstance(value, Enum) else value
        for name, value in options.items()
        if _was_given(value)
    }


def refuse(options: Mapping[str, Any], why: str) -> None:
    """Raise an error for a given option that has no effect.

    Parameters
    ----------
    options
        Values by the names of the options on the command line: ``{"--alpha": alpha}``.
    why
        Reason, as the end of the message: "has no effect with --coder omp".

    Raises
    ------
    typer.BadParameter
        Exit status 2; the message names the first given option.
    """
    for name, value in options.items():
        if _was_given(value):
            raise typer.BadParameter(why, param_hint=name)


def is_folder(path: Path) -> bool:
    """Return whether a path names a folder for files: one that exists, or a name without a suffix."""
    return path.suffix != ".zarr" and (path.is_dir() or not path.suffix)


def parse_range(text: str | None) -> tuple[float, float] | str:
    """Return the value of an option --range: LO:HI, 'data', or "auto" if it is not given."""
    if text is None or text == "data":
        return text or "auto"
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low = high = 0.0
    if not low < high or low == -inf or high == inf:
        raise typer.BadParameter(
            f"expected LO:HI with LO < HI, or 'data', got {text!r}", param_hint="--range"
        )
    return low, high


def _was_given(value: Any) -> bool:
    return value is not None and value is not False


class Command(TyperCommand):
    """A command that checks the files it will write, and whose help shows the defaults in signatures."""

    def invoke(self, ctx: Any) -> Any:
        """Check the files and run the command."""
        self._check_files(ctx.params)
        self._record(ctx.params)
        return super().invoke(ctx)

    def _check_files(self, values: Mapping[str, Any]) -> None:
        assert self.callback is not None
        marks = written_by(self.callback)
        written: dict[str, Path] = {}
        read: list[tuple[str, Path]] = []
        for option in self.params:
            value, mark = values.get(option.name or ""), marks.get(option.name or "")
            shown = option.metavar if option.param_type_name == "argument" else max(option.opts, key=len)
            if mark is None:
                # any text may name a file: --init takes a word or a file
                files = value if isinstance(value, list | tuple) else [value]
                read += [(str(shown), Path(file)) for file in files if isinstance(file, str | Path)]
            elif value is not None and not (mark.folders and is_folder(value)):
                mark.check()
                check_output(value, *mark.suffixes)
                if not (mark.checkpoint or values["force"]):
                    check_replaced(value)
                written[str(shown)] = Path(value)
        check_separate(written, read)
        for path in written.values():
            remove_stale(path)  # of killed commands

    def _record(self, values: Mapping[str, Any]) -> None:
        """Remember the settings, with the defaults of options that are not given, for a report."""
        assert self.callback is not None
        if values.get("report") is None:
            return  # the modules of the defaults need not be imported
        places = defaults(self.callback)
        running, settings, on_line = record(), {}, set()
        for option in self.params:
            name, value = option.name or "", values.get(option.name or "")
            shown = option.metavar if option.param_type_name == "argument" else max(option.opts, key=len)
            if _was_given(value) and value != option.default:
                on_line.add(str(shown))
            if not _was_given(value) and name in places:
                value = places[name].value()
            if value is not None and name not in OF_OUTPUT:
                settings[str(shown)] = value.value if isinstance(value, Enum) else value
        running.settings, running.given = settings, frozenset(on_line)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options; the modules of their defaults are imported."""
        assert self.callback is not None
        places = defaults(self.callback)
        shown = copy.copy(self)
        shown.params = [_with_default(option, places.get(option.name or "")) for option in self.params]
        super(Command, shown).format_options(ctx, formatter)


def _with_default(option: Any, place: Default | None) -> Any:
    value = None if place is None else place.value()
    if not _was_given(value):
        return option
    shown = copy.copy(option)
    shown.default, shown.show_default = value, True
    return shown
