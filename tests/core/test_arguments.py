import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calepin.core.arguments import check_arguments, check_fields, takes_tensors


class Speaker(Protocol):
    def speak(self) -> str: ...


class Dog:
    def speak(self) -> str:
        return "woof"


def known(
    n: int = 1,
    x: float = 0.5,
    bound: float = math.inf,
    flag: bool = True,
    word: Literal["a", "b"] = "a",
    values: ArrayLike = 0.0,
    tensor: Tensor | None = None,
    shape: tuple[int, int] = (1, 2),
    many: Sequence[float] = (),
    call: Callable[[int], int] = abs,
    speaker: Speaker | None = None,
    weight: "float | Tensor" = 0.0,
) -> None:
    check_arguments(known, locals())


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": np.int64(3), "x": np.float32(2), "flag": np.bool_(False), "shape": [3, 4]},
        {"x": 3, "bound": math.inf, "word": "b", "many": (1, 2.5)},
        {"values": [[1, 2], [3, 4]]},
        {"values": torch.ones(2), "tensor": torch.ones(2), "weight": torch.ones(1)},
        {"call": len, "speaker": Dog()},
    ],
)
def test_what_the_annotations_say_is_taken(arguments):
    known(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 2.5}, "n: expected an integer, got 2.5"),
        ({"n": True}, "n: expected an integer, got True"),
        ({"x": math.nan}, "x: expected a finite number, got nan"),
        ({"x": math.inf}, "x: expected a finite number, got inf"),
        ({"bound": math.nan}, "bound: expected a finite number, got nan"),
        ({"x": 1j}, "x: expected a finite number"),
        ({"x": np.array([1.0])}, r"x: expected a finite number, got numpy.ndarray of shape \(1,\)"),
        ({"flag": "yes"}, "flag: expected True or False, got 'yes'"),
        ({"word": "nonsense"}, "word: expected one of 'a', 'b', got 'nonsense'"),
        ({"values": "nonsense"}, "values: expected an array of numbers, got 'nonsense'"),
        ({"values": [[1], [2, 3]]}, "values: expected an array of numbers"),
        ({"values": np.array(["2026"], "datetime64[Y]")}, "values: expected an array of numbers"),
        ({"tensor": np.ones(2)}, "tensor: expected a torch.Tensor, got numpy.ndarray"),
        ({"shape": (1,)}, "shape: expected a sequence: 2 times an integer"),
        ({"shape": (1.5, 2)}, "shape: expected a sequence: 2 times an integer"),
        ({"many": ("a",)}, "many: expected a sequence: a finite number"),
        ({"call": 3}, "call: expected a function, got 3"),
        ({"speaker": "woof"}, "speaker: expected a Speaker, got 'woof'"),
        ({"speaker": Dog}, "speaker: expected a Speaker, got the class Dog"),
        ({"weight": "heavy"}, "weight: expected a finite number or a torch.Tensor, got 'heavy'"),
    ],
)
def test_anything_else_is_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        known(**arguments)


def test_fields_of_settings_are_checked():
    @dataclass(frozen=True)
    class Settings:
        size: int = 1

        def __post_init__(self) -> None:
            check_fields(self)

    assert Settings(3).size == 3
    with pytest.raises(ValueError, match="size: expected an integer, got nan"):
        Settings(math.nan)


def test_an_error_of_torch_names_the_arguments_of_a_map():
    @takes_tensors
    def add(a: Tensor, b: Tensor) -> Tensor:
        return torch.add(a, b)

    assert add(torch.ones(2), torch.ones(2)).tolist() == [2, 2]
    with pytest.raises(TypeError, match="b: expected a torch.Tensor, got 'x'"):
        add(torch.ones(2), "x")
    with pytest.raises(ValueError, match=r"a and b: expected tensors that fit here, .*\(2,\), .*\(3,\)"):
        add(torch.ones(2), torch.ones(3))


def test_a_map_keeps_errors_that_name_an_argument_already():
    @takes_tensors
    def refuse(a: Tensor) -> Tensor:
        raise ValueError("b: expected something else")

    with pytest.raises(ValueError, match=r"^b: expected something else$"):
        refuse(torch.ones(2))
