"""The command that publishes systems on the Hugging Face Hub: push."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from xvectors.cli.shared import EMBED, Json, command, print_lines
from xvectors.cli.terminal import print_json


@command(
    EMBED,
    "xvectors push exp/mine hf://owner/name --license cc-by-4.0",
    "xvectors push exp/mine hf://owner/name --private --revision draft",
)
def push_command(
    system: Annotated[Path, typer.Argument(metavar="DIR", help="System directory, as written by `xvectors train`.")],
    address: Annotated[
        str, typer.Argument(metavar="hf://OWNER/NAME", help="Repository; it is created if it does not exist.")
    ],
    revision: Annotated[
        str | None,
        typer.Option(metavar="BRANCH", help="Branch to commit to, by default the main one; created if missing."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create the repository as a private one.")] = False,
    license: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Identifier such as cc-by-4.0; by default the license of an imported system's source."
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Model card to publish instead of the one that is written from the system."),
    ] = None,
    speaker_names: Annotated[
        bool,
        typer.Option(
            "--speaker-names",
            help="Publish the names of the speakers too, which are personal data; by default numbers stand for them.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish a system on the Hugging Face Hub, with a model card, in one commit.

    Others load it with SpeakerEncoder.from_pretrained("hf://OWNER/NAME"). The card is written from the system and from
    the evaluations in its report folder. Corpus, training history and report are not published.

    Needs the extra hub and a token with write access (hf auth login, or HF_TOKEN).
    """
    from xvectors.system.publishing import publish, published_lines

    published = publish(
        system, address, branch=revision, private=private, license=license, card=card, speaker_names=speaker_names
    )
    if as_json:
        print_json(asdict(published))
        return
    print_lines(published_lines(published))
