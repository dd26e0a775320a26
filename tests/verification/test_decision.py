"""`SpeakerEncoder.verify` and `xvectors verify` as a new user tries them, on a calibrated copy of the starter."""

from __future__ import annotations

import io
import json
import math
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from support.commands import run
from support.conditions import record_conditions
from support.voices import RATE
from xvectors.audio import resample
from xvectors.audio.speech import KEPT_PAUSE_S, MAX_SPEECH_S, listen
from xvectors.corpus.synth import synthesize
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import AudioError, ConfigError
from xvectors.verification.decision import CANNOT_TELL, DIFFERENT, SAME, Decision, describe, min_speech_s


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, calibrated_starter: Path) -> Path:
    """A folder with a calibrated `system` and a.wav, b.wav of one voice and c.wav of another that it never heard."""
    out = tmp_path_factory.mktemp("verify")
    synthesize(out / "heard", speakers=2, utterances=2, seed=12, workers=1)
    shutil.copytree(calibrated_starter, out / "system")
    shutil.copytree(calibrated_starter, out / "uncalibrated")
    for name in ("backend.npz", "calibration.toml"):
        (out / "uncalibrated" / name).unlink()
    files = sorted((out / "heard").glob("*/*.flac"))
    for name, path in zip(("a", "b", "c"), files, strict=False):
        soundfile.write(out / f"{name}.wav", soundfile.read(path)[0], RATE)
    return out


@pytest.fixture(scope="module")
def encoder(place: Path) -> SpeakerEncoder:
    return SpeakerEncoder.from_pretrained(place / "system", device="cpu")


@pytest.fixture(scope="module")
def waves(place: Path) -> dict[str, np.ndarray]:
    return {name: soundfile.read(place / f"{name}.wav", dtype="float32")[0] for name in "abc"}


def test_one_voice_and_two(encoder: SpeakerEncoder, place: Path) -> None:
    same, different = encoder.verify(place / "a.wav", place / "b.wav"), encoder.verify(place / "a.wav", place / "c.wav")
    assert (same.answer, same.same_speaker) == (SAME, True)
    assert (different.answer, different.same_speaker) == (DIFFERENT, False)
    assert same.llr is not None
    assert same.llr > 1.4
    assert same.probability == pytest.approx(1 / (1 + np.exp(-same.llr)))
    assert (same.p_target, same.threshold) == (0.5, 0)
    speech = [side.quality.speech_s for side in same.recordings]
    assert same.llr == pytest.approx(encoder.verifier.llrs([same.score], speech[:1], speech[1:])[0])


def test_the_prior_moves_the_threshold_not_the_llr(encoder: SpeakerEncoder, place: Path) -> None:
    usual = encoder.verify(place / "a.wav", place / "b.wav")
    rare = encoder.verify(place / "a.wav", place / "b.wav", p_target=0.01)
    assert rare.llr == pytest.approx(usual.llr)
    assert rare.threshold == pytest.approx(np.log(99))
    assert rare.probability == pytest.approx(1 / (1 + 99 * np.exp(-usual.llr)))
    with pytest.raises(ConfigError, match=r"p_target is 1\.5"):
        encoder.verify(place / "a.wav", place / "b.wav", p_target=1.5)


def test_files_arrays_bytes_and_rates_agree(
    encoder: SpeakerEncoder, place: Path, waves: dict[str, np.ndarray], tmp_path: Path
) -> None:
    from_files = encoder.verify(place / "a.wav", place / "b.wav")
    for first, second in (
        (waves["a"], waves["b"]),
        (torch.from_numpy(waves["a"]), waves["b"].astype(np.float64)),
        ((place / "a.wav").read_bytes(), io.BytesIO((place / "b.wav").read_bytes())),
    ):
        assert encoder.verify(first, second).score == pytest.approx(from_files.score, abs=1e-3)
    at_48k = [resample(waves[name], RATE, 48_000) for name in "ab"]
    assert encoder.verify(*at_48k, sample_rate_hz=48_000).score == pytest.approx(from_files.score, abs=0.02)
    soundfile.write(tmp_path / "b.wav", np.stack([waves["b"]] * 6, axis=1), RATE, subtype="PCM_24")
    assert encoder.verify(place / "a.wav", tmp_path / "b.wav").score == pytest.approx(from_files.score, abs=1e-3)
    with pytest.raises(AudioError, match=r"the second recording: a waveform must be one-dimensional floats"):
        encoder.verify(waves["a"], np.zeros((2, RATE), np.float32))
    for value in (np.nan, -np.inf, 1e25):
        with pytest.raises(AudioError, match="the first recording: the samples are NaN, infinite or absurdly large"):
            encoder.verify(np.full(RATE, value, np.float32), waves["a"])


@pytest.mark.parametrize(("seconds", "answered"), [(0.04, False), (0.3, False), (0.5, True)])
def test_short_speech(encoder: SpeakerEncoder, waves: dict[str, np.ndarray], seconds: float, answered: bool) -> None:
    assert min_speech_s(encoder.verifier) == pytest.approx(0.4)
    middle = len(waves["b"]) // 2
    decision = encoder.verify(waves["a"], waves["b"][middle : middle + round(seconds * RATE)])
    if not answered:
        assert (decision.answer, decision.score, decision.llr, decision.probability) == (CANNOT_TELL, None, None, None)
        assert decision.reasons == (
            f"the second recording lasts {seconds:.2f} s, but at least 0.4 s of speech are needed",
        )
    else:
        whole = encoder.verify(waves["a"], waves["b"])
        assert decision.llr is not None
        assert decision.score is not None
        assert whole.score is not None
        assert decision.score < whole.score
        assert decision.llr <= whole.llr == pytest.approx(math.log(29))  # the most that 8 * 7 / 2 pairs bear out
        assert "s of speech, so the evidence is weak" in decision.reasons[-1]


def test_a_little_speech_in_a_long_file_counts_as_a_little(
    encoder: SpeakerEncoder, waves: dict[str, np.ndarray]
) -> None:
    middle = len(waves["b"]) // 2
    hiss = (1e-3 * np.random.default_rng(0).standard_normal(10 * RATE)).astype(np.float32)
    padded = np.concatenate([hiss, waves["b"][middle : middle + round(0.7 * RATE)], hiss])
    decision = encoder.verify(waves["a"], padded)
    assert 0.4 <= decision.recordings[1].quality.speech_s <= 0.8
    assert any("so the evidence is weak" in reason for reason in decision.reasons)
    speech = [side.quality.speech_s for side in decision.recordings]
    assert decision.llr == pytest.approx(encoder.verifier.llrs([decision.score], speech[:1], speech[1:])[0])
    heard = listen(padded, "padded", sample_rate_hz=RATE)
    assert len(heard.samples) / RATE <= speech[1] + 2 * KEPT_PAUSE_S + 0.02


def test_nothing_but_silence_or_noise(encoder: SpeakerEncoder, waves: dict[str, np.ndarray]) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(10 * RATE)
    for wave, reason in (
        (np.zeros(RATE, np.float32), "the second recording is silent"),
        (noise, "the second recording contains no speech, only noise or a whisper, in its 10.0 s"),
    ):
        decision = encoder.verify(waves["a"], wave)
        assert (decision.answer, decision.llr, decision.reasons) == (CANNOT_TELL, None, (reason,))


def test_an_hour_of_silence_takes_little_memory(encoder: SpeakerEncoder, place: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hour.flac", np.zeros(3600 * RATE, np.int16), RATE)
    tracemalloc.start()
    try:
        decision = encoder.verify(place / "a.wav", tmp_path / "hour.flac")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (decision.answer, decision.recordings[1].quality.duration_s) == (CANNOT_TELL, 3600)
    assert peak < 100e6  # the hour itself is 230 MB


def test_no_more_than_five_minutes_of_speech_are_compared(waves: dict[str, np.ndarray]) -> None:
    long = np.concatenate([waves["a"], waves["b"]] * 60)
    heard = listen(long, "long", sample_rate_hz=RATE)
    assert heard.quality.speech_s > MAX_SPEECH_S
    assert heard.speech_s == pytest.approx(MAX_SPEECH_S)


def test_a_toss_up_is_no_answer(encoder: SpeakerEncoder, waves: dict[str, np.ndarray]) -> None:
    decision = encoder.verify(waves["a"], waves["b"])
    odds = 1 / (1 + np.exp(decision.llr))  # the prior that this evidence makes one half
    toss_up = encoder.verify(waves["a"], waves["b"], p_target=float(odds))
    assert toss_up.probability == pytest.approx(0.5)
    assert (toss_up.answer, toss_up.same_speaker) == (CANNOT_TELL, None)
    assert toss_up.reasons[0].startswith("the probability is between 20% and 80%")


def test_without_a_calibration_there_is_a_score_and_no_answer(place: Path) -> None:
    decision = SpeakerEncoder.from_pretrained(place / "uncalibrated", device="cpu").verify(
        place / "a.wav", place / "c.wav"
    )
    assert (decision.answer, decision.llr, decision.probability) == (CANNOT_TELL, None, None)
    assert isinstance(decision.score, float)
    assert "the system is not calibrated" in decision.reasons[0]


def test_the_command_says_it_in_words_and_as_json(place: Path) -> None:
    options = ("--system", place / "system", "--device", "cpu")
    lines = run("verify", place / "a.wav", place / "b.wav", *options)[0].splitlines()
    assert lines[0] == "same speaker"
    assert lines[1].startswith("LLR +")
    assert lines[2].endswith("(prior 50.0%)")
    assert lines[3] == "threshold: LLR 0.00, where both answers are equally probable"
    assert f"{place / 'a.wav'}: " in lines[-2]
    assert run("verify", place / "a.wav", place / "c.wav", *options)[0].startswith("different speakers\n")
    found = json.loads(run("verify", place / "a.wav", place / "b.wav", "--p-target", "0.01", "--json", *options)[0])
    assert found["p_target"] == 0.01
    assert found["recordings"][0]["name"] == str(place / "a.wav")
    assert {"answer", "same_speaker", "score", "llr", "probability", "threshold", "reasons"} <= set(found)


def test_what_a_new_user_tries(place: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("hello")
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    options = ("--system", place / "system", "--device", "cpu")
    for file, message in {
        tmp_path / "empty.wav": "empty.wav: the file is empty (0 bytes)",
        tmp_path / "text.wav": "text.wav: not a sound file that can be read",
        tmp_path / "nothing.wav": "nothing.wav: holds no samples",
        tmp_path / "nowhere.wav": "nowhere.wav: no such file; check the path",
        tmp_path: "is a folder, not a recording",
        "https://example.org/x.wav": "https://example.org/x.wav: is an address, not a file; download it",
    }.items():
        stdout, stderr = run("verify", place / "a.wav", file, *options, status=2)
        assert stdout == ""
        assert stderr.startswith("error: ")
        assert message in stderr
        assert len(stderr.splitlines()) == 1
    assert run("verify", place / "a.wav", tmp_path / "silent.wav", *options)[0].startswith("cannot tell\n")
    run("verify", place / "a.wav", place / "b.wav", "--system", tmp_path / "none", status=2)


def test_words_for_numbers(encoder: SpeakerEncoder, place: Path) -> None:
    decision = encoder.verify(place / "a.wav", place / "b.wav")

    def words(llr: float, probability: float) -> tuple[str, str]:
        changed: Decision = replace(decision, llr=llr, probability=probability)
        lines = list(describe(changed))
        return lines[1].split("recordings are ")[1], lines[2].split("speaker: ")[1].split(" (")[0]

    assert words(np.log(200), 0.995) == ("200 times as likely to come from one speaker as from two speakers", "99.5%")
    assert words(-np.log(3), 0.25) == ("3.0 times as likely to come from two speakers as from one speaker", "25.0%")
    assert words(40, 1.0) == (
        "over a million times as likely to come from one speaker as from two speakers",
        "over 99.9%",
    )


def test_the_llr_is_given_the_conditions_of_both_sides(
    encoder: SpeakerEncoder, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (encoder.listen(place / f"{name}.wav").condition for name in "ab")
    assert np.isfinite([first, second]).all()
    calls = record_conditions(monkeypatch)
    encoder.verify(place / "a.wav", place / "b.wav")
    np.testing.assert_array_equal(calls[0][0], first[None])
    np.testing.assert_array_equal(calls[0][1], second[None])
