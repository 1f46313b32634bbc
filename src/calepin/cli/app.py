"""The commands and their help."""

from typing import Annotated

import typer

from calepin.cli import (
    codes,
    compress,
    deblur,
    demosaic,
    denoise,
    denoise_samples,
    doctor,
    info,
    inpaint,
    learn,
    learn_filters,
    reconstruct,
    reproduce,
    show,
    spectrum,
    spikes,
    transfer,
    upscale,
)
from calepin.cli.errors import USAGE
from calepin.cli.options import Command
from calepin.core.package import version as version_of_calepin

__all__ = ["app"]

app = typer.Typer(
    name="calepin",
    help="Learn dictionaries and recover signals.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="calepin COMMAND --help shows the options of a command, with examples.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"calepin {version_of_calepin()}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(USAGE)


def _epilog(examples: list[tuple[str, str]]) -> str:
    """Return the examples, one per line; a mark prevents the help from joining them into paragraphs."""
    lines = [f"  # {what}\n  {command}" if what else f"  {command}" for command, what in examples]
    return "\b\nExamples:\n" + "\n".join(lines)


for _name, _command, _examples in (
    ("denoise", denoise.denoise, denoise.EXAMPLES),
    ("denoise-samples", denoise_samples.denoise_samples, denoise_samples.EXAMPLES),
    ("inpaint", inpaint.inpaint, inpaint.EXAMPLES),
    ("deblur", deblur.deblur, deblur.EXAMPLES),
    ("upscale", upscale.upscale, upscale.EXAMPLES),
    ("demosaic", demosaic.demosaic, demosaic.EXAMPLES),
    ("learn", learn.learn, learn.EXAMPLES),
    ("learn-filters", learn_filters.learn_filters, learn_filters.EXAMPLES),
    ("encode", codes.encode, codes.ENCODE_EXAMPLES),
    ("decode", codes.decode, codes.DECODE_EXAMPLES),
    ("show", show.show, show.EXAMPLES),
    ("transfer", transfer.transfer, transfer.EXAMPLES),
    ("compress", compress.compress, compress.COMPRESS_EXAMPLES),
    ("decompress", compress.decompress, compress.DECOMPRESS_EXAMPLES),
    ("reconstruct", reconstruct.reconstruct, reconstruct.EXAMPLES),
    ("spectrum", spectrum.spectrum, spectrum.EXAMPLES),
    ("info", info.info, info.EXAMPLES),
    ("spikes", spikes.spikes, spikes.EXAMPLES),
    ("reproduce", reproduce.reproduce, reproduce.EXAMPLES),
    ("doctor", doctor.doctor, doctor.EXAMPLES),
):
    app.command(_name, cls=Command, epilog=_epilog(_examples))(_command)
