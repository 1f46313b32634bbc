"""Public names: the members that a page of a class shows, and references by any name that users may write."""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer


def members_of(dotted: str) -> list[str]:
    """Return the public methods and properties of a class that calepin itself defines, in their order.

    What it inherits from torch, scikit-learn or typing is left out.
    """
    return list(dict.fromkeys(_members(_value(dotted))))


def _members(owner: type) -> Iterator[str]:
    for base in owner.__mro__:
        if base.__module__.split(".")[0] != "calepin":
            continue
        for name, member in vars(base).items():
            function = getattr(member, "__func__", getattr(member, "fget", member))
            ours = getattr(function, "__module__", "").split(".")[0] == "calepin"
            if not name.startswith("_") and inspect.isfunction(function) and ours and function.__doc__:
                yield name


def _value(dotted: str) -> Any:
    module, name = dotted.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def _documented(env: BuildEnvironment) -> dict[int, str]:
    """Return the documented objects of calepin: the identity of each, and its name."""
    found = {}
    for name, entry in env.domains.python_domain.objects.items():
        if not entry.aliased and entry.objtype in {"class", "exception", "function"}:
            try:
                found[id(_value(name))] = name
            except (AttributeError, ValueError, ImportError):
                continue
    return found


def _resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Return what a reference leads to that Sphinx does not find by itself.

    A second name of an object, such as ``calepin.imaging.denoise``, leads to the page of its first. Names in
    single backticks of docstrings may also be parameters, attributes, and modules that are not public: they
    are shown as code.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    written = target.split(".")[0]
    elsewhere = (name for name in _documented(env).values() if name.endswith(f".{written}"))
    near = (target, f"{node.get('py:module')}.{target}")
    for dotted in (*near, *(f"{name}{target.removeprefix(written)}" for name in elsewhere)):
        if name := _first_name(env, dotted):
            domain = env.domains.python_domain
            found = domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, content)
            return found or content  # content: an attribute, which has no entry of its own
    parameter = written != "calepin" and (written[0].islower() or target == written)
    if node["reftype"] == "obj" and (parameter or _is_module(target)):
        return content
    return None


def _first_name(env: BuildEnvironment, dotted: str) -> str | None:
    """Return the name under which an object of calepin, or a member of it, is documented."""
    parts = dotted.split(".")
    if parts[0] != "calepin":
        return None
    documented = _documented(env)
    for length in range(len(parts), 1, -1):
        try:
            value = _value(".".join(parts[:length]))
        except (AttributeError, ImportError, ValueError):
            continue
        rest = parts[length:]
        if id(value) in documented and (not rest or _has(value, rest[0])):
            return ".".join([documented[id(value)], *rest])
    return None


def _has(owner: Any, name: str) -> bool:
    """Return whether a class has a member, or an attribute that only its instances have."""
    fields = (name in getattr(base, "__annotations__", {}) for base in getattr(owner, "__mro__", ()))
    return hasattr(owner, name) or any(fields) or f"\n    {name} : " in f"\n{owner.__doc__}"


def _is_module(dotted: str) -> bool:
    try:
        importlib.import_module(dotted)
    except ImportError:
        return False
    return True


def _as_restructured(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Make docstrings, which are written to be read in a terminal, reStructuredText.

    An indented formula between the first paragraphs becomes a literal block, and the stars of shapes such as
    (n, *kernel) no emphasis.
    """
    if what == "data":  # autodoc finds no documentation where a name is imported, or takes that of the type
        lines[:] = _comment(name)
    found: list[str] = []
    code = False
    described = True  # until the first section of numpydoc
    for line, below in zip(lines, [*lines[1:], ""], strict=False):
        described = described and not re.fullmatch(r"-{3,}", below.strip())
        if described and line.startswith("    ") and not code and not any(found[-1:]):
            above = next((text for text in reversed(found) if text), "")
            found += [] if above.endswith("::") or above.startswith((" ", "-", "*", "..")) else ["::", ""]
            code = True
        code = code and (line.startswith("    ") or not line)
        parts = [line] if code else line.split("``")
        if not code:
            parts[::2] = [re.sub(r"(?<=[(, ])\*(?=[a-z_][\w.]*[,)])", r"\\*", part) for part in parts[::2]]
        found.append("``".join(parts))
    lines[:] = found


def _comment(dotted: str) -> list[str]:
    """Return the documentation that stands below the definition of a constant, in a file of its room."""
    room, name = dotted.rsplit(".", 1)
    for module in sorted(known for known in sys.modules if f"{known}.".startswith(f"{room}.")):
        comments = ModuleAnalyzer.for_module(module).find_attr_docs()
        if ("", name) in comments:
            return comments["", name]
    return []


def setup(app: Sphinx) -> dict[str, bool]:
    """Resolve references to second names, and prepare docstrings."""
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-process-docstring", _as_restructured, priority=100)  # before numpydoc
    return {"parallel_read_safe": True, "parallel_write_safe": True}
