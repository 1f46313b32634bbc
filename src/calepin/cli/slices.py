"""``calepin reconstruct --mri``: slices of k-space, one, several of a file, or those of many files."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from calepin.cli.batches import IMAGES, Batch, file_beside, find_sources
from calepin.cli.errors import FAILED, is_out_of_memory, one_line
from calepin.cli.many import OF_A_FILE, Done, Report, Told
from calepin.cli.measures import Range, measure
from calepin.cli.options import given, refuse
from calepin.cli.output import Output, peak_memory_mb
from calepin.cli.restoring import PriorName
from calepin.cli.units import samples_of
from calepin.core.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calepin.datasets.images import Image
    from calepin.reconstruction.scans import Reconstruction, Scan

__all__ = ["SliceReader", "in_units", "magnitude", "reconstruct_files", "reconstruct_slices", "wanted_slices"]

STACKS = (".tif", ".tiff", ".npy")
BESIDE = {  # files of one slice, or folders of them: their suffixes, and those for people
    "--trajectory": ((".npy", ".cfl"), ".npy or .cfl"),
    "--sensitivities": ((".npy", ".mat", ".h5", ".hdf5", ".cfl"), ".npy or .cfl"),
    "--reference": (IMAGES, ".png, .tif or .npy"),
}
MISFIT = 0.3  # of the norm of the samples, above which a note asks whether the files fit
OTHER_UNITS = 2.0  # factor between a reference and the image, above which they are in different units


@dataclass(frozen=True, kw_only=True)
class SliceReader:
    """How a slice of k-space is read and reconstructed.

    Attributes
    ----------
    columns, size, prior, sigma, seed
        Options of the command.
    mask
        Samples that are known, or None.
    undersampling, fit
        Options of `scan_kspace` and of an untrained network that were given.
    beside
        Files of the options in `BESIDE` that were given, or folders of them.
    shape
        Size of the image along a trajectory, or None.
    """

    columns: str | None
    size: int | None
    mask: "NDArray | None"
    undersampling: dict[str, Any]
    prior: PriorName | None
    fit: dict[str, Any]
    sigma: float | None
    seed: int
    beside: Mapping[str, Path]
    shape: tuple[int, int] | None = None

    def file_of(self, option: str, source: Path) -> Path | None:
        """Return the file of an option in `BESIDE` for a file of k-space, None if it was not given."""
        if option not in self.beside:
            return None
        suffixes, named = BESIDE[option]
        return file_beside(source, self.beside[option], suffixes, option=option, named=named)

    def wanted(self, path: Path, which: str | None) -> Sequence[int]:
        """Return the slices of a file to reconstruct; along a trajectory a file has one."""
        from calepin.reconstruction.kspace import count_slices

        return [0] if "--trajectory" in self.beside else wanted_slices(which, count_slices(path))

    def scan(self, path: Path, index: int) -> "tuple[Scan, list[str]]":
        """Return the scan of a slice, and notes on it."""
        from calepin.reconstruction.kspace import read_kspace_slice
        from calepin.reconstruction.scans import scan_kspace
        from calepin.reconstruction.trajectories import read_samples, read_trajectory, scan_trajectory

        trajectory = self.file_of("--trajectory", path)
        if trajectory is not None:
            return scan_trajectory(read_samples(path), read_trajectory(trajectory), self.shape), []
        samples, notes = read_kspace_slice(path, index)
        one = samples[..., _parse_columns(self.columns, samples.shape[-1])]
        kspace = one[:, _middle(self.size, one.shape[1]), _middle(self.size, one.shape[2])]
        if not kspace.any():
            raise ValueError(f"{path}: expected k-space, got only zeros in slice {index}")
        if len(kspace) > min(kspace.shape[1:]):
            size = f"{kspace.shape[1]} x {kspace.shape[2]}"
            notes.append(f"{len(kspace)} coils of {size} samples: are coils the first axis?")
        scan = scan_kspace(kspace, mask=self.mask, seed=self.seed, **self.undersampling)
        return scan, [*notes, *scan.notes]

    def reconstruct(
        self,
        path: Path,
        scan: "Scan",
        note: Callable[[str], None],
        callback: Callable[[str, float], object] | None = None,
        *,
        verbose: bool = False,
    ) -> "tuple[Scan, Reconstruction]":
        """Return the scan of a slice, its truth the reference if there is one, and its reconstruction."""
        clean = self._reference(path, scan)
        found = self._reconstructed(path, scan, note, callback, verbose)
        if found.residual > MISFIT:
            along = "the trajectory and " if "--trajectory" in self.beside else ""
            note(
                f"the image does not explain {found.residual:.0%} of the samples: they are noisy, or "
                f"{along}the sensitivities of the coils do not fit"
            )
        return (scan, found) if clean is None else _compared(scan, found, clean, note)

    def _reconstructed(
        self,
        path: Path,
        scan: "Scan",
        note: Callable[[str], None],
        callback: Callable[[str, float], object] | None,
        verbose: bool,
    ) -> "Reconstruction":
        """Reconstruct by an untrained network if there is no other way, or if it is asked for."""
        from calepin.reconstruction.scans import full_scan, reconstruct_scan
        from calepin.restoration.scan import default_prior, restore_scan

        prior, maps = self.prior, self._sensitivities(path)
        known = prior is not None or maps is not None or default_prior(scan) != "untrained"
        if prior is not PriorName.untrained and known:
            names = {f"--{name.replace('_', '-')}": value for name, value in self.fit.items()}
            refuse(names, "goes with --prior untrained")
            chosen = given(prior=prior, noise=self.sigma)
            return restore_scan(scan, sensitivities=maps, callback=callback, **chosen)
        if not full_scan(scan):
            refuse({"--sigma": self.sigma}, "has no effect on an untrained network, see --prior")
        if prior is None and scan.y.shape[1] > 1:
            note("the middle of k-space is not fully sampled, which sensitivities need: --prior untrained")
        return reconstruct_scan(scan, random_state=self.seed, verbose=verbose, **self.fit)

    def _sensitivities(self, path: Path) -> "NDArray[np.complexfloating] | None":
        from calepin.reconstruction.kspace import read_sensitivities

        file = self.file_of("--sensitivities", path)
        return None if file is None else read_sensitivities(file)

    def _reference(self, path: Path, scan: "Scan") -> "Image | None":
        """Return the true image, a magnitude (h, w), None without one."""
        from calepin.datasets.images import read_image
        from calepin.datasets.stacks import type_of_samples

        file = self.file_of("--reference", path)
        if file is None:
            return None
        if scan.truth is not None:
            raise typer.BadParameter(
                "has no effect: the true image is that of the full k-space", param_hint="--reference"
            )
        expected = "reference: expected the magnitude of an image"
        dtype = type_of_samples(file)
        if dtype is not None and dtype.kind == "c":
            raise ValueError(f"{expected}, got {file} of {dtype}: numpy.abs returns it")
        clean = read_image(file, value_range="auto")
        size = scan.operator.in_shape[1:]
        if clean.pixels.shape != size:
            more = ", see --shape" if "--trajectory" in self.beside else ""
            raise ValueError(f"{expected} of shape {size}, got {file} of shape {clean.pixels.shape}{more}")
        unit, black = samples_of(clean)
        low, high = (unit * float(end) + black for end in (clean.pixels.min(), clean.pixels.max()))
        if low < 0:
            raise ValueError(f"{expected}, at least 0, got {file} from {low:.4g} to {high:.4g}")
        if high == 0:
            raise ValueError(f"{expected} that is not 0 everywhere, got {file}")
        return clean

    def predicted_errors(
        self,
        path: Path,
        scan: "Scan",
        found: "Reconstruction",
        callback: Callable[[str, float], object],
    ) -> "NDArray[np.floating]":
        """Return the standard deviation of the error of each pixel, in the units of `magnitude`."""
        from calepin.restoration.scan import default_prior
        from calepin.restoration.scan_error import error_map

        maps = self._sensitivities(path)
        prior = default_prior(scan) if maps is None else "groups"
        chosen: dict[str, Any] = {"prior": prior, **given(prior=self.prior, noise=self.sigma)}
        return scan.scale * error_map(
            scan, found, sensitivities=maps, random_state=self.seed, callback=callback, **chosen
        )


def _compared(
    scan: "Scan", found: "Reconstruction", clean: "Image", note: Callable[[str], None]
) -> "tuple[Scan, Reconstruction]":
    """Return a scan whose truth is a magnitude, and its reconstruction in the range of it.

    A magnitude in the units of k-space is taken as it is, another at the scale of least squares. Integers of
    8 or 16 bits have no units.
    """
    from calepin.reconstruction.scans import projected_back, shown

    unit, black = samples_of(clean)
    values = unit * clean.pixels.astype("float64") + black
    image = magnitude(scan, found)
    factor = float((values * image).sum() / max((image.astype("float64") ** 2).sum(), 1e-300))
    unitless = clean.levels is None and clean.bits <= 16
    if unitless or not 1 / OTHER_UNITS < factor < OTHER_UNITS:
        note(f"--reference is not in the units of k-space: its values are divided by {factor:.6g}")
        values = values / factor
    peak = float(values.max())
    show = shown(peak / scan.scale)
    scan = replace(scan, truth=values / peak, show=show)
    return scan, replace(found, image=show(found.x), adjoint=show(projected_back(scan)))


def wanted_slices(text: str | None, n_slices: int) -> Sequence[int]:
    """Return the slices of --slice: N, FIRST:LAST without the last, or all; the middle one by default.

    Raises
    ------
    typer.BadParameter
        For slices that the file does not have.
    """
    if text is None:
        return [n_slices // 2]
    if text == "all":
        return range(n_slices)
    first, colon, last = text.partition(":")
    try:
        start, stop = int(first or 0), int(last or n_slices) if colon else int(first) + 1
    except ValueError:
        raise typer.BadParameter(
            f"expected N, FIRST:LAST or all, got {text!r}", param_hint="--slice"
        ) from None
    if not 0 <= start < stop <= n_slices:
        expected = f"0:{n_slices}, the last one left out" if colon else f"0 to {n_slices - 1}"
        raise typer.BadParameter(f"expected {expected}, got {text}", param_hint="--slice")
    return range(start, stop)


def magnitude(scan: "Scan", found: "Reconstruction") -> "NDArray[np.floating]":
    """Return the magnitude (h, w) of all coils in the units of the inverse transform of k-space."""
    from calepin.operators.fourier import root_sum_of_squares

    return (scan.scale * root_sum_of_squares(found.x)[0, 0]).float().numpy()


def in_units(values: "NDArray[np.floating]") -> "Image":
    """Return an image whose samples in a file are values of at least 0."""
    from calepin.datasets.images import Image, Levels

    levels = Levels(0.0, float(values.max()) or 1.0, "float32")
    return Image(values / levels.white, 32, levels=levels)


class _Slices:
    """The slices of one file as they become images; those that are not done are NaN."""

    def __init__(self, source: Path, wanted: Sequence[int], reader: SliceReader, output: Output) -> None:
        self.source, self.wanted, self.reader, self.output = source, wanted, reader, output
        self.images: dict[int, NDArray[np.floating]] = {}
        self.values: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []

    def fill(self, report: Callable[[float, str], object]) -> None:
        """Reconstruct all slices, and print a line of each; one that fails does not stop the others.

        The error of the only slice is that of the file.
        """
        for place, index in enumerate(self.wanted):
            name = f"slice {index}"

            def part(stage: str, fraction: float, place: int = place, name: str = name) -> None:
                report((place + fraction) / len(self.wanted), f"{name}, {stage}")

            report(place / len(self.wanted), name)
            try:
                self._fill_one(index, part)
            except OF_A_FILE as error:
                if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                    raise
                if len(self.wanted) == 1 or (isinstance(error, typer.BadParameter) and place == 0):
                    raise  # an option that is wrong for all slices: nothing is lost
                text = one_line(error)
                text = text.removeprefix(f"{self.source}: ")
                self.failed.append({"slice": index, "error": text})
                self.output.error(f"{self._named(index)}: {text}", error)

    def _named(self, index: int) -> str:
        along = "--trajectory" in self.reader.beside
        return str(self.source) if along else f"{self.source}: slice {index}"

    def _fill_one(self, index: int, part: Callable[[str, float], object]) -> None:
        from calepin.datasets.images import Image

        begun = time.perf_counter()

        def note(text: str) -> None:
            self.output.note(f"{self._named(index)}: {text}")

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scan, notes = self.reader.scan(self.source, index)
            scan, found = self.reader.reconstruct(self.source, scan, note, part)
        for text in dict.fromkeys([*notes, *(one_line(warning.message) for warning in caught)]):
            note(text)
        self.images[index] = magnitude(scan, found)
        scale = None if scan.truth is None else Range.of(Image(scan.truth, 32), Image(found.image, 32), None)
        before, after = (measure(pixels, scan.truth, scale) for pixels in (found.adjoint, found.image))
        seconds = round(time.perf_counter() - begun, 3)
        height, width = found.image.shape
        text = f"{width} x {height}, {scan.fraction:.1%} of the samples, residual {found.residual:.3g}"
        if after.psnr is not None:
            text += f", PSNR {after.psnr:.2f} dB (zero filling {before.psnr:.2f}; {scale})"
        if after.ssim is not None:
            text += f", SSIM {after.ssim:.3f}"
        self.output.line(f"{self._named(index)}: {text}, {seconds:.1f} s")
        self.values.append(
            {
                "slice": index,
                "fraction": scan.fraction,
                "psnr_adjoint": before.psnr,
                "psnr": after.psnr,
                "ssim_adjoint": before.ssim,
                "ssim": after.ssim,
                "n_iter": found.n_iter,
                "residual": found.residual,
                "converged": found.converged,
                "seconds": seconds,
            }
        )

    def write(self, path: Path) -> None:
        """Write all slices in the units of k-space, (n, h, w), or a single one as an image (h, w).

        Raises
        ------
        ValueError
            If no slice was done, or they differ in size.
        """
        import numpy as np

        from calepin.datasets.stacks import Stack, write_stack

        if not self.images:
            raise ValueError(f"{self.source}: no slice could be reconstructed")
        shape = next(iter(self.images.values())).shape
        stack = np.full((len(self.wanted), *shape), np.nan, np.float32)
        for place, index in enumerate(self.wanted):
            stack[place] = self.images.get(index, np.nan)
        axes = "ZYX" if len(stack) > 1 else "YX"
        write_stack(path, Stack(stack if len(stack) > 1 else stack[0], axes))


def reconstruct_slices(
    output: Output, source: Path, wanted: Sequence[int], output_path: Path | None, reader: SliceReader
) -> None:
    """Reconstruct several slices of a file into one, and print a line of each.

    What is done is written also after Ctrl-C; the other slices are NaN.

    Raises
    ------
    typer.Exit
        With the status 1, after all others are done, if a slice failed.
    """
    if output_path is not None and output_path.suffix.lower() not in STACKS:
        expected = f"expected one of {', '.join(STACKS)} for {len(wanted)} slices, got {output_path.name}"
        raise typer.BadParameter(expected, param_hint="--output")
    begun = time.perf_counter()
    slices = _Slices(source, wanted, reader, output)
    try:
        with progress_bar("reconstructing", total=1, shown=not output.quiet) as bar:
            slices.fill(lambda done, note: bar.update(done, note))
    except KeyboardInterrupt:
        if output_path is not None and slices.images:
            slices.write(output_path)
            output.note(f"{output_path}: {len(slices.images)} of {len(wanted)} slices, the others are NaN")
        raise
    written = []
    if output_path is not None and slices.images:
        slices.write(output_path)
        written = [str(output_path)]
    seconds, memory = time.perf_counter() - begun, peak_memory_mb()
    failed = f", {len(slices.failed)} failed and are NaN" if slices.failed else ""
    spent = f"{seconds:.1f} s" + ("" if memory is None else f", peak memory {memory:.0f} MB")
    output.line(", ".join([*written, f"{len(slices.images)} slices{failed}", spent]))
    output.result(
        {
            "slices": slices.values,
            "failed": slices.failed,
            "seconds": round(seconds, 3),
            "peak_memory_mb": memory,
            "written": written,
        }
    )
    if slices.failed:
        raise typer.Exit(FAILED)


def reconstruct_files(
    output: Output,
    sources: Sequence[Path],
    folder: Path,
    which: str | None,
    reader: SliceReader,
    *,
    mask: Path | None,
    force: bool,
) -> None:
    """Reconstruct slices of many files, each into a TIFF of a folder, as `calepin.cli.many` does.

    Raises
    ------
    typer.Exit
        With the status 1, after all others are done, if a file or a slice failed.
    """
    from calepin.reconstruction.kspace import KSPACE_FILES

    along = "--trajectory" in reader.beside
    paths, single = find_sources(sources, folder, BESIDE["--trajectory"][0] if along else KSPACE_FILES)
    if single:
        raise typer.BadParameter(f"expected a folder, got {folder}", param_hint="--output")
    paths = [path for path in paths if path in sources or not _is_beside(path, reader)]

    def work(source: Path, target: Path, report: Report) -> Told:
        wanted = reader.wanted(source, which)
        if len(wanted) > 1:
            refuse(reader.beside, "is for one slice of a file")
        slices = _Slices(source, wanted, reader, output)
        slices.fill(lambda done, note: report(done))
        slices.write(target)
        files.failed += [{"image": str(source), **one} for one in slices.failed]
        n, failed = len(slices.images), f", {len(slices.failed)} failed and are NaN" if slices.failed else ""
        return f"{n} slice{'' if n == 1 else 's'}{failed}", {"slices": slices.values}

    settings = {
        "slice": which,
        "columns": reader.columns,
        "size": reader.size,
        "shape": reader.shape,
        "prior": reader.prior,
        "sigma": reader.sigma,
        "seed": reader.seed,
        **reader.undersampling,
        **reader.fit,
    }
    beside = {} if mask is None else {"--mask": dict.fromkeys(paths, mask)}
    batch = Batch(
        "reconstruct",
        paths,
        folder,
        settings,
        written=(),
        other=".tif",
        force=force,
        beside=beside | _beside(paths, reader),
    )
    files = Done(output, work, doing="reconstructing", done="files reconstructed")
    files.fill(batch, files.left(batch))
    files.show()


def _is_beside(path: Path, reader: SliceReader) -> bool:
    """Return whether a file that was found in a folder is the one of an option."""
    return any(file.exists() and path.samefile(file) for file in reader.beside.values())


def _beside(paths: Sequence[Path], reader: SliceReader) -> dict[str, dict[Path, Path]]:
    """Return the files of options that belong to files of k-space."""
    found: dict[str, dict[Path, Path]] = {}
    for option, path in reader.beside.items():
        if not path.exists():
            raise typer.BadParameter(
                f"expected a file or a folder, got {path}, which does not exist", param_hint=option
            )
        found[option] = {}
        for source in paths:
            with suppress(typer.BadParameter):  # said when it is the turn of the file
                file = reader.file_of(option, source)
                if file is not None:
                    found[option][source] = file
    return found


def _parse_columns(text: str | None, width: int) -> slice:
    """Return the range of --columns, whose central column must be the zero frequency."""
    if text is None:
        return slice(0, width)
    first, colon, last = text.partition(":")
    try:
        start, stop = int(first), int(last)
    except ValueError:
        start = stop = -1
    if not colon or not 0 <= start < stop <= width:
        raise typer.BadParameter(
            f"expected first:last within 0:{width}, got {text!r}", param_hint="--columns"
        )
    if start + (stop - start) // 2 != width // 2:
        raise typer.BadParameter(
            f"expected columns around the zero frequency, column {width // 2}, got {text!r}",
            param_hint="--columns",
        )
    return slice(start, stop)


def _middle(size: int | None, length: int) -> slice:
    """Return the `size` central lines of `length`, around the zero frequency; all by default."""
    wanted = min(size or length, length)
    start = length // 2 - wanted // 2
    return slice(start, start + wanted)
