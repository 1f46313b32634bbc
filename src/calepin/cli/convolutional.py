"""Convolutional dictionaries in files: ``learn --convolutional``, and ``encode`` and ``decode`` with them."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calepin.cli.output import Output, peak_memory_mb
from calepin.core.paths import check_output
from calepin.datasets.arrays import open_array, open_filter_codes

if TYPE_CHECKING:
    import numpy as np

    from calepin.estimators.convolutional import ConvolutionalDictionaryLearner

__all__ = [
    "decode_filters",
    "draw_filters",
    "encode_filters",
    "holds_filters",
    "learn_filters",
    "parse_sizes",
]

BLOCK = 256  # signals that are coded or decoded at a time: bounds the memory


def holds_filters(path: Path) -> bool:
    """Return whether a dictionary file holds convolutional filters."""
    from calepin.core.files import read_header

    return read_header(path)["parameters"].get("class") == "ConvolutionalDictionaryLearner"


def open_signals(path: Path) -> "np.ndarray":
    """Memory-map signals (n, channels, *spatial); (n, length) are signals of one channel."""
    X = open_array(path)
    if not 2 <= X.ndim <= 5 or 0 in X.shape or X.dtype.kind not in "fiub":
        raise ValueError(
            f"{path}: expected real numbers of shape (n, channels, *spatial) or (n, length), "
            f"got {X.dtype} of shape {X.shape}"
        )
    return X[:, None] if X.ndim == 2 else X


def parse_sizes(text: str, option: str) -> int | tuple[int, ...]:
    """Read 50, or 8x8."""
    try:
        sizes = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{option}: expected a size such as 50, or 8x8, got {text!r}")
    return sizes[0] if len(sizes) == 1 else sizes


def learn_filters(data: Path, output_path: Path, output: Output, **settings: Any) -> None:
    """Learn filters from the signals of an .npy file, save them and say how it went."""
    X = open_signals(data)
    check_output(output_path)
    from calepin.estimators.convolutional import ConvolutionalDictionaryLearner

    learner = ConvolutionalDictionaryLearner(**settings)
    try:
        learner.fit(X)
    except KeyboardInterrupt:
        if settings["checkpoint"] is not None:
            output.note(f"{settings['checkpoint']} holds the state of the run; --resume goes on from it")
        raise
    learner.save(output_path)
    history, shape = learner.history_, learner.components_.shape
    result = {
        "n_atoms": shape[0],
        "n_channels": shape[1],
        "kernel_size": list(shape[2:]),
        "n_iter": learner.n_iter_,
        "converged": learner.converged_,
        "objective": history[-1]["objective"] if history else None,
        "n_replaced": int(sum(record["n_replaced"] for record in history)),
        "seconds": round(history[-1]["seconds"], 3) if history else 0.0,
        "peak_memory_mb": peak_memory_mb(),
        "output": str(output_path),
    }
    size = " x ".join(str(n) for n in shape[2:])
    end = "converged" if learner.converged_ else "max-iter reached"
    objective = f", objective {result['objective']:.6g}" if history else ""
    output.line(
        f"{shape[0]} filters of {size}, {shape[1]} channels, {learner.n_iter_} passes ({end}){objective}, "
        f"{result['n_replaced']} filters replaced\n{output_path} in {result['seconds']:.1f} s"
    )
    output.result(result)


def encode_filters(
    data: Path, dictionary: Path, output_path: Path, output: Output, *, shown: bool, **changes: Any
) -> None:
    """Write codes, and the offsets that belong to them, as one .npz file."""
    import numpy as np

    from calepin.core.files import atomic_write
    from calepin.core.progress import progress_bar

    X = open_signals(data)
    check_output(output_path, ".npz")
    learner = _load(dictionary).set_params(
        **{name: value for name, value in changes.items() if value is not None}
    )
    begun = time.perf_counter()
    codes, offsets = [], []
    with progress_bar("encoding", total=len(X), shown=shown) as bar:
        for start in range(0, len(X), BLOCK):
            found = learner.encode(np.asarray(X[start : start + BLOCK]))
            codes.append(found.codes)
            offsets.append(found.offset)
            bar.update(min(start + BLOCK, len(X)))
    whole = np.concatenate(codes)
    with atomic_write(output_path) as temporary:
        np.savez_compressed(temporary, codes=whole, offset=np.concatenate(offsets))
    result = {
        "n_signals": len(X),
        "shape": list(whole.shape),
        "mean_nonzero": float((whole != 0).sum() / len(X)),
        "seconds": round(time.perf_counter() - begun, 3),
        "peak_memory_mb": peak_memory_mb(),
        "output": str(output_path),
    }
    output.line(
        f"{len(X)} signals, {result['mean_nonzero']:.1f} events each\n"
        f"{output_path} in {result['seconds']:.1f} s"
    )
    output.result(result)


def decode_filters(codes_path: Path, dictionary: Path, output_path: Path, output: Output) -> None:
    """Write the mean signals that codes stand for."""
    import numpy as np

    from calepin.core.files import atomic_write

    codes, offset = open_filter_codes(codes_path)
    check_output(output_path, ".npy")
    learner = _load(dictionary)
    means = np.concatenate(
        [
            learner.inverse_transform(codes[start : start + BLOCK], offset=offset[start : start + BLOCK])
            for start in range(0, len(codes), BLOCK)
        ]
    )
    with atomic_write(output_path) as temporary:
        np.save(temporary, means, allow_pickle=False)
    output.line(f"{len(means)} signals of shape {means.shape[1:]}\n{output_path}")
    output.result({"n_signals": len(means), "shape": list(means.shape), "output": str(output_path)})


def draw_filters(filters: "np.ndarray", output_path: Path) -> str:
    """Draw filters, each channel beside the last: curves along one axis, tiles along two."""
    from calepin.datasets.images import Image, write_image
    from calepin.report.atoms import atom_curves, atom_tiles
    from calepin.report.figures import save_figure

    if filters.ndim > 4:
        raise ValueError(f"filters of {filters.ndim - 2} axes cannot be drawn, expected one or two")
    each = filters.reshape(-1, *filters.shape[2:])
    if filters.ndim == 3:
        save_figure(atom_curves(each), output_path)
        return "curves"
    write_image(output_path, Image(atom_tiles(each, each.shape[1:])))
    return "patches"


def _load(path: Path) -> "ConvolutionalDictionaryLearner":
    from calepin.estimators.convolutional import ConvolutionalDictionaryLearner

    return ConvolutionalDictionaryLearner.load(path)
