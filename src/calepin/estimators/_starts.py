"""Several initial filters: all are learned from for a few passes, then the worse half is given up."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from calepin.core.files import read_header
from calepin.core.paths import kind_of
from calepin.core.progress import progress_bar
from calepin.learning.train import CHECKPOINT, TrainState, load_checkpoint, train

__all__ = ["best_start", "remove_files_of_starts"]

_TRIAL = 2  # passes before half of the initialisations are given up


def best_start(
    rule: Any,
    data: Any,
    starts: Sequence[Tensor],
    *,
    max_iter: int,
    checkpoint: str | os.PathLike | None,
    checkpoint_seconds: float,
    resume: bool,
    seeded: bool,
    device: str | None,
    verbose: bool,
) -> TrainState:
    """Return the state that is left of those from all initial filters.

    `seeded` says whether the order of the signals is given; a resumed run takes it from its file otherwise.
    """
    files = _files_of_starts(checkpoint, len(starts))
    kept = [file if resume and file is not None and os.path.exists(file) else None for file in files]
    if not seeded and kept[0] is not None:
        data.seed = read_header(kept[0])["parameters"]["settings"]["data"]["seed"]
    states = [
        TrainState(rule.init(filters).to(device))
        if file is None
        else load_checkpoint(file, rule, data, device=device)
        for filters, file in zip(starts, kept, strict=True)
    ]
    left, n_passes = list(range(len(starts))), 0
    with progress_bar("comparing starts", total=2 * len(left), shown=verbose) as bar:
        n_done = 0
        while len(left) > 1:
            n_passes = min(n_passes + _TRIAL, max_iter)
            for k in left:
                train(
                    rule,
                    data,
                    states[k],
                    max_iter=n_passes,
                    checkpoint=files[k],
                    checkpoint_seconds=checkpoint_seconds,
                )
                n_done += 1
                bar.update(n_done, f"{len(left)} left")
            # a resumed start may be rounds ahead
            left.sort(key=lambda k: states[k].history[n_passes - 1]["objective"])
            left = left[: -(-len(left) // 2)]
    return states[left[0]]


def remove_files_of_starts(checkpoint: str | os.PathLike | None, n_starts: int) -> None:
    """Remove the checkpoints of starts that are no longer needed, and no other file."""
    for file in _files_of_starts(checkpoint, n_starts if n_starts > 1 else 0):
        if file is not None and os.path.exists(file) and kind_of(Path(file)) == CHECKPOINT:
            os.unlink(file)


def _files_of_starts(checkpoint: str | os.PathLike | None, n_starts: int) -> list[str | None]:
    """Return the files in which the runs from several initial filters are kept until one is chosen."""
    return [None if checkpoint is None else f"{os.fspath(checkpoint)}.start-{k}" for k in range(n_starts)]
