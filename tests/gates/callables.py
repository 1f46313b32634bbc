"""All public functions, classes and methods, and all commands, as the gates look at them."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import source
from public_names import public_names


@dataclass(frozen=True)
class Public:
    """A public function, class or method; `owner` is the class of a method."""

    name: str
    value: Any
    owner: type | None = None

    @property
    def place(self) -> str:
        """File and line of its definition."""
        code = inspect.unwrap(self.value)
        path = Path(inspect.getsourcefile(code) or "?")
        return f"{path.relative_to(source.ROOT)}:{inspect.getsourcelines(code)[1]}"


@dataclass(frozen=True)
class Command:
    """A command of the command line."""

    name: str
    click: Any

    @property
    def function(self) -> Callable[..., Any]:
        """The function that typer calls."""
        return self.click.callback

    @property
    def parameters(self) -> Sequence[Any]:
        """Its options and arguments."""
        return self.click.params

    def parse(self, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str], list[Any]]:
        """Return the values as they were written, and what is left; raise for an option that is not there."""
        context = self.click.context_class(self.click, info_name=self.name)
        return self.click.make_parser(context).parse_args(list(arguments))


@cache
def public_callables() -> tuple[Public, ...]:
    """Return each public callable of calepin once, under its shortest name, methods after their class."""
    found: dict[int, Public] = {}
    for dotted in sorted(public_names(), key=lambda name: (name.count("."), name)):
        module, name = dotted.rsplit(".", 1)
        value = getattr(importlib.import_module(module), name)
        if not (inspect.isclass(value) or inspect.isfunction(value)) or id(value) in found:
            continue
        found[id(value)] = Public(dotted, value)
        if inspect.isclass(value):
            for method in methods(value):
                found.setdefault(id(method), Public(f"{dotted}.{method.__name__}", method, value))
    return tuple(found.values())


def methods(owner: type) -> Iterator[Callable[..., Any]]:
    """Yield the public methods that calepin defines for a class, also those of its bases."""
    seen: set[str] = set()
    for base in owner.__mro__:
        if base.__module__.split(".")[0] != "calepin":
            continue
        for name, value in vars(base).items():
            function = getattr(value, "__func__", value)
            if inspect.isfunction(function) and not name.startswith("_") and name not in seen:
                seen.add(name)
                if function.__module__.split(".")[0] == "calepin" and function.__name__ == name:
                    yield function


def signature_of(public: Public) -> dict[str, inspect.Parameter]:
    """Return the parameters of a callable by name, without self and cls; none for a protocol or an error."""
    value = public.value
    if inspect.isclass(value) and (issubclass(value, BaseException) or getattr(value, "_is_protocol", False)):
        return {}
    parameters = dict(inspect.signature(value).parameters)
    if public.owner is not None:
        kind = inspect.getattr_static(public.owner, value.__name__, None)
        if not isinstance(kind, staticmethod):
            parameters.pop(next(iter(parameters), ""), None)
    return parameters


@cache
def commands() -> tuple[Command, ...]:
    """Return the commands of ``calepin``."""
    import typer

    from calepin.cli.app import app

    group: Any = typer.main.get_command(app)
    return tuple(Command(name, command) for name, command in sorted(group.commands.items()))
