"""Parts that all commands share: the program itself, common options, and how results are printed."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeVar

import typer
from rich.markup import escape

from xvectors.cli.terminal import print

if TYPE_CHECKING:
    from xvectors.audio import Channel

F = TypeVar("F", bound=Callable[..., Any])

app = typer.Typer(
    name="xvectors",
    help="Speaker recognition: verify and identify speakers, train systems, and measure them.",
    epilog="Start here:\n  xvectors verify a.wav b.wav\n  xvectors COMMAND --help",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

USAGE_ERROR: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""The error of typer for wrong arguments; recent versions no longer take it from click."""
ERROR_STATUS = 2
SIGNAL_STATUS = 128
"""Exit status of a command that a signal ends, less the signal's number, as shells report it."""

RECOGNIZE = "Recognize speakers"
TRAIN = "Train a system"
MEASURE = "Measure a system"
EMBED = "Embed, import and export"
TRY = "Try without recordings"


def command(panel: str, *examples: str, name: str | None = None, group: typer.Typer = app) -> Callable[[F], F]:
    """Register a function, `NAME_command`, as a command of `group` under the heading `panel` of the help.

    The function's docstring becomes the help text, followed by `examples`. Paragraphs are refilled and square
    brackets escaped, because typer keeps line breaks and reads brackets as markup.
    """

    def register(function: F) -> F:
        paragraphs = (inspect.getdoc(function) or "").split("\n\n")
        group.command(
            name or function.__name__.removesuffix("_command"),
            help="\n\n".join(escape(" ".join(paragraph.split())) for paragraph in paragraphs),
            epilog="\n  ".join([f"Example{'s' * (len(examples) > 1)}:", *map(escape, examples)]),
            rich_help_panel=panel,
        )(function)
        return function

    return register


def usage_lines(error: Any) -> list[str]:
    """Describe a `USAGE_ERROR`: the command's usage and what is wrong."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # typer has printed the help already
        return []
    if context is None:
        return [f"error: {error.format_message()}"]
    message = error.format_message().removesuffix(".")
    more = f"; {context.command_path} --help explains the arguments" if "Did you mean" not in message else ""
    return [*context.get_usage().splitlines(), f"error: {message}{more}"]


def one_of(*names: str) -> Callable[[str], list[str]]:
    """Complete an option in the shell with one of these names."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def _trust(packages: list[str] | None) -> list[str] | None:
    from xvectors.config import trust

    trust(*(packages or ()))
    return packages


System = Annotated[
    Path, typer.Argument(metavar="DIR", help="System directory, as written by `xvectors train`, or `starter`.")
]
"""The system as the subject of a command, such as `evaluate`."""
Embeddings = Annotated[
    Path | None,
    typer.Option(
        metavar="EMB",
        help="Embeddings of any network instead of recordings: npz or Parquet with ids and vectors, or written by "
        "`xvectors embed`.",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="TABLE",
        help="With --embeddings: CSV with the columns id (or path) and speaker, and perhaps gender, session and "
        "duration_s. By default the speakers that EMB names.",
    ),
]
SystemOption = Annotated[
    str,
    typer.Option(
        "--system",
        metavar="SYSTEM",
        help="System to use: a directory, an exported .onnx file, hf://owner/name, or the bundled `starter`.",
    ),
]
"""The system as the tool of a command, such as `verify`."""
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Device to compute on: cpu, cuda, mps, or auto for the first of cuda, mps and cpu that is available.",
        autocompletion=one_of("auto", "cpu", "cuda", "mps"),
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not show progress bars.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Metadata = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Table that describes the recordings of a folder, such as VoxCeleb's vox2_meta.csv or a metadata_dev.csv.",
    ),
]
SpeakerLevel = Annotated[
    int | None,
    typer.Option(
        "--speaker-level",
        metavar="N",
        help="Depth of the speakers' folders in a corpus of folders: 1 for folders directly in DATA, 2 for one level "
        "deeper. By default 1; known corpora (LibriSpeech, VoxCeleb, TIMIT, VCTK, AISHELL) are recognized.",
        show_default=False,
    ),
]
PTarget = Annotated[
    float, typer.Option(metavar="P", help="Prior probability of a target trial, in minDCF and actDCF (0 to 1).")
]
CMiss = Annotated[float, typer.Option(metavar="C", help="Cost of a miss (false rejection), in minDCF and actDCF.")]
CFa = Annotated[
    float, typer.Option(metavar="C", help="Cost of a false alarm (false acceptance), in minDCF and actDCF.")
]
Speakers = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Speaker of each recording in the score files, for confidence intervals: lines `recording speaker` "
        "(Kaldi's utt2spk), a table with the columns id and speaker, or embeddings written by `xvectors embed`.",
    ),
]
GalleryOption = Annotated[
    str | None,
    typer.Option(
        "--gallery",
        metavar="GALLERY",
        envvar="XVECTORS_GALLERY",
        help="Gallery: the file of enrolled speakers, or postgresql://... for one on a server. By default "
        "gallery.sqlite in your user data folder.",
    ),
]
ChannelOption = Annotated[
    str | None,
    typer.Option(
        "--channel",
        metavar="CHANNEL",
        help="Channel of the recordings: mix (the mean), left, right, or a number from 0. By default the channel that "
        "the system was trained on, usually mix.",
        autocompletion=one_of("mix", "left", "right"),
    ),
]
AnyChannelOption = Annotated[
    str | None,
    typer.Option(
        "--channel",
        metavar="CHANNEL",
        help="Channel of the recordings: mix (the mean), left, right, a number from 0, or separate (each channel as a "
        "recording of its own). By default the channel that the system was trained on, usually mix.",
        autocompletion=one_of("mix", "left", "right", "separate"),
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="PACKAGE",
        callback=_trust,
        help="Python package whose code a recipe or system may run, as in model.name=mypackage.nets:Tiny. Repeat the "
        "option for more, or set XVECTORS_TRUST.",
    ),
]
"""Takes effect while the arguments are parsed, so that commands ignore its value."""


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Handle the options of the program itself."""
    if version:
        from xvectors import __version__

        print(__version__)
        raise typer.Exit


def print_lines(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Print each line as it comes, to standard output unless a stream is given."""
    for line in lines:
        print(line, file=stream or sys.stdout, flush=True)


def one_channel(text: str | None) -> Channel | None:
    """Parse --channel for a command that needs a single recording.

    Raises ConfigError for "separate", which makes several recordings of one file.
    """
    from xvectors.audio import as_channel
    from xvectors.errors import ConfigError

    channel = None if text is None else as_channel(text)
    if channel == "separate":
        raise ConfigError("--channel separate makes several recordings of one file; give left, right or a number here")
    return channel
