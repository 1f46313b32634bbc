"""Options that were given or not: their defaults, and their refusal where they would do nothing.

An option is None, a flag False, unless it was given. What was given goes on to the function that the
command calls; everything else keeps that function's own default, which is written in its signature and
nowhere else. `Default` names that place, so that ``calepin COMMAND --help`` can show it.
"""

import copy
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand

__all__ = ["SEED", "Command", "Default", "Seed", "defaults", "given", "refuse"]

SEED = 0  # a command draws the same numbers each time it runs, whatever its function does by default

Seed = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="All randomness follows from it.")]


@dataclass(frozen=True)
class Default:
    """Where the default of an option is written: at a parameter of a function or class.

    It stands beside `typer.Option` in the annotation of the option:

        max_iter: Annotated[int | None, typer.Option(help="..."), Default("calepin.a:Learner", "max_iter")]

    Attributes
    ----------
    function
        "module:name"; the module is imported when the default is asked for.
    parameter
        Its name in the signature.
    """

    function: str
    parameter: str

    def value(self) -> Any:
        """Return the default."""
        module, name = self.function.split(":")
        function = getattr(importlib.import_module(module), name)
        return inspect.signature(function).parameters[self.parameter].default


def defaults(command: Callable[..., Any]) -> dict[str, Default]:
    """Return where the defaults of a command's options are written, by the option's name in the code."""
    hints = get_type_hints(inspect.unwrap(command), include_extras=True)
    found = {name: [a for a in get_args(hint) if isinstance(a, Default)] for name, hint in hints.items()}
    return {name: places[0] for name, places in found.items() if places}


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given, as arguments of the function that they feed."""
    return {
        name: value.value if isinstance(value, Enum) else value
        for name, value in options.items()
        if _was_given(value)
    }


def refuse(options: Mapping[str, Any], why: str) -> None:
    """Refuse an option that was given though it would do nothing.

    Parameters
    ----------
    options
        Values by the option's name on the command line: ``{"--alpha": alpha}``.
    why
        What the options go with, as the end of the message: "has no effect with --coder omp".

    Raises
    ------
    typer.BadParameter
        Exit status 2, naming the first option that was given.
    """
    for name, value in options.items():
        if _was_given(value):
            raise typer.BadParameter(why, param_hint=name)


def _was_given(value: Any) -> bool:
    return value is not None and value is not False


class Command(TyperCommand):
    """A command whose help shows the defaults that are written in signatures."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options; what computes is imported for their defaults."""
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
