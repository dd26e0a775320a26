"""The command that prepares published corpora: prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xvectors.cli.shared import TRAIN, Quiet, command, one_of, print_lines
from xvectors.text import count, first_few

CORPORA = ("voxceleb", "cn-celeb", "librispeech", "voxblink2", "common-voice")


@command(
    TRAIN,
    "xvectors prepare voxceleb downloads -o /data/voxceleb",
    "xvectors prepare librispeech train-clean-100.tar.gz dev-clean.tar.gz -o /data/librispeech",
    "xvectors prepare voxceleb /data/unpacked --in-place -o /data/lists",
)
def prepare_command(
    corpus: Annotated[
        str, typer.Argument(metavar="CORPUS", help=f"Corpus: {', '.join(CORPORA)}.", autocompletion=one_of(*CORPORA))
    ],
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="Archives as published, folders that hold them, or folders of unpacked recordings.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to prepare the corpus in.")],
    in_place: Annotated[
        bool,
        typer.Option("--in-place", help="Use the unpacked recordings in SOURCE, and ignore archives beside them."),
    ] = False,
    hashes: Annotated[
        bool, typer.Option("--hashes/--no-hashes", help="Compare the MD5 of the archives with the published one.")
    ] = True,
    durations: Annotated[
        bool, typer.Option("--durations", help="Read the duration of each recording, which takes time.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Prepare a published corpus: check and unpack its archives, and write a manifest and its trial lists.

    DIR is then a corpus like any other: train, pack, embed and evaluate take it as DATA. Unpacked recordings are used
    where they are. Nothing is unpacked twice: an interrupted command is run again and continues.
    """
    from xvectors.corpus.published import LAYOUTS, prepare
    from xvectors.trials.published import write_published_trials

    prepared = prepare(
        corpus, sources, output, in_place=in_place, hashes=hashes, durations=durations, progress=not quiet
    )
    lists = write_published_trials(prepared)
    manifest = prepared.manifest
    layout = LAYOUTS[corpus]
    print_lines(_hash_lines(prepared.hashed, prepared.unhashed, layout.hashes_from))
    print_lines(subset.line() for subset in prepared.counts)
    if layout.figures_from:
        print_lines([f"published figures from {layout.figures_from}"])
    print_lines(each.line() for each in lists)
    speakers = count(len(manifest.speakers), "speaker")
    print_lines([f"{output / 'manifest.csv'}: {count(len(manifest), 'recording')} of {speakers}"])


def _hash_lines(hashed: tuple[str, ...], unhashed: tuple[str, ...], source: str) -> list[str]:
    lines = []
    if hashed:
        lines.append(f"MD5 of {count(len(hashed), 'archive')} as published in {source}: {first_few(hashed)}")
    if unhashed:
        lines.append(f"MD5 of {count(len(unhashed), 'archive')} not checked: {first_few(unhashed)}")
    return lines
