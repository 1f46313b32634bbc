"""The commands and their help."""

from typing import Annotated

import typer

from calepin import __version__
from calepin.cli import denoise, dictionary, generative, info, reconstruct, reproduce, spectrum, spikes
from calepin.cli.errors import USAGE
from calepin.cli.photons import PhotonCommand

__all__ = ["app"]

app = typer.Typer(
    name="calepin",
    help="Learn dictionaries and recover signals.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="calepin COMMAND --help shows the options of a command, with examples.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"calepin {__version__}")
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
    """Write examples one on a line; the mark keeps the help from filling them up to paragraphs."""
    lines = [f"  # {what}\n  {command}" if what else f"  {command}" for command, what in examples]
    return "\b\nExamples:\n" + "\n".join(lines)


app.command("denoise", cls=PhotonCommand, epilog=_epilog(denoise.EXAMPLES))(denoise.denoise)
app.command("learn", epilog=_epilog(dictionary.LEARN_EXAMPLES))(dictionary.learn)
app.command("encode", epilog=_epilog(dictionary.ENCODE_EXAMPLES))(dictionary.encode)
app.command("decode", epilog=_epilog(dictionary.DECODE_EXAMPLES))(dictionary.decode)
app.command("show", epilog=_epilog(dictionary.SHOW_EXAMPLES))(dictionary.show)
app.command("transfer", epilog=_epilog(generative.TRANSFER_EXAMPLES))(generative.transfer)
app.command("compress", epilog=_epilog(generative.COMPRESS_EXAMPLES))(generative.compress)
app.command("decompress", epilog=_epilog(generative.DECOMPRESS_EXAMPLES))(generative.decompress)
app.command("reconstruct", epilog=_epilog(reconstruct.EXAMPLES))(reconstruct.reconstruct)
app.command("spectrum", epilog=_epilog(spectrum.EXAMPLES))(spectrum.spectrum)
app.command("info", epilog=_epilog(info.EXAMPLES))(info.info)
app.command("spikes", epilog=_epilog(spikes.EXAMPLES))(spikes.spikes)
app.command("reproduce", epilog=_epilog(reproduce.EXAMPLES))(reproduce.reproduce)
