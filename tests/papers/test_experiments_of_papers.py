"""Every experiment of the papers is known by its name and says what it shows and where that is from."""

from calepin_papers import EXPERIMENTS


def test_experiments_are_keyed_by_name():
    assert EXPERIMENTS
    for name, entry in EXPERIMENTS.items():
        assert entry.name == name
        assert entry.shows
        assert entry.source
