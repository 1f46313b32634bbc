"""A damaged file of any kind gives a result or one error that names it, and nothing on stderr."""

import pytest

from . import readers

SEEDS = 40


@pytest.mark.parametrize("start", range(0, 320, SEEDS))
def test_damaged_files_give_one_error_or_a_result(start, capfd):
    fast = tuple(kind.name for kind in readers.KINDS if not kind.slow)
    for seed in range(start, start + SEEDS):
        readers.check(seed, fast)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", [kind.name for kind in readers.KINDS if kind.slow])
def test_damaged_files_that_are_read_in_a_child_process_too(name, capfd):
    readers.check(1, (name,))
    assert capfd.readouterr() == ("", "")
