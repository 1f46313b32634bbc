"""Read the sources without importing them: modules, imports, what a file defines, what a package exports."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"


@dataclass(frozen=True)
class Module:
    """A source file: ``calepin.operators.dense`` or, for a package, ``calepin.operators``."""

    name: str
    path: Path

    @property
    def is_package(self) -> bool:
        return self.path.stem == "__init__"

    @property
    def tree(self) -> ast.Module:
        return parsed(self.path)

    def place(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}"


@dataclass(frozen=True)
class Import:
    """One imported module: where, whether at the top of the file, and the name taken from it if any.

    In ``from calepin.operators import dense`` the target is the file, ``calepin.operators.dense``, and there
    is no name; `written` keeps both as they stand there.
    """

    module: Module
    line: int
    target: str
    name: str | None
    written: tuple[str, str | None]
    at_top: bool

    @property
    def place(self) -> str:
        return self.module.place(self.line)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def modules(package: str = "calepin") -> dict[str, Module]:
    """Return the modules of a package under ``src`` by name."""
    found = {}
    for path in sorted((SRC / package).rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path)
    return found


@cache
def every_module() -> dict[str, Module]:
    return modules("calepin") | modules("calepin_papers")


@cache
def imports(module: Module) -> tuple[Import, ...]:
    """Return all imports of a module, also those in functions, under TYPE_CHECKING and in its stub."""
    stub = module.path.with_suffix(".pyi")
    trees = [module.tree, *([parsed(stub)] if stub.exists() else [])]
    return tuple(entry for tree in trees for entry in _imports(module, tree))


def _imports(module: Module, tree: ast.Module) -> Iterator[Import]:
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                written = (alias.name, None)
                yield Import(module, node.lineno, alias.name, None, written, id(node) not in inside)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(module, node)
            for alias in node.names:
                child = f"{origin}.{alias.name}"
                target, name = (child, None) if child in every_module() else (origin, alias.name)
                written = (origin, alias.name)
                yield Import(module, node.lineno, target, name, written, id(node) not in inside)


def _origin(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def defined(tree: ast.Module) -> dict[str, int]:
    """Return the names that a file itself defines, and their lines; what it imports is not among them."""
    found: dict[str, int] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node.lineno
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        found[name.id] = node.lineno
    return found


def exports(package: Module) -> dict[str, str]:
    """Return the names that a package or module exports, and the module that defines each."""
    if not package.is_package:
        return dict.fromkeys(listed_names(package), package.name)
    found = {name: package.name for name in defined(package.tree) if not name.startswith("_")}
    for entry in imports(package):
        origin, name = entry.written
        if entry.at_top and name and origin.startswith(package.name + "."):
            found[name] = origin
    return found


def listed_names(module: Module) -> list[str]:
    """Return the names of a module's ``__all__``, or those it defines without an underscore."""
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return [name for name in defined(module.tree) if not name.startswith("_")]


def is_public(module: str) -> bool:
    """Return whether users import from a module: calepin and its rooms, but not core and the command line."""
    parts = module.split(".")
    return len(parts) <= 2 and parts[-1] not in {"core", "cli", "__main__"}
