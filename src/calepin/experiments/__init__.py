"""Experiments: what a paper claims, runs of it, what was found, and which items of a paper they cover.

An experiment has a name, a sentence that says what it shows, settings for each scale (a small frozen
dataclass) and a function from settings to findings. Seeds, files, pieces of long runs, claims and exit status
work the same way for all experiments.

This package defines no experiment. A package provides its own by an entry point of the group
``calepin.experiments``, which names a mapping ``{name: Experiment}``::

    [project.entry-points."calepin.experiments"]
    mine = "my_package:EXPERIMENTS"

It may list the items of papers that they cover, a sequence of `Item`, as ``my_package.ITEMS``. Its stored
results are the files ``my_package/results/NAME-SCALE.json``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
