"""`Diarizer`: from a recording to turns, with names from a gallery.

`diarize` reads from top to bottom: find the speech, embed windows of it, find the speakers, make turns, and ask the
gallery who they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.audio import Channel, Samples, probe
from xvectors.audio.recording import OpenRecording, Recording, open_recording, read_bytes
from xvectors.audio.vad import DetectorName, find_detector
from xvectors.diarization.clustering.ahc import SpeakerRange
from xvectors.diarization.clustering.llrs import mean_embeddings
from xvectors.diarization.clustering.purity import two_voices
from xvectors.diarization.clustering.speakers import ClusteringSettings, check_method, find_speakers
from xvectors.diarization.naming.answers import SpeakerAnswer, name_speakers
from xvectors.diarization.overlap import SpeakerCounts, find_counter, with_second_speakers
from xvectors.diarization.overlap.counting import BUNDLED, NO_NETWORK
from xvectors.diarization.turn_files.annotation import as_annotation, turns_of_annotation
from xvectors.diarization.turn_files.formats import as_rttm
from xvectors.diarization.turns import Turn, in_order
from xvectors.diarization.windows import HOP_S, WINDOW_S, Regions, embed_windows, find_speech, joined_regions
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import ConfigError
from xvectors.gallery import Gallery
from xvectors.system.folder import STARTER
from xvectors.text import short_repr

if TYPE_CHECKING:
    from pyannote.core import Annotation

MAX_PAUSE_S = 0.3
"""Pauses of a speaker up to this do not end a turn."""
MIN_TURN_S = 0.2
"""Shorter turns are left out, unless they are all that a speaker says."""
NO_SPEECH = "no speech was found"


@short_repr("recording", "turns", "speakers", "reasons")
@dataclass(frozen=True, kw_only=True, eq=False)
class Diarization(Sequence[Turn]):
    """The turns of a recording, as a sequence, and its speakers.

    Attributes
    ----------
    recording : name of the recording
    turns : in order of time
    embeddings : float32 [dim] of each speaker by label: the mean of their windows, of length 1
    speech_s : seconds of speech of each speaker, by label
    speakers : the gallery's answer for each speaker, by label; empty where no gallery was asked
    two_voices : speakers, by label, who sound like two voices, with the LLR of both halves of their speech
    reasons : why there are no turns; empty where there are
    """

    recording: str
    turns: tuple[Turn, ...]
    embeddings: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    speech_s: Mapping[str, float] = field(default_factory=dict)
    speakers: Mapping[str, SpeakerAnswer] = field(default_factory=dict)
    two_voices: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def __getitem__(self, index: Any) -> Any:
        return self.turns[index]

    def __len__(self) -> int:
        return len(self.turns)

    def __iter__(self) -> Iterator[Turn]:
        return iter(self.turns)

    @classmethod
    def of_turns(cls, recording: str, turns: Sequence[Turn], *, reasons: tuple[str, ...] = ()) -> Diarization:
        """Return turns that come from elsewhere, without embeddings and answers."""
        speech_s = dict[str, float]()
        for turn in turns:
            speech_s[turn.speaker] = speech_s.get(turn.speaker, 0.0) + turn.duration_s
        return cls(recording=recording, turns=tuple(turns), speech_s=speech_s, reasons=reasons)

    @classmethod
    def from_annotation(cls, annotation: Annotation) -> Diarization:
        """Return the tracks of a `pyannote.core.Annotation` as turns, of the recording that its `uri` names."""
        return cls.of_turns(annotation.uri or "recording", turns_of_annotation(annotation))

    def with_overlap(self, overlap_s: ArrayLike) -> Diarization:
        """Return the same with a second speaker in regions [k, 2] in seconds, as `with_second_speakers` says."""
        turns, added_s = with_second_speakers(self.turns, joined_regions(overlap_s)), dict(self.speech_s)
        for sign, those in ((-1, self.turns), (1, turns)):
            for turn in those:
                added_s[turn.speaker] = added_s.get(turn.speaker, 0.0) + sign * turn.duration_s
        return replace(self, turns=tuple(turns), speech_s=added_s)

    def to_annotation(self) -> Annotation:
        """Return a `pyannote.core.Annotation` with a track for each turn, labeled by `Turn.label`.

        Raises MissingExtraError without pyannote.core.
        """
        return as_annotation(self.recording, self.turns)

    def to_rttm(self) -> str:
        """Return RTTM, with `_` for spaces in names."""
        return as_rttm(self.recording, self.turns)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the embeddings."""
        return {
            "recording": self.recording,
            "turns": [turn.to_dict() for turn in self.turns],
            "speech_s": dict(self.speech_s),
            "two_voices": dict(self.two_voices),
            "speakers": {label: answer.to_dict() for label, answer in self.speakers.items()},
            "reasons": list(self.reasons),
        }


class Diarizer:
    """Finds out who spoke when in a recording, and who of a gallery it is.

    Parameters
    ----------
    encoder
        The system. It must be calibrated: whether two stretches are of one speaker is decided by LLRs.
    gallery
        Enrolled speakers of the same system, or None for labels alone.
    vad
        "energy", "silero" (extra `vad`), None to take everything for speech, or "network": the network of `overlap`,
        or the bundled one where that is "none".
    overlap
        The network that says where several people speak at once, so that two of them get the turn: the path of
        pyannote's segmentation-3.0 (pytorch_model.bin), "bundled" for our own, which is less accurate, or "none".
    window_s, hop_s
        Windows of speech that are embedded, in seconds.
    settings
        How speakers are told apart.

    Examples
    --------
    >>> turns = Diarizer.from_pretrained().diarize("meeting.wav")              # doctest: +SKIP
    >>> [(turn.start_s, turn.end_s, turn.label) for turn in turns]             # doctest: +SKIP
    [(0.4, 3.9, 'speaker_1'), (4.2, 9.6, 'speaker_2')]
    """

    def __init__(
        self,
        encoder: SpeakerEncoder,
        *,
        gallery: Gallery | None = None,
        vad: DetectorName | Literal["network"] | None = "energy",
        overlap: str | os.PathLike[str] = "none",
        window_s: float = WINDOW_S,
        hop_s: float = HOP_S,
        settings: ClusteringSettings | None = None,
    ) -> None:
        self.encoder, self.gallery = encoder, gallery
        self.window_s, self.hop_s = window_s, hop_s
        self.settings = settings or ClusteringSettings()
        self.vad = vad
        self._counts_find_speech, self._counts_find_overlap = vad == "network", overlap != NO_NETWORK
        self._counter = find_counter(BUNDLED if vad == "network" and overlap == NO_NETWORK else overlap)
        self._detector = None if vad == "network" else find_detector(vad)
        if not encoder.shortest_s <= window_s:
            raise ConfigError(f"window_s is {window_s}; the network needs at least {encoder.shortest_s:g} s")
        check_method(self.settings.method, encoder.verifier)

    def __repr__(self) -> str:
        return f"Diarizer({self.encoder!r}, gallery={self.gallery!r})"

    @classmethod
    def from_pretrained(
        cls,
        system: str | os.PathLike[str] = STARTER,
        *,
        device: str = "auto",
        threads: int | None = None,
        **options: Any,
    ) -> Diarizer:
        """Load a system by name or path, as `SpeakerEncoder.from_pretrained` does; `options` are those of the class."""
        return cls(SpeakerEncoder.from_pretrained(system, device=device, threads=threads), **options)

    def diarize(
        self,
        recording: Recording,
        *,
        speakers: int | str | None = None,
        speech_s: ArrayLike | None = None,
        sample_rate_hz: int | None = None,
        channel: Channel | None = None,
        name: str = "recording",
    ) -> Diarization:
        """Return who speaks when.

        Memory grows with the number of windows, not with the audio: ten hours take 72,000 embeddings.

        Parameters
        ----------
        recording
            As in `SpeakerEncoder.encode`; not a tensor of several channels.
        speakers
            Number of speakers, as 3, or its limits, as "2..6"; None leaves it to the evidence.
        speech_s
            [k, 2], starts and ends of the speech in seconds, to be used instead of the VAD's.
        sample_rate_hz
            Sample rate of a waveform, if it is not the system's.
        channel
            Channel of a file; by default the system's.
        name
            Name of a recording without a path.

        Raises
        ------
        AudioError
            The recording cannot be read.
        CheckpointError
            The system is not calibrated.
        ConfigError
            An invalid number of speakers.
        GalleryError
            The gallery cannot be used. Having nobody enrolled is one reason.
        """
        limits = SpeakerRange.of(speakers)
        sound = self._open(recording, name, sample_rate_hz, channel)
        counts = None if self._counter is None else self._counter(sound)
        overlap = np.empty((0, 2))
        if counts is not None and self._counts_find_overlap:
            overlap = counts.overlap()
            limits = SpeakerRange(counts.least_speakers) if speakers is None else limits
        regions = self._speech(sound, counts) if speech_s is None else joined_regions(speech_s)
        windows = embed_windows(sound, regions, self.encoder.engine, window_s=self.window_s, hop_s=self.hop_s)
        label = recording_name(sound.name)
        if not len(windows):
            return Diarization(recording=label, turns=(), reasons=(NO_SPEECH,))
        durations_s = windows.end_s - windows.start_s
        labels = find_speakers(
            windows.embeddings, durations_s, windows.seconds, self.encoder.verifier, limits, self.settings
        )
        turns = turns_of(windows.spans, labels)
        means, totals = mean_embeddings(windows.embeddings, windows.seconds, labels, int(labels.max()) + 1)
        names = [speaker_label(number) for number in range(len(means))]
        found = self._named(
            sound, label, turns, dict(zip(names, means, strict=True)), dict(zip(names, totals.tolist(), strict=True))
        )
        doubted = two_voices(windows.embeddings, durations_s, windows.seconds, labels, self.encoder.verifier)
        found = replace(found, two_voices={names[number]: llr for number, llr in doubted.items()})
        return found.with_overlap(overlap)

    def stream(self, chunks: Iterable[Samples], *, sample_rate_hz: int | None = None) -> Iterator[Turn]:
        """Yield who speaks while the sound comes in, within one to three seconds; see `StreamingDiarizer`.

        Parameters
        ----------
        chunks
            float [samples] of any length, in [-1, 1].
        sample_rate_hz
            Sample rate of the chunks, if it is not the system's.

        Raises as `StreamingDiarizer` does, whose settings differ from those of `diarize`.
        """
        from xvectors.diarization.streaming import StreamingDiarizer

        streaming = StreamingDiarizer(
            self.encoder,
            gallery=self.gallery,
            vad=self.vad,
            sample_rate_hz=sample_rate_hz,
            window_s=self.window_s,
            hop_s=self.hop_s,
        )
        for chunk in chunks:
            yield from streaming.feed(chunk)
        yield from streaming.finish()

    def diarize_channels(
        self, recording: Recording, *, sample_rate_hz: int | None = None, name: str = "recording"
    ) -> Diarization:
        """Return the turns of a file with one speaker a channel, such as a call: `speaker_1` is channel 0.

        Raises as `diarize` does.
        """
        if hasattr(recording, "read"):
            recording = read_bytes(recording, name)
        if not isinstance(recording, str | os.PathLike | bytes):
            raise ConfigError("channels are those of a file; diarize each waveform by itself")
        parts = [
            self._one_speaker(self._open(recording, name, sample_rate_hz, channel), number)
            for number, channel in enumerate(range(probe(recording).num_channels))
        ]
        turns = in_order(turn for part in parts for turn in part)
        return Diarization(
            recording=parts[0].recording,
            turns=tuple(turns),
            embeddings={key: value for part in parts for key, value in part.embeddings.items()},
            speech_s={key: value for part in parts for key, value in part.speech_s.items()},
            speakers={key: value for part in parts for key, value in part.speakers.items()},
            reasons=() if turns else (NO_SPEECH,),
        )

    def _open(
        self, recording: Recording, name: str, sample_rate_hz: int | None, channel: Channel | None
    ) -> OpenRecording:
        engine = self.encoder.engine
        return open_recording(
            recording,
            name,
            waveform_rate_hz=engine.sample_rate_hz if sample_rate_hz is None else sample_rate_hz,
            channel=engine.channel if channel is None else channel,
        )

    def _speech(self, sound: OpenRecording, counts: SpeakerCounts | None) -> Regions:
        if counts is not None and self._counts_find_speech:
            return counts.speech()
        return find_speech(sound, self._detector)

    def _one_speaker(self, sound: OpenRecording, number: int) -> Diarization:
        counts = self._counter(sound) if self._counter and self._counts_find_speech else None
        regions = self._speech(sound, counts)
        windows = embed_windows(sound, regions, self.encoder.engine, window_s=self.window_s, hop_s=self.hop_s)
        label = recording_name(sound.name)
        if not len(windows):
            return Diarization(recording=label, turns=(), reasons=(NO_SPEECH,))
        labels = np.zeros(len(windows), dtype=np.int64)
        means, totals = mean_embeddings(windows.embeddings, windows.seconds, labels, 1)
        turns = [replace(turn, speaker=speaker_label(number)) for turn in turns_of(windows.spans, labels)]
        who = speaker_label(number)
        return self._named(sound, label, turns, {who: means[0]}, {who: float(totals[0])})

    def _named(
        self,
        sound: OpenRecording,
        label: str,
        turns: Sequence[Turn],
        embeddings: dict[str, NDArray[np.float32]],
        speech_s: dict[str, float],
    ) -> Diarization:
        answers: dict[str, SpeakerAnswer] = {}
        if self.gallery is not None:
            answers = name_speakers(self.encoder, self.gallery, sound, turns, self.encoder.sample_rate_hz)
            turns = [answers[turn.speaker].applied_to(turn) for turn in turns]
        there = {turn.speaker for turn in turns}
        return Diarization(
            recording=label,
            turns=tuple(turns),
            embeddings={key: value for key, value in embeddings.items() if key in there},
            speech_s={key: value for key, value in speech_s.items() if key in there},
            speakers=answers,
        )


def recording_name(name: str) -> str:
    """Return the name of a recording: that of its file without the suffix."""
    return os.path.splitext(os.path.basename(name))[0] or name


def speaker_label(number: int) -> str:
    """Return the label of a speaker within a recording: `speaker_1` for number 0."""
    return f"speaker_{number + 1}"


def turns_of(
    spans: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    max_pause_s: float = MAX_PAUSE_S,
    min_turn_s: float = MIN_TURN_S,
) -> list[Turn]:
    """Join what neighboring windows stand for into turns.

    Parameters
    ----------
    spans
        [n, 2], what each window stands for, in order of time.
    labels
        [n], numbers of speakers.
    max_pause_s, min_turn_s
        Turns of a speaker with at most this pause between them are joined, where nobody else speaks in it; shorter
        turns are then left out, unless they are all that the speaker says.
    """
    joined = list[Turn]()
    for (start, end), number in zip(spans.tolist(), labels.tolist(), strict=True):
        who = speaker_label(number)
        if joined and joined[-1].speaker == who and start - joined[-1].end_s <= max_pause_s:
            joined[-1] = replace(joined[-1], end_s=end)
        else:
            joined.append(Turn(start_s=start, end_s=end, speaker=who))
    spoken = {turn.speaker for turn in joined if turn.duration_s >= min_turn_s}
    return [turn for turn in joined if turn.duration_s >= min_turn_s or turn.speaker not in spoken]
