"""`StreamingDiarizer`: fed with sound as it comes, it says who speaks within one to three seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Samples
from xvectors.audio.recording import as_waveform
from xvectors.audio.resampling import Resampler
from xvectors.audio.segments import without_zeros
from xvectors.audio.speech import check_finite
from xvectors.diarization.diarizer import MAX_PAUSE_S, Diarization, speaker_label
from xvectors.diarization.streaming.names import SequentialNames
from xvectors.diarization.streaming.speakers import Decided, OnlineSettings, OnlineSpeakers
from xvectors.diarization.streaming.speech import BLOCK_S, SpeechTracker
from xvectors.diarization.turns import Turn
from xvectors.diarization.windows import CLOSED_PAUSE_S, EDGE_S, HOP_S, WINDOW_S
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import ConfigError
from xvectors.gallery import Gallery


@dataclass(frozen=True)
class _Piece:
    """A stretch of speech that one window stands for, and its samples."""

    start_s: float
    end_s: float
    samples: Samples


class StreamingDiarizer:
    """Tells who speaks while the sound comes in, chunk by chunk.

    Speech is labeled about 1.4 s after it was heard, at most 2.5 s, and 3 s at a new speaker's first words, which wait
    for a second window; the duration of a chunk is added.
    Labels stay: nothing that was returned changes. Memory does not grow with the duration.

    Parameters
    ----------
    encoder
        The system, which must be calibrated.
    gallery
        Enrolled speakers of the same system, or None for labels alone. It is asked for each speaker after 3 s of
        speech, and again with 6, 12, 24 and 48 s, until it accepts a name.
    vad
        "energy", or None to take everything for speech.
    sample_rate_hz
        Sample rate of the chunks, if it is not the system's.
    window_s, hop_s
        As in `Diarizer`.
    settings
        How speakers are told apart.

    Raises
    ------
    CheckpointError
        The system is not calibrated.
    ConfigError
        A VAD that needs the whole recording, or a window that is too short for the network.

    Examples
    --------
    >>> stream = StreamingDiarizer(SpeakerEncoder.from_pretrained())  # doctest: +SKIP
    >>> for chunk in microphone:                                      # doctest: +SKIP
    ...     for turn in stream.feed(chunk):
    ...         print(turn.start_s, turn.end_s, turn.label)
    """

    def __init__(
        self,
        encoder: SpeakerEncoder,
        *,
        gallery: Gallery | None = None,
        vad: str | None = "energy",
        sample_rate_hz: int | None = None,
        window_s: float = WINDOW_S,
        hop_s: float = HOP_S,
        settings: OnlineSettings | None = None,
    ) -> None:
        if vad not in ("energy", None):
            raise ConfigError(f"vad {vad!r} needs the whole recording; stream with energy, or None for all speech")
        if not encoder.shortest_s <= window_s:
            raise ConfigError(f"window_s is {window_s}; the network needs at least {encoder.shortest_s:g} s")
        if not 0 < hop_s <= window_s:
            raise ConfigError(f"window_s is {window_s} and hop_s {hop_s}: give a hop above 0 and at most a window")
        self._engine = encoder.engine
        self._rate = encoder.engine.sample_rate_hz
        self._window_s, self._hop_s = window_s, hop_s
        self._resampler = Resampler(self._rate if sample_rate_hz is None else sample_rate_hz, self._rate)
        self._speech = SpeechTracker(self._rate, everything=vad is None)
        self._speakers = OnlineSpeakers(encoder.verifier, settings)
        self._names = None if gallery is None else SequentialNames(encoder, gallery, self._rate)
        self._buffer: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        self._first = self._num_heard = 0
        self._region: tuple[float, float] | None = None
        self._next_s = self._labeled_s = 0.0
        self._held = list[_Piece]()

    @property
    def heard_s(self) -> float:
        """Seconds of sound so far."""
        return (self._first + len(self._buffer)) / self._rate

    @property
    def joined(self) -> Mapping[str, str]:
        """Labels of speakers who turned out to be an earlier one, who speaks on under the earlier label."""
        return {speaker_label(gone): speaker_label(kept) for gone, kept in self._speakers.joined.items()}

    @property
    def doubts(self) -> Mapping[str, tuple[str, ...]]:
        """Answers of the gallery after a name was accepted that are not this name, by label."""
        return {} if self._names is None else self._names.doubts

    def feed(self, samples: Samples) -> list[Turn]:
        """Hear a chunk, float [samples] in [-1, 1] of any length; return who spoke, as far as that is decided now.

        The turns are in order of time and follow those returned before. A turn that goes on comes in pieces of about
        half a second, which `join_pieces` joins. `Turn.name` is set from when the gallery accepts it.

        Raises
        ------
        AudioError
            Samples of another shape or type, or that are not finite.
        GalleryError
            The gallery cannot be used.
        """
        wave = as_waveform(samples, "the chunk").astype(np.float32, copy=False)
        check_finite(wave, "the chunk")
        return self._hear(self._resampler.feed(wave), last=False)

    def finish(self) -> list[Turn]:
        """Return what is left at the end of the sound. Raises as `feed` does."""
        return self._hear(self._resampler.feed(np.empty(0, dtype=np.float32), last=True), last=True)

    def _hear(self, samples: Samples, *, last: bool) -> list[Turn]:
        self._buffer = np.concatenate([self._buffer, samples])
        size, found = round(BLOCK_S * self._rate), list[Turn]()
        while (left := self._first + len(self._buffer) - self._num_heard) >= size or last:
            block = self._buffer[self._num_heard - self._first :][:size]
            self._num_heard += len(block)
            ends = last and left <= size
            for stretch in self._speech.feed(block, last=ends):
                found += self._extended(*stretch)
            if self._region and (ends or self._speech.decided_s - self._region[1] > CLOSED_PAUSE_S):
                found += self._closed()
            self._forget()
            if ends:
                break
        return found

    def _extended(self, start_s: float, end_s: float) -> list[Turn]:
        """Add speech to the region, or end it and begin another; label the windows that are now whole."""
        found = list[Turn]()
        if self._region and start_s - self._region[1] > CLOSED_PAUSE_S:
            found += self._closed()
        if self._region is None:
            begin_s = max(start_s - EDGE_S, self._labeled_s)
            self._region = begin_s, end_s
            self._next_s = self._labeled_s = begin_s
        self._region = self._region[0], end_s
        while self._next_s + self._window_s <= end_s:
            middle_s = self._next_s + 0.5 * self._window_s
            found += self._label(self._next_s, self._next_s + self._window_s, middle_s + 0.5 * self._hop_s, last=False)
            self._next_s += self._hop_s
        return found

    def _closed(self) -> list[Turn]:
        """Label what is left of the region, by a window that ends with it."""
        assert self._region is not None
        start_s, end_s = self._region[0], min(self._region[1] + EDGE_S, self._speech.decided_s)
        self._region = None
        found = self._label(max(start_s, end_s - self._window_s), end_s, end_s, last=True)
        return found + self._released(self._speakers.give_up_waiting())

    def _label(self, start_s: float, end_s: float, until_s: float, *, last: bool) -> list[Turn]:
        """Decide who speaks from what is labeled until `until_s`, by the window from `start_s` to `end_s`."""
        heard = without_zeros(self._cut(start_s, end_s), self._rate)
        if len(heard) < self._engine.samples_needed or not heard.any():
            return []
        row = self._engine.embed([heard])[0]
        if not np.isfinite(row).all():
            return []
        piece = _Piece(self._labeled_s, until_s, self._cut(self._labeled_s, until_s))
        self._labeled_s = until_s
        self._held.append(piece)
        decided = self._speakers.decide(row, end_s - start_s, piece.end_s - piece.start_s, last=last)
        return self._released(decided)

    def _released(self, decided: Sequence[Decided]) -> list[Turn]:
        found = list[Turn]()
        for each in decided:
            piece, label = self._held.pop(0), speaker_label(each.speaker)
            turn = Turn(start_s=piece.start_s, end_s=piece.end_s, speaker=label)
            if self._names is not None:
                if each.sure:
                    self._names.hear(label, piece.samples)
                answer = self._names.answer(label)
                turn = turn if answer is None else answer.applied_to(turn)
            found.append(turn)
        return found

    def _cut(self, start_s: float, end_s: float) -> Samples:
        first, last = (max(0, round(time_s * self._rate) - self._first) for time_s in (start_s, end_s))
        return self._buffer[first:last].copy()

    def _forget(self) -> None:
        """Let go of sound that no later window needs."""
        needed_s = self._speech.decided_s - CLOSED_PAUSE_S - EDGE_S
        if self._region:
            needed_s = min(needed_s, self._labeled_s, self._region[1] - self._window_s)
        drop = min(max(0, round(needed_s * self._rate) - self._first), self._num_heard - self._first)
        self._buffer = self._buffer[drop:]
        self._first += drop


def join_pieces(recording: str, pieces: Iterable[Turn], *, max_pause_s: float = MAX_PAUSE_S) -> Diarization:
    """Join the pieces that a stream returned into turns: of a speaker, with pauses of at most `max_pause_s`.

    The name that the gallery accepted last holds for all turns of a speaker.
    """
    turns, latest = list[Turn](), dict[str, Turn]()
    for piece in pieces:
        latest[piece.speaker] = piece
        if turns and turns[-1].speaker == piece.speaker and piece.start_s - turns[-1].end_s <= max_pause_s:
            turns[-1] = replace(turns[-1], end_s=piece.end_s)
        else:
            turns.append(piece)
    named = [
        replace(turn, name=one.name, answer=one.answer, llr=one.llr) for turn in turns for one in [latest[turn.speaker]]
    ]
    return Diarization.of_turns(recording, named)
