"""What the site promises: each public name, command and kind of file has its place, nothing is fetched."""

import importlib
import re
import sys

import pytest
import source
from callables import commands
from public_names import public_names

DOCS = source.ROOT / "docs"
sys.path.append(str(DOCS / "_ext"))

from commands import page  # noqa: E402  of docs/_ext
from offline import loaded  # noqa: E402  of docs/_ext


def value_of(dotted: str) -> object:
    module, name = dotted.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def listed() -> list[str]:
    """Return the names in the lists of docs/reference/api, each with its module."""
    found = []
    for path in sorted((DOCS / "reference" / "api").glob("calepin*.rst")):
        text = path.read_text()
        (module,) = re.findall(r"^\.\. module:: (\S+)$", text, re.MULTILINE)
        for block in re.findall(r"^\.\. autosummary::\n((?:   .*\n|\n)*)", text, re.MULTILINE):
            found += [f"{module}.{name}" for name in re.findall(r"^   (\w+)$", block, re.MULTILINE)]
    return found


def test_every_public_name_has_a_page():
    """A second name of an object, such as calepin.imaging.denoise, shares the page of the first."""
    pages = listed()
    values = [value_of(name) for name in pages]
    missing = [
        name
        for name in public_names()
        if name not in pages and not any(value_of(name) is value for value in values)
    ]
    assert not missing, "\n".join(["", *(f"{name}: list it in docs/reference/api" for name in missing)])


def test_the_reference_lists_public_names_once():
    pages = listed()
    assert len(pages) > 200
    assert not [name for name in pages if name not in public_names()]
    assert not [name for name in pages if pages.count(name) > 1]


def test_every_room_is_in_the_contents():
    contents = (DOCS / "reference" / "api" / "index.rst").read_text()
    rooms = {name.rsplit(".", 1)[0] for name in public_names()}
    assert not [room for room in rooms if f"\n   {room}\n" not in contents]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_the_page_of_a_command_has_all_options_and_examples(command):
    text = page(command.name, command.click)
    for parameter in command.parameters:
        for option in parameter.opts if parameter.param_type_name == "option" else [parameter.metavar]:
            assert option in text
    examples = [line.strip() for line in command.click.epilog.splitlines() if "calepin " in line]
    assert examples
    assert not [line for line in examples if line not in text]


def test_every_kind_of_file_is_described_with_its_version():
    text = (DOCS / "reference" / "files.md").read_text()
    constants = {
        (module.name, target.id): node.value.value
        for module in source.modules().values()
        for node in module.tree.body
        if isinstance(node, source.ast.Assign) and isinstance(node.value, source.ast.Constant)
        for target in node.targets
        if isinstance(target, source.ast.Name)
    }
    kinds = {value for (_, name), value in constants.items() if name in {"KIND", "CHECKPOINT", "_CHECKPOINT"}}
    assert len(kinds) > 5
    assert not [kind for kind in kinds if f"| `{kind}` |" not in text]
    version = constants["calepin.core.files", "FORMAT_VERSION"]
    assert f"Models and checkpoints: format version {version}\n" in text
    assert f"`.clp`: format version {constants['calepin.compression.clp', 'VERSION']}\n" in text


@pytest.mark.parametrize(
    "text",
    [
        '<script async src="https://cdn.example.org/mathjax.js"></script>',
        "<link rel='stylesheet' href='//fonts.example.org/css?family=X'>",
        '<img alt="" src="http://example.org/badge.svg">',
        '@import "https://fonts.example.org/x.css";',
        "src: url(https://fonts.example.org/x.woff2)",
    ],
)
def test_what_is_loaded_from_the_network_is_found(text):
    """`make docs` looks for it in every page it writes."""
    assert loaded(text)


def test_links_and_own_files_are_allowed():
    text = '<a href="https://arxiv.org/abs/1907.03211">paper</a> <script src="_static/x.js"></script>'
    assert not loaded(text)


def test_the_configuration_of_the_site_fetches_nothing():
    text = (DOCS / "conf.py").read_text()
    assert '"offline",' in text
    assert "intersphinx" not in text
    assert not re.search(r"https?://", text)
    assert 'html_math_renderer = "mathml"' in text
    for style in (DOCS / "_static").glob("*.css"):
        assert not loaded(style.read_text())
