"""From sound to turns: the starter on synthetic voices, silence, noise, two channels, and a gallery."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from support.voices import RATE, spoken
from xvectors import Diarizer, SpeakerEncoder
from xvectors.audio.recording import open_recording
from xvectors.audio.segments import find_spoken
from xvectors.diarization import ConversationStyle, Turn, simulate_conversation
from xvectors.diarization.naming.answers import MAX_VOICE_S, UNKNOWN, voice_of
from xvectors.diarization.overlap import SpeakerCounts
from xvectors.diarization.scoring import score_turns
from xvectors.diarization.windows import embed_windows, find_speech
from xvectors.errors import ConfigError, GalleryError
from xvectors.gallery import open_gallery

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


def test_two_voices_are_two_speakers(encoder: SpeakerEncoder, talk: tuple[np.ndarray, list[Turn]]) -> None:
    samples, truth = talk
    found = Diarizer(encoder).diarize(samples, name="talk.wav")
    assert found.recording == "talk"
    assert set(found.embeddings) == set(found.speech_s) == {"speaker_1", "speaker_2"}
    assert found.embeddings["speaker_1"].shape == (encoder.embedding_dim,)
    assert found[0].speaker == "speaker_1"
    assert [turn.start_s for turn in found] == sorted(turn.start_s for turn in found)
    errors = score_turns({"talk": truth}, {"talk": list(found)}).total("forgiving")
    assert errors.confusion < 0.05
    assert errors.der < 0.15
    assert sum(found.speech_s.values()) == pytest.approx(sum(turn.duration_s for turn in found), abs=1.5)
    assert found.to_rttm().splitlines()[0].startswith("SPEAKER talk 1 ")


def test_known_speech_and_a_known_number_are_used(encoder: SpeakerEncoder, talk: tuple[np.ndarray, list[Turn]]) -> None:
    samples, truth = talk
    speech = [(turn.start_s, turn.end_s) for turn in truth]
    found = Diarizer(encoder).diarize(samples, speech_s=speech)
    errors = score_turns({"talk": truth}, {"talk": list(found)}).total("full")
    assert errors.missed + errors.false_alarm < 0.01
    alone = Diarizer(encoder).diarize(samples, speech_s=speech, speakers=1)
    assert {turn.speaker for turn in alone} == {"speaker_1"}


def test_one_voice_is_one_speaker(encoder: SpeakerEncoder, voices: dict[str, list[np.ndarray]]) -> None:
    samples, _ = simulate_conversation({"v2": voices["v2"]}, RATE, DRY, seed=2)
    assert {turn.speaker for turn in Diarizer(encoder).diarize(samples)} == {"speaker_1"}


def planted(overlap_s: list[list[float]], num_samples: int) -> SpeakerCounts:
    """Counts in which several people speak in these regions, and one elsewhere."""
    probabilities = np.tile(np.float32([0, 1, 0]), (num_samples * 25 // RATE, 1))
    for start_s, end_s in overlap_s:
        probabilities[round(25 * start_s) : round(25 * end_s)] = [0, 0, 1]
    return SpeakerCounts(probabilities=probabilities, frame_s=0.04, start_s=0.0, two_from_s=1.0)


def test_overlap_gets_the_nearest_other_speaker(
    encoder: SpeakerEncoder, talk: tuple[np.ndarray, list[Turn]], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, _ = talk
    alone = Diarizer(encoder).diarize(samples)
    first, second = next(pair for pair in itertools.pairwise(alone) if pair[0].speaker != pair[1].speaker)
    region = [round(first.end_s - 1, 2), round(first.end_s, 2)]
    counts = planted([region], len(samples))
    monkeypatch.setattr("xvectors.diarization.diarizer.find_counter", lambda network: lambda sound: counts)
    found = Diarizer(encoder, overlap="bundled").diarize(samples)
    inside = [turn for turn in found if turn.start_s <= region[0] + 0.05 and turn.end_s >= region[1] - 0.05]
    assert {turn.speaker for turn in inside} == {first.speaker, second.speaker}
    assert found.speech_s[second.speaker] == pytest.approx(alone.speech_s[second.speaker] + 1, abs=0.3)


def test_a_second_of_overlap_means_two_speakers_unless_told_otherwise(
    encoder: SpeakerEncoder, voices: dict[str, list[np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, _ = simulate_conversation({"v2": voices["v2"]}, RATE, DRY, seed=2)
    counts = planted([[2, 2.5]], len(samples))
    monkeypatch.setattr("xvectors.diarization.diarizer.find_counter", lambda network: lambda sound: counts)
    diarizer = Diarizer(encoder, overlap="bundled")
    assert len({turn.speaker for turn in diarizer.diarize(samples)}) == 1
    counts = planted([[2, 4]], len(samples))
    assert len({turn.speaker for turn in diarizer.diarize(samples)}) == 2
    assert len({turn.speaker for turn in diarizer.diarize(samples, speakers=1)}) == 1
    as_vad_alone = Diarizer(encoder, vad="network", overlap="none")
    assert len({turn.speaker for turn in as_vad_alone.diarize(samples)}) == 1


def test_the_network_can_be_the_vad(
    encoder: SpeakerEncoder, talk: tuple[np.ndarray, list[Turn]], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, _ = talk
    counts = planted([], len(samples))
    counts.probabilities[: 5 * 25] = [1, 0, 0]
    monkeypatch.setattr("xvectors.diarization.diarizer.find_counter", lambda network: lambda sound: counts)
    found = Diarizer(encoder, vad="network").diarize(samples)
    assert found[0].start_s == pytest.approx(5, abs=0.01)
    assert max(turn.end_s for turn in found) == pytest.approx(len(samples) / RATE, abs=0.1)


def test_no_speech_gives_no_turns_and_says_so(encoder: SpeakerEncoder) -> None:
    diarizer = Diarizer(encoder)
    noise = 0.01 * np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32)
    for nothing in (np.zeros(3 * RATE, dtype=np.float32), noise, noise[:0]):
        found = diarizer.diarize(nothing)
        assert list(found) == []
        assert found.reasons == ("no speech was found",)
    assert list(Diarizer(encoder, vad=None).diarize(np.zeros(RATE, dtype=np.float32))) == []


def test_a_file_at_another_rate_gives_the_same_turns(
    encoder: SpeakerEncoder, talk: tuple[np.ndarray, list[Turn]], tmp_path: Path
) -> None:
    samples, _ = talk
    soundfile.write(tmp_path / "talk.flac", samples, RATE, subtype="PCM_24")
    diarizer = Diarizer(encoder)
    of_file, of_array = diarizer.diarize(tmp_path / "talk.flac"), diarizer.diarize(samples)
    assert [turn.speaker for turn in of_file] == [turn.speaker for turn in of_array]
    np.testing.assert_allclose([turn.end_s for turn in of_file], [turn.end_s for turn in of_array], atol=0.02)


def test_windows_are_what_lies_in_the_recording(encoder: SpeakerEncoder, talk: tuple[np.ndarray, list[Turn]]) -> None:
    """However the recording is read, a window has the embedding of its own samples."""
    samples, _ = talk
    sound = open_recording(np.tile(samples, 3), "long", waveform_rate_hz=RATE)
    windows = embed_windows(sound, find_speech(sound, find_spoken), encoder.engine)
    assert windows.end_s[-1] > 80
    for at in (0, len(windows) // 2, len(windows) - 1):
        cut = np.tile(samples, 3)[round(windows.start_s[at] * RATE) : round(windows.end_s[at] * RATE)]
        alone = encoder.encode([cut], trim_silence=None)[0]
        cosine = alone @ windows.embeddings[at] / np.linalg.norm(alone) / np.linalg.norm(windows.embeddings[at])
        assert cosine > 0.999


def test_each_channel_of_a_call_is_a_speaker(
    encoder: SpeakerEncoder, voices: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    left, right = voices["v0"][0], voices["v1"][0]
    call = np.zeros((len(left) + len(right), 3), dtype=np.float32)
    call[: len(left), 0] = left
    call[len(left) :, 1] = right
    soundfile.write(tmp_path / "call.wav", call, RATE)
    found = Diarizer(encoder).diarize_channels(tmp_path / "call.wav")
    assert [turn.speaker for turn in found if turn.end_s < len(left) / RATE] == ["speaker_1"] * sum(
        turn.end_s < len(left) / RATE for turn in found
    )
    assert {turn.speaker for turn in found} == set(found.embeddings) == {"speaker_1", "speaker_2"}
    with pytest.raises(ConfigError, match="channels are those of a file"):
        Diarizer(encoder).diarize_channels(left)


def test_the_gallery_names_speakers_by_its_own_decision(
    talk: tuple[np.ndarray, list[Turn]], voices: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    samples, truth = talk
    encoder = SpeakerEncoder.from_pretrained("starter", device="cpu")
    encoder.engine.verifier = replace(encoder.verifier, condition=None)  # for which made voices are too lively
    with open_gallery(tmp_path / "team.sqlite", system=encoder, create=True) as gallery:
        with pytest.raises(GalleryError, match="no enrolled speakers"):
            Diarizer(encoder, gallery=gallery).diarize(samples)
        for name, voice in (("Ann Lee", "v1"), ("bob", "v3")):
            heard = encoder.listen(voices[voice][0])
            gallery.enroll(
                name, encoder.encode_heard([heard.samples]), [heard.speech_s], condition=heard.condition[None]
            )
        found = Diarizer(encoder, gallery=gallery).diarize(samples)
        for speaker, answer in found.speakers.items():
            direct = gallery.identify_recording(
                encoder, voice_of(speaker, open_recording(samples, "", waveform_rate_hz=RATE), found, RATE)
            )
            assert answer.identification.p_nobody == direct.p_nobody
            assert (answer.name, answer.llr) == (direct.speaker if direct.decided else None, direct.matches[0].llr)
            assert answer.answer in {"Ann Lee", UNKNOWN, "cannot tell"}
            assert answer.answer != "cannot tell" or answer.reasons
    ann = next(turn.speaker for turn in truth if turn.speaker == "v1")
    first = next(turn for turn in truth if turn.speaker == ann)
    middle_s = (first.start_s + first.end_s) / 2
    named = next(turn for turn in found if turn.start_s <= middle_s <= turn.end_s)
    assert (named.name, named.answer, named.label) == ("Ann Lee", "Ann Lee", "Ann Lee")
    assert named.llr is not None
    assert named.llr > 0
    assert " Ann_Lee <NA>" in found.to_rttm()
    assert {turn.name for turn in found} == {"Ann Lee", None}


def test_a_voice_is_the_longest_turns_in_order() -> None:
    samples = np.arange(200 * 100, dtype=np.float32) / 20_000
    sound = open_recording(samples, "", waveform_rate_hz=100)
    turns = [
        Turn(start_s=start, end_s=end, speaker=who)
        for start, end, who in ((0, 1, "a"), (1, 3, "b"), (10, 50, "a"), (60, 90, "a"), (100, 190, "b"))
    ]
    np.testing.assert_array_equal(
        voice_of("a", sound, turns, 100), np.concatenate([samples[1000:5000], samples[6000:9000]])
    )
    assert len(voice_of("b", sound, turns, 100)) == MAX_VOICE_S * 100
