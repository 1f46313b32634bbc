"""``calepin encode`` and ``calepin decode``: from samples to codes and back."""

import inspect
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.learn import Coder
from calepin.cli.learn_filters import FilterCoder
from calepin.cli.learning import without_missing
from calepin.cli.options import Force, Writes, given, refuse
from calepin.cli.output import Debug, Json, Output, Quiet, peak_memory_mb

if TYPE_CHECKING:
    from calepin.estimators.convolutional import ConvolutionalDictionaryLearner
    from calepin.estimators.dictionary import DictionaryLearner
    from calepin.estimators.unfolded import UnfoldedDictionaryLearner

__all__ = ["DECODE_EXAMPLES", "ENCODE_EXAMPLES", "decode", "encode"]

ENCODE_EXAMPLES = [
    ("calepin encode patches.npy --dict atoms.safetensors -o codes.npz", "as in learning"),
    ("calepin encode patches.npy --dict atoms.safetensors -o codes.npz --coder ols --n-nonzero 5", ""),
]
DECODE_EXAMPLES = [("calepin decode codes.npz --dict atoms.safetensors -o decoded.npy", "")]

BLOCK = 16384  # samples coded or decoded at a time, to bound the memory
SIGNALS = 256  # the same for signals, whose codes are dense
PURSUITS = ("omp", "ols", "bcomp")


class AnyCoder(StrEnum):
    """How samples are coded: the first four are for atoms, the others for filters."""

    lasso = "lasso"
    omp = "omp"
    ols = "ols"
    iht = "iht"
    fista = "fista"
    ista = "ista"
    exact = "exact"
    bcomp = "bcomp"


DictionaryFile = Annotated[
    Path,
    typer.Option("--dict", "-d", metavar="DICT", help="Dictionary from learn or learn-filters."),
]


def encode(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA.npy",
            help="Samples (n_samples, n_features); for filters signals, as for learn-filters.",
        ),
    ],
    dictionary: DictionaryFile,
    output_path: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="CODES.npz", help="File for the codes."),
        Writes(".npz"),
    ],
    coder: Annotated[
        AnyCoder | None, typer.Option(help="How samples are coded. [default: as in learning]")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(metavar="A", help="Weight of the l1 norm. [default: as in learning]")
    ] = None,
    n_nonzero: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Largest number of nonzeros in a code, for a pursuit. [default: as in learning]"
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the sparse codes of samples.

    By default coder and penalty are those of learning. For atoms, read the codes with
    scipy.sparse.load_npz; for filters, read the arrays codes and offset with numpy.load.
    """
    output = Output(quiet, as_json)
    name = None if coder is None else coder.value
    begun = time.perf_counter()
    if _holds_filters(dictionary):
        result, said = _encode_signals(data, _filters(dictionary, name, alpha, n_nonzero), output_path, quiet)
    else:
        result, said = _encode_samples(data, _atoms(dictionary, name, alpha, n_nonzero), output_path, quiet)
    seconds = round(time.perf_counter() - begun, 3)
    output.line(f"{said}\n{output_path} in {seconds:.1f} s")
    output.result(
        {**result, "seconds": seconds, "peak_memory_mb": peak_memory_mb(), "output": str(output_path)}
    )


def decode(
    codes_path: Annotated[Path, typer.Argument(metavar="CODES.npz", help="Codes from encode.")],
    dictionary: DictionaryFile,
    output_path: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DATA.npy", help="File for the samples."),
        Writes(".npy"),
    ],
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the samples of codes: codes times atoms, or for filters the mean signals."""
    output = Output(quiet, as_json)
    of = _decode_signals if _holds_filters(dictionary) else _decode_samples
    result, said = of(codes_path, dictionary, output_path)
    output.line(f"{said}\n{output_path}")
    output.result({**result, "output": str(output_path)})


def _encode_samples(
    data: Path, learner: "DictionaryLearner | UnfoldedDictionaryLearner", path: Path, quiet: bool
) -> tuple[dict[str, Any], str]:
    import numpy as np
    from scipy import sparse

    from calepin.core.files import atomic_write
    from calepin.core.progress import progress_bar
    from calepin.datasets.arrays import open_samples

    X = open_samples(data)
    blocks, error, energy = [], 0.0, 0.0
    with progress_bar("encoding", total=len(X), shown=not quiet) as bar:
        for start in range(0, len(X), BLOCK):
            block = np.asarray(X[start : start + BLOCK])
            with without_missing():
                codes = sparse.csr_array(learner.transform(block))
            error += float(((block - learner.inverse_transform(codes)) ** 2).sum())
            energy += float((block.astype(np.float64) ** 2).sum())
            blocks.append(codes)
            bar.update(start + len(block))
    codes: Any = sparse.vstack(blocks, format="csr")
    with atomic_write(path) as temporary:
        sparse.save_npz(temporary, codes)
    result = {
        "n_samples": len(X),
        "n_components": codes.shape[1],
        "mean_nonzero": codes.nnz / len(X),
        "relative_error": (error / energy) ** 0.5 if energy else None,
    }
    explained = f", relative error {result['relative_error']:.4g}" if energy else ""
    said = f"{len(X)} samples, {result['mean_nonzero']:.1f} of {codes.shape[1]} atoms each{explained}"
    return result, said


def _encode_signals(
    data: Path, learner: "ConvolutionalDictionaryLearner", path: Path, quiet: bool
) -> tuple[dict[str, Any], str]:
    import numpy as np

    from calepin.core.files import atomic_write
    from calepin.core.progress import progress_bar
    from calepin.datasets.arrays import open_signals

    X = open_signals(data)
    codes, offsets = [], []
    with progress_bar("encoding", total=len(X), shown=not quiet) as bar:
        for start in range(0, len(X), SIGNALS):
            found = learner.encode(np.asarray(X[start : start + SIGNALS]))
            codes.append(found.codes)
            offsets.append(found.offset)
            bar.update(min(start + SIGNALS, len(X)))
    whole = np.concatenate(codes)
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, codes=whole, offset=np.concatenate(offsets))
    result = {
        "n_signals": len(X),
        "shape": list(whole.shape),
        "mean_nonzero": float((whole != 0).sum() / len(X)),
    }
    return result, f"{len(X)} signals, {result['mean_nonzero']:.1f} events each"


def _decode_samples(codes_path: Path, dictionary: Path, path: Path) -> tuple[dict[str, Any], str]:
    import numpy as np

    from calepin.core.files import atomic_write
    from calepin.datasets.arrays import open_codes

    codes = open_codes(codes_path)
    learner = _load_atoms(dictionary, unused={"coder", "penalty", "rule", "optimizer", "likelihood"})
    n_components, n_features = learner.components_.shape
    if codes.shape[1] != n_components:
        raise ValueError(
            f"{codes_path} holds codes over {codes.shape[1]} atoms, {dictionary} has {n_components}"
        )
    n_samples = codes.shape[0]
    dtype = np.result_type(codes.dtype, learner.components_.dtype)
    header = {"descr": dtype.str, "fortran_order": False, "shape": (n_samples, n_features)}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        # in blocks, and not through a memory map: on a full disk that ends in a bus error
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, n_samples, BLOCK):
            block = learner.inverse_transform(codes[start : start + BLOCK])
            file.write(np.ascontiguousarray(block, dtype).data)
    said = f"{n_samples} samples of {n_features} features from {n_components} atoms"
    return {"n_samples": n_samples, "n_features": n_features}, said


def _decode_signals(codes_path: Path, dictionary: Path, path: Path) -> tuple[dict[str, Any], str]:
    import numpy as np

    from calepin.core.files import save_array
    from calepin.datasets.arrays import open_filter_codes
    from calepin.estimators.convolutional import ConvolutionalDictionaryLearner

    codes, offset = open_filter_codes(codes_path)
    learner = _load(
        ConvolutionalDictionaryLearner, dictionary, unused={"coder", "penalty", "rule", "optimizer"}
    )
    means = np.concatenate(
        [
            learner.inverse_transform(codes[start : start + SIGNALS], offset=offset[start : start + SIGNALS])
            for start in range(0, len(codes), SIGNALS)
        ]
    )
    save_array(path, means)
    said = f"{len(means)} signals of shape {means.shape[1:]}"
    return {"n_signals": len(means), "shape": list(means.shape)}, said


def _holds_filters(path: Path) -> bool:
    from calepin.core.files import read_header

    return read_header(path)["parameters"].get("class") == "ConvolutionalDictionaryLearner"


def _filters(
    path: Path, coder: str | None, alpha: float | None, n_nonzero: int | None
) -> "ConvolutionalDictionaryLearner":
    """Return the learner of filters, with the coder of learning unless options change it."""
    from calepin.estimators.convolutional import ConvolutionalDictionaryLearner

    if coder is not None:
        _check_coder(coder, FilterCoder, f"the filters of {path}")
    learner = _load(ConvolutionalDictionaryLearner, path, unused=_of_coding(coder))
    chosen = coder or learner.coder
    _refuse_unused(chosen, alpha, None if learner.debias else n_nonzero)
    return learner.set_params(**given(coder=coder, alpha=alpha, n_nonzero=n_nonzero))


def _atoms(
    path: Path, coder: str | None, alpha: float | None, n_nonzero: int | None
) -> "DictionaryLearner | UnfoldedDictionaryLearner":
    """Return the learner of atoms, with the coder of learning unless options change it."""
    from calepin.core.files import read_header
    from calepin.estimators.unfolded import UnfoldedDictionaryLearner

    learner = _load_atoms(path, unused=_of_coding(coder))
    if isinstance(learner, UnfoldedDictionaryLearner):
        layers = f"has no effect: {path} uses the layers it was learned with"
        refuse({"--coder": coder, "--n-nonzero": n_nonzero}, layers)
        if learner.learn_threshold:
            refuse({"--alpha": alpha}, f"has no effect: {path} holds learned thresholds")
        return learner.set_params(**given(alpha=alpha))
    if coder is not None:
        _check_coder(coder, Coder, f"the atoms of {path}")
    learned = "estimator" in read_header(path)["parameters"]
    if coder is None and not learned and (alpha is None) == (n_nonzero is None):
        raise ValueError(f"{path} does not say how it was learned: give --alpha, or --n-nonzero")
    if coder is None and n_nonzero is not None and not (learned and learner.coder in PURSUITS):
        coder = Coder.omp.value
    _refuse_unused(coder or (learner.coder if learned else None), alpha, n_nonzero)
    return learner.set_params(**given(coder=coder, alpha=alpha, n_nonzero=n_nonzero))


def _check_coder(coder: str, known: type[StrEnum], what: str) -> None:
    names = [one.value for one in known]
    if coder not in names:
        raise typer.BadParameter(
            f"expected one of {', '.join(names)} for {what}, got {coder}", param_hint="--coder"
        )


def _refuse_unused(coder: Any, alpha: float | None, n_nonzero: int | None) -> None:
    if coder in PURSUITS:
        refuse({"--alpha": alpha}, f"has no effect with coder {coder}: --n-nonzero limits its codes")
    else:
        refuse({"--n-nonzero": n_nonzero}, f"has no effect with coder {coder or 'lasso'}")


def _of_coding(coder: str | None) -> set[str]:
    """Return the parameters that coding does not use: with a coder of the options, those of learning."""
    return {"optimizer"} if coder is None else {"optimizer", "coder", "penalty", "rule"}


def _load(learner: Any, path: Path, *, unused: set[str]) -> Any:
    """Return the learner of a file; objects that are not used here take their defaults."""
    from calepin.core.files import read_header
    from calepin.core.reading import reading

    with reading(path, "dictionary"):
        objects = {str(name) for name in read_header(path)["parameters"].get("objects", [])}
    if objects - unused:
        name = min(objects - unused)
        raise ValueError(
            f"{path} was learned with an object as {name}, which no option can give: "
            f"in Python, {learner.__name__}.load(path, {name}=...) takes it"
        )
    defaults = inspect.signature(learner).parameters
    return learner.load(path, **{name: defaults[name].default for name in objects})


def _load_atoms(path: Path, *, unused: set[str]) -> "DictionaryLearner | UnfoldedDictionaryLearner":
    """Return the learner of atoms, with the class that wrote the file."""
    from calepin.core.files import load_arrays
    from calepin.estimators.dictionary import DictionaryLearner
    from calepin.estimators.unfolded import UnfoldedDictionaryLearner

    unfolded = load_arrays(path, "dictionary")[1].get("class") == UnfoldedDictionaryLearner.__name__
    return _load(UnfoldedDictionaryLearner if unfolded else DictionaryLearner, path, unused=unused)
