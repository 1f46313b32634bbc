"""The import map: rooms import only what is below them, files and not packages, in no circle."""

import ast

import source

CORE = {"core"}
TERMS = CORE | {"operators", "likelihoods", "penalties"}
MODEL = TERMS | {"problem", "generators"}
ENGINE = MODEL | {"solvers", "networks", "learning"}
APPLICATIONS = {"spikes", "reconstruction", "imaging", "compression"}

# From the ground up; CONTRIBUTING.md says what each room is for. A new room is a new line here.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "metrics": CORE,
    "datasets": CORE,
    "report": CORE,
    "experiments": CORE,
    "operators": CORE,
    "likelihoods": CORE,
    "penalties": CORE,
    "problem": TERMS,
    "generators": TERMS | {"problem"},
    "solvers": MODEL,
    "networks": MODEL | {"solvers"},
    "learning": MODEL | {"solvers", "networks"},
    "testing": MODEL | {"solvers", "learning"},
    "estimators": MODEL | {"solvers", "learning", "report"},
    "spikes": ENGINE | {"report"},
    "reconstruction": ENGINE | {"datasets", "report"},
    "imaging": ENGINE | {"datasets", "report"},
    "compression": ENGINE | {"estimators"},
    "restoration": ENGINE | {"datasets", "report", "imaging", "reconstruction"},
}
GROUND_TO_TRADES = set(MAY_IMPORT)
MAY_IMPORT["cli"] = GROUND_TO_TRADES | {"calepin"}
MAY_IMPORT["__main__"] = {"cli"}
MAY_IMPORT["calepin"] = GROUND_TO_TRADES  # the package's own __init__ and stub

# Packages that slow the start of a program or that not every user has: at the top of these files or folders
# only. Anywhere else they are imported in the function that uses them.
AT_TOP: dict[str, tuple[str, ...]] = {
    "matplotlib": ("calepin/report/", "calepin/spikes/figures.py"),
    "typer": ("calepin/cli/",),
    "rich": (),
    "skimage": (),
    "PIL": (),
    "finufft": (),
    "h5py": (),
    "ismrmrd": (),
    "nibabel": (),
    "pynwb": (),
    "jinja2": (),
    "numba": ("calepin/core/compiled.py", "calepin/core/lanes.py"),  # kernels use their njit and steps
}
# These may not be imported elsewhere at all.
NOWHERE_ELSE: dict[str, tuple[str, ...]] = {
    "matplotlib": ("calepin/report/", "calepin/spikes/figures.py"),
    "typer": ("calepin/cli/",),
    "rich": ("calepin/cli/", "calepin/core/progress.py"),
}


def room_of(module: str) -> str:
    """Return the room of a module of calepin, by its name."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "calepin"


def imports_of_calepin():
    """Yield each import of calepin in calepin."""
    for module in source.modules().values():
        for entry in source.imports(module):
            if entry.target.split(".")[0] == "calepin":
                yield entry


def test_every_room_is_on_the_map():
    rooms = {room_of(name) for name in source.modules()}
    assert rooms == set(MAY_IMPORT), (
        f"rooms without a line in MAY_IMPORT: {sorted(rooms - set(MAY_IMPORT))}; "
        f"lines without a room: {sorted(set(MAY_IMPORT) - rooms)}"
    )


def test_the_map_is_in_contributing():
    """Each room has a line of the table there, in which what it may import stands as here."""
    words = {
        "terms": TERMS - CORE,
        "engine": ENGINE,
        "nothing of calepin": set(),
        "all of the above": GROUND_TO_TRADES,
    }
    table: dict[str, set[str]] = {}
    for line in (source.ROOT / "CONTRIBUTING.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3 and not cells[0].endswith(".py`"):
            allowed = set().union(*(words.get(word, {word}) for word in cells[2].split(", ")))
            table |= {room.strip("`"): allowed for room in cells[0].split(", ")}
    expected = {
        room: MAY_IMPORT[room] - {"calepin"} for room in MAY_IMPORT if room in GROUND_TO_TRADES | {"cli"}
    }
    table.pop("calepin_papers")
    assert table == expected, (
        f"CONTRIBUTING.md: {sorted(room for room in expected if table.get(room) != expected[room])}"
    )


def test_the_map_has_no_circle():
    circles = components({room: MAY_IMPORT[room] for room in MAY_IMPORT})
    assert not circles, f"MAY_IMPORT allows a circle: {circles}"
    assert not any(MAY_IMPORT[application] & APPLICATIONS for application in APPLICATIONS), (
        "applications do not import each other"
    )


def test_rooms_import_only_what_is_below_them():
    offenders = []
    for entry in imports_of_calepin():
        room = room_of(entry.module.name)
        if room_of(entry.target) not in MAY_IMPORT[room] | {room}:
            offenders.append(f"{entry.place}: {room} may not import {entry.target}: move the code")
    assert not offenders, listed(offenders)


def test_files_are_imported_and_not_packages():
    offenders = []
    for entry in imports_of_calepin():
        package = source.modules().get(entry.target)
        if package is None:
            offenders.append(f"{entry.place}: there is no module {entry.target}")
            continue
        if not package.is_package:
            continue
        if entry.name is None:
            offenders.append(f"{entry.place}: imports the package {entry.target}: import a file of it")
        elif entry.name not in source.defined(package.tree):
            origin = source.exports(package).get(entry.name, f"{entry.target}.<file>")
            offenders.append(f"{entry.place}: write `from {origin} import {entry.name}`")
    assert not offenders, listed(offenders)


def test_imports_have_no_circle():
    """Also imports in functions and those for types alone: a circle there is one of the design."""
    arrows: dict[str, set[str]] = {name: set() for name in source.modules()}
    for entry in imports_of_calepin():
        if not entry.module.is_package:  # a package names its files; they do not import it
            arrows[entry.module.name].add(entry.target)
    circles = components(arrows)
    assert not circles, "modules that import each other in a circle:\n" + "\n".join(map(str, circles))


def test_a_circle_is_found():
    assert components({"a": {"b"}, "b": {"c"}, "c": {"b", "a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_heavy_packages_load_where_they_are_used():
    offenders = []
    for module in source.every_module().values():
        path = module.path.relative_to(source.SRC).as_posix()
        types_only = guarded(module.tree)
        for entry in source.imports(module):
            package = entry.target.split(".")[0]
            if entry.line in types_only:
                continue
            elsewhere = NOWHERE_ELSE.get(package)
            if elsewhere is not None and not path.startswith(elsewhere):
                offenders.append(f"{entry.place}: {package} is only for {', '.join(elsewhere)}")
            elif (
                entry.at_top and entry.line not in types_only and not path.startswith(AT_TOP.get(package, ""))
            ):
                offenders.append(f"{entry.place}: import {package} in the function that uses it")
    assert not offenders, listed(offenders)


def test_the_papers_import_public_names_alone():
    """What a paper lacks becomes public, or was never needed."""
    exported = {
        name: source.exports(module) for name, module in source.modules().items() if source.is_public(name)
    }
    offenders = []
    for module in source.modules("calepin_papers").values():
        for entry in source.imports(module):
            origin, name = entry.written
            if origin.split(".")[0] != "calepin":
                continue
            if origin not in exported or (name is not None and name not in exported[origin]):
                what = origin if name is None else f"{name} of {origin}"
                offenders.append(f"{entry.place}: {what} is not public: its package has to export it")
    assert not offenders, listed(offenders)


def test_no_paper_imports_another():
    offenders = []
    for module in source.modules("calepin_papers").values():
        own = module.name.split(".")[1:2]
        for entry in source.imports(module):
            parts = entry.target.split(".")
            shared = len(parts) > 1 and parts[1].startswith("_")  # what all papers have in common
            recipe = own == ["weights"]  # of a network that a paper's experiment describes
            if own and parts[0] == "calepin_papers" and parts[1:2] != own and not (shared or recipe):
                offenders.append(f"{entry.place}: {'.'.join(own)} imports {entry.target} of another paper")
    assert not offenders, listed(offenders)


def guarded(tree: ast.Module) -> set[int]:
    """Return the lines under ``if TYPE_CHECKING:``, which are never run."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for line in range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
    }


def listed(offenders: list[str]) -> str:
    return "\n".join(["", *sorted(offenders)])


def components(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            members = stack[stack.index(node) :]
            del stack[-len(members) :]
            if len(members) > 1:
                found.append(sorted(members))

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return found
