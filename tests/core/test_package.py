"""What the package says of its own sources."""

import re
import subprocess

import pytest

from calepin.core import package


def test_a_commit_is_named_where_there_is_git(monkeypatch):
    found = package.commit()
    assert found is None or re.fullmatch(r"[0-9a-f]{12}\+?", found)

    def missing(*arguments, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert package.commit() is None


@pytest.mark.parametrize(("changes", "ending"), [("", ""), (" M src/calepin/a.py", "+")])
def test_changed_code_is_marked(monkeypatch, changes, ending):
    def answer(words, **options):
        text = "0123456789ab" if "rev-parse" in words else changes
        return subprocess.CompletedProcess(words, 0, stdout=text + "\n")

    monkeypatch.setattr(package, "_source_tree", lambda: {"version": "0"})
    monkeypatch.setattr(subprocess, "run", answer)
    assert package.commit() == "0123456789ab" + ending


def test_the_checksum_of_sources_is_that_of_their_bytes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in [("one_package/__init__.py", "x = 1\n"), ("one_module.py", "x = 1\n")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        before = package.sources_checksum.__wrapped__(name.split("/")[0].removesuffix(".py"))
        (tmp_path / name).write_text("x = 2\n")
        assert package.sources_checksum.__wrapped__(name.split("/")[0].removesuffix(".py")) != before
    with pytest.raises(ModuleNotFoundError, match="missing_package"):
        package.sources_checksum.__wrapped__("missing_package")
