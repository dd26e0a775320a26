"""Commands that use a system on recordings: embed, verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from xvectors.cli.shared import Device, Json, Metadata, Quiet, System, app, print_lines


@app.command()
def embed(
    system: System,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A manifest or a folder, as for `train`.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.npz", help="The file to write.")],
    metadata: Metadata = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(help="Recordings a batch; it does not change the result.")] = 32,
    quiet: Quiet = False,
) -> None:
    """Embed every recording of a corpus into one npz file; recordings that cannot be used are listed."""
    from xvectors.calibrate import known_durations
    from xvectors.corpus import open_corpus
    from xvectors.encoder import SpeakerEncoder, save_embeddings

    encoder = SpeakerEncoder.load(system, device=device)
    manifest = open_corpus(data, metadata=metadata)
    embedded = encoder.encode_manifest(manifest, batch_size=batch_size, show_progress=not quiet)
    durations = manifest.duration_s.copy()
    durations[embedded.rows] = known_durations(manifest.take(embedded.rows))
    manifest = manifest.with_columns(duration_s=durations)
    print_lines((f"left out: {reason}" for _, reason in embedded.failures), stream=sys.stderr)
    save_embeddings(out, manifest, embedded)
    print(f"{len(embedded.rows)} embeddings of {encoder.embedding_dim} dimensions: {out}")
    if embedded.failures:
        print(f"{len(embedded.failures)} recordings left out, listed above")


Sound = Annotated[str, typer.Argument(metavar="FILE", help="A recording, of any rate, channels and format.")]


@app.command()
def verify(
    first: Sound,
    second: Sound,
    system: Annotated[str, typer.Option(metavar="DIR", help="The system to use; `starter` comes along.")] = "starter",
    p_target: Annotated[
        float | None,
        typer.Option(help="How probable one speaker is beforehand, 0 to 1. By default as the system says, mostly 0.5."),
    ] = None,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Say whether two recordings are of one speaker: "same speaker", "different speakers" or "cannot tell"."""
    import json

    from xvectors.decisions import describe
    from xvectors.encoder import SpeakerEncoder

    decision = SpeakerEncoder.load(system, device=device).verify(first, second, p_target=p_target)
    if as_json:
        print(json.dumps(decision.to_dict(), indent=2, allow_nan=False))
    else:
        print_lines(describe(decision))
