"""What the commands share: the program, its common options, how they print."""

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
    help="Speaker recognition from recordings: verify and identify speakers, train systems, measure them.",
    epilog="Start here:\n  xvectors verify a.wav b.wav\n  xvectors COMMAND --help",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

USAGE_ERROR: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""What typer raises for arguments that it does not understand. Newer versions no longer take it from click."""
ERROR_STATUS = 2
SIGNAL_STATUS = 128
"""Plus the signal's number, as shells report it."""

RECOGNIZE = "Recognize speakers"
TRAIN = "Train a system"
MEASURE = "Measure a system"
EMBED = "Embed and export"
TRY = "Try without recordings"
PANELS = (RECOGNIZE, TRAIN, MEASURE, EMBED, TRY)
"""The groups of commands, in the order of the help."""


def command(panel: str, *examples: str, name: str | None = None, group: typer.Typer = app) -> Callable[[F], F]:
    """Register a function as a command of `group`, listed in the help's `panel`.

    Its docstring is the help, and `examples` end it. Typer keeps line breaks and reads square brackets as markup;
    here a paragraph is refilled and brackets are printed.
    """

    def register(function: F) -> F:
        paragraphs = (inspect.getdoc(function) or "").split("\n\n")
        group.command(
            name,
            help="\n\n".join(escape(" ".join(paragraph.split())) for paragraph in paragraphs),
            epilog="\n  ".join([f"Example{'s' * (len(examples) > 1)}:", *map(escape, examples)]),
            rich_help_panel=panel,
        )(function)
        return function

    return register


def usage_lines(error: Any) -> list[str]:
    """What to print about a `USAGE_ERROR`."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is printed as it is made
        return []
    if context is None:
        return [f"error: {error.format_message()}"]
    message = error.format_message().removesuffix(".")
    more = f"; {context.command_path} --help explains the arguments" if "Did you mean" not in message else ""
    return [*context.get_usage().splitlines(), f"error: {message}{more}"]


def one_of(*names: str) -> Callable[[str], list[str]]:
    """A shell's completion of an option that takes one of these."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def _trust(packages: list[str] | None) -> list[str] | None:
    from xvectors.config import trust

    trust(*(packages or ()))
    return packages


Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="PACKAGE",
        callback=_trust,
        help="Import code of this package where a recipe or system names it, as in mypackage.nets:Tiny; may be "
        "repeated. XVECTORS_TRUST does the same.",
    ),
]
"""Acts as it is parsed: the commands have no use for its value."""
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Where to compute: cuda, mps, cpu, or auto for the first of these that is available.",
        autocompletion=one_of("auto", "cpu", "cuda", "mps"),
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bars, only results and warnings.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Metadata = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Table that describes a folder's recordings, such as vox2_meta.csv or metadata_dev.csv."
    ),
]
SpeakerLevel = Annotated[
    int | None,
    typer.Option(
        "--speaker-level",
        metavar="N",
        help="How deep the speakers' folders lie in a corpus of folders: 1 directly in it, 2 one folder deeper. "
        "By default 1; known corpora (LibriSpeech, VoxCeleb, TIMIT, VCTK, AISHELL) are recognized.",
        show_default=False,
    ),
]
PTarget = Annotated[float, typer.Option(metavar="P", help="Prior probability of a target trial, in minDCF and actDCF.")]
Speakers = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Speaker of each recording, for the confidence intervals of score files: lines `recording speaker` "
        "(utt2spk), a table with the columns id and speaker, or embeddings written by `xvectors embed`.",
    ),
]
CMiss = Annotated[float, typer.Option(metavar="C", help="Cost of a miss (false rejection), in minDCF and actDCF.")]
CFa = Annotated[
    float, typer.Option(metavar="C", help="Cost of a false alarm (false acceptance), in minDCF and actDCF.")
]
GalleryPath = Annotated[
    Path | None,
    typer.Option(
        "--gallery",
        metavar="FILE",
        envvar="XVECTORS_GALLERY",
        help="File that holds the enrolled speakers; by default gallery.sqlite in your data directory.",
    ),
]
ChannelOption = Annotated[
    str | None,
    typer.Option(
        "--channel",
        metavar="CHANNEL",
        help="Channel of the recordings: mix, left, right, a number from 0, or separate (each by itself: embed and "
        "identify); by default the system's, usually mix.",
        autocompletion=one_of("mix", "left", "right", "separate"),
    ),
]
SystemOption = Annotated[
    str,
    typer.Option(
        "--system",
        metavar="DIR",
        help="System to use: a directory, an exported .onnx file, hf://owner/name, or the bundled starter system.",
    ),
]
System = Annotated[
    Path, typer.Argument(metavar="DIR", help="System directory, as `xvectors train` writes it, or `starter`.")
]


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Options of the program itself."""
    if version:
        from xvectors import __version__

        print(__version__)
        raise typer.Exit


def print_lines(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Print each line as it comes, to the standard output unless a stream is given."""
    for line in lines:
        print(line, file=stream or sys.stdout, flush=True)


def one_channel(text: str | None) -> Channel | None:
    """The channel that --channel names; ConfigError for "separate", which gives two recordings of one."""
    from xvectors.audio import as_channel
    from xvectors.errors import ConfigError

    channel = None if text is None else as_channel(text)
    if channel == "separate":
        raise ConfigError("--channel separate gives several recordings of one; choose left, right or a number here")
    return channel
