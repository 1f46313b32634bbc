"""``calepin transfer``: learn a new linear layer on top of a known generator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.learning import history_section, residual_section, some_samples
from calepin.cli.options import SEED, Default, Force, Seed, Writes, given
from calepin.cli.output import Debug, Json, Output, Quiet
from calepin.cli.report import MOST_SHOWN, ReportOut, data_section, save_report

if TYPE_CHECKING:
    import numpy as np

    from calepin.report.page import Section

__all__ = ["EXAMPLES", "transfer"]

EXAMPLES = [
    ("calepin transfer --generator vae-mnist --data new.npy -o model.safetensors", ""),
    ("calepin transfer --generator G.safetensors --data new.npy -o model.safetensors --n-starts 8", ""),
]

_LEARNER = "calepin.estimators.generative:GenerativeDictionaryLearner"


def transfer(
    generator: Annotated[
        str,
        typer.Option(
            "--generator",
            "-g",
            metavar="G",
            help="vae-mnist, vae-digits, or a .safetensors file with a generator or a VAE.",
        ),
    ],
    data: Annotated[
        Path, typer.Option("--data", metavar="NEW.npy", help="Samples (n_samples, ...), one per row.")
    ],
    output_path: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="MODEL.safetensors", help="File for the model."),
        Writes(".safetensors"),
    ],
    n_starts: Annotated[
        int | None,
        typer.Option(metavar="N", help="Random starts of each decoding."),
        Default(_LEARNER, "n_starts"),
    ] = None,
    prior: Annotated[
        float | None,
        typer.Option(metavar="P", help="Precision of a normal prior on the latents."),
        Default(_LEARNER, "prior"),
    ] = None,
    max_iter: Annotated[
        int | None,
        typer.Option(metavar="N", help="Passes over the data; too many overfit few samples."),
        Default(_LEARNER, "max_iter"),
    ] = None,
    report: ReportOut = None,
    seed: Seed = SEED,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn a new linear layer on top of a trained generator, from a few dozen samples.

    The last layer of the decoder of a VAE is replaced by the new one. Samples are flattened. The model is
    for compress, decompress and denoise-samples.
    """
    from calepin.datasets.arrays import load_samples
    from calepin.estimators.generative import GenerativeDictionaryLearner
    from calepin.networks.pretrained_networks import open_generator

    output = Output(quiet, as_json)
    X = load_samples(data)
    settings = given(n_starts=n_starts, prior=prior, max_iter=max_iter)
    learner = GenerativeDictionaryLearner(
        open_generator(generator), random_state=seed, verbose=not quiet, **settings
    ).fit(X.reshape(len(X), -1))
    learner.save(output_path)
    last = learner.history_[-1]
    output.line(
        f"{len(X)} samples, latents of {learner.latent_dim_}, "
        f"{learner.n_determined_} of {learner.n_directions_} directions determined"
    )
    output.line(
        f"objective {last['objective']:.5g} after {learner.n_iter_} passes; "
        f"{output_path}, {last['seconds']:.1f} s"
    )
    result = {
        "n_samples": len(X),
        "n_features": learner.n_features_in_,
        "latent_dim": learner.latent_dim_,
        "n_passes": learner.n_iter_,
        "objective": last["objective"],
        "seconds": last["seconds"],
        "directions_determined": learner.n_determined_,
        "directions": learner.n_directions_,
        "written": [str(path) for path in (output_path, report) if path is not None],
    }
    output.result(result)
    if report is not None:
        save_report(report, f"Layer learned from {data.name}", result, _sections(learner, X, data))


def _sections(learner: Any, X: "np.ndarray", data: Path) -> list["Section"]:
    """Return the sections of a report: history, the layer, what the data determine, and residuals."""
    import numpy as np

    from calepin.report.atoms import atom_figure
    from calepin.report.page import Section

    samples, rows = some_samples(X.reshape(len(X), -1))
    latents = learner.transform(samples)
    energy = np.square(learner.components_).sum(axis=1)
    order = np.argsort(-energy, kind="stable")[:MOST_SHOWN]
    text = (
        f"The new layer maps {len(energy)} outputs of the generator to {samples.shape[1]} features. "
        f"The data determine {learner.n_determined_} of its {learner.n_directions_} directions; "
        "what it does in the others is arbitrary."
    )
    caption = f"The {len(order)} rows of the layer with the largest norms: number and norm"
    labels = [f"{i}: {energy[i] ** 0.5:.2g}" for i in order]
    layer = atom_figure(learner.components_[order], labels=labels)
    more = {f"standard deviation of latent {i}": value for i, value in enumerate(latents.std(axis=0)[:10])}
    return [
        history_section(learner.history_),
        Section("Layer", text, figures={caption: layer}),
        residual_section(samples, learner.inverse_transform(latents), rows, more),
        data_section([data], {"samples": X}),
    ]
