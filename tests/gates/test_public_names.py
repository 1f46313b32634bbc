"""What users can import: the list of public names, each with a docstring, none hidden by a module."""

import ast
import importlib
import inspect

import source
from public_names import LIST, public_names

RENEW = "if that is wanted, say so in CHANGELOG.md and renew the list: python tests/gates/public_names.py"


def test_the_list_of_public_names_is_up_to_date():
    listed, found = set(LIST.read_text().split()), set(public_names())
    assert listed == found, f"gone: {sorted(listed - found)}; new: {sorted(found - listed)}; {RENEW}"


def test_every_public_name_can_be_imported():
    offenders = []
    for module in public_modules():
        loaded = importlib.import_module(module.name)
        names = source.exports(module)
        if set(loaded.__all__) != set(names):
            differ = sorted(set(loaded.__all__) ^ set(names))
            offenders.append(f"{module.place(1)}: __all__ and what is there differ: {differ}")
        for name in names:
            value = getattr(loaded, name, None)
            if value is None or (inspect.ismodule(value) and name != "__version__"):
                offenders.append(f"{module.place(1)}: {name} is {value!r}")
    assert not offenders, "\n".join(["", *offenders])


def test_every_public_name_has_a_docstring():
    """A constant or an alias of types is explained by a string on the next line of its file."""
    offenders = set()
    for module in public_modules():
        for name, origin in source.exports(module).items():
            where = source.modules()[origin]
            if name != "__version__" and not documented(where, name):
                line = source.defined(where.tree).get(name, 1)
                offenders.add(f"{where.place(line)}: {name} is public and has no docstring")
    assert not offenders, "\n".join(["", *sorted(offenders)])


def test_no_lazy_name_is_hidden_by_a_module():
    """After ``import package.solve``, a lazy ``package.solve`` would be the module and not the function."""
    offenders = []
    for module in public_modules():
        if not module.is_package:
            continue
        eager = {
            alias.name
            for node in module.tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        offenders += [
            f"{module.place(1)}: {name} is a function and a module: rename the module, "
            "or import the function in __init__.py"
            for name in set(source.exports(module)) - eager
            if f"{module.name}.{name}" in source.modules()
        ]
    assert not offenders, "\n".join(["", *offenders])


def test_core_exports_nothing_and_the_command_line_its_entry_alone():
    assert not source.exports(source.modules()["calepin.core"])
    assert set(source.exports(source.modules()["calepin.cli"])) == {"main"}


def public_modules() -> list[source.Module]:
    return [module for module in source.modules().values() if source.is_public(module.name)]


def documented(module: source.Module, name: str) -> bool:
    """Return whether a definition of a name has a docstring: one of several for an overloaded function."""
    for node, after in zip(module.tree.body, [*module.tree.body[1:], None], strict=True):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            if ast.get_docstring(node) is not None:
                return True
        elif name in source.defined(ast.Module([node], [])):
            return isinstance(after, ast.Expr) and isinstance(getattr(after.value, "value", None), str)
    return False
