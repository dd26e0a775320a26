"""Commands that make a system into something else: export."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xvectors.cli.shared import EMBED, Json, System, Trust, command, print_lines
from xvectors.cli.terminal import print, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xvectors.export import Difference


@command(EMBED, "xvectors export exp/mine -o model.onnx", "xvectors export starter -o small.onnx --int8 --check a.wav")
def export(
    system: System,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.onnx", help="File to write.")],
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Quantize the weights to 8 bits: a quarter of the size, at slightly different embeddings."
        ),
    ] = False,
    check: Annotated[
        list[Path] | None,
        typer.Option(metavar="AUDIO", help="Also compare the file with the system on this recording; may be repeated."),
    ] = None,
    as_json: Json = False,
    trust: Trust = None,
) -> None:
    """Export a system as one ONNX file that turns waveforms into embeddings.

    The features are part of the graph. The file is only written if its float32 embeddings equal torch's within 1e-4.
    """
    from xvectors.export import OPSET, check_onnx, export_onnx

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
    print_lines(_lines([*exported.differences, *checked]))


def _lines(differences: Iterable[Difference]) -> Iterable[str]:
    for difference in differences:
        yield f"  {difference.name}: differs by {difference.largest:.1e} from torch, cosine {difference.cosine:.6f}"
