"""Rows: what belongs to some samples, chosen between, and named for a file."""

from dataclasses import dataclass

import torch

from calepin.core.samples import Rows, expand, inner, norm, take_rows


@dataclass(frozen=True, eq=False)
class Part(Rows):
    z: torch.Tensor


@dataclass(frozen=True, eq=False)
class Whole(Rows):
    part: Part
    value: torch.Tensor
    n_iter: int = 0


def whole(offset=0.0):
    return Whole(Part(torch.arange(6.0).view(3, 2) + offset), torch.arange(3.0) + offset, n_iter=5)


def test_rows_are_taken_from_parts_too():
    taken = whole().take(torch.tensor([2, 0, 2]))
    assert taken.part.z.tolist() == [[4, 5], [0, 1], [4, 5]]
    assert taken.value.tolist() == [2, 0, 2]
    assert taken.n_iter == 5


def test_rows_are_chosen_one_by_one():
    mine, other = whole(), whole(10.0)
    both = mine.where(torch.tensor([True, False, True]), other)
    assert both.part.z.tolist() == [[0, 1], [12, 13], [4, 5]]
    assert both.value.tolist() == [0, 11, 2]
    assert mine.where(torch.ones(3, dtype=torch.bool), other) is mine
    assert mine.where(torch.zeros(3, dtype=torch.bool), other) is other


def test_tensors_have_names_by_which_they_come_back():
    tensors = whole().tensors()
    assert list(tensors) == ["part.z", "value"]
    again = whole(3.0).with_tensors(tensors)
    assert torch.equal(again.part.z, whole().part.z)
    assert torch.equal(again.value, whole().value)


def test_parameters_of_each_sample_are_taken_and_shared_ones_are_not():
    rows = torch.tensor([1, 1])
    assert take_rows(torch.tensor([[1.0], [2.0]]), rows, 2).tolist() == [[2], [2]]
    for shared in (torch.tensor(3.0), torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 2.0]])):
        assert take_rows(shared, rows, 2) is shared


def test_geometry_is_of_each_sample():
    a = torch.tensor([[3.0, 4.0j], [1.0, 1.0j]])
    assert norm(a).tolist() == torch.tensor([5.0, 2**0.5]).tolist()
    assert inner(a, a).tolist() == [25, 2]
    assert expand(torch.tensor([1.0, 2.0]), torch.ones(2, 3, 4)).shape == (2, 1, 1)
