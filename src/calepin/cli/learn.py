"""``calepin learn``: learn a dictionary whose atoms have the length of the samples."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

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

__all__ = ["EXAMPLES", "Coder", "learn"]

EXAMPLES = [
    ("calepin learn patches.npy -o atoms.safetensors --n-components 256 --alpha 0.1", ""),
    ("calepin learn patches.npy -o atoms.safetensors --rule ksvd --coder omp --n-nonzero 5", ""),
    ("calepin learn patches.npy -o atoms.safetensors --report report.html", "also a report"),
    ("calepin learn big.npy -o atoms.safetensors --checkpoint run.safetensors --resume", ""),
]

LEARNER = "calepin.estimators.dictionary:DictionaryLearner"


class Rule(StrEnum):
    """How atoms are updated."""

    online = "online"
    mod = "mod"
    ksvd = "ksvd"
    noodl = "noodl"


class Coder(StrEnum):
    """How samples are coded."""

    lasso = "lasso"
    omp = "omp"
    ols = "ols"
    iht = "iht"


def learn(
    data: Annotated[
        Path, typer.Argument(metavar="DATA.npy", help="Samples (n_samples, n_features), one per row.")
    ],
    output_path: DictionaryOut,
    n_components: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of atoms. [default: those of --init, else n_features]"),
        Default(LEARNER, "n_components"),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(metavar="A", help="Weight of the l1 norm for coder lasso; threshold of coder iht."),
        Default(LEARNER, "alpha"),
    ] = None,
    rule: Annotated[
        Rule | None, typer.Option(help="How atoms are updated."), Default(LEARNER, "rule")
    ] = None,
    coder: Annotated[
        Coder | None,
        typer.Option(help="How samples are coded. [default: iht for noodl, else lasso]"),
        Default(LEARNER, "coder"),
    ] = None,
    n_nonzero: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Largest number of atoms in a code, for omp and ols. [default: n_features / 10]"
        ),
        Default(LEARNER, "n_nonzero"),
    ] = None,
    nonnegative: Annotated[
        bool, typer.Option("--nonnegative", help="Keep codes nonnegative."), Default(LEARNER, "nonnegative")
    ] = False,
    nonnegative_atoms: Annotated[
        bool,
        typer.Option("--nonnegative-atoms", help="Keep atoms nonnegative."),
        Default(LEARNER, "nonnegative_atoms"),
    ] = False,
    center: Annotated[
        bool,
        typer.Option("--center", help="Subtract the mean of each feature, which is kept with the atoms."),
        Default(LEARNER, "center"),
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="Initial atoms: data, dct, random, or the file of a dictionary."),
        Default(LEARNER, "init"),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Samples in a step; auto: 512, or all for ksvd."),
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
    """Learn a dictionary from samples in an .npy file.

    The file is memory-mapped and may be larger than memory. Minimises the mean over samples of
    0.5 ||x - z D||^2 + alpha ||z||_1, or with at most n-nonzero entries in each code z.
    """
    from calepin.datasets.arrays import open_samples

    output = Output(quiet, as_json)
    if coder in (Coder.omp, Coder.ols):
        refuse({"--alpha": alpha}, f"has no effect with --coder {coder}: --n-nonzero limits its codes")
    else:
        refuse({"--n-nonzero": n_nonzero}, "has an effect only with --coder omp or ols")
    if checkpoint is None:
        refuse(
            {"--checkpoint-seconds": checkpoint_seconds, "--resume": resume or None},
            "has no effect without --checkpoint",
        )
    X = open_samples(data)
    from calepin.estimators.dictionary import DictionaryLearner

    start = read_init(init)
    if n_components is None and start is not None and not isinstance(start, str):
        n_components = len(start)
    learner = DictionaryLearner(
        **given(
            n_components=n_components,
            alpha=alpha,
            rule=rule,
            coder=coder,
            n_nonzero=n_nonzero,
            nonnegative=nonnegative,
            nonnegative_atoms=nonnegative_atoms,
            center=center,
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
    fit(learner, X, output)
    learner.save(output_path)
    n_components, n_features = learner.components_.shape
    what = f"{n_components} atoms of {n_features} features"
    shape = {"n_features": n_features}
    result = show_result(output, learner, output_path, what=what, shape=shape, unit="atoms")
    write_report(report, learner, X, data, result, output)
