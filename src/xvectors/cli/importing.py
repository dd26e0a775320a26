"""The command that imports published models: import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xvectors.cli.shared import EMBED, Json, command, print_lines
from xvectors.cli.terminal import print_json


@command(
    EMBED,
    "xvectors import campplus_cn_en_common.pt -o exp/campplus",
    "xvectors import wespeaker-folder -o exp/resnet34",
    "xvectors import hf://speechbrain/spkrec-ecapa-voxceleb -o exp/ecapa --check",
    "xvectors import model.onnx -o exp/other --features wespeaker",
)
def import_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A published model: a file, a folder, hf://owner/name or an https address.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="System directory to write.")],
    family: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The kind of model, where its tensors do not tell."),
    ] = None,
    sha256: Annotated[str | None, typer.Option(metavar="HEX", help="SHA-256 that the model's file must have.")] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Embed eight test signals, and compare with the toolkit's own code where it is installed; the largest "
            "difference is written to system.toml.",
        ),
    ] = False,
    features: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|KEY=VALUE",
            help="For an .onnx file: how its features are computed (wespeaker, 3d-speaker or kaldi), and settings that "
            "differ; several times for several. By default as the file's metadata state.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Import a published model of another toolkit as a system that every other command takes.

    The model is recognized by its tensors. Nothing in its file is run. For a few published files a calibration comes
    with xvectors. Calibrate the system on recordings of your own before you trust its answers: xvectors calibrate DIR
    --data RECORDINGS.
    """
    from xvectors.system.importers import import_model
    from xvectors.system.importers.parity import Parity
    from xvectors.system.serialization import read_description

    folder = import_model(source, output, family=family, sha256=sha256, check=check, features=features or ())
    description = read_description(folder)
    origin = dict(description.origin or {})
    if as_json:
        print_json({"system": str(folder.path), "origin": origin})
        return
    lines = [f"{folder.path}: {origin['title']}, {description.recipe.model.name}, from {origin['source']}"]
    lines += [f"license: {origin.get('license', 'not stated by the source; ask its publisher')}"]
    lines += [Parity(**origin["parity"]).sentence()] if check else []
    calibrate = f"xvectors calibrate {folder.path} --data RECORDINGS (20 speakers with 10 recordings, or more)"
    if "calibration" in origin:
        lines += [
            f"calibrated: it answers at once, as learned on {origin['calibration']['learned_on']}",
            f"better: {calibrate}, with recordings of your own",
        ]
    else:
        lines += [f"next: {calibrate}"]
    print_lines(lines)
