"""Commands that make a system into something else: export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xvectors.cli.shared import System, app, print_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xvectors.export import Difference


@app.command()
def export(
    system: System,
    out: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The file to write.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Weights of one byte: a quarter of the size, and not quite the same.")
    ] = False,
    check: Annotated[
        list[Path] | None,
        typer.Option(metavar="AUDIO", help="Compare with the system on this recording too; may be repeated."),
    ] = None,
) -> None:
    """Write a system (DIR, or `starter`) as one ONNX file: waveform in, embedding out, features inside the graph.

    onnxruntime runs the file before it takes its name: float32 embeddings must equal torch's to 1e-4.
    """
    from xvectors.export import OPSET, check_onnx, export_onnx

    exported = export_onnx(system, out, int8=int8)
    about = exported.description
    print(
        f"{out}: {about.precision}, {exported.size_bytes / 1e6:.1f} MB, opset {OPSET}; waveform [batch, samples] at "
        f"{about.sample_rate_hz} Hz, at least {about.min_samples} samples, to embedding [batch, {about.embedding_dim}]"
    )
    print_lines(_lines(exported.differences))
    if check:
        print_lines(_lines(check_onnx(system, out, {str(path): path for path in check})))


def _lines(differences: Iterable[Difference]) -> Iterable[str]:
    for difference in differences:
        yield f"  {difference.name}: differs by {difference.largest:.1e} from torch, cosine {difference.cosine:.6f}"
