"""The command that finds out who spoke when: diarize."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xvectors.cli.diarized import PAGE, Wishes, enroll_speakers_of, label_words, lines_of, turns_of_file, write_page_of
from xvectors.cli.shared import (
    RECOGNIZE,
    Device,
    GalleryOption,
    Json,
    SystemOption,
    Trust,
    command,
    one_of,
    print_lines,
)
from xvectors.cli.terminal import print, print_json
from xvectors.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from xvectors.encoder import SpeakerEncoder
    from xvectors.gallery import Gallery


@command(
    RECOGNIZE,
    "xvectors diarize meeting.wav",
    "xvectors diarize *.wav -o turns --speakers 2..6 --gallery team.sqlite --format rttm,json,vtt",
    "xvectors diarize meeting.wav --turns meeting.rttm --enroll speaker_2=bob",
    "xvectors diarize meeting.wav --overlap pytorch_model.bin --vad network",
    "xvectors diarize call.wav --channel separate",
    "xvectors diarize --evaluate ref.rttm hyp.rttm --uem all.uem",
)
def diarize_command(
    recordings: Annotated[
        list[Path] | None, typer.Argument(metavar="RECORDING", help="Recordings of any length and audio format.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder to write to. By default that of each recording."),
    ] = None,
    system: SystemOption = "starter",
    gallery: GalleryOption = None,
    speakers: Annotated[
        str | None,
        typer.Option(metavar="N", help="Number of speakers, as 3, or its limits, as 2..6. By default by evidence."),
    ] = None,
    clustering: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="How speakers are told apart: ahc, vbx (for systems whose back-end has a PLDA), or spectral.",
            autocompletion=one_of("ahc", "vbx", "spectral"),
        ),
    ] = "ahc",
    vad: Annotated[
        str,
        typer.Option(
            metavar="VAD",
            help="VAD: energy, silero (extra vad), network (that of --overlap, or the bundled one), or none to take "
            "everything for speech.",
            autocompletion=one_of("energy", "silero", "network", "none"),
        ),
    ] = "energy",
    overlap: Annotated[
        str,
        typer.Option(
            metavar="NETWORK",
            help="What finds overlapped speech, which gets two speakers: the file of pyannote's segmentation-3.0 "
            "(pytorch_model.bin), bundled for a small network of our own, or none.",
            autocompletion=one_of("bundled", "none"),
        ),
    ] = "none",
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="LIST",
            help="Formats to write, of rttm, json, vtt, srt, audacity. By default rttm, and with --turns none.",
        ),
    ] = None,
    turns: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Take the turns from this RTTM or JSON file of the recording, and diarize nothing."
        ),
    ] = None,
    enroll: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=NAME",
            help="Enroll a speaker of the recording under a name, by what they say alone; or a JSON file of names by "
            "label. Repeat the option for more.",
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=NAME",
            help="Name a speaker of the recording in what is written, and enroll nobody; or a JSON file of names by "
            "label. Speakers of one name become one. Repeat the option for more.",
        ),
    ] = None,
    transcript: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Transcript of the recording, in the JSON of whisper or whisperX or in CTM: write it again with the "
            "speaker of each word. The formats vtt and srt get its text.",
        ),
    ] = None,
    html: Annotated[
        bool,
        typer.Option(
            "--html", help="Write a page as well, to look at the turns, listen to them, and correct the names."
        ),
    ] = False,
    consent: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="With --enroll: note on what the speaker consented to, kept in the gallery."),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel",
            "--channels",
            metavar="CHANNEL",
            help="Channel of the recordings: mix, left, right, a number from 0, or separate: one speaker on each "
            "channel, as in a call. By default the channel that the system was trained on, usually mix.",
            autocompletion=one_of("mix", "left", "right", "separate"),
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    evaluate: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="REF HYP", help="Measure the turns in the RTTM file HYP by those in REF, and diarize nothing."
        ),
    ] = None,
    uem: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --evaluate: the regions to score, in UEM. By default all of both."),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
    trust: Trust = None,
) -> None:
    """Find out who spoke when, and who of the enrolled speakers it is.

    Turns are printed, and written as RTTM beside each recording. Speakers whom the gallery accepts get their names;
    others are speaker_1, speaker_2 and so on, with the answer unknown or cannot tell. Overlapped speech is given to one
    speaker, or with --overlap to two.

    --enroll puts a speaker of the recording into the gallery, by what they say while nobody else speaks. Look at the
    turns first, and then enroll from the file that was written: --turns meeting.rttm --enroll speaker_2=bob.

    --evaluate prints the DER as `full` (nothing left out), `fair` (0.25 s on each side of every boundary of the
    reference left out) and `forgiving` (overlap left out as well), with the JER.
    """
    if evaluate is not None:
        if recordings:
            raise ConfigError("--evaluate compares two RTTM files and takes no recordings; leave one of them out")
        _evaluate(*evaluate, uem, as_json)
        return
    if not recordings:
        raise ConfigError("give recordings to diarize, or --evaluate REF HYP to measure RTTM files")
    if uem is not None:
        raise ConfigError("--uem goes with --evaluate; leave it out")
    from xvectors.audio import as_channel
    from xvectors.audio.vad import as_detector_name
    from xvectors.diarization import ClusteringSettings, Diarizer, SpeakerRange, write_turns
    from xvectors.diarization.clustering.speakers import check_method
    from xvectors.diarization.naming.renaming import rename_speakers
    from xvectors.diarization.turn_files.formats import check_format
    from xvectors.encoder import SpeakerEncoder

    SpeakerRange.of(speakers)
    chosen = None if channel is None else as_channel(channel)
    if chosen == "separate" and speakers is not None:
        raise ConfigError("--channel separate takes one speaker a channel; leave --speakers out")
    wishes = Wishes.of(recordings, turns=turns, enroll=enroll, rename=rename, transcript=transcript, consent=consent)
    if enroll and chosen == "separate":
        raise ConfigError(
            "--enroll hears one channel; enroll who speaks on one with `xvectors enroll NAME FILE --channel N`"
        )
    if formats is None:
        formats = "rttm" if turns is None else ""
    names = [check_format(name.strip()) for name in formats.split(",") if formats]
    places = _places(recordings, output, [*wishes.suffixes(names), *([PAGE] if html else [])], overwrite)
    encoder = SpeakerEncoder.from_pretrained(system, device=device)
    with _Galleries(gallery, encoder, enrolling=bool(wishes.enroll), naming=turns is None) as opened:
        diarizer = Diarizer(
            encoder,
            gallery=opened,
            vad="network" if vad == "network" else as_detector_name(vad),
            overlap=overlap,
            settings=ClusteringSettings(method=check_method(clustering, encoder.verifier)),
        )
        results, failed = list[dict[str, Any]](), 0
        for recording in recordings:
            try:
                if turns is not None:
                    found = turns_of_file(turns, recording)
                elif chosen == "separate":
                    found = diarizer.diarize_channels(recording)
                else:
                    found = diarizer.diarize(recording, speakers=speakers, channel=chosen)
                enrolled = enroll_speakers_of(
                    found, recording, wishes, encoder, gallery, None if chosen == "separate" else chosen
                )
            except AudioError as error:
                failed += 1
                if failed == len(recordings):
                    raise
                print(f"left out: {error}", file=sys.stderr)
                continue
            found = rename_speakers(found, {**wishes.rename, **wishes.enroll})
            written = write_turns(places[recording], found.recording, found, wishes.turn_formats(names))
            if html:
                written.append(write_page_of(found, recording, places[recording]))
            written += label_words(found, recording, wishes, names, places[recording])
            if as_json:
                entry = {**found.to_dict(), "path": str(recording), "written": [str(path) for path in written]}
                results.append({**entry, "enrolled": [each.to_dict() for each in enrolled]} if enrolled else entry)
            else:
                print_lines(lines_of(recording, found, written, brief=turns is not None))
                print_lines(map(str, enrolled))
    if as_json:
        print_json(results)


class _Galleries:
    """The gallery that names speakers: the one that is given, or the user's own where it can be used.

    None where names are not asked for, and where the gallery that is enrolled into has nobody yet.
    """

    def __init__(self, location: str | None, encoder: SpeakerEncoder, *, enrolling: bool, naming: bool) -> None:
        self._location, self._encoder = location, encoder
        self._enrolling, self._naming = enrolling, naming
        self._opened: Gallery | None = None

    def __enter__(self) -> Gallery | None:
        from xvectors.gallery import is_there, open_gallery

        optional = self._enrolling or self._location is None
        if not self._naming or (optional and not is_there(self._location)):
            return None
        opened = open_gallery(self._location, system=self._encoder, create=self._enrolling)
        if optional and not any(opened.system in each.systems for each in opened.store.speakers(opened.now())):
            opened.store.close()
            if not self._enrolling:
                print(
                    "note: nobody in your gallery is enrolled with this system, so speakers have no names",
                    file=sys.stderr,
                )
            return None
        self._opened = opened
        return self._opened

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened.store.close()


def _evaluate(reference: Path, hypothesis: Path, uem: Path | None, as_json: bool) -> None:
    from xvectors.diarization.scoring import describe_scores, score_files

    scores = score_files(reference, hypothesis, uem)
    if as_json:
        print_json(scores.to_dict())
        return
    print_lines((f"note: {note}" for note in scores.notes), stream=sys.stderr)
    print_lines(describe_scores(scores))


def _places(
    recordings: Sequence[Path], output: Path | None, suffixes: Sequence[str], overwrite: bool
) -> dict[Path, Path]:
    """Return the folder that each recording's files go to; ConfigError where they would replace a file."""
    places, taken = dict[Path, Path](), dict[Path, Path]()
    for recording in recordings:
        folder = recording.parent if output is None else output
        places[recording] = folder
        for suffix in suffixes:
            path = folder / f"{recording.stem}{suffix}"
            if path in taken:
                raise ConfigError(
                    f"{taken[path]} and {recording} would both be written to {path}; rename one, or run them apart"
                )
            taken[path] = recording
            if path.exists() and not overwrite:
                use = f", or use its turns with --turns {path}" if suffix in (".rttm", ".json") else ""
                raise ConfigError(f"{path} exists; write elsewhere with -o DIR, or replace it with --overwrite{use}")
    return places
