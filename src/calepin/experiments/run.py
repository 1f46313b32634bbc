"""A run of an experiment, made of pieces that are kept, so that an interrupted run goes on where it was."""

import hashlib
import json
import re
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.core.files import atomic_write

__all__ = ["Run"]

_SECONDS = "__seconds__"


@dataclass(frozen=True)
class Run:
    """The arguments of a run of an experiment.

    Attributes
    ----------
    seed
        Seed of all random numbers.
    device
        "cpu" or "cuda".
    folder
        Existing folder for the figures, and for the pieces of the run in ``pieces/``.
    progress
        Function to call with the fraction done, 0 to 1, and a short note.
    key
        Fingerprint of everything that the pieces depend on; pieces of another key are not used.
    earlier
        Seconds that the used pieces took when they were computed; `piece` appends to it.
    """

    seed: int
    device: str
    folder: Path
    progress: Callable[[float, str], None] = field(default=lambda part, text: None)
    key: str = "any"
    earlier: list[float] = field(default_factory=list)

    def piece(self, name: str, compute: Callable[[], Mapping[str, ArrayLike]]) -> dict[str, NDArray]:
        """Return the arrays that `compute()` returns, from the file of an earlier run if there is one.

        Parameters
        ----------
        name
            Name of the piece, such as ``draw3-ista``: letters, digits, ``.``, ``_`` and ``-``.
        compute
            Function that computes the piece. It must depend on the settings, seed and device of the run
            alone, so that a resumed run equals an uninterrupted one; it must not draw from a random
            generator that other pieces draw from.

        Returns
        -------
        dict
            The arrays by name, with the shapes and dtypes of ``numpy.asarray``.

        Raises
        ------
        TypeError
            If `compute` returns anything but arrays of numbers or text.
        ValueError
            If the name has other characters.

        Warns
        -----
        RuntimeWarning
            If a kept piece is damaged; it is computed again.
        """
        path = self.path(name, "npz")
        kept = _read(path)
        if kept is None:
            begun = time.perf_counter()
            computed = {key: np.asarray(value) for key, value in compute().items()}
            if any(array.dtype.hasobject for array in computed.values()):
                raise TypeError(f"{name}: expected arrays of numbers or text, got objects")
            kept = computed | {_SECONDS: np.asarray(time.perf_counter() - begun)}
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **kept)  # pyright: ignore[reportArgumentType]
        else:
            self.earlier.append(float(kept[_SECONDS]))
        return {key: array for key, array in kept.items() if key != _SECONDS}

    def path(self, name: str, suffix: str) -> Path:
        """Return the path of a file of this run among the pieces, for example a checkpoint of training.

        Raises
        ------
        ValueError
            If the name has other characters than letters, digits, ``.``, ``_`` and ``-``.
        """
        if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
            raise ValueError(f"name: expected letters, digits, '.', '_' and '-', got {name!r}")
        folder = self.folder / "pieces"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}-{self.key}.{suffix}"


def discard(run: Run) -> None:
    """Remove the pieces and checkpoints of an earlier run with the same key."""
    for path in (run.folder / "pieces").glob(f"*-{run.key}.*"):
        path.unlink()


def fingerprint(package: str, settings: Mapping, seed: int, device: str) -> str:
    """Return a key of settings, seed, device, and the code of calepin and of the package of an experiment."""
    from calepin.core.package import sources_checksum

    what = [json.dumps(settings, sort_keys=True, default=str), seed, device]
    what += [sources_checksum(name) for name in sorted({"calepin", package})]
    return hashlib.sha256(repr(what).encode()).hexdigest()[:12]


def _read(path: Path) -> dict[str, NDArray] | None:
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = dict(arrays)
        if _SECONDS not in found:
            raise ValueError("it does not say how long it took")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        warnings.warn(f"{path} is damaged and computed again: {error}", RuntimeWarning, stacklevel=3)
        return None
    return found
