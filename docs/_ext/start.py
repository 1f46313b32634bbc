"""The images of the start page: its block of code is run, and what it finds is drawn."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx.util import logging

from calepin.metrics import match_filters
from calepin.report import atom_tiles, save_figure

BLUE, ORANGE = "#0072B2", "#D55E00"
SIZE = (4.2, 4.2)  # inches, of every image

log = logging.getLogger(__name__)


def write(page: Path, folder: Path) -> None:
    """Draw the images of a page into a folder, unless they are those of the same code already."""
    block = re.search(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None, f"{page}: expected a block of Python, got none"
    state = hashlib.sha256(block[1].encode() + Path(__file__).read_bytes()).hexdigest()
    written = folder / "state"
    if written.exists() and written.read_text() == state:
        return
    log.info("running the code of the start page ...")
    names: dict[str, Any] = {}
    exec(compile(block[1], str(page), "exec"), names)
    folder.mkdir(parents=True, exist_ok=True)
    save_figure(_denoised(names["noisy"], names["result"].image), folder / "denoised.png")
    save_figure(_atoms(names["result"].atoms), folder / "atoms.png")
    save_figure(_filters(names["learner"].components_, names["neuron"].atoms), folder / "filters.png")
    written.write_text(state)


def _denoised(noisy: np.ndarray, image: np.ndarray) -> Figure:
    """Return the left half of the noisy image beside the right half of the denoised one."""
    middle = noisy.shape[1] // 2
    both = np.concatenate([noisy[:, :middle], image[:, middle:]], axis=1)
    figure = Figure(SIZE)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(both, cmap="gray", vmin=0, vmax=1)
    axes.axvline(middle, color="white", linewidth=1.5)
    axes.set_axis_off()
    return figure


def _atoms(atoms: np.ndarray) -> Figure:
    figure = Figure(SIZE)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(atom_tiles(atoms), cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    return figure


def _filters(found: np.ndarray, true: np.ndarray) -> Figure:
    aligned = match_filters(found, true, max_shift=true.shape[-1] // 2).align(found)
    figure = Figure(SIZE, layout="constrained")
    for axes, i in zip(figure.subplots(len(true), 1, sharex=True), range(len(true)), strict=True):
        axes.plot(true[i, 0], color=ORANGE, linewidth=5, alpha=0.5, label="true")
        axes.plot(aligned[i, 0], color=BLUE, linewidth=1.8, label="learned")
        axes.set_ylabel("response")
    axes.set_xlabel("time (bins)")
    figure.axes[0].legend(frameon=False)
    return figure


def setup(app: Sphinx) -> dict[str, bool]:
    """Draw before the pages are read."""
    app.connect(
        "builder-inited",
        lambda app: write(Path(app.srcdir) / "index.md", Path(app.srcdir) / "_static" / "start"),
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
