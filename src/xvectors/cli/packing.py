"""The command that packs a corpus into shards: pack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xvectors.cli.shared import TRAIN, Metadata, Quiet, SpeakerLevel, command
from xvectors.cli.terminal import print
from xvectors.text import count


@command(TRAIN, "xvectors pack recordings -o shards", "xvectors pack voxceleb2/dev -o /data/voxceleb2-shards")
def pack_command(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Corpus, as in `xvectors train`.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write the shards to.")],
    per_shard: Annotated[int, typer.Option(metavar="N", help="Largest number of recordings in a shard.")] = 1000,
    metadata: Metadata = None,
    speaker_level: SpeakerLevel = None,
    quiet: Quiet = False,
) -> None:
    """Pack a corpus into tar files in WebDataset's layout, which replace many small files.

    DIR is a corpus like any other: train, embed and evaluate take it as DATA. An interrupted command is run again and
    continues with the shards that are missing.
    """
    from xvectors.corpus import open_corpus, pack

    manifest = open_corpus(data, metadata=metadata, speaker_level=speaker_level)
    packed = pack(manifest, output, per_shard=per_shard, progress=not quiet)
    left_out = f", {packed.num_left_out} left out" if packed.num_left_out else ""
    speakers = count(len(packed.manifest.speakers), "speaker")
    recordings = count(len(packed.manifest), "recording")
    print(f"{output}: {recordings} of {speakers} in {count(packed.num_shards, 'shard')}{left_out}")
