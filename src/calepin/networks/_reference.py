"""Reader of the networks that the authors of DCEA released, converted from pickles to arrays.

``NAME.npz`` contains the arrays, ``NAME.json`` in the same folder the settings. With counts y and code x,

    x <- relu( x + corr( ELU_a( y - exp(convT(x, H)) ), W_e ) - b ),     log-rate = convT(x, W_d)

The step size is 1, because it is absorbed into the filters. b is the threshold of every layer and may be
negative. a is the peak count that the network was trained for. A tied network has only H.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.paths import check_input
from calepin.core.reading import check_npz, reading

__all__ = ["read_reference"]

NAMES = {"atoms": "H", "encoder_atoms": "We", "decoder_atoms": "Wd", "alpha": "b"}
SETTINGS = ("model", "T", "stride", "nonlin", "elu_alpha")


def read_reference(path: str | os.PathLike) -> tuple[dict[str, NDArray[np.floating]], dict[str, Any]]:
    """Return the arrays, by calepin's names, and the settings of a released network.

    Raises
    ------
    FileNotFoundError
        If the file, or the file of its settings, does not exist.
    FileFormatError
        If the files have other contents. The message says what is missing.
    """
    path = check_input(path, "a network")
    settings = _settings(path)
    wanted = ["H", "b"] if settings["model"] == "tied" else ["H", "We", "Wd", "b"]
    arrays = _arrays(path, wanted)
    H, b = arrays["H"], arrays["b"]
    if H.ndim < 3 or b.size != len(H) or any(arrays[name].shape != H.shape for name in wanted[1:-1]):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise FileFormatError(
            f"{path} holds {shapes}: expected filters (n, channels, *kernel) of one shape and n biases in b"
        )
    renamed = {mine: arrays[name] for mine, name in NAMES.items() if name in arrays}
    return renamed | {"alpha": b.reshape(len(H), *[1] * (H.ndim - 2))}, settings


def _settings(path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".json")
    if not beside.exists():
        raise FileNotFoundError(f"{path} needs its settings in the same folder: no such file: {beside}")
    check_input(beside, "settings in JSON")
    with reading(beside, "JSON file"):
        settings = json.loads(beside.read_bytes())
    missing = [name for name in SETTINGS if not isinstance(settings, dict) or name not in settings]
    if missing:
        raise FileFormatError(f"{beside} lacks {', '.join(missing)}")
    if settings["model"] not in {"tied", "untied"} or settings["nonlin"] != "ELU":
        raise FileFormatError(
            f"{beside} describes model {settings['model']!r} with nonlin {settings['nonlin']!r}, "
            "expected 'tied' or 'untied' with 'ELU'"
        )
    return settings


def _arrays(path: Path, wanted: list[str]) -> dict[str, NDArray[np.floating]]:
    # opened here, because numpy does not close a file that it cannot read
    with path.open("rb") as opened, reading(path, "npz file of plain arrays"):
        check_npz(opened, path)
        with np.load(opened, allow_pickle=False) as file:
            missing = [name for name in wanted if name not in file.files]
            if missing:
                raise FileFormatError(f"{path} lacks {', '.join(missing)}: it holds {', '.join(file.files)}")
            arrays = {name: file[name] for name in wanted}
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise FileFormatError(f"{path} holds {name} of {array.dtype}, expected finite floating numbers")
    return arrays
