"""``calepin learn``, ``encode``, ``decode`` and ``show``: dictionaries and codes in files."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.convolutional import (
    decode_filters,
    draw_filters,
    encode_filters,
    holds_filters,
    learn_filters,
    parse_sizes,
)
from calepin.cli.output import Debug, Json, Output, Quiet, peak_memory_mb
from calepin.core.paths import check_output
from calepin.datasets.arrays import open_codes, open_samples

if TYPE_CHECKING:
    import numpy as np

    from calepin.estimators.dictionary import DictionaryLearner
    from calepin.estimators.unfolded import UnfoldedDictionaryLearner

__all__ = ["decode", "encode", "learn", "show"]

LEARN_EXAMPLES = [
    ("calepin learn patches.npy -o atoms.safetensors --atoms 256 --alpha 0.1", ""),
    ("calepin learn patches.npy -o atoms.safetensors --rule ksvd --coder omp --n-nonzero 5", ""),
    (
        "calepin learn spikes.npy -o filters.safetensors --convolutional --kernel 50 "
        "--likelihood binomial --trials 25 --alpha 9",
        "filters of counts",
    ),
    ("calepin learn big.npy -o atoms.safetensors --checkpoint run.safetensors --resume", ""),
]
ENCODE_EXAMPLES = [
    ("calepin encode patches.npy --dict atoms.safetensors -o codes.npz", "as in learn"),
    ("calepin encode patches.npy --dict atoms.safetensors -o codes.npz --coder ols --n-nonzero 5", ""),
]
DECODE_EXAMPLES = [("calepin decode codes.npz --dict atoms.safetensors -o patches.npy", "")]
SHOW_EXAMPLES = [
    ("calepin show atoms.safetensors -o atoms.png", ""),
    ("calepin show atoms.safetensors -o atoms.png --shape 4x16", "atoms that are no square"),
]

BLOCK = 16384  # samples that are coded or decoded at a time: bounds the memory


class Rule(StrEnum):
    """How atoms move."""

    online = "online"
    mod = "mod"
    ksvd = "ksvd"
    noodl = "noodl"


class Family(StrEnum):
    """How signals scatter around their mean."""

    gaussian = "gaussian"
    binomial = "binomial"
    poisson = "poisson"


class Coder(StrEnum):
    """How samples are coded."""

    lasso = "lasso"
    omp = "omp"
    ols = "ols"
    iht = "iht"
    fista = "fista"
    ista = "ista"
    exact = "exact"
    bcomp = "bcomp"


DictionaryFile = Annotated[
    Path, typer.Option("--dict", "-d", metavar="DICT", help="Dictionary that learn wrote.")
]


def learn(
    data: Annotated[
        Path, typer.Argument(metavar="DATA.npy", help="Samples (n_samples, n_features), one a row.")
    ],
    output_path: Annotated[
        Path, typer.Option("--output", "-o", metavar="DICT.safetensors", help="Where the atoms go.")
    ],
    n_components: Annotated[
        int | None,
        typer.Option(
            "--n-components",
            "--atoms",
            metavar="N",
            help="Number of atoms. [default: those of --init, else n_features]",
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option(metavar="A", help="Weight of the l1 norm; the threshold of coder iht.")
    ] = 1.0,
    rule: Annotated[Rule, typer.Option(help="How atoms move.")] = Rule.online,
    coder: Annotated[
        Coder | None,
        typer.Option(help="How samples are coded. [default: iht for noodl, else lasso]"),
    ] = None,
    n_nonzero: Annotated[
        int | None,
        typer.Option(metavar="N", help="Atoms in a code of omp and ols. [default: n_features / 10]"),
    ] = None,
    init: Annotated[
        str, typer.Option(metavar="HOW", help="data, dct, random, or the file of a dictionary to start from.")
    ] = "data",
    max_iter: Annotated[int, typer.Option(metavar="N", help="Passes over the data, at most.")] = 30,
    tol: Annotated[
        float,
        typer.Option(metavar="T", help="Stop when a pass improves the objective by less than this share."),
    ] = 1e-3,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Samples in a step. [default: 512, all for ksvd]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="All randomness follows from it.")] = 0,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File for the state of the run: every minute and on Ctrl-C."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    convolutional: Annotated[
        bool,
        typer.Option(
            "--convolutional", help="Learn filters of signals (n, channels, *spatial) or (n, length)."
        ),
    ] = False,
    kernel: Annotated[
        str | None, typer.Option(metavar="K", help="Size of a filter, 50 or 8x8; with --convolutional.")
    ] = None,
    likelihood: Annotated[
        Family, typer.Option(help="Family of the data; counts with --convolutional alone.")
    ] = Family.gaussian,
    trials: Annotated[int, typer.Option(metavar="M", help="Trials behind a binomial count.")] = 1,
    offset: Annotated[
        float | None,
        typer.Option(metavar="MU", help="Baseline of the filters' signals. [default: fitted to counts]"),
    ] = None,
    stride: Annotated[int, typer.Option(metavar="S", help="Distance of positions of a filter.")] = 1,
    nonnegative: Annotated[bool, typer.Option("--nonnegative", help="Nonnegative codes of filters.")] = False,
    debias: Annotated[bool, typer.Option("--debias", help="Re-fit codes of filters on their peaks.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn a dictionary from samples in an .npy file.

    The file is memory-mapped: it may be larger than memory. Minimises the mean over samples of
    0.5 ||x - z D||^2 + alpha ||z||_1, or with at most n-nonzero entries in each code z. With
    --convolutional, atoms are filters that may stand anywhere, and data may be counts.
    """
    output = Output(quiet, as_json)
    if convolutional:
        if kernel is None:
            raise ValueError("--kernel: expected the size of a filter with --convolutional, got none")
        learn_filters(
            data,
            output_path,
            output,
            n_atoms=8 if n_components is None else n_components,
            kernel_size=parse_sizes(kernel, "--kernel"),
            likelihood=likelihood.value,
            trials=trials,
            alpha=alpha,
            nonnegative=nonnegative,
            stride=stride,
            coder="fista" if coder is None else coder.value,
            n_nonzero=n_nonzero,
            debias=debias,
            offset=offset,
            init=_read_init(init),
            batch_size="auto" if batch_size is None else batch_size,
            max_iter=max_iter,
            tol=tol,
            checkpoint=checkpoint,
            resume=resume,
            random_state=seed,
            verbose=not quiet,
        )
        return
    if kernel is not None or likelihood is not Family.gaussian:
        raise ValueError("--kernel and --likelihood: expected --convolutional beside them")
    X = open_samples(data)
    check_output(output_path)
    from calepin.estimators.dictionary import DictionaryLearner

    start = _read_init(init)
    if n_components is None and not isinstance(start, str):
        n_components = len(start)
    coder_name: Any = None if coder is None else coder.value  # which of them serve is the learner's to say
    learner = DictionaryLearner(
        n_components,
        alpha=alpha,
        rule=rule.value,
        coder=coder_name,
        n_nonzero=n_nonzero,
        init=start,
        batch_size="auto" if batch_size is None else batch_size,
        max_iter=max_iter,
        tol=tol,
        checkpoint=checkpoint,
        resume=resume,
        random_state=seed,
        verbose=not quiet,
    )
    try:
        learner.fit(X)
    except KeyboardInterrupt:
        if checkpoint is not None:
            output.note(f"{checkpoint} holds the state of the run; --resume goes on from it")
        raise
    learner.save(output_path)
    _report_learning(output, learner, output_path)


def encode(
    data: Annotated[
        Path, typer.Argument(metavar="DATA.npy", help="Samples (n_samples, n_features), one a row.")
    ],
    dictionary: DictionaryFile,
    output_path: Annotated[
        Path, typer.Option("--output", "-o", metavar="CODES.npz", help="Where the codes go.")
    ],
    coder: Annotated[
        Coder | None, typer.Option(help="How samples are coded. [default: as in learning]")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(metavar="A", help="Weight of the l1 norm. [default: as in learning]")
    ] = None,
    n_nonzero: Annotated[
        int | None, typer.Option(metavar="N", help="Atoms in a code. [default: as in learning]")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the sparse codes of samples.

    The file is one that scipy.sparse.load_npz reads. The coder and its penalty are those of learning
    unless told otherwise.
    """
    import time

    import numpy as np
    from scipy import sparse

    from calepin.core.files import atomic_write
    from calepin.core.progress import progress_bar

    output = Output(quiet, as_json)
    if holds_filters(dictionary):
        name = None if coder is None else coder.value
        encode_filters(
            data, dictionary, output_path, output,
            shown=not quiet, coder=name, alpha=alpha, n_nonzero=n_nonzero,
        )  # fmt: skip
        return
    X = open_samples(data)
    check_output(output_path, ".npz")
    learner = _load_learner(dictionary, coder, alpha, n_nonzero)
    begun = time.perf_counter()
    blocks, error, energy = [], 0.0, 0.0
    with progress_bar("encoding", total=len(X), shown=not quiet) as bar:
        for start in range(0, len(X), BLOCK):
            block = np.asarray(X[start : start + BLOCK])
            codes = sparse.csr_array(learner.transform(block))
            error += float(((block - codes @ learner.components_) ** 2).sum())
            energy += float((block.astype(np.float64) ** 2).sum())
            blocks.append(codes)
            bar.update(start + len(block))
    codes: Any = sparse.vstack(blocks, format="csr")
    with atomic_write(output_path) as temporary:
        sparse.save_npz(temporary, codes)
    result = {
        "n_samples": len(X),
        "n_components": codes.shape[1],
        "mean_nonzero": codes.nnz / len(X),
        "relative_error": (error / energy) ** 0.5 if energy else None,
        "seconds": round(time.perf_counter() - begun, 3),
        "peak_memory_mb": peak_memory_mb(),
        "output": str(output_path),
    }
    explained = f", relative error {result['relative_error']:.4g}" if energy else ""
    output.line(
        f"{len(X)} samples, {result['mean_nonzero']:.1f} of {codes.shape[1]} atoms each{explained}\n"
        f"{output_path} in {result['seconds']:.1f} s"
    )
    output.result(result)


def decode(
    codes_path: Annotated[Path, typer.Argument(metavar="CODES.npz", help="Codes that encode wrote.")],
    dictionary: DictionaryFile,
    output_path: Annotated[
        Path, typer.Option("--output", "-o", metavar="DATA.npy", help="Where the samples go.")
    ],
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the samples that codes stand for: codes times atoms."""
    import numpy as np

    from calepin.core.files import atomic_write

    output = Output(quiet, as_json)
    if holds_filters(dictionary):
        decode_filters(codes_path, dictionary, output_path, output)
        return
    codes = open_codes(codes_path)
    check_output(output_path, ".npy")
    learner = _load_any(dictionary)
    n_components, n_features = learner.components_.shape
    if codes.shape[1] != n_components:
        raise ValueError(
            f"{codes_path} holds codes over {codes.shape[1]} atoms, {dictionary} has {n_components}"
        )
    n_samples = codes.shape[0]
    dtype = np.result_type(codes.dtype, learner.components_.dtype)
    with atomic_write(output_path) as temporary:
        samples = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=(n_samples, n_features))
        for start in range(0, n_samples, BLOCK):
            samples[start : start + BLOCK] = learner.inverse_transform(codes[start : start + BLOCK])
        samples.flush()
        del samples
    output.line(f"{n_samples} samples of {n_features} features from {n_components} atoms\n{output_path}")
    output.result({"n_samples": n_samples, "n_features": n_features, "output": str(output_path)})


def show(
    dictionary: Annotated[Path, typer.Argument(metavar="DICT", help="Dictionary file.")],
    output_path: Annotated[Path, typer.Option("--output", "-o", metavar="PNG", help="Where the image goes.")],
    shape: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Shape of an atom. [default: square patches, else curves]"),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw the atoms of a dictionary as one image."""
    from calepin.core.files import load_arrays
    from calepin.datasets.images import Image, check_image_path, write_image
    from calepin.report.atoms import atom_curves, atom_tiles, patch_shape
    from calepin.report.figures import save_figure

    output = Output(quiet, as_json)
    atoms = load_arrays(dictionary, "dictionary")[0]["components"]
    check_image_path(output_path)
    if atoms.ndim > 2:
        what = draw_filters(atoms, output_path)
        output.line(f"{len(atoms)} filters as {what}\n{output_path}")
        output.result({"n_components": len(atoms), "drawn_as": what, "output": str(output_path)})
        return
    wanted = _parse_shape(shape, atoms.shape[1])
    if wanted is None and patch_shape(atoms.shape[1]) is None:
        save_figure(atom_curves(atoms), output_path)
        what = "curves"
    else:
        write_image(output_path, Image(atom_tiles(atoms, wanted)))
        what = "patches"
    output.line(f"{len(atoms)} atoms as {what}\n{output_path}")
    output.result({"n_components": len(atoms), "drawn_as": what, "output": str(output_path)})


def _read_init(init: str) -> "str | np.ndarray":
    from calepin.core.files import load_arrays

    if init in {"data", "dct", "random"}:
        return init
    if not Path(init).exists():
        raise ValueError(f"init: expected data, dct, random or the file of a dictionary, got {init!r}")
    return load_arrays(init, "dictionary")[0]["components"]


def _load_learner(
    path: Path, coder: Coder | None, alpha: float | None, n_nonzero: int | None
) -> "DictionaryLearner | UnfoldedDictionaryLearner":
    """Return the dictionary with its coder as in learning, or as the options say."""
    from calepin.core.files import read_header
    from calepin.estimators.unfolded import UnfoldedDictionaryLearner

    learner = _load_any(path)
    if isinstance(learner, UnfoldedDictionaryLearner):
        if coder is not None or n_nonzero is not None:
            raise ValueError(
                f"{path} codes by the layers it was learned with: expected no --coder, no --n-nonzero"
            )
        return learner if alpha is None else learner.set_params(alpha=alpha)
    learned_so = "estimator" in read_header(path)["parameters"]
    if coder is None and not learned_so and (alpha is None) == (n_nonzero is None):
        raise ValueError(f"{path} does not say how it was learned: give --alpha, or --n-nonzero")
    if coder is None and n_nonzero is not None and (not learned_so or learner.coder not in ("omp", "ols")):
        coder = Coder.omp
    changes: dict[str, Any] = {"alpha": alpha, "n_nonzero": n_nonzero}
    if coder is not None:
        changes["coder"] = coder.value
    return learner.set_params(**{name: value for name, value in changes.items() if value is not None})


def _load_any(path: Path) -> "DictionaryLearner | UnfoldedDictionaryLearner":
    """Return the learner of a dense dictionary, of the class that wrote it."""
    from calepin.core.files import load_arrays
    from calepin.estimators.dictionary import DictionaryLearner
    from calepin.estimators.unfolded import UnfoldedDictionaryLearner

    unfolded = load_arrays(path, "dictionary")[1].get("class") == UnfoldedDictionaryLearner.__name__
    return (UnfoldedDictionaryLearner if unfolded else DictionaryLearner).load(path)


def _parse_shape(shape: str | None, n_features: int) -> tuple[int, ...] | None:
    if shape is None:
        return None
    try:
        numbers = tuple(int(part) for part in shape.lower().split("x"))
    except ValueError:
        numbers = ()
    if len(numbers) == 2 and 3 * numbers[0] * numbers[1] == n_features:
        numbers = (*numbers, 3)
    if len(numbers) not in {2, 3}:
        raise typer.BadParameter(f"expected HxW such as 8x8, got {shape!r}", param_hint="--shape")
    return numbers


def _report_learning(output: Output, learner: "DictionaryLearner", path: Path) -> None:
    history = learner.history_
    n_components, n_features = learner.components_.shape
    result = {
        "n_components": n_components,
        "n_features": n_features,
        "n_iter": learner.n_iter_,
        "converged": learner.converged_,
        "objective": history[-1]["objective"] if history else None,
        "n_replaced": int(sum(record["n_replaced"] for record in history)),
        "seconds": round(history[-1]["seconds"], 3) if history else 0.0,
        "peak_memory_mb": peak_memory_mb(),
        "output": str(path),
    }
    end = "converged" if learner.converged_ else "max-iter reached"
    objective = f", objective {result['objective']:.6g}" if history else ""
    output.line(
        f"{n_components} atoms of {n_features} features, {learner.n_iter_} passes ({end}){objective}, "
        f"{result['n_replaced']} atoms replaced\n{path} in {result['seconds']:.1f} s"
    )
    output.result(result)
