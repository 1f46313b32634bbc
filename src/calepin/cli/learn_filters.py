"""``calepin learn-filters``: learn short filters that occur anywhere in a signal."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from calepin.cli.learning import (
    Checkpoint,
    CheckpointSeconds,
    DictionaryOut,
    Resume,
    fit,
    read_init,
    show_result,
    write_report,
)
from calepin.cli.options import SEED, Default, Force, Seed, given, refuse
from calepin.cli.output import Debug, Json, Output, Quiet
from calepin.cli.report import ReportOut

__all__ = ["EXAMPLES", "FilterCoder", "learn_filters"]

EXAMPLES = [
    ("calepin learn-filters sound.npy -o filters.safetensors --n-components 8 --kernel-size 50", ""),
    (
        "calepin learn-filters counts.npy -o filters.safetensors --kernel-size 50 --likelihood binomial "
        "--trials 25 --alpha 9",
        "counts out of 25",
    ),
    (
        "calepin learn-filters eeg.npy -o filters.safetensors --kernel-size 100 --rank 1 --detrend linear",
        "channels of one source",
    ),
    ("calepin learn-filters images.npy -o filters.safetensors --kernel-size 8x8 --alpha 0.1", ""),
]

LEARNER = "calepin.estimators.convolutional:ConvolutionalDictionaryLearner"


class Family(StrEnum):
    """Distribution of the signals given their mean."""

    gaussian = "gaussian"
    binomial = "binomial"
    poisson = "poisson"


class FilterCoder(StrEnum):
    """How signals are coded."""

    auto = "auto"
    fista = "fista"
    ista = "ista"
    exact = "exact"
    bcomp = "bcomp"


def learn_filters(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA.npy", help="Signals (n, channels, *spatial), or (n, length)."),
    ],
    output_path: DictionaryOut,
    n_components: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of filters, by default that of a file --init."),
        Default(LEARNER, "n_components"),
    ] = None,
    kernel_size: Annotated[
        str | None,
        typer.Option(metavar="K", help="Size of a filter, 50 or 8x8, by default that of a file --init."),
        Default(LEARNER, "kernel_size"),
    ] = None,
    kernel_seconds: Annotated[
        float | None,
        typer.Option(metavar="S", help="Length of a filter in seconds, with --sampling-rate."),
    ] = None,
    sampling_rate: Annotated[
        float | None,
        typer.Option(metavar="HZ", help="Sampling rate of the signals: figures are drawn over seconds."),
    ] = None,
    likelihood: Annotated[
        Family | None,
        typer.Option(help="Likelihood of the data, with identity, logit or log link."),
        Default(LEARNER, "likelihood"),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(metavar="M", help="Number of trials of a binomial count."),
        Default(LEARNER, "trials"),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            metavar="A", help="Weight of the l1 norm, in the units of the signals; auto: from the signals."
        ),
        Default(LEARNER, "alpha"),
    ] = None,
    alpha_scaled: Annotated[
        float | None,
        typer.Option(
            metavar="F", help="Weight as a fraction of the largest correlation, in place of --alpha."
        ),
        Default(LEARNER, "alpha_scaled"),
    ] = None,
    nonnegative: Annotated[
        bool, typer.Option("--nonnegative", help="Keep codes nonnegative."), Default(LEARNER, "nonnegative")
    ] = False,
    stride: Annotated[
        int | None,
        typer.Option(metavar="S", help="Distance of neighbouring filter positions, for fista and ista."),
        Default(LEARNER, "stride"),
    ] = None,
    coder: Annotated[
        FilterCoder | None, typer.Option(help="How signals are coded."), Default(LEARNER, "coder")
    ] = None,
    n_nonzero: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Events of a signal, for bcomp; largest number of peaks, for --debias."
        ),
        Default(LEARNER, "n_nonzero"),
    ] = None,
    debias: Annotated[
        bool,
        typer.Option("--debias", help="Refit codes on their peaks, without penalty."),
        Default(LEARNER, "debias"),
    ] = False,
    offset: Annotated[
        float | None,
        typer.Option(metavar="MU", help="Baseline of all signals. [default: 0; for counts it is fitted]"),
        Default(LEARNER, "offset"),
    ] = None,
    detrend: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="Baseline of real numbers: auto, constant, linear, none, or samples between knots.",
        ),
        Default(LEARNER, "detrend"),
    ] = None,
    robust: Annotated[
        str | None,
        typer.Option(
            metavar="K", help="Deviations beyond which a window is left out as an artefact, or none."
        ),
        Default(LEARNER, "robust"),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(metavar="1", help="1: filters are a pattern of the channels times a waveform."),
    ] = None,
    n_init: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of initialisations, of which the best goes on."),
        Default(LEARNER, "n_init"),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="Initial filters: data, random, or the file of filters."),
        Default(LEARNER, "init"),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Signals in a step; auto: 64, fewer if memory is short."),
        Default(LEARNER, "batch_size"),
    ] = None,
    max_iter: Annotated[
        int | None,
        typer.Option(metavar="N", help="Largest number of passes over the data."),
        Default(LEARNER, "max_iter"),
    ] = None,
    tol: Annotated[
        float | None,
        typer.Option(metavar="T", help="Stop when a pass improves the objective by less than this fraction."),
        Default(LEARNER, "tol"),
    ] = None,
    checkpoint: Checkpoint = None,
    checkpoint_seconds: CheckpointSeconds = None,
    resume: Resume = False,
    report: ReportOut = None,
    seed: Seed = SEED,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn filters from signals in an .npy file: real numbers, binomial counts, or Poisson counts.

    A signal is a baseline plus filters at a few positions. Minimises the mean over signals of the
    negative log-likelihood plus alpha ||z||_1, or with n-nonzero events in each code z.
    """
    from calepin.datasets.arrays import open_signals

    output = Output(quiet, as_json)
    if likelihood is not Family.binomial:
        refuse({"--trials": trials}, "has an effect only with --likelihood binomial")
    if coder is FilterCoder.bcomp:
        unused = {"--alpha": alpha, "--alpha-scaled": alpha_scaled}
        refuse(unused, "has no effect with --coder bcomp: --n-nonzero limits its codes")
    elif not debias:
        refuse({"--n-nonzero": n_nonzero}, "has an effect only with --coder bcomp or --debias")
    if coder in (FilterCoder.exact, FilterCoder.bcomp):
        refuse({"--stride": stride}, f"has no effect with --coder {coder}, which uses every position")
    if checkpoint is None:
        refuse(
            {"--checkpoint-seconds": checkpoint_seconds, "--resume": resume or None},
            "has no effect without --checkpoint",
        )
    if kernel_seconds is not None:
        refuse({"--kernel-size": kernel_size}, "has no effect with --kernel-seconds")
    sizes = None if kernel_size is None else parse_sizes(kernel_size, "--kernel-size")
    X = open_signals(data)
    from calepin.estimators.convolutional import ConvolutionalDictionaryLearner
    from calepin.learning.filter_set import FilterSet

    start = read_init(init)
    if start is not None and not isinstance(start, str):
        if start.ndim < 3:
            raise ValueError(f"--init: expected the file of filters, {init} holds atoms: use calepin learn")
        n_components = len(start) if n_components is None else n_components
        sizes = start.shape[2:] if sizes is None and kernel_seconds is None else sizes
    learner = ConvolutionalDictionaryLearner(
        **given(
            n_components=n_components,
            kernel_size=sizes,
            kernel_seconds=kernel_seconds,
            sampling_rate=sampling_rate,
            likelihood=likelihood,
            trials=trials,
            alpha=alpha,
            alpha_scaled=alpha_scaled,
            nonnegative=nonnegative,
            stride=stride,
            coder=coder,
            n_nonzero=n_nonzero,
            debias=debias,
            offset=offset,
            detrend=None if detrend == "none" else _number_or_word("--detrend", detrend, int),
            robust=None if robust == "none" else _number_or_word("--robust", robust, float),
            filters=None if rank is None else FilterSet(rank=rank),
            n_init=n_init,
            init=start,
            batch_size=batch_size,
            max_iter=max_iter,
            tol=tol,
            checkpoint=checkpoint,
            checkpoint_seconds=checkpoint_seconds,
            resume=resume,
        ),
        random_state=seed,
        verbose=not quiet,
    )
    switched_off = {"detrend": detrend == "none", "robust": robust == "none"}
    learner.set_params(**{name: None for name, off in switched_off.items() if off})
    fit(learner, X, output)
    learner.save(output_path)
    n_components, n_channels, *kernel = learner.components_.shape
    what = f"{n_components} filters of {' x '.join(map(str, kernel))}, {n_channels} channels"
    shape = {"n_channels": n_channels, "kernel_size": kernel}
    result = show_result(output, learner, output_path, what=what, shape=shape, unit="filters")
    write_report(report, learner, X, data, result, output)


def _number_or_word(option: str, text: str | None, kind: type[int] | type[float]) -> Any:
    """Return the number in a text, or the text if it is one of the words of --detrend."""
    if text is None or (kind is int and text in ("auto", "constant", "linear")):
        return text
    try:
        return kind(text)
    except ValueError:
        words = "auto, constant, linear, none or a number of samples" if kind is int else "a number or none"
        raise typer.BadParameter(f"expected {words}, got {text!r}", param_hint=option) from None


def parse_sizes(text: str, option: str) -> int | tuple[int, ...]:
    """Return the sizes in a text such as 50 or 8x8."""
    try:
        sizes = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise typer.BadParameter(f"expected a size such as 50, or 8x8, got {text!r}", param_hint=option)
    return sizes[0] if len(sizes) == 1 else sizes
