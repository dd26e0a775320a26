"""Commands that embed recordings and export systems: embed, export."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xvectors.cli.shared import (
    EMBED,
    AnyChannelOption,
    Device,
    Json,
    Metadata,
    Quiet,
    SpeakerLevel,
    System,
    SystemOption,
    Trust,
    command,
    one_of,
    print_lines,
)
from xvectors.cli.terminal import print, print_json
from xvectors.errors import ConfigError
from xvectors.text import count

if TYPE_CHECKING:
    from xvectors.audio import Channel
    from xvectors.export import Difference

SHERPA = "sherpa-onnx"
"""A runtime that `export --for` knows."""


@command(
    EMBED,
    "xvectors embed recordings -o embeddings.npz --system exp/mine",
    "xvectors embed recordings -o embeddings.parquet --shard 1/4",
)
def embed_command(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Corpus, as in `xvectors train`.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="OUT", help="File to write (.npz or .csv), or a folder of parts (.parquet)."
        ),
    ],
    system: SystemOption = "starter",
    metadata: Metadata = None,
    speaker_level: SpeakerLevel = None,
    device: Device = "auto",
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of CPU cores for the network. By default torch's choice."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="TYPE",
            help="Arithmetic of the network: float32, or bfloat16, which takes about half the time on processors with "
            "bfloat16 instructions.",
            autocompletion=one_of("float32", "bfloat16"),
        ),
    ] = "float32",
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Number of recordings in a batch. It does not change the embeddings.")
    ] = 32,
    trim: Annotated[
        str,
        typer.Option(
            metavar="VAD",
            help="VAD that selects the speech to embed: energy, silero, or none to embed everything but runs of zeros.",
            autocompletion=one_of("energy", "silero", "none"),
        ),
    ] = "energy",
    parts: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Write a folder of parts in this format, parquet or npz. An interrupted run can continue.",
            autocompletion=one_of("parquet", "npz"),
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Write only shard I of N, to divide the work among processes or machines."),
    ] = None,
    rows_per_part: Annotated[int, typer.Option(metavar="N", help="Number of recordings in a part.")] = 1000,
    channel: AnyChannelOption = None,
    quiet: Quiet = False,
    trust: Trust = None,
) -> None:
    """Embed every recording of a corpus, into one file or a folder of parts.

    Recordings that cannot be used are listed and left out. With a folder of parts (OUT ends in .parquet, or --parts is
    given), an interrupted run continues where it stopped, memory does not grow with the corpus, and --shard divides
    the work. With --channel separate, each channel becomes a row; the ids of multichannel files end in :0, :1 and so
    on.
    """
    from xvectors.audio import as_channel
    from xvectors.audio.vad import as_detector_name
    from xvectors.corpus import open_corpus
    from xvectors.corpus.walk import counted
    from xvectors.embeddings import check_suffix, write_embeddings
    from xvectors.encoder import SpeakerEncoder, separate_rows
    from xvectors.encoder.sharded import PARQUET, embed_in_parts, parse_shard

    part_format = parts or (PARQUET if output.suffix.lower() == f".{PARQUET}" else None)
    if part_format is None:
        check_suffix(output)
    if shard is not None and part_format is None:
        raise ConfigError(f"--shard writes parts, and {output} is one file: end it in .parquet, or add --parts npz")
    shard_of = parse_shard(shard or "1/1")
    trim_silence = as_detector_name(trim)
    one_for_all = None if channel is None else as_channel(channel)
    channels: Channel | Sequence[Channel] | None
    encoder = SpeakerEncoder.from_pretrained(system, device=device, threads=threads, precision=precision)
    manifest = open_corpus(data, metadata=metadata, speaker_level=speaker_level)
    if manifest.passed_over:
        print(f"files that are not recordings by their suffix: {counted(manifest.passed_over)}", file=sys.stderr)
    if one_for_all == "separate":
        manifest, channels = separate_rows(manifest)
    else:
        channels = one_for_all
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
        shard=shard_of,
        rows_per_part=rows_per_part,
        channel=channels,
        batch_size=batch_size,
        trim_silence=trim_silence,
        progress=not quiet,
    )
    there = f", {written.num_there} were there" if written.num_there else ""
    print(
        f"{count(written.num_embedded, 'embedding')} of {encoder.embedding_dim} dimensions in "
        f"{count(written.num_written, 'part')}{there}: {output}"
    )
    if written.num_failed:
        print(f"{count(written.num_failed, 'recording')} left out, listed in {output / '_failures.csv'}")


@command(EMBED, "xvectors export exp/mine -o model.onnx", "xvectors export starter -o small.onnx --int8 --check a.wav")
def export_command(
    system: System,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.onnx", help="File to write.")],
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Quantize the weights to 8 bits: a quarter of the size, with slightly different embeddings."
        ),
    ] = False,
    runtime: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="RUNTIME",
            help="Write the file for sherpa-onnx, which computes the filterbanks itself.",
            autocompletion=one_of(SHERPA),
        ),
    ] = None,
    check: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="AUDIO",
            help="Also compare the exported file with the system on this recording. Repeat the option for more.",
        ),
    ] = None,
    as_json: Json = False,
    trust: Trust = None,
) -> None:
    """Export a system as one ONNX file that turns waveforms into embeddings.

    The features are part of the file. It is only written if its float32 embeddings equal torch's within 1e-4.

    With --for sherpa-onnx the file takes filterbanks, as its runtime computes them. If the system was trained on
    other features, the command says which differ and by how much the embeddings do.
    """
    from xvectors.export import OPSET, check_onnx, export_onnx

    if runtime is not None:
        if runtime != SHERPA:
            raise ConfigError(f"--for {runtime} is unknown; write --for {SHERPA}, or leave it out")
        if int8:
            raise ConfigError(f"--for {SHERPA} writes float32 only; leave --int8 out")
        _export_for_sherpa(system, output, check or [], as_json)
        return
    exported = export_onnx(system, output, int8=int8)
    about = exported.description
    checked = check_onnx(system, output, {str(path): path for path in check}) if check else []
    if as_json:
        figures = {"path": str(output), "precision": about.precision, "size_bytes": exported.size_bytes, "opset": OPSET}
        shape = {name: getattr(about, name) for name in ("sample_rate_hz", "min_samples", "embedding_dim")}
        print_json({**figures, **shape, "differences": [asdict(each) for each in (*exported.differences, *checked)]})
        return
    print(
        f"{output}: {about.precision}, {exported.size_bytes / 1e6:.1f} MB, opset {OPSET}; waveform [batch, samples] at "
        f"{about.sample_rate_hz} Hz, at least {about.min_samples} samples, to embedding [batch, {about.embedding_dim}]"
    )
    print_lines(_difference_lines([*exported.differences, *checked]))


def _export_for_sherpa(system: Path, output: Path, check: Sequence[Path], as_json: bool) -> None:
    from xvectors.export import export_for_sherpa

    exported = export_for_sherpa(system, output, {str(path): path for path in check})
    if as_json:
        print_json({**asdict(exported), "path": str(output)})
        return
    print(
        f"{output}: for sherpa-onnx, {exported.size_bytes / 1e6:.1f} MB; filterbanks [batch, frames, 80] at "
        f"{exported.sample_rate_hz} Hz to embedding [batch, {exported.embedding_dim}]"
    )
    if exported.different:
        print(f"sherpa-onnx computes other features than the system was trained on: {'; '.join(exported.different)}")
    else:
        print("sherpa-onnx computes the features that the system was trained on")
    for cost in exported.costs:
        print(f"  {cost.name}: the embedding there has a cosine of {cost.cosine:.6f} with the system's own")


def _difference_lines(differences: Iterable[Difference]) -> Iterable[str]:
    for difference in differences:
        yield f"  {difference.name}: differs by {difference.largest:.1e} from torch, cosine {difference.cosine:.6f}"
