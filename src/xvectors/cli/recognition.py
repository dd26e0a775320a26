"""Commands that recognize speakers: verify, enroll, identify, speakers, forget, re-enroll."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xvectors.cli.shared import (
    RECOGNIZE,
    AnyChannelOption,
    ChannelOption,
    Device,
    GalleryOption,
    Json,
    SystemOption,
    Trust,
    command,
    one_channel,
    print_lines,
)
from xvectors.cli.terminal import print, print_json
from xvectors.errors import ConfigError
from xvectors.text import count

if TYPE_CHECKING:
    from xvectors.audio import Channel
    from xvectors.gallery import EnrollmentResult, Identification, Match, Speaker

NOT_CALIBRATED = "the system is not calibrated (`xvectors calibrate DIR`)"
NOBODY_ENROLLED = "nobody is enrolled; enroll a speaker with `xvectors enroll NAME a.wav`"

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the speaker.")]


@command(
    RECOGNIZE,
    "xvectors verify a.wav b.wav",
    "xvectors verify call.mp3 --as ann --channel left",
    "xvectors verify a.wav b.wav --p-target 0.01 --json",
)
def verify_command(
    first: Annotated[str, typer.Argument(metavar="FILE", help="Recording, in any audio format, at any sample rate.")],
    second: Annotated[str | None, typer.Argument(metavar="OTHER", help="Recording to compare it with.")] = None,
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Compare FILE with this enrolled speaker, instead of with OTHER."),
    ] = None,
    system: SystemOption = "starter",
    gallery: GalleryOption = None,
    p_target: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Prior probability that the speaker is the same (0 to 1). By default the calibration's, usually 0.5.",
        ),
    ] = None,
    channel: ChannelOption = None,
    as_json: Json = False,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Say whether two recordings are of the same speaker.

    With --as, say whether a recording is of an enrolled speaker. The first line of the output is "same speaker",
    "different speakers" or "cannot tell"; the lines below it say why.
    """
    from xvectors.encoder import SpeakerEncoder
    from xvectors.verification.decision import describe

    if (second is None) == (name is None):
        raise ConfigError("give two recordings to compare, or one recording and --as NAME of an enrolled speaker")
    enrolled, one = None, one_channel(channel)
    if name is not None:
        from xvectors.gallery import open_gallery

        with open_gallery(gallery, system=system) as opened:
            enrolled = opened.speaker(name)
            encoder = SpeakerEncoder.from_pretrained(system, device=device)
            decision = encoder.verify(enrolled, first, p_target=p_target, channel=one)
    else:
        encoder = SpeakerEncoder.from_pretrained(system, device=device)
        decision = encoder.verify(first, second or "", p_target=p_target, channel=one)
    if as_json:
        print_json(decision.to_dict())
        return
    print_lines(describe(decision))
    if enrolled is not None:
        number = count(enrolled.num_voiceprints, "recording")
        print(f"{name}: {enrolled.duration_s:.1f} s of speech in {number} enrolled")


@command(RECOGNIZE, "xvectors enroll ann ann-1.wav ann-2.wav", "xvectors enroll ann ann.wav --expires 2030-01-01")
def enroll_command(
    name: Name,
    recordings: Annotated[
        list[Path], typer.Argument(metavar="RECORDING", help="Recordings in which only this speaker speaks.")
    ],
    system: SystemOption = "starter",
    gallery: GalleryOption = None,
    keep_audio: Annotated[
        bool,
        typer.Option(
            "--keep-audio",
            help="Keep a copy of the recordings in the gallery, so that `xvectors re-enroll` can use another system.",
        ),
    ] = False,
    consent: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Note on what the speaker consented to, kept in the gallery.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DATE", help="Day (UTC, as in 2030-01-01) on which the enrollment expires.")
    ] = None,
    channel: ChannelOption = None,
    device: Device = "auto",
    as_json: Json = False,
    trust: Trust = None,
) -> None:
    """Enroll a speaker, or add recordings of an enrolled speaker."""
    from datetime import UTC, datetime

    from xvectors.encoder import SpeakerEncoder
    from xvectors.gallery import consent_note, expiry, open_gallery, speaker_name
    from xvectors.gallery.recordings import embed_recordings

    name = speaker_name(name)
    consent = None if consent is None else consent_note(consent)
    if Path(name).is_file():
        raise ConfigError(f"{name} is a file: the speaker's name comes first, then the recordings")
    one = one_channel(channel)
    if keep_audio and one is not None:
        raise ConfigError("--keep-audio keeps whole files, so give it files of one channel instead of --channel")
    expires_at = None if expires is None else expiry(expires, datetime.now(UTC))
    encoder = SpeakerEncoder.from_pretrained(system, device=device)
    embeddings, heard = embed_recordings(encoder, recordings, channel=one)
    seconds = [recording.speech_s for recording in heard]
    audio = [path.read_bytes() for path in recordings] if keep_audio else None
    with open_gallery(gallery, system=encoder, create=True) as opened:
        result = opened.enroll(
            name,
            embeddings,
            seconds,
            condition=[recording.condition for recording in heard],
            audio=audio,
            consent=consent,
            expires_at=expires_at,
        )
    print_lines(enrollment_warnings(result, recordings), stream=sys.stderr)
    print_lines(
        (f"note: {recording.name}: {note}" for recording in heard for note in recording.quality.notes),
        stream=sys.stderr,
    )
    if as_json:
        print_json(asdict(result))
        return
    added = f"{count(result.num_added, 'recording')}, {sum(seconds):.1f} s of speech"
    if result.num_before:
        print(f"{name} was enrolled already, with {count(result.num_before, 'voiceprint')}; added {added}")
    else:
        print(f"{name} is enrolled, with {added}")


@command(RECOGNIZE, "xvectors identify call.wav", "xvectors identify call.wav --channel separate")
def identify_command(
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="Recording of the speaker to identify.")],
    top: Annotated[int, typer.Option(metavar="N", help="Number of most likely speakers to list.")] = 3,
    p_target: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Prior probability that the speaker is enrolled at all (0 to 1). By default the calibration's, "
            "usually 0.5.",
        ),
    ] = None,
    system: SystemOption = "starter",
    gallery: GalleryOption = None,
    channel: AnyChannelOption = None,
    device: Device = "auto",
    as_json: Json = False,
    trust: Trust = None,
) -> None:
    """Say which enrolled speaker a recording is of.

    The answer is a name, "nobody enrolled" or "cannot tell". With --channel separate, each channel gets an answer, as
    for the two parties of a call.
    """
    from xvectors.audio import as_channel, probe
    from xvectors.encoder import SpeakerEncoder
    from xvectors.gallery import open_gallery

    chosen = None if channel is None else as_channel(channel)
    channels: list[Channel | None] = [None if chosen == "separate" else chosen]
    if chosen == "separate":
        channels = list(range(probe(recording).num_channels))
    with open_gallery(gallery, system=system) as opened:
        encoder = SpeakerEncoder.from_pretrained(system, device=device)
        answers = [
            opened.identify_recording(encoder, recording, top=top, p_target=p_target, channel=one) for one in channels
        ]
    if as_json:
        as_dicts = [found.to_dict() for found in answers]
        if chosen == "separate":
            print_json({"channels": [{"channel": one, **found} for one, found in zip(channels, as_dicts, strict=True)]})
        else:
            print_json(as_dicts[0])
        return
    for one, found in zip(channels, answers, strict=True):
        if chosen == "separate":
            print(f"channel {one}:")
        print_lines(_answer(found))
        print(found.recording)


@command(RECOGNIZE, "xvectors speakers")
def speakers_command(gallery: GalleryOption = None, as_json: Json = False) -> None:
    """List the enrolled speakers."""
    from datetime import UTC, datetime

    from xvectors.gallery import is_there, open_store

    enrolled = []
    if gallery is not None or is_there():
        with open_store(gallery) as store:
            enrolled = store.speakers(datetime.now(UTC))
    if as_json:
        print_json([_to_dict(speaker) for speaker in enrolled])
    elif enrolled:
        print_lines(_line(speaker) for speaker in enrolled)
    else:
        print(NOBODY_ENROLLED)


@command(RECOGNIZE, "xvectors forget ann", "xvectors forget ann --last")
def forget_command(
    name: Name,
    last: Annotated[
        bool, typer.Option("--last", help="Remove only the recordings of the last `xvectors enroll`.")
    ] = False,
    gallery: GalleryOption = None,
) -> None:
    """Remove a speaker from the gallery, and overwrite the data in its file.

    A PostgreSQL server removes the data at once and reuses its room later."""
    from xvectors.gallery import open_store, speaker_name

    name = speaker_name(name, known=True)
    with open_store(gallery) as store:
        number = store.forget(name, last=last)
    removed = f"{count(number, 'voiceprint')} removed"
    print(f"{name}: {removed}" if last else f"{name} is forgotten: {removed}")


@command(RECOGNIZE, "xvectors re-enroll --system exp/mine", name="re-enroll")
def re_enroll_command(
    system: SystemOption = "starter", gallery: GalleryOption = None, device: Device = "auto", trust: Trust = None
) -> None:
    """Enroll all speakers with another system, from the recordings that `xvectors enroll --keep-audio` kept."""
    from xvectors.gallery.recordings import re_enroll_kept

    result = re_enroll_kept(gallery, system=system, device=device)
    print_lines((f"not changed: {reason}" for reason in result.failed), stream=sys.stderr)
    if result.without_audio:
        names = ", ".join(result.without_audio)
        print(f"still enrolled with another system only: {names}; enroll again", file=sys.stderr)
    number, num_speakers = sum(result.renewed.values()), len(result.renewed)
    print(f"embedded again with this system: {count(number, 'voiceprint')} of {count(num_speakers, 'speaker')}")


def enrollment_warnings(result: EnrollmentResult, recordings: Sequence[object]) -> list[str]:
    """Describe what the gallery remarks on; `recordings` are the names of the new ones."""
    undo = f"`xvectors forget {result.speaker} --last` undoes this enrollment"
    lines = [
        f"warning: {recordings[at]} is enrolled as {result.speaker} already; a second copy adds no information but "
        f"counts as more speech; {undo}"
        for at in result.repeated
    ]
    if not result.checked and result.num_before + result.num_added > 1:
        return [*lines, f"note: whether these are all of one voice was not checked: {NOT_CALIBRATED}"]
    return lines + [
        f"warning: {recordings[doubt.recording]} does not sound like {result.speaker}'s other recordings (LLR "
        f"{doubt.llr:.1f}, below the threshold of {doubt.threshold:.1f}): is it the same person? If not, {undo}"
        for doubt in result.doubts
    ]


def _answer(found: Identification) -> list[str]:
    from xvectors.gallery import NOBODY

    best = found.matches[0] if found.matches else None
    among = count(found.num_enrolled, "enrolled speaker")
    if best is None:
        return [f"{found.answer}: {'; '.join(found.reasons)}"]
    if found.p_nobody is None or best.llr is None:
        lines = [f"{found.answer}: {NOT_CALIBRATED}; the most similar among {among}:"]
    else:
        evidence = f"LLR {best.llr:.1f}" if found.speaker else f"{best.speaker} has an LLR of {best.llr:.1f}"
        lines = [
            f"{found.answer}: {evidence}, threshold {best.threshold:.1f} among {among}",
            *(f"note: {reason}" for reason in found.reasons),
        ]
    lines += [f"{rank}  {_match(match)}" for rank, match in enumerate(found.matches, start=1)]
    if found.p_nobody is not None:
        lines.append(f"-  {NOBODY}  probability {found.p_nobody:.1%}")
    if found.left_out:
        some = ", ".join(found.left_out[:3]) + ", ..." * (len(found.left_out) > 3)
        lines.append(
            f"not compared, because enrolled with another system: {some}; enroll again, or run `xvectors re-enroll`"
        )
    return lines


def _match(match: Match) -> str:
    if match.llr is None or match.probability is None:
        return f"{match.speaker}  cosine {match.score:.3f}"
    return f"{match.speaker}  LLR {match.llr:.1f}  probability {match.probability:.1%}  score {match.score:.3f}"


def _line(speaker: Speaker) -> str:
    parts = [
        count(speaker.num_voiceprints, "voiceprint"),
        f"{speaker.duration_s:.1f} s",
        f"since {speaker.enrolled_at:%Y-%m-%d}",
    ]
    if speaker.num_expired:
        parts.append(f"{speaker.num_expired} expired")
    if speaker.expires_at is not None:
        parts.append(f"expires {speaker.expires_at:%Y-%m-%d}")
    if speaker.num_kept:
        parts.append(f"{count(speaker.num_kept, 'recording')} kept")
    parts += [f"system {system[:12]}" for system in speaker.systems]
    parts += [f"consent: {note}" for note in speaker.consent]
    return f"{speaker.name}  {', '.join(parts)}"


def _to_dict(speaker: Speaker) -> dict[str, Any]:
    return {
        **asdict(speaker),
        "enrolled_at": speaker.enrolled_at.isoformat(),
        "expires_at": None if speaker.expires_at is None else speaker.expires_at.isoformat(),
    }
