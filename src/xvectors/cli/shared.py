"""What the commands share: the program, its common options, how they print."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TextIO

import typer

app = typer.Typer(
    name="xvectors",
    help="Speaker recognition from a folder of recordings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ERROR_STATUS = 2
SIGNAL_STATUS = 128
"""Plus the signal's number, as shells report it."""

Device = Annotated[str, typer.Option(help="cuda, mps, cpu, or auto for the first of these that is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars; only results and warnings.")]
Json = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]
Metadata = Annotated[
    Path | None,
    typer.Option(help="The table that goes with a folder, such as vox2_meta.csv or metadata_dev.csv."),
]
PTarget = Annotated[float, typer.Option(metavar="P", help="How probable a target trial is, for minDCF and actual DCF.")]
Speakers = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Who speaks in each recording, for the intervals of score files: `recording speaker` lines (utt2spk), a "
        "table with id and speaker, or embeddings of `xvectors embed`.",
    ),
]
CMiss = Annotated[float, typer.Option(metavar="C", help="What a false rejection costs, for the same.")]
CFa = Annotated[float, typer.Option(metavar="C", help="What a false acceptance costs, for the same.")]
GalleryPath = Annotated[
    Path | None,
    typer.Option(
        "--gallery",
        metavar="FILE",
        envvar="XVECTORS_GALLERY",
        help="The gallery's file; by default gallery.sqlite in your data directory.",
    ),
]
OfSystem = Annotated[
    str,
    typer.Option(
        "--system",
        metavar="DIR",
        help="A system directory, or an exported .onnx file; by default the starter, which comes along.",
    ),
]
System = Annotated[Path, typer.Argument(metavar="DIR", help="A system directory, as `xvectors train` writes it.")]


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Options of the program itself."""
    if version:
        from importlib import metadata

        print(metadata.version("xvectors"))
        raise typer.Exit


def print_lines(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Print each line as it comes, to the standard output unless a stream is given."""
    for line in lines:
        print(line, file=stream or sys.stdout, flush=True)
