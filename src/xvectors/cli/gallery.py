"""Commands about enrolled speakers: enroll, identify, speakers, forget, re-enroll; gallery export, import and purge."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xvectors.cli.shared import (
    RECOGNIZE,
    AnyChannelOption,
    ChannelOption,
    Device,
    GalleryPath,
    Json,
    SystemOption,
    Trust,
    app,
    command,
    one_channel,
    print_lines,
)
from xvectors.cli.terminal import print, print_json
from xvectors.errors import ConfigError
from xvectors.text import count, first_few

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xvectors.audio import Channel
    from xvectors.audio.speech import Heard
    from xvectors.encoder import SpeakerEncoder
    from xvectors.gallery import EnrollmentResult, Identification, ImportResult, Match, Speaker, SqliteStore

GALLERY = "Commands"

NOT_CALIBRATED = "the system is not calibrated (`xvectors calibrate DIR`)"

files = typer.Typer(help="Export, import or purge the enrolled speakers.", no_args_is_help=True)
app.add_typer(files, name="gallery", rich_help_panel=RECOGNIZE)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the speaker.")]


@command(RECOGNIZE, "xvectors enroll ann ann-1.wav ann-2.wav", "xvectors enroll ann ann.wav --expires 2030-01-01")
def enroll(
    name: Name,
    recordings: Annotated[list[Path], typer.Argument(metavar="RECORDING...", help="Recordings of this speaker alone.")],
    system: SystemOption = "starter",
    gallery: GalleryPath = None,
    keep_audio: Annotated[
        bool,
        typer.Option(
            "--keep-audio", help="Keep a copy of the recordings, so that `xvectors re-enroll` can change the system."
        ),
    ] = False,
    consent: Annotated[str | None, typer.Option(metavar="TEXT", help="Note on what the speaker agreed to.")] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DATE", help="Day (UTC) from which these recordings are no longer used.")
    ] = None,
    channel: ChannelOption = None,
    device: Device = "auto",
    as_json: Json = False,
    trust: Trust = None,
) -> None:
    """Enroll a speaker, or add recordings of a speaker who is enrolled."""
    from datetime import UTC, datetime

    from xvectors.encoder import SpeakerEncoder
    from xvectors.gallery import consent_note, expiry, open_gallery, speaker_name

    name = speaker_name(name)
    consent = None if consent is None else consent_note(consent)
    if Path(name).is_file():
        raise ConfigError(f"{name} is a file: the speaker's name comes first, then the recordings")
    taken = one_channel(channel)
    if keep_audio and taken is not None:
        raise ConfigError("--keep-audio keeps whole files, so give it files of one channel instead of --channel")
    expires_at = None if expires is None else expiry(expires, datetime.now(UTC))
    encoder = SpeakerEncoder.from_pretrained(system, device=device)
    embeddings, heard = _embed(encoder, recordings, taken)
    seconds = [side.speech_s for side in heard]
    audio = [path.read_bytes() for path in recordings] if keep_audio else None
    with open_gallery(gallery, system=encoder, create=True) as opened:
        done = opened.enroll(name, embeddings, seconds, audio=audio, consent=consent, expires_at=expires_at)
    print_lines(_warnings(done, recordings), stream=sys.stderr)
    print_lines((f"note: {side.name}: {note}" for side in heard for note in side.quality.notes), stream=sys.stderr)
    if as_json:
        print_json(asdict(done))
        return
    what = f"{count(done.num_added, 'recording')}, {sum(seconds):.1f} s of speech"
    if done.num_before:
        print(f"{name} was enrolled already, with {count(done.num_before, 'voiceprint')}; added {what}")
    else:
        print(f"{name} is enrolled, with {what}")


@command(RECOGNIZE, "xvectors identify call.wav", "xvectors identify call.wav --channel separate")
def identify(
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="Recording of the speaker to identify.")],
    top: Annotated[int, typer.Option(metavar="N", help="Number of most likely speakers to list.")] = 3,
    p_target: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Prior probability that the speaker is enrolled at all; by default the system's, usually 0.5.",
        ),
    ] = None,
    system: SystemOption = "starter",
    gallery: GalleryPath = None,
    channel: AnyChannelOption = None,
    device: Device = "auto",
    as_json: Json = False,
    trust: Trust = None,
) -> None:
    """Say which enrolled speaker a recording is of, that it is of none, or that it cannot be told.

    With --channel separate, say it of each channel, as of the two parties of a call.
    """
    from xvectors.audio import as_channel, probe
    from xvectors.encoder import SpeakerEncoder
    from xvectors.gallery import open_gallery

    taken = None if channel is None else as_channel(channel)
    asked: list[Channel | None] = [None if taken == "separate" else taken]
    if taken == "separate":
        asked = list(range(probe(recording).num_channels))
    with open_gallery(gallery, system=system) as opened:
        encoder = SpeakerEncoder.from_pretrained(system, device=device)
        answers = [
            opened.identify_recording(encoder, recording, top=top, p_target=p_target, channel=one) for one in asked
        ]
    if as_json:
        as_dicts = [found.to_dict() for found in answers]
        if taken == "separate":
            print_json({"channels": [{"channel": one, **found} for one, found in zip(asked, as_dicts, strict=True)]})
        else:
            print_json(as_dicts[0])
        return
    for one, found in zip(asked, answers, strict=True):
        if taken == "separate":
            print(f"channel {one}:")
        print_lines(_answer(found))
        print(found.recording)


@command(RECOGNIZE, "xvectors speakers")
def speakers(gallery: GalleryPath = None, as_json: Json = False) -> None:
    """List the enrolled speakers."""
    from datetime import UTC, datetime

    from xvectors.gallery import default_gallery

    if gallery is None and not default_gallery().exists():
        if as_json:
            print_json([])
        else:
            print("nobody is enrolled; `xvectors enroll NAME a.wav` enrolls")
        return
    with _store(gallery) as store:
        everybody = store.speakers(datetime.now(UTC))
    if as_json:
        print_json([_plain(speaker) for speaker in everybody])
    elif everybody:
        print_lines(_line(speaker) for speaker in everybody)
    else:
        print("nobody is enrolled; `xvectors enroll NAME a.wav` enrolls")


@command(RECOGNIZE, "xvectors forget ann", "xvectors forget ann --last")
def forget(
    name: Name,
    last: Annotated[
        bool, typer.Option("--last", help="Remove only the recordings of the last `xvectors enroll`.")
    ] = False,
    gallery: GalleryPath = None,
) -> None:
    """Remove a speaker from the gallery, and every trace from its file."""
    from xvectors.gallery import speaker_name

    name = speaker_name(name, known=True)
    with _store(gallery) as store:
        number = store.forget(name, last=last)
    done = f"{count(number, 'voiceprint')} removed from the file"
    print(f"{name}: {done}" if last else f"{name} is forgotten: {done}")


@command(RECOGNIZE, "xvectors re-enroll --system exp/mine", name="re-enroll")
def re_enroll(
    system: SystemOption = "starter", gallery: GalleryPath = None, device: Device = "auto", trust: Trust = None
) -> None:
    """Enroll everybody with another system, from the recordings that --keep-audio kept."""
    from xvectors.encoder import SpeakerEncoder
    from xvectors.files import exclusive
    from xvectors.gallery import default_gallery, open_gallery

    path = gallery if gallery is not None else default_gallery()
    lock = path.with_name(f".{path.name}.re-enroll.lock")
    with (
        open_gallery(path, system=system) as opened,
        exclusive(lock, of=str(path)),
        tempfile.TemporaryDirectory() as folder,
    ):
        encoder = SpeakerEncoder.from_pretrained(system, device=device)

        def encode(audio: bytes) -> tuple[NDArray[np.float32], float]:
            recording = Path(folder) / "recording"
            recording.write_bytes(audio)
            embeddings, heard = _embed(encoder, [recording])
            return embeddings[0], heard[0].speech_s

        done = opened.re_enroll(encode)
    print_lines((f"left as it was: {reason}" for reason in done.failed), stream=sys.stderr)
    if done.without_audio:
        print_lines(
            [f"still enrolled with another system only: {', '.join(done.without_audio)}; enroll again"], sys.stderr
        )
    number, num_speakers = sum(done.renewed.values()), len(done.renewed)
    print(f"embedded again with this system: {count(number, 'voiceprint')} of {count(num_speakers, 'speaker')}")


@command(GALLERY, "xvectors gallery export -o backup.sqlite", name="export", group=files)
def export_file(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Gallery file to write.")],
    gallery: GalleryPath = None,
) -> None:
    """Write all enrolled speakers to a file that `xvectors gallery import` reads."""
    from xvectors.gallery import export_gallery

    with _store(gallery) as store:
        number = export_gallery(store, output)
    print(f"{count(number, 'voiceprint')}: {output}")


@command(GALLERY, "xvectors gallery import backup.sqlite", name="import", group=files)
def import_file(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Gallery, as `xvectors gallery export` writes it.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Add voiceprints to names that are enrolled here already.")
    ] = False,
    system: SystemOption = "starter",
    gallery: GalleryPath = None,
) -> None:
    """Add the speakers of another gallery to this one.

    Voiceprints that are here already are not added twice. Everything is checked first, and all is added or nothing.
    """
    from xvectors.gallery import import_gallery, open_gallery

    with open_gallery(gallery, system=system, create=True) as opened:
        done = import_gallery(opened, source, merge=merge)
    print_lines(_import_warnings(done), stream=sys.stderr)
    if done.merged:
        print(f"further voiceprints for names that were enrolled: {', '.join(done.merged)}")
    print(f"added: {count(done.num_added, 'voiceprint')}; there already: {done.num_known}")


@command(GALLERY, "xvectors gallery purge", group=files)
def purge(gallery: GalleryPath = None) -> None:
    """Remove expired voiceprints, and every trace of those removed before."""
    from datetime import UTC, datetime

    with _store(gallery) as store:
        number = store.purge(datetime.now(UTC))
    print(f"{count(number, 'expired voiceprint')} removed from the file")


def _store(gallery: Path | None, *, create: bool = False) -> SqliteStore:
    from xvectors.gallery import SqliteStore, default_gallery

    return SqliteStore(gallery if gallery is not None else default_gallery(), create=create)


def _embed(
    encoder: SpeakerEncoder, paths: Sequence[Path], channel: Channel | None = None
) -> tuple[NDArray[np.float32], list[Heard]]:
    """Embeddings [n, D] of what is spoken in each; TooShortError where that is too little to compare."""
    from xvectors.errors import TooShortError
    from xvectors.verification.decision import why_unusable

    heard = [encoder.listen(path, channel=channel) for path in paths]
    for side in heard:
        if reason := why_unusable(side, encoder.verifier):
            raise TooShortError(f"{reason}; give a recording with more speech")
    return encoder.encode_heard([side.samples for side in heard]), heard


def _warnings(done: EnrollmentResult, recordings: Sequence[Path]) -> list[str]:
    lines = [
        f"warning: {recordings[at]} is enrolled as {done.speaker} already: once more it tells nothing new, but counts "
        f"as more speech; `xvectors forget {done.speaker} --last` takes back what was enrolled now"
        for at in done.repeated
    ]
    if not done.checked and done.num_before + done.num_added > 1:
        return [*lines, f"note: whether these are all of one voice was not checked: {NOT_CALIBRATED}"]
    return lines + [
        f"warning: {recordings[doubt.recording]} does not sound like {done.speaker}'s other recordings (LLR "
        f"{doubt.llr:.1f}, below the threshold of {doubt.threshold:.1f}): is it the same person? If not, "
        f"`xvectors forget {done.speaker} --last` takes back what was enrolled now"
        for doubt in done.doubts
    ]


def _import_warnings(done: ImportResult) -> Iterator[str]:
    for name, doubts in done.doubts.items():
        lowest = min(doubts, key=lambda doubt: doubt.llr)
        yield (
            f"warning: {count(len(doubts), 'imported voiceprint')} of {name} does not sound like the others of that "
            f"name (LLR {lowest.llr:.1f}, below the threshold of {lowest.threshold:.1f}): is it the same person? If "
            f"not, `xvectors forget {name} --last` takes back what was imported now"
        )
    if done.unchecked:
        yield (
            f"note: whether the imported voiceprints of a name are all of one voice was not checked for "
            f"{first_few(done.unchecked, 5)}: they are of another system than --system, or it is not calibrated"
        )


def _answer(found: Identification) -> list[str]:
    from xvectors.gallery import NOBODY

    best = found.matches[0] if found.matches else None
    among = count(found.num_enrolled, "enrolled speaker")
    if best is None:
        return [f"{found.answer}: {'; '.join(found.reasons)}"]
    if found.p_nobody is None or best.llr is None:
        lines = [f"{found.answer}: {NOT_CALIBRATED}; of {among}, the most alike:"]
    else:
        of_best = f"LLR {best.llr:.1f}" if found.speaker else f"{best.speaker} has an LLR of {best.llr:.1f}"
        lines = [
            f"{found.answer}: {of_best}, threshold {best.threshold:.1f} among {among}",
            *(f"note: {reason}" for reason in found.reasons),
        ]
    lines += [f"{rank}  {_match(match)}" for rank, match in enumerate(found.matches, start=1)]
    if found.p_nobody is not None:
        lines.append(f"-  {NOBODY}  probability {found.p_nobody:.1%}")
    if found.left_out:
        lines.append(
            f"not compared, because enrolled with another system: {first_few(found.left_out)}; "
            "enroll again, or `xvectors re-enroll`"
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


def _plain(speaker: Speaker) -> dict[str, Any]:
    return {
        **asdict(speaker),
        "enrolled_at": speaker.enrolled_at.isoformat(),
        "expires_at": None if speaker.expires_at is None else speaker.expires_at.isoformat(),
    }
