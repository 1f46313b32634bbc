"""The scripts of the gallery and the tutorials: what all of them have, and that a few quick ones run."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*/plot_*.py"))
TUTORIALS = sorted((ROOT / "tutorials").glob("**/plot_*.py"))
SCRIPTS = EXAMPLES + TUTORIALS

# Scripts of about a second, which run with the suite. `make docs` runs all.
QUICK = ("dictionaries/plot_parts_of_faces.py", "dictionaries/plot_stream.py", "images/plot_textures.py")
RUN = "import runpy, sys; [runpy.run_path(path, run_name='__main__') for path in sys.argv[1:]]"

PUBLIC = set((ROOT / "tests" / "gates" / "public_names.txt").read_text().split())
PACKAGES = {name.rpartition(".")[0] for name in PUBLIC}

# Modules that reach the network, and names of functions that download.
NETWORK = {"urllib", "requests", "http", "socket", "ftplib", "pooch"}
DOWNLOADS = re.compile(r"fetch_\w+|download\w*|urlretrieve|urlopen|retrieve")  # in scikit-learn and elsewhere


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def everything(test):
    return pytest.mark.parametrize("path", SCRIPTS, ids=named)(test)


def test_there_are_scripts_and_each_section_has_a_header():
    assert len(EXAMPLES) >= 14
    for folder in {path.parent for path in EXAMPLES} | {ROOT / "examples"}:
        assert (folder / "GALLERY_HEADER.rst").is_file(), f"{folder}: expected a GALLERY_HEADER.rst"
    misplaced = [path for path in (ROOT / "examples").rglob("*.py") if path not in EXAMPLES]
    assert not misplaced, "expected examples/<section>/plot_<topic>.py"


@everything
def test_a_script_compiles_and_begins_with_a_title_and_text(path):
    lines = (ast.get_docstring(ast.parse(path.read_text(), str(path))) or "").splitlines()
    assert len(lines) > 3, f"{path}: expected a docstring with a title and a question"
    assert re.fullmatch(r"=+", lines[1]), f"{path}: expected the title underlined by ="
    assert len(lines[1]) >= len(lines[0]), f"{path}: the line under the title is too short"


@pytest.mark.parametrize("path", EXAMPLES, ids=named)
def test_an_example_ends_with_what_was_learned(path):
    cells = re.split(r"^# %%", path.read_text(), flags=re.MULTILINE)
    heads = [i for i, cell in enumerate(cells) if re.match(r"\n# What was learned\n# -{16}\n", cell)]
    assert len(heads) == 1, f"{path}: expected a cell `# What was learned`, underlined by -"
    after = "".join(cells[heads[0] :]).replace("What was learned", "")
    sentences = [line for line in after.splitlines() if re.match(r"# (- )?\w", line)]
    assert len(sentences) >= 2, f"{path}: expected what was learned in sentences"
    assert not any(re.match(r"\n# .*\n# -+\n", cell) for cell in cells[heads[0] + 1 :]), (
        f"{path}: expected `What was learned` to be the last section"
    )


@everything
def test_a_script_uses_public_names_alone(path):
    offenders = [
        f"{path}:{line}: {name} is not a public name"
        for line, name in names_of_calepin(ast.parse(path.read_text()))
        if not is_public(name)
    ]
    assert not offenders, "\n".join(["", *offenders])


@everything
def test_a_figure_is_finished_in_the_cell_that_makes_it(path):
    """The gallery takes its figures at the end of each cell, and closes them."""
    late = names_of_closed_figures(path.read_text())
    assert not late, f"{path}: {sorted(late)}: the figure was made, and shown, in an earlier cell"


def test_a_figure_that_a_later_cell_draws_into_is_found():
    made = "fig, (a, b) = plt.subplots(1, 2)\na.plot(x)\n"
    assert names_of_closed_figures(f"{made}# %%\nb.plot(y)\n") == {"b"}
    assert names_of_closed_figures(f"{made}# %%\n{made}b.plot(y)\n# %%\nprint(x)\n") == set()


def names_of_closed_figures(text: str) -> set[str]:
    """Return the names of figures and axes that are used in a later cell than the one that makes them."""
    closed, late = set(), set()
    for cell in re.split(r"^# %%.*$", text, flags=re.MULTILINE):
        tree = ast.parse(cell)
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        late |= {node.id for node in names} & (closed - bound)
        closed -= bound
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and "plt.subplots(" in ast.unparse(node.value):
                closed |= {one.id for one in ast.walk(node.targets[0]) if isinstance(one, ast.Name)}
    return late


@everything
def test_a_script_needs_no_network_and_no_test_sets(path):
    tree = ast.parse(path.read_text())
    assert "CALEPIN_DATA" not in path.read_text(), f"{path}: expected data that are installed"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = {alias.name.split(".")[0] for alias in node.names} & NETWORK
        elif isinstance(node, ast.ImportFrom):
            found = {(node.module or "").split(".")[0]} & NETWORK
            found |= {alias.name for alias in node.names if DOWNLOADS.fullmatch(alias.name)}
        elif isinstance(node, ast.Attribute):
            found = {node.attr} if DOWNLOADS.fullmatch(node.attr) else set()
        else:
            continue
        assert not found, f"{path}:{node.lineno}: {found} uses the network"


def test_quick_examples_run_without_warnings(tmp_path):
    """All in one process, since importing takes longer than any of them."""
    settings = {key: value for key, value in os.environ.items() if key != "CALEPIN_DATA"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, *(str(ROOT / "examples" / name) for name in QUICK)],
        cwd=tmp_path,
        env={**settings, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert not list(tmp_path.iterdir()), "a script left files"


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("import calepin\ncalepin.denoise", []),
        ("from calepin import denoise", []),
        ("from calepin.core.files import atomic_write", ["calepin.core.files.atomic_write"]),
        ("import calepin\ncalepin.imaging.by_dictionary.RULES", ["calepin.imaging.by_dictionary.RULES"]),
        ("from calepin.imaging.groups import GroupFilter", ["calepin.imaging.groups.GroupFilter"]),
        ("from calepin.imaging import nonsense", ["calepin.imaging.nonsense"]),
    ],
)
def test_names_that_are_not_public_are_found(code, wrong):
    assert [name for _, name in names_of_calepin(ast.parse(code)) if not is_public(name)] == wrong


def names_of_calepin(tree: ast.Module) -> list[tuple[int, str]]:
    """Return the line and the dotted name of everything of calepin that a script imports or takes from it."""
    found, modules = [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0].startswith("calepin"):
                    found.append((node.lineno, alias.name))
                    modules[alias.asname or "calepin"] = alias.name if alias.asname else "calepin"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0].startswith("calepin"):
            for alias in node.names:
                found.append((node.lineno, f"{node.module}.{alias.name}"))
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    parts = {id(node.value) for node in attributes}
    for node in attributes:
        name = ast.unparse(node) if id(node) not in parts else ""
        first, _, rest = name.partition(".")
        if first in modules and re.fullmatch(r"[\w.]+", rest):
            found.append((node.lineno, f"{modules[first]}.{rest}"))
    return found


def is_public(name: str) -> bool:
    """Return whether a dotted name is a package with public names, a public name, or an attribute of one."""
    parts = name.split(".")
    heads = [".".join(parts[: i + 1]) for i in range(len(parts))]
    hidden = any(part.startswith("_") and not part.startswith("__") for part in parts)
    return not hidden and (name in PACKAGES or any(head in PUBLIC for head in heads))
