"""Commands that use a system on recordings: embed, verify."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xvectors.cli.shared import (
    EMBED,
    RECOGNIZE,
    ChannelOption,
    Device,
    GalleryPath,
    Json,
    Metadata,
    Quiet,
    SpeakerLevel,
    SystemOption,
    Trust,
    command,
    one_channel,
    one_of,
    print_lines,
)
from xvectors.cli.terminal import print, print_json
from xvectors.text import count

if TYPE_CHECKING:
    from xvectors.audio import Channel


@command(
    EMBED,
    "xvectors embed recordings -o embeddings.npz --system exp/mine",
    "xvectors embed recordings -o embeddings.parquet --shard 1/4",
)
def embed(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Corpus, as for `xvectors train`.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="OUT", help="File to write (.npz or .csv), or a folder of parts (NAME.parquet)."
        ),
    ],
    system: SystemOption = "starter",
    metadata: Metadata = None,
    speaker_level: SpeakerLevel = None,
    device: Device = "auto",
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of cores that the network may use; by default torch's choice."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="TYPE",
            help="Arithmetic: float32, or bfloat16, which takes little over half the time on processors that have it.",
            autocompletion=one_of("float32", "bfloat16"),
        ),
    ] = "float32",
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Number of recordings in a batch; the result does not depend on it.")
    ] = 32,
    trim: Annotated[
        str,
        typer.Option(
            metavar="DETECTOR",
            help="VAD that says what is embedded: energy, silero, or none for all but runs of zeros.",
            autocompletion=one_of("energy", "silero", "none"),
        ),
    ] = "energy",
    parts: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Write a folder of parts, as parquet or npz; an interrupted run continues in it.",
            autocompletion=one_of("parquet", "npz"),
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Write only shard I of N, to divide the work between processes or machines."),
    ] = None,
    rows_a_part: Annotated[int, typer.Option(metavar="N", help="Number of recordings in a part.")] = 1000,
    channel: ChannelOption = None,
    quiet: Quiet = False,
    trust: Trust = None,
) -> None:
    """Embed every recording of a corpus into one file or a folder of parts.

    Recordings that cannot be used are listed and left out. With parts (OUT ends in .parquet, or --parts) an interrupted
    run continues where it stopped, memory does not grow with the corpus, and --shard divides the work. With --channel
    separate each channel has a row; the ids of files with several end in :0, :1 and so on.
    """
    from xvectors.audio import as_channel
    from xvectors.audio.vad import as_detector_name
    from xvectors.corpus import open_corpus
    from xvectors.corpus.walk import counted
    from xvectors.embeddings import check_suffix, write_embeddings
    from xvectors.encoder import SpeakerEncoder, separate_rows
    from xvectors.encoder.sharded import PARQUET, embed_in_parts, parse_shard
    from xvectors.errors import ConfigError

    part_format = parts or (PARQUET if output.suffix.lower() == f".{PARQUET}" else None)
    if part_format is None:
        check_suffix(output)
    if shard is not None and part_format is None:
        raise ConfigError(f"--shard writes parts, and {output} is one file: end it in .parquet, or add --parts npz")
    share = parse_shard(shard or "1/1")
    trim_silence = as_detector_name(trim)
    taken = None if channel is None else as_channel(channel)
    channels: Channel | Sequence[Channel] | None
    encoder = SpeakerEncoder.from_pretrained(system, device=device, threads=threads, precision=precision)
    manifest = open_corpus(data, metadata=metadata, speaker_level=speaker_level)
    if manifest.passed_over:
        print(f"files that are not recordings by their suffix: {counted(manifest.passed_over)}", file=sys.stderr)
    if taken == "separate":
        manifest, channels = separate_rows(manifest)
    else:
        channels = taken
    if part_format is None:
        embedded = encoder.encode_manifest(
            manifest, channel=channels, batch_size=batch_size, trim_silence=trim_silence, progress=not quiet
        )
        print_lines((f"left out: {reason}" for _, reason in embedded.failures), stream=sys.stderr)
        write_embeddings(output, manifest, embedded)
        print(f"{count(len(embedded.rows), 'embedding')} of {encoder.embedding_dim} dimensions: {output}")
        if embedded.failures:
            print(f"{count(len(embedded.failures), 'recording')} left out, listed above")
        return
    written = embed_in_parts(
        encoder,
        manifest,
        output,
        part_format=part_format,
        shard=share,
        rows_a_part=rows_a_part,
        channel=channels,
        batch_size=batch_size,
        trim_silence=trim_silence,
        progress=not quiet,
    )
    there = f", {written.num_there} were there" if written.num_there else ""
    print(
        f"{count(written.num_embedded, 'embedding')} of {encoder.embedding_dim} dimensions in "
        f"{count(written.num_written, 'part')}"
        f"{there}: {output}"
    )
    if written.num_failed:
        print(f"{count(written.num_failed, 'recording')} left out, listed in {output / '_failures.csv'}")


@command(
    RECOGNIZE,
    "xvectors verify a.wav b.wav",
    "xvectors verify call.mp3 --as ann --channel left",
    "xvectors verify a.wav b.wav --p-target 0.01 --json",
)
def verify(
    first: Annotated[
        str, typer.Argument(metavar="FILE", help="Recording, of any format, sample rate and number of channels.")
    ],
    second: Annotated[str | None, typer.Argument(metavar="OTHER", help="Recording to compare it with.")] = None,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Compare it with this enrolled speaker instead of OTHER.")
    ] = None,
    system: SystemOption = "starter",
    gallery: GalleryPath = None,
    p_target: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Prior probability that the speaker is the same; by default the system's, usually 0.5.",
        ),
    ] = None,
    channel: ChannelOption = None,
    as_json: Json = False,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Say whether two recordings are of the same speaker.

    With --as, say whether a recording is of an enrolled speaker. The first line printed is "same speaker", "different
    speakers" or "cannot tell"; the lines below say why.
    """

    from xvectors.encoder import SpeakerEncoder
    from xvectors.errors import ConfigError
    from xvectors.verification.decision import describe

    if (second is None) == (name is None):
        raise ConfigError("give two recordings to compare, or one and --as NAME of a speaker who is enrolled")
    enrolled, taken = None, one_channel(channel)
    if name is not None:
        from xvectors.gallery import open_gallery

        with open_gallery(gallery, system=system) as opened:
            enrolled = opened.speaker(name)
            encoder = SpeakerEncoder.from_pretrained(system, device=device)
            decision = encoder.verify(enrolled, first, p_target=p_target, channel=taken)
    else:
        encoder = SpeakerEncoder.from_pretrained(system, device=device)
        decision = encoder.verify(first, second or "", p_target=p_target, channel=taken)
    if as_json:
        print_json(decision.to_dict())
        return
    print_lines(describe(decision))
    if enrolled is not None:
        count = enrolled.num_voiceprints
        print(f"{name}: {enrolled.duration_s:.1f} s of speech in {count} recording{'s' * (count != 1)} enrolled")
