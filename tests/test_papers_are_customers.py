"""`calepin_papers` imports public names of calepin alone, as any other package would.

Public is what a package exports (``__init__.pyi``, or the ``__all__`` of its ``__init__``) and what a
top-level module lists in its ``__all__``; `calepin.core`, `calepin.cli` and kernels are nobody's to import.
"""

import ast
from pathlib import Path

import pytest

import calepin
import calepin_papers

LIBRARY = Path(calepin.__file__).parent
PAPERS = Path(calepin_papers.__file__).parent
INTERNAL = {"core", "cli", "kernels"}


def public_names(module: str) -> set[str] | None:
    """Return what a module of calepin exports; None for what is no public package or top-level module."""
    parts = module.split(".")[1:]
    path = LIBRARY.joinpath(*parts)
    if any(part.startswith("_") for part in parts) or INTERNAL & set(parts):
        return None
    if (path / "__init__.pyi").is_file():
        nodes = ast.parse((path / "__init__.pyi").read_text()).body
        return {alias.asname for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    if path.is_dir():
        return listed(path / "__init__.py")
    return listed(path.with_suffix(".py")) if len(parts) == 1 else None


def listed(path: Path) -> set[str] | None:
    """Return the names of ``__all__``, as the source has it."""
    for node in ast.parse(path.read_text()).body if path.is_file() else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return None


def of_calepin(module: str) -> bool:
    return module.split(".")[0] == "calepin"


def private_imports(source: str) -> list[tuple[int, str]]:
    """Return (line, what is wrong) for every import from calepin that is not of a public name."""
    tree, found, taken = ast.parse(source), [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if of_calepin(alias.name):
                    taken[alias.asname or "calepin"] = alias.name if alias.asname else "calepin"
                    if public_names(alias.name) is None:
                        found.append((node.lineno, f"import {alias.name}"))
        elif isinstance(node, ast.ImportFrom) and node.module and of_calepin(node.module):
            names = public_names(node.module)
            found += [
                (node.lineno, f"from {node.module} import {alias.name}")
                for alias in node.names
                if names is None or alias.name not in names or alias.name.startswith("_")
            ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in taken:
            module = taken[node.value.id]
            if node.attr not in (public_names(module) or ()) and node.attr != "__file__":
                found.append((node.lineno, f"{module}.{node.attr}"))
    return sorted(found)


def test_the_papers_import_public_names_alone():
    modules = sorted(PAPERS.rglob("*.py"))
    assert len(modules) > 30
    wrong = [
        f"{path.relative_to(PAPERS.parent)}:{line}: {what}"
        for path in modules
        for line, what in private_imports(path.read_text())
    ]
    assert not wrong, "not public:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    "source",
    [
        "from calepin.core.random import torch_generator",
        "from calepin.core import random",
        "from calepin.cli import main",
        "import calepin.cli.output",
        "import calepin.core.files as files",
        "from calepin.solvers.kernels.descent import anything",
        "from calepin.solvers.solve import solve",
        "from calepin.metrics.images import psnr",
        "from calepin.metrics import images",
        "from calepin.learning import _anything",
        "from calepin.learning.rules import Online",
        "from calepin.likelihoods import np",
        "from calepin import imaging",
        "from calepin.missing import Name",
        "from calepin.datasets import *",
        "import calepin\n\nx = calepin.core",
        "import calepin as c\n\nx = c.testing",
        "def late():\n    from calepin.operators.dense import Dense",
    ],
)
def test_an_import_that_is_not_public_is_found_with_its_line(source):
    ((line, what),) = private_imports("\n" + source)
    assert line == len(source.splitlines()) + 1
    assert "calepin" in what


@pytest.mark.parametrize(
    "source",
    [
        "from calepin.operators import Dense",  # __all__ of an eager __init__
        "from calepin.solvers import solve, LassoCoder",  # a stub
        "from calepin.likelihoods import Binomial",  # a module
        "from calepin.experiments import Claim, Experiment",
        "from calepin import DictionaryLearner",
        "import calepin\n\ncalepin.denoise(calepin.__file__)",
        "import numpy as np\nfrom calepin_papers._common import spread",
    ],
)
def test_public_names_pass(source):
    assert private_imports(source) == []
