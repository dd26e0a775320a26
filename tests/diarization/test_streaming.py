"""Streaming: latency, labels that stay, chunks of any length, memory, and names that are accepted once."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.voices import RATE, spoken
from xvectors import Diarizer, SpeakerEncoder
from xvectors.audio.activity import FRAMES_PER_S, speech_mask
from xvectors.backends.calibration import AffineCalibration
from xvectors.diarization import ConversationStyle, Turn, simulate_conversation
from xvectors.diarization.scoring import score_turns
from xvectors.diarization.streaming import OnlineSettings, StreamingDiarizer, join_pieces
from xvectors.diarization.streaming.names import FIRST_ASKED_S, SequentialNames
from xvectors.diarization.streaming.speakers import OnlineSpeakers
from xvectors.diarization.streaming.speech import BLOCK_S, SpeechTracker
from xvectors.errors import AudioError, CheckpointError, ConfigError
from xvectors.gallery import open_gallery
from xvectors.verification import Verifier, cosine_verifier

DRY = ConversationStyle(duration_s=30.0, turn_s=6.0, overlap=0.0, rt60_s=None, snr_db=40.0)


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    return SpeakerEncoder.from_pretrained("starter", device="cpu")


@pytest.fixture(scope="module")
def voices() -> dict[str, list[np.ndarray]]:
    return {f"v{at}": [speech.astype(np.float32)] for at, (speech, _) in enumerate(spoken(4, 4))}


@pytest.fixture(scope="module")
def talk(voices: dict[str, list[np.ndarray]]) -> tuple[np.ndarray, list[Turn]]:
    return simulate_conversation({name: voices[name] for name in ("v0", "v1")}, RATE, DRY, seed=1)


def streamed(diarizer: StreamingDiarizer, samples: np.ndarray, chunk: int) -> tuple[list[Turn], float]:
    """Return the pieces of all of the samples, and the longest delay from speech to its label in seconds."""
    pieces, delay_s = list[Turn](), 0.0
    for first in range(0, len(samples), chunk):
        new = diarizer.feed(samples[first : first + chunk])
        delay_s = max([delay_s, *(diarizer.heard_s - piece.start_s for piece in new)])
        pieces += new
    return pieces + diarizer.finish(), delay_s


def test_two_voices_are_told_apart_within_three_seconds(
    encoder: SpeakerEncoder, talk: tuple[np.ndarray, list[Turn]]
) -> None:
    samples, truth = talk
    stream = StreamingDiarizer(encoder)
    pieces, delay_s = streamed(stream, samples, RATE // 10)
    assert delay_s <= 3.0 + 0.1
    assert np.median([piece.duration_s for piece in pieces]) == pytest.approx(0.5)
    found = join_pieces("talk", pieces)
    assert found[0].speaker == "speaker_1"
    assert {turn.speaker for turn in found} == {"speaker_1", "speaker_2"}
    errors = score_turns({"talk": truth}, {"talk": list(found)}).total("forgiving")
    assert errors.confusion < 0.1
    assert errors.der < 0.2
    assert all(first.end_s <= second.start_s + 1e-9 for first, second in itertools.pairwise(pieces))


def test_chunks_of_any_length_give_the_same(encoder: SpeakerEncoder, talk: tuple[np.ndarray, list[Turn]]) -> None:
    samples = talk[0][: 8 * RATE]
    expected, _ = streamed(StreamingDiarizer(encoder), samples, len(samples))
    for chunk in (1777, 5 * RATE):
        found, _ = streamed(StreamingDiarizer(encoder), samples, chunk)
        assert [(piece.start_s, piece.end_s, piece.speaker) for piece in found] == [
            (piece.start_s, piece.end_s, piece.speaker) for piece in expected
        ]
    iterated = list(Diarizer(encoder).stream(samples[first : first + 999] for first in range(0, len(samples), 999)))
    assert iterated == expected


def test_another_sample_rate_is_resampled(encoder: SpeakerEncoder, talk: tuple[np.ndarray, list[Turn]]) -> None:
    samples = np.repeat(talk[0][: 8 * RATE], 2)
    found, _ = streamed(StreamingDiarizer(encoder, sample_rate_hz=2 * RATE), samples, 3200)
    alone, _ = streamed(StreamingDiarizer(encoder), talk[0][: 8 * RATE], 1600)
    assert join_pieces("a", found)[-1].end_s == pytest.approx(join_pieces("a", alone)[-1].end_s, abs=0.3)


def test_memory_does_not_grow_and_silence_gives_nothing(encoder: SpeakerEncoder) -> None:
    stream = StreamingDiarizer(encoder)
    rng = np.random.default_rng(0)
    sizes = list[int]()
    for _ in range(20):
        assert stream.feed(0.001 * rng.standard_normal(5 * RATE).astype(np.float32)) == []
        sizes.append(len(stream._buffer))
    assert max(sizes) <= RATE
    assert stream.finish() == []
    assert stream.heard_s == pytest.approx(100.0)
    assert StreamingDiarizer(encoder).finish() == []


def test_the_buffer_stays_short_in_speech_without_end(encoder: SpeakerEncoder) -> None:
    stream = StreamingDiarizer(encoder, vad=None)
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) / 10
    found = [piece for _ in range(8) for piece in stream.feed(noise)]
    assert len(stream._buffer) <= 2 * RATE
    found += stream.finish()
    assert found[0].start_s == 0
    assert found[-1].end_s == pytest.approx(8.0)
    assert sum(piece.duration_s for piece in found) == pytest.approx(8.0)


def test_speech_is_found_as_in_the_whole_recording(talk: tuple[np.ndarray, list[Turn]]) -> None:
    samples = talk[0]
    tracker, size = SpeechTracker(RATE), round(BLOCK_S * RATE)
    found = np.zeros(len(samples) * FRAMES_PER_S // RATE, dtype=bool)
    decided_s = 0.0
    for first in range(0, len(samples), size):
        for start_s, end_s in tracker.feed(samples[first : first + size], last=first + size >= len(samples)):
            assert decided_s - 1e-9 <= start_s < end_s <= tracker.decided_s + 1e-9
            found[round(start_s * FRAMES_PER_S) : round(end_s * FRAMES_PER_S)] = True
        decided_s = tracker.decided_s
    whole = speech_mask(samples, RATE)
    assert np.mean(found == whole) > 0.9


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    """Of a cosine, whose LLR is 20 for the same embedding and -10 for orthogonal ones."""
    calibration = AffineCalibration().fit([0.0, 0.5, 0.4, 1.0], [0, 0, 1, 1], np.zeros((4, 5)))
    calibration.scale_, calibration.offset_ = 30.0, -10.0
    return replace(cosine_verifier(), calibration=calibration)


def rows_of(*speakers: int) -> list[np.ndarray]:
    """Embeddings of speakers, by number: orthogonal where the numbers differ."""
    return [np.eye(8, dtype=np.float32)[who] for who in speakers]


def decide_all(speakers: OnlineSpeakers, rows: list[np.ndarray]) -> list[int]:
    found = [each for row in rows for each in speakers.decide(row, 1.5, 0.5, last=False)]
    return [each.speaker for each in [*found, *speakers.give_up_waiting()]]


def test_a_new_speaker_needs_two_windows_in_a_row(verifier: Verifier) -> None:
    assert decide_all(OnlineSpeakers(verifier), rows_of(0, 0, 1, 1, 0, 2, 2, 1)) == [0, 0, 1, 1, 0, 2, 2, 1]
    assert decide_all(OnlineSpeakers(verifier), rows_of(0, 0, 0, 3, 0, 0)) == [0] * 6
    few = OnlineSpeakers(verifier, OnlineSettings(most_speakers=2))
    assert set(decide_all(few, rows_of(0, 0, 1, 1, 2, 2))) == {0, 1}
    waiting = OnlineSpeakers(verifier)
    first, alone, other = rows_of(0, 1, 2)
    assert [each.speaker for each in waiting.decide(first, 1.5, 0.5, last=False)] == [0]
    assert [each.speaker for each in waiting.decide(alone, 1.5, 0.5, last=True)] == [1]
    assert waiting.decide(other, 1.5, 0.5, last=False) == []
    assert [(each.speaker == 2, each.sure) for each in waiting.give_up_waiting()] == [(False, False)]
    assert waiting.give_up_waiting() == []


def test_two_labels_of_one_voice_go_on_as_the_older(verifier: Verifier) -> None:
    speakers = OnlineSpeakers(verifier)
    one, other = rows_of(0, 1)
    between = (one + other) / np.float32(np.sqrt(2))
    found = decide_all(speakers, [one, other, other, *[between] * 6])
    assert found[:3] == [0, 1, 1]
    assert speakers.joined == {1: 0}
    assert found[-1] == 0


def test_a_name_is_asked_for_until_accepted_and_then_stays(
    voices: dict[str, list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xvectors.diarization.streaming.names.MOST_VOICE_S", 12.0)
    encoder = SpeakerEncoder.from_pretrained("starter", device="cpu")
    encoder.engine.verifier = replace(encoder.verifier, condition=None)  # for which made voices are too lively
    ann, bob = voices["v0"][0], voices["v1"][0]
    with open_gallery(tmp_path / "team.sqlite", system=encoder, create=True) as gallery:
        heard = encoder.listen(ann)
        gallery.enroll("Ann", encoder.encode_heard([heard.samples]), [heard.speech_s], condition=heard.condition[None])
        names = SequentialNames(encoder, gallery, RATE)
        voice = np.tile(ann, 30)
        names.hear("speaker_1", voice[: round((FIRST_ASKED_S - 0.5) * RATE)])
        assert names.answer("speaker_1") is None
        for _ in range(5):
            names.hear("speaker_1", voice[: 2 * RATE])
        accepted = names.answer("speaker_1")
        assert accepted is not None
        assert accepted.name == "Ann"
        assert names.doubts == {}
        kept = names._voices["speaker_1"]
        assert kept.kept_s == pytest.approx(12.5)
        names.hear("speaker_1", voice[: 2 * RATE])
        assert (kept.kept_s, kept.parts) == (pytest.approx(12.5), [])
        names.hear("speaker_2", voice[: 4 * RATE])
        named = names.answer("speaker_2")
        assert named is not None
        assert named.name == "Ann"
        names.hear("speaker_2", np.tile(bob, 10)[: 8 * RATE])  # another voice after the name
        assert names.answer("speaker_2") is named
        assert all("the gallery's answer is" in doubt for doubt in names.doubts.get("speaker_2", ()))
        names.hear("speaker_3", np.tile(bob, 10)[: 4 * RATE])
        other = names.answer("speaker_3")
        assert other is not None
        assert other.name is None
        found, _ = streamed(StreamingDiarizer(encoder, gallery=gallery), voice[: 8 * RATE], 8000)
        assert (found[0].label, found[-1].label) == ("speaker_1", "Ann")
        assert {turn.label for turn in join_pieces("talk", found)} == {"Ann"}


def test_wrong_settings_and_samples_are_told(encoder: SpeakerEncoder) -> None:
    with pytest.raises(ConfigError, match="stream with energy"):
        StreamingDiarizer(encoder, vad="silero")
    with pytest.raises(ConfigError, match="hop_s"):
        StreamingDiarizer(encoder, hop_s=2.0)
    with pytest.raises(ConfigError, match="at least"):
        StreamingDiarizer(encoder, window_s=0.001)
    with pytest.raises(CheckpointError, match="xvectors calibrate"):
        OnlineSpeakers(replace(encoder.verifier, calibration=None))
    stream = StreamingDiarizer(encoder)
    with pytest.raises(AudioError, match="one-dimensional"):
        stream.feed(np.zeros((2, 100), dtype=np.float32))
    with pytest.raises(AudioError, match="NaN"):
        stream.feed(np.full(100, np.nan, dtype=np.float32))
