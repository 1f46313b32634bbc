"""The report of ``calepin denoise``: images, what was removed, and the atoms with their use."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from calepin.cli.report import atom_sections, data_section, history_figure, save_report

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from calepin.imaging.result import DenoiseResult
    from calepin.imaging.scenes import Scene
    from calepin.report.page import Section

__all__ = ["write_report"]


def write_report(
    path: Path | None,
    name: str,
    scene: "Scene",
    result: "DenoiseResult",
    values: dict[str, Any],
    images: "Figure",
    inputs: list[Path | None],
) -> None:
    """Write the report of a denoised image, with a figure of the images and the values of --json."""
    if path is None:
        return
    from calepin.report.page import Section

    titles = [axes.get_title() for axes in images.axes if axes.get_title()]  # too small on a narrow screen
    sections = [
        Section("Images", figures={f"From left: {', '.join(titles)}; below, an enlarged detail": images}),
        _residual_section(scene, result),
        *_learning_sections(scene, result),
        data_section(inputs, {"noisy image": scene.observed}),
    ]
    save_report(path, f"{name}, denoised", values, sections)


def _residual_section(scene: "Scene", result: "DenoiseResult") -> "Section":
    """Return a section about what was removed, which should look like noise."""
    import numpy as np

    from calepin.report.notebook import image_snippet
    from calepin.report.page import Section

    removed = scene.unit * (np.asarray(scene.observed, np.float64) - result.image)
    spread = float(removed.std())
    table = {"mean": float(removed.mean()), "standard deviation": spread}
    if result.sigma is not None:
        table["standard deviation of the noise"] = scene.unit * result.sigma
    caption = "Noisy minus denoised image, from -3 (black) to 3 (white) standard deviations"
    shown = image_snippet(np.clip(0.5 + removed / (6 * spread if spread else 1), 0, 1))
    return Section(
        "Residuals",
        "What was removed. Outlines in it are parts of the image that were lost. Numbers are on a scale from "
        "black, 0, to white, 1.",
        table=table,
        figures={caption: shown},
    )


def _learning_sections(scene: "Scene", result: "DenoiseResult") -> list["Section"]:
    """Return sections with the history and the atoms, if atoms were learned."""
    if result.atoms is None or not result.history:
        return []
    from calepin.datasets.correlated_noise import CorrelatedNoise
    from calepin.imaging.first_pass import USE_PATCHES, atom_use
    from calepin.report.page import Section

    objective = [record["objective"] for record in result.history]
    figure = history_figure({"objective": objective}, xlabel="pass", ylabel="objective")
    history = Section("History", figures={"Mean objective of the patches in each pass of learning": figure})
    if isinstance(result.noise, CorrelatedNoise):
        return [history]  # codes of whitened patches, whose use is not that of the atoms as patches
    use = atom_use(_planes(scene, result), result.atoms)
    meaning = "fraction of patches that use it"
    measured = f"{USE_PATCHES:,} random patches, coded to the level of the noise"
    return [history, *atom_sections(result.atoms, use, meaning=meaning, measured=measured)]


def _planes(scene: "Scene", result: "DenoiseResult") -> "NDArray[np.float32]":
    """Return the planes that were coded, in units of the noise."""
    from calepin.cli.noise_files import level_of
    from calepin.imaging.counts import photons_of
    from calepin.imaging.result import to_planes
    from calepin.imaging.stabilisation import Stabiliser

    sigma = level_of(result.noise)
    if sigma is not None:
        return to_planes(scene.observed, sigma)
    photons, read = photons_of(scene.observed, cast("Any", result.noise))
    return to_planes(Stabiliser(read=read).apply(photons), 1.0)
