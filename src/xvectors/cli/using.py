"""Commands that use a system on recordings: embed, verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from xvectors.cli.shared import Device, GalleryPath, Json, Metadata, OfSystem, Quiet, System, app, print_lines


@app.command()
def embed(
    system: System,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A manifest or a folder, as for `train`.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="OUT", help="The npz file to write, or NAME.parquet, a folder of parts."),
    ],
    metadata: Metadata = None,
    device: Device = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Cores that the network may use; by default torch's choice.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16: little over half the time on processors that have it.")
    ] = "float32",
    batch_size: Annotated[int, typer.Option(help="Recordings a batch; it does not change the result.")] = 32,
    trim: Annotated[
        str | None, typer.Option(metavar="DETECTOR", help="energy or silero: embed only what it takes for speech.")
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT", help="parquet or npz: OUT is a folder of parts, and a killed run goes on in it."
        ),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Write every N-th part from the I-th, beside other shards.")
    ] = None,
    rows_a_part: Annotated[int, typer.Option(help="Recordings a part.")] = 1000,
    quiet: Quiet = False,
) -> None:
    """Embed every recording of a corpus into one npz file or a folder of parts; what cannot be used is listed.

    With parts (OUT ends in .parquet, or --parts) a run that was killed goes on where it stopped when it is started
    again, memory does not grow with the corpus, and --shard divides the work.
    """
    from xvectors.corpus import open_corpus
    from xvectors.encoder import SpeakerEncoder, save_embeddings
    from xvectors.errors import ConfigError
    from xvectors.parts import PARQUET, embed_in_parts, parse_shard
    from xvectors.trimming import as_detector_name

    part_format = parts or (PARQUET if out.suffix == f".{PARQUET}" else None)
    if shard is not None and part_format is None:
        raise ConfigError(f"--shard writes parts, and {out} is one file: end it in .parquet, or add --parts npz")
    share = parse_shard(shard or "1/1")
    trim_silence = as_detector_name(trim)
    encoder = SpeakerEncoder.load(system, device=device, threads=threads, precision=precision)
    manifest = open_corpus(data, metadata=metadata)
    if part_format is None:
        embedded = encoder.encode_manifest(
            manifest, batch_size=batch_size, trim_silence=trim_silence, show_progress=not quiet
        )
        print_lines((f"left out: {reason}" for _, reason in embedded.failures), stream=sys.stderr)
        save_embeddings(out, manifest, embedded)
        print(f"{len(embedded.rows)} embeddings of {encoder.embedding_dim} dimensions: {out}")
        if embedded.failures:
            print(f"{len(embedded.failures)} recordings left out, listed above")
        return
    written = embed_in_parts(
        encoder,
        manifest,
        out,
        part_format=part_format,
        shard=share,
        rows_a_part=rows_a_part,
        batch_size=batch_size,
        trim_silence=trim_silence,
        show_progress=not quiet,
    )
    there = f", {written.num_there} were there" if written.num_there else ""
    print(
        f"{written.num_embedded} embeddings of {encoder.embedding_dim} dimensions in {written.num_written} parts"
        f"{there}: {out}"
    )
    if written.num_failed:
        print(f"{written.num_failed} recordings left out, listed in {out / '_failures.csv'}")


@app.command()
def verify(
    first: Annotated[str, typer.Argument(metavar="FILE", help="A recording, of any rate, channels and format.")],
    second: Annotated[str | None, typer.Argument(metavar="OTHER", help="The one to compare it with.")] = None,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Compare it with this enrolled speaker instead.")
    ] = None,
    system: OfSystem = "starter",
    gallery: GalleryPath = None,
    p_target: Annotated[
        float | None,
        typer.Option(help="How probable one speaker is beforehand, 0 to 1. By default as the system says, mostly 0.5."),
    ] = None,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Say whether two recordings are of one speaker, or one is of the speaker enrolled as NAME.

    The first line is "same speaker", "different speakers" or "cannot tell".
    """
    import json

    from xvectors.decisions import describe
    from xvectors.encoder import SpeakerEncoder
    from xvectors.errors import ConfigError

    if (second is None) == (name is None):
        raise ConfigError("give two recordings to compare, or one and --as NAME of a speaker who is enrolled")
    enrolled = None
    if name is not None:
        from xvectors.gallery import open_gallery, verify_as

        with open_gallery(gallery, system=system) as opened:
            enrolled = opened.enrolled(name)
            decision = verify_as(opened, SpeakerEncoder.load(system, device=device), name, first, p_target=p_target)
    else:
        decision = SpeakerEncoder.load(system, device=device).verify(first, second or "", p_target=p_target)
    if as_json:
        print(json.dumps(decision.to_dict(), indent=2, allow_nan=False))
        return
    print_lines(describe(decision))
    if enrolled is not None:
        count = enrolled.num_voiceprints
        print(f"{name}: {enrolled.duration_s:.1f} s of speech in {count} recording{'s' * (count != 1)} enrolled")
