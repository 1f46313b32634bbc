import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from calepin.networks._grids import continue_by_reflection, cover, window


@pytest.mark.parametrize("size", [7, 8, 9, 12])
@pytest.mark.parametrize("shift", [(0,), (1,), (2,)])
def test_a_continued_signal_is_covered_and_has_its_own_part_where_the_window_is(size, shift):
    y = torch.arange(float(size)).view(1, 1, size)
    padded = continue_by_reflection(y, (4,), 3, shift)
    assert (padded.shape[2] - 4) % 3 == 0
    before = 3 - shift[0]
    behind = padded.shape[2] - size - before
    assert torch.equal(padded, F.pad(y, (before, behind), mode="reflect"))
    assert torch.equal(window(padded, [before], (size,)), y)


def test_signals_shorter_than_their_continuation_are_reflected_again():
    y = torch.tensor([0.0, 1.0, 2.0]).view(1, 1, 3)
    padded = continue_by_reflection(y, (3,), 3, (2,))
    assert padded.flatten().tolist() == [1, 0, 1, 2, 1, 0, 1, 2, 1]
    assert continue_by_reflection(torch.ones(1, 1, 1), (1,), 1, (0,)).flatten().tolist() == [1, 1, 1]


def test_what_no_atom_reaches_is_cut_off_and_comes_back_as_zero():
    y = torch.arange(1.0, 12).view(1, 1, 11)
    covered = cover(y, (4,), 3)
    assert covered.shape[2] == 10
    assert torch.equal(window(covered, [0], (11,))[0, 0], torch.tensor([*range(1, 11), 0.0]))
