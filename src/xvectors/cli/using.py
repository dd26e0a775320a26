"""The command verify."""

from __future__ import annotations

from typing import Annotated

import typer

from xvectors.cli.shared import (
    RECOGNIZE,
    ChannelOption,
    Device,
    GalleryPath,
    Json,
    SystemOption,
    Trust,
    command,
    one_channel,
    print_lines,
)
from xvectors.cli.terminal import print, print_json


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
