"""Docstrings say what signatures say: names, order, defaults, what is returned and what is raised."""

import math

import pytest
from callables import Public, public_callables
from docstrings import problems


def test_docstrings_agree_with_signatures():
    offenders = [
        f"{public.place}: {public.name}: {problem}"
        for public in public_callables()
        for problem in problems(public)
    ]
    assert not offenders, "\n".join(["", *offenders])


def right(a: int, b: float = math.inf, *, c: str = "x") -> int:
    """Return a.

    Parameters
    ----------
    a : int
    b : float, default infinity
        More of b, and a : colon.
    c : {"x", "y"}, default "x"

    Raises
    ------
    ValueError
        Another c.
    """
    if c != "x":
        raise ValueError("c")
    return a


def order(a: int, b: int) -> None:
    """Do something.

    Parameters
    ----------
    b : int
    a : int
    """


def missing(a: int, b: int) -> None:
    """Do something.

    Parameters
    ----------
    a : int
    """


def default(a: int = 1, b: int = 2) -> None:
    """Do something.

    Parameters
    ----------
    a, b : int, default 1, 3
    """


def silent(a: int) -> int:
    """Do something.

    Parameters
    ----------
    a : int

    Warnings
    --------
    Loud.
    """
    if a:
        raise KeyError(a)
    return a


def nothing(): ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (right, []),
        (order, ["documents b, a; its parameters are a, b"]),
        (missing, ["documents a; its parameters are a, b"]),
        (default, ["b: the docstring says default 3, the signature 2"]),
        (
            silent,
            [
                "there is no section 'Warnings'",
                "returns something: begin with `Return ...` or add a section Returns",
                "raises KeyError: add it to a section Raises",
            ],
        ),
        (nothing, ["has no docstring"]),
    ],
)
def test_the_lint_finds_what_is_wrong(function, expected):
    assert problems(Public(function.__name__, function)) == expected
