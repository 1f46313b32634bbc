"""What a release says in several places is the same in all: versions, bounds, Pythons, make targets."""

import re
import tomllib

import numpy as np
import pytest
import source
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from safetensors.numpy import save_file

import calepin
from calepin.core import package

PROJECT = tomllib.loads((source.ROOT / "pyproject.toml").read_text())["project"]
# Its bound is not tested: constraints-minimum.txt says why.
UNTESTED = {"torch"}


def text(name: str) -> str:
    return (source.ROOT / name).read_text()


def pins(name: str) -> dict[str, str]:
    """Return the versions in a file of constraints, by the lower-case name of the package."""
    lines = [line for line in text(name).splitlines() if line and not line.startswith("#")]
    return {key.lower().replace("_", "-"): version for key, version in (line.split("==") for line in lines)}


def bounds() -> dict[str, SpecifierSet]:
    """Return the lower bounds of what calepin and its extras for users need."""
    needed = [*package.requirements(), *(r for of_extra in package.extras().values() for r in of_extra)]
    return {r.name.lower(): r.specifier for r in needed}


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load(text("CITATION.cff"))
    newest, date = re.findall(r"^## (\d\S*) - (\d{4}-\d\d-\d\d)$", text("CHANGELOG.md"), re.MULTILINE)[0]
    assert {calepin.__version__, str(citation["version"]), newest} == {PROJECT["version"]}
    assert str(citation["date-released"]) == date


def test_an_installed_package_says_the_version_of_its_metadata(monkeypatch):
    monkeypatch.setattr(package, "_source_tree", lambda: None)
    monkeypatch.setattr(package.metadata, "version", lambda name: "9.9" if name == "calepin" else "?")
    assert package.version() == "9.9"


def test_an_installed_package_knows_its_extras(monkeypatch):
    """As in the source tree, from the lines that a build writes into the metadata."""
    in_the_tree = {name: [str(r) for r in found] for name, found in package.extras().items()}
    optional = PROJECT["optional-dependencies"]
    written = [*PROJECT["dependencies"]]
    for name, texts in optional.items():
        written += [f'{requirement}; extra == "{name}"' for requirement in texts]

    class Metadata:
        def get_all(self, key: str) -> list[str]:
            assert key == "Provides-Extra"
            return list(optional)

    monkeypatch.setattr(package, "_source_tree", lambda: None)
    monkeypatch.setattr(package.metadata, "metadata", lambda _: Metadata())
    monkeypatch.setattr(package.metadata, "requires", lambda _: written)
    installed = {name: [str(r).split(";")[0] for r in found] for name, found in package.extras().items()}
    assert installed == in_the_tree
    assert {"mri", "neuro", "report"} <= installed.keys()
    assert [str(r) for r in package.requirements()] == PROJECT["dependencies"]


def test_the_minimum_versions_are_the_lower_bounds():
    lowest = pins("constraints-minimum.txt")
    assert lowest.keys() == bounds().keys()
    for name, specifier in bounds().items():
        (bound,) = specifier
        assert bound.operator == ">=", f"{name}: a bound is the lowest version that works, and no other"
        same = Version(lowest[name]) == Version(bound.version)
        assert same != (name in UNTESTED), f"{name}: {bound} in pyproject.toml, {lowest[name]} is tested"


def test_every_extra_is_pinned():
    optional = [Requirement(text) for texts in PROJECT["optional-dependencies"].values() for text in texts]
    pinned = pins("constraints.txt")
    missing = {r.name.lower() for r in optional} - {"calepin"} - pinned.keys()
    assert not missing, f"constraints.txt lacks {sorted(missing)}"
    too_old = [
        str(r) for r in optional if r.name.lower() in pinned and pinned[r.name.lower()] not in r.specifier
    ]
    assert not too_old


def test_the_release_lets_every_file_of_the_packages_through():
    (pattern,) = re.findall(r"grep -vE '(\S.*?)' ", text(".ci/release"))
    files = [path.relative_to(source.SRC) for path in source.SRC.rglob("*") if path.is_file()]
    shipped = [
        f"{path.as_posix()} "
        for path in files
        if not {"__pycache__", "calepin.egg-info"} & {*path.parts} and path.suffix not in (".nbi", ".nbc")
    ]
    assert len(shipped) > 300
    assert [name for name in shipped if not re.match(pattern, name)] == []


def test_the_workflow_runs_what_ci_runs():
    workflow = yaml.safe_load(text(".github/workflows/ci.yml"))
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    there = {target for step in steps for target in re.findall(r"\bmake ([a-z-]+)", step)}
    lines = re.findall(r"^make ([^#\n]*)", text(".ci/run"), re.MULTILINE)
    here = {word for line in lines for word in line.split() if re.fullmatch(r"[a-z][a-z-]*", word)}
    assert {"lint", "docs", "test"} <= here
    assert here <= there, f"ci.yml lacks {sorted(here - there)}"
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    assert there <= targets, f"the Makefile lacks {sorted(there - targets)}"


def test_the_workflow_covers_every_python_and_system():
    matrix = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]["test"]["strategy"]["matrix"]
    versions = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", c)]
    assert matrix["python"] == versions
    assert f">={versions[0]}" == PROJECT["requires-python"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    for bound, version in (("OLDEST", versions[0]), ("NEWEST", versions[-1])):
        assert re.search(rf"^{bound} := {re.escape(version)}$", text("Makefile"), re.MULTILINE)


def test_the_hooks_are_those_of_the_pinned_ruff():
    hooks = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    (rev,) = [repo["rev"] for repo in hooks if "ruff" in repo["repo"]]
    assert rev == f"v{pins('constraints.txt')['ruff']}"


@pytest.mark.parametrize(
    "form", sorted((source.ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda f: f.stem
)
def test_the_issue_forms_are_whole(form):
    content = yaml.safe_load(form.read_text())
    if form.stem != "config":
        assert {"name", "description", "body"} <= content.keys()
        assert all({"type", "attributes"} <= field.keys() for field in content["body"])


def test_the_torch_of_the_release_is_that_of_the_makefile():
    (torch,) = re.findall(r"^TORCH  := (\S+)$", text("Makefile"), re.MULTILINE)
    assert f"TORCH:-{torch}" in text(".ci/release")
    assert torch in text("constraints-minimum.txt")


def test_atoms_of_format_version_1_migrate_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atoms = np.eye(3, 5)
    header = {"format": "calepin", "version": "1", "kind": "dictionary", "parameters": "{}"}
    save_file({"components": atoms}, "old.safetensors", metadata=header)
    (code,) = re.findall(
        r"^```python\n(.*?)^```", text("docs/reference/versions.md"), re.MULTILINE | re.DOTALL
    )
    exec(code, {})
    np.testing.assert_array_equal(calepin.DictionaryLearner.load("new.safetensors").components_, atoms)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files(page):
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text(page)) if "://" not in link]
    assert links
    gone = sorted({link for link in links if not (source.ROOT / link).exists()})
    assert not gone, f"{page}: there is no {', '.join(gone)}"


def test_the_images_of_the_readme_are_three_and_small():
    images = [source.ROOT / name for name in re.findall(r"!\[[^]]+\]\(([^)]+)\)", text("README.md"))]
    assert len(images) == 3
    assert {image.parent for image in images} == {source.ROOT / "docs/images"}
    large = [image.name for image in images if image.stat().st_size >= 150_000]
    assert not large, f"{large}: make images draws them in fewer colours"
