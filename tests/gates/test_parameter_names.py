"""One word for one thing: parameters, options and public names against docs/reference/glossary.md."""

import pytest
import source
from callables import commands, public_callables, signature_of
from public_names import public_names

GLOSSARY = source.ROOT / "docs" / "reference" / "glossary.md"

# Names that another library gives, so that ours cannot differ.
GIVEN = {
    "calepin.learning.SOAP": {"lr"},  # torch's optimisers
}


def tables() -> list[list[list[str]]]:
    """Return the cells of each table of the glossary, without backticks and without the row of dashes."""
    found: list[list[list[str]]] = [[]]
    for line in GLOSSARY.read_text().splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.replace(r"\|", " ").strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [[table[0], *table[2:]] for table in found if table]


def listed(title: str) -> dict[str, str]:
    """Return {forbidden: allowed} of the table whose first column has this title."""
    (rows,) = [table[1:] for table in tables() if table[0][0] == title]
    found: dict[str, str] = {}
    for cells in rows:
        for synonym in cells[-1].replace("`", "").split(","):
            known = found.get(synonym.strip())
            name = cells[0].strip("`")
            found[synonym.strip()] = f"{known} or {name}" if known else name
    return found


SYNONYMS = listed("name")
WORDS = listed("word")
VERBS = {"--share"}  # an option that tells what to do, where the listed word is a noun


def wrong(name: str) -> str | None:
    """Return the word to use in place of a name or of a part of it, None if it may stay."""
    if name in SYNONYMS:
        return SYNONYMS[name]
    return next((f"{WORDS[part]} for {part}" for part in name.split("_") if part in WORDS), None)


def test_the_tables_contradict_nothing():
    assert "n_atoms" in SYNONYMS
    assert "picture" in WORDS
    allowed = {name for names in SYNONYMS.values() for name in names.split(" or ")}
    assert not [name for name in allowed if wrong(name)]


@pytest.mark.parametrize(
    ("name", "right"), [("n_atoms", "n_components"), ("atoms_picture", "image for picture"), ("alpha", None)]
)
def test_what_is_wrong_is_found(name, right):
    assert wrong(name) == right


def test_parameters_have_the_names_of_the_glossary():
    offenders = [
        f"{callable_.place}: {callable_.name}({name}): use {right} (docs/reference/glossary.md)"
        for callable_ in public_callables()
        for name in signature_of(callable_)
        if (right := wrong(name)) and name not in GIVEN.get(callable_.name, ())
    ]
    assert not offenders, "\n".join(["", *sorted(offenders)])


def test_options_have_the_names_of_the_glossary():
    offenders = [
        f"calepin {command.name} {option}: use {right} (docs/reference/glossary.md)"
        for command in commands()
        for parameter in command.parameters
        for option in [*parameter.opts, *parameter.secondary_opts]
        if (right := wrong(option.strip("-").replace("-", "_"))) and option not in VERBS
    ]
    assert not offenders, "\n".join(["", *sorted(offenders)])


def test_public_names_have_the_words_of_the_glossary():
    offenders = [
        f"{dotted}: use {right} (docs/reference/glossary.md)"
        for dotted in public_names()
        if (right := wrong(dotted.split(".")[-1]))
    ]
    assert not offenders, "\n".join(["", *offenders])
