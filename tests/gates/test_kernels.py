"""A kernel that another kernel calls is inlined: else which machine code runs depends on what ran before."""

import ast
import importlib
from collections.abc import Iterator

import source


def kernels() -> Iterator[tuple[source.Module, ast.FunctionDef]]:
    for module in source.modules().values():
        for node in module.tree.body:
            if isinstance(node, ast.FunctionDef) and any(
                "njit" in ast.unparse(d) for d in node.decorator_list
            ):
                yield module, node


def test_kernels_called_by_kernels_are_inlined():
    found = list(kernels())
    names = {node.name for _, node in found}
    called = {
        part.id
        for _, node in found
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and part.id in names and part.id != node.name
    }
    assert {"_trace", "refit", "dot"} <= called, "the calls are not found any more"
    wrong = []
    for module, node in found:
        options = getattr(importlib.import_module(module.name), node.name).targetoptions
        if node.name in called and not options.get("forceinline"):
            wrong.append(f"{module.place(node.lineno)}: {node.name}: decorate it by njit(**INLINED) or LEAF")
    assert not wrong, "\n".join(["", *wrong])
