import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from calepin.networks._grids import continue_by_reflection, cover, local_mean, window


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


@pytest.mark.parametrize(("size", "width"), [((9,), 5), ((6, 8), 3), ((4, 3), 11), ((5, 4, 6), 3)])
def test_the_local_mean_is_that_of_the_window_in_the_reflected_signal(size, width):
    y = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = local_mean(y, width)
    place = tuple(n // 2 for n in size)
    window = [
        [
            torch.tensor([*range(n), *range(n - 2, 0, -1)])[k % (2 * n - 2)]
            for k in range(at - width // 2, at + width // 2 + 1)
        ]
        for n, at in zip(size, place, strict=True)
    ]
    block = y
    for axis, rows in enumerate(window, start=2):
        block = block.index_select(axis, torch.stack(rows))
    torch.testing.assert_close(found[(..., *place)], block.flatten(2).mean(2))
    torch.testing.assert_close(local_mean(torch.ones_like(y), width), torch.ones_like(y))
