"""A small lint of numpydoc docstrings: sections, parameters, defaults, what is returned and raised."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from typing import Any

from callables import Public, signature_of

SECTIONS = (
    "Parameters",
    "Attributes",
    "Returns",
    "Yields",
    "Raises",
    "Warns",
    "See Also",
    "Notes",
    "References",
    "Examples",
)


@dataclass(frozen=True)
class Entry:
    """One item of a section: ``alpha : float, default 1`` has these names and this type."""

    names: tuple[str, ...]
    kind: str


def problems(public: Public) -> list[str]:
    """Return what is wrong with the docstring of a callable, one line each."""
    text = inspect.getdoc(public.value) if public.value.__doc__ else None
    if text is None:
        return ["has no docstring"]
    found = sections(text)
    wrong = [f"there is no section {title!r}" for title in found if title not in SECTIONS]
    known = [title for title in found if title in SECTIONS]
    if known != sorted(known, key=SECTIONS.index):
        wrong.append(f"sections: expected the order {', '.join(sorted(known, key=SECTIONS.index))}")
    wrong += _parameters(public, found)
    if inspect.isfunction(public.value):
        wrong += _results(public, text, found)
    return wrong


def sections(text: str) -> dict[str, list[Entry]]:
    """Return the entries of each section; a section is a title over dashes."""
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines[1:]) if re.fullmatch(r"-{3,}", line)]
    found = {}
    for head, end in zip(heads, [*heads, len(lines)][1:], strict=True):
        body = [line for line in lines[head + 2 : end] if line and not line[0].isspace()]
        found[lines[head]] = [_entry(line) for line in body]
    return found


def _entry(line: str) -> Entry:
    names, _, kind = line.partition(" : ")
    return Entry(tuple(name.strip("* ") for name in names.split(",")), kind)


def _parameters(public: Public, found: dict[str, list[Entry]]) -> Iterator[str]:
    """Names and order as in the signature; a default that is stated is the signature's."""
    signature = signature_of(public)
    entries = found.get("Parameters")
    if inspect.isclass(public.value):
        entries = _of_class(public.value, list(signature))
    if entries is None:
        return
    documented = [name for entry in entries for name in entry.names]
    if documented != list(signature):
        yield f"documents {', '.join(documented)}; its parameters are {', '.join(signature)}"
        return
    for entry in entries:
        stated = _stated(entry)
        if len(stated) == 1:
            stated *= len(entry.names)
        for name, text in zip(entry.names, stated, strict=False):
            if not _same(text, signature[name].default):
                yield f"{name}: the docstring says default {text}, the signature {signature[name].default!r}"


def _of_class(owner: type, names: list[str]) -> list[Entry] | None:
    """Return the entries about a class's parameters.

    The fields of a dataclass may stand under Attributes, where properties follow; a class that says only what
    it adds to its base has the base's entries before its own.
    """
    text = owner.__doc__ and inspect.cleandoc(owner.__doc__)
    found = sections(text or "")
    entries = found.get("Parameters")
    if entries is None and is_dataclass(owner) and "Attributes" in found:
        entries = [entry for entry in found["Attributes"] if set(entry.names) & set(names)]
    if entries is None:
        return None
    own = {name for entry in entries for name in entry.names}
    for base in owner.__mro__[1:]:
        if own != set(names) and (
            inherited := sections(inspect.cleandoc(base.__doc__ or "")).get("Parameters")
        ):
            return [entry for entry in inherited if not set(entry.names) & own] + entries
    return entries


def _stated(entry: Entry) -> list[str]:
    """Return the defaults that a type states: ``int, default 2`` or, for several names, ``default 2, 8``."""
    match = re.search(r"\bdefault[ =:]+(.+)$", entry.kind)
    if match is None:
        return []
    text = match[1]
    return text.split(", ") if len(entry.names) > 1 and "(" not in text else [text]


def _same(text: str, value: Any) -> bool:
    """Return whether a text states a value: a literal, infinity, or how the value prints."""
    if value is inspect.Parameter.empty:
        return False
    with suppress(SyntaxError, ValueError):
        return ast.literal_eval(text) == value
    with suppress(ValueError):
        return float(text) == value
    return text in (str(value), repr(value))


def _results(public: Public, text: str, found: dict[str, list[Entry]]) -> Iterator[str]:
    """A docstring with Parameters is a full one: it also says what comes back and what is raised.

    "Return the ..." in the first line is enough for one result.
    """
    if "Parameters" not in found:
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(public.value)))
    (function,) = tree.body
    assert isinstance(function, ast.FunctionDef)
    body = [node for statement in function.body for node in _own(statement)]
    returns = any(isinstance(node, ast.Return) and not _is_none(node.value) for node in body)
    is_self = function.returns is not None and ast.unparse(function.returns) == "Self"
    if returns and not is_self and "Returns" not in found and not text.startswith("Return"):
        yield "returns something: begin with `Return ...` or add a section Returns"
    yields = any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in body)
    if yields and "Yields" not in found and not text.startswith("Yield"):
        yield "yields something: begin with `Yield ...` or add a section Yields"
    raised = {name for node in body if isinstance(node, ast.Raise) and (name := _raised(node))}
    named = {name.split(".")[-1] for entry in found.get("Raises", []) for name in entry.names}
    if missing := raised - named - {"NotImplementedError", "AssertionError"}:
        yield f"raises {', '.join(sorted(missing))}: add it to a section Raises"


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and those below it, but not those of functions in it."""
    yield node
    if not isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
        for child in ast.iter_child_nodes(node):
            yield from _own(child)


def _raised(node: ast.Raise) -> str | None:
    call = node.exc
    if isinstance(call, ast.Call):
        call = call.func
    return call.id if isinstance(call, ast.Name) and call.id[0].isupper() else None


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)
