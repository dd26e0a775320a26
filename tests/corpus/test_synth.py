"""The synthetic corpus: what is in it, that it is always the same, and what stands in its way."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("espeakng_loader", reason="synthetic voices need espeakng-loader")

from xvectors import audio
from xvectors.corpus.synth import espeak, generate, sentences, sessions, synthesize, voices
from xvectors.errors import ConfigError, MissingExtraError, StorageError, XVectorsError

SPEAKERS, UTTERANCES = 4, 3
Samples = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "corpus"
    metadata = synthesize(out, speakers=SPEAKERS, utterances=UTTERANCES, workers=1)
    assert metadata == out / "metadata.csv"
    return out


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> espeak.Espeak:
    return espeak.Espeak(tmp_path_factory.mktemp("engine"))


def rows(corpus: Path) -> list[dict[str, str]]:
    with (corpus / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def hashes(corpus: Path) -> dict[str, str]:
    files = sorted(corpus.rglob("*.flac"))
    return {str(file.relative_to(corpus)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def utterances_of(number: int) -> list[tuple[int, generate.UtterancePlan]]:
    """One utterance each of the first `number` speakers."""
    return [(speaker, generate.plan(0, speaker, 0)) for speaker in range(number)]


def median_f0_hz(samples: Samples, rate_hz: int = 16_000) -> float:
    """The median over voiced frames of the highest peak of the normalized autocorrelation, 60 to 450 Hz."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 640)[::160].astype(np.float64)
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = frames[frames.var(axis=1) > 0.02 * frames.var(axis=1).max()]
    correlation = np.fft.irfft(np.abs(np.fft.rfft(frames, 2048)) ** 2)[:, :270]
    correlation /= correlation[:, :1] * (640 - np.arange(270)) / 640
    lags = correlation[:, 35:267].argmax(axis=1) + 35
    voiced = correlation[np.arange(len(lags)), lags] > 0.6
    return float(np.median(rate_hz / lags[voiced]))


def test_metadata_describes_every_recording(corpus: Path) -> None:
    table = rows(corpus)
    assert tuple(table[0]) == generate.COLUMNS
    assert [row["path"] for row in table[:4]] == [
        "synth-0000/synth-0000-000.flac",
        "synth-0000/synth-0000-001.flac",
        "synth-0000/synth-0000-002.flac",
        "synth-0001/synth-0001-000.flac",
    ]
    assert len(table) == len({row["session"] for row in table}) == SPEAKERS * UTTERANCES
    assert {row["speaker"] for row in table} == {f"synth-{number:04d}" for number in range(SPEAKERS)}
    assert [row["gender"] for row in table].count("m") == SPEAKERS * UTTERANCES / 2
    assert {row["gender"] for row in table} == {"m", "f"}
    for row in table:
        info = audio.probe(corpus / row["path"])
        assert (info.sample_rate_hz, info.num_channels, info.format, info.subtype) == (
            16_000,
            1,
            "FLAC",
            "PCM_16",
        )
        assert float(row["duration_s"]) == pytest.approx(info.duration_s, abs=6e-4)
        assert 2 <= info.duration_s <= 8
        assert 7 <= int(row["age"]) <= 85
        assert 10 <= float(row["snr_db"]) <= 25
        assert 0.1 <= float(row["rt60_s"]) <= 0.5
        assert row["accent"] in espeak.ACCENTS
    assert json.loads((corpus / "synth.json").read_text())["synthetic"] is True


def test_other_workers_and_a_larger_population_give_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "more", speakers=SPEAKERS + 2, utterances=UTTERANCES + 1, workers=2)
    more = hashes(tmp_path / "more")
    assert len(more) == (SPEAKERS + 2) * (UTTERANCES + 1)
    assert hashes(corpus).items() <= more.items()
    shared = {row["path"]: row for row in rows(tmp_path / "more")}
    assert [shared[row["path"]] for row in rows(corpus)] == rows(corpus)


def test_another_seed_gives_other_voices_and_sentences() -> None:
    assert voices.draw_voice(0, 0) != voices.draw_voice(1, 0)
    assert generate.plan(0, 0, 0).text != generate.plan(1, 0, 0).text


def test_what_is_said_depends_on_nothing_said_before_nor_on_the_clock(engine: espeak.Espeak) -> None:
    planned = utterances_of(12)
    assert any(any(utterance.voice.breath) for _, utterance in planned)
    assert any(utterance.voice.klatt for _, utterance in planned)
    first = [generate.make(engine, 0, speaker, utterance)[0] for speaker, utterance in planned]
    time.sleep(1.1)  # espeak-ng seeds its noise from the clock's seconds when it is let
    again = [generate.make(engine, 0, speaker, utterance)[0] for speaker, utterance in reversed(planned)]
    for before, after in zip(first, reversed(again), strict=True):
        np.testing.assert_array_equal(before, after)


def test_recordings_keep_level_noise_and_pauses_within_their_ranges(engine: espeak.Espeak) -> None:
    peaks, durations_s = [], []
    for speaker, utterance in utterances_of(16):
        clean, speech, noise = generate.make(engine, 0, speaker, utterance)
        assert np.max(np.abs(clean)) < 0.99  # the synthesis itself does not clip
        peaks.append(float(np.max(np.abs(speech + noise))))
        durations_s.append(len(speech) / 16_000)
        frames = (speech[: len(speech) // 160 * 160].reshape(-1, 160).astype(np.float64) ** 2).mean(axis=1)
        active = frames[frames > frames.max() / 1000].mean()
        snr_db = 10 * np.log10(active / np.mean(noise.astype(np.float64) ** 2))
        assert snr_db == pytest.approx(utterance.session.snr_db, abs=0.05)
        assert 10 <= snr_db <= 25
        assert -45 < 10 * np.log10(active) < -17.9
        onset_s = np.flatnonzero(frames > frames.max() * 1e-4)[0] * 0.01
        assert 0.09 <= onset_s <= 0.25
        assert utterance.session.pauses_s[1] <= 0.2
    assert max(peaks) <= sessions.PEAK + 1e-6
    assert max(peaks) / min(peaks) > 2  # levels differ
    assert 2 <= min(durations_s) <= max(durations_s) <= 8


def test_trim_leaves_what_is_within_forty_decibels_of_the_loudest_frame() -> None:
    samples = np.zeros(16_000, dtype=np.float32)
    samples[4000:8000] = 0.5
    samples[8000:9600] = 0.5 * 10 ** (-35 / 20)
    samples[9600:] = 0.5 * 10 ** (-45 / 20)
    assert len(sessions.trim(samples, 16_000)) == 9600 - 4000


def test_a_room_decays_by_sixty_decibels_in_its_reverberation_time() -> None:
    session = sessions.Session(
        snr_db=20,
        rt60_s=0.4,
        direct_to_reverberant_db=12,
        noise="white",
        level_dbfs=-20,
        pauses_s=(0.1, 0.1),
    )
    room = sessions._room(session, 16_000, np.random.default_rng(0)).astype(np.float64)
    assert room[0] == 1
    assert 10 * np.log10(1 / np.sum(room[1:] ** 2)) == pytest.approx(12, abs=0.1)
    remaining_db = 10 * np.log10(np.cumsum(room[::-1] ** 2)[::-1])  # Schroeder's backward integration
    early, late = round(0.05 * 16_000), round(0.25 * 16_000)
    assert (remaining_db[early] - remaining_db[late]) / 0.2 * 0.4 == pytest.approx(60, abs=4)


def test_measured_pitch_follows_gender_and_age(engine: espeak.Espeak) -> None:
    groups: dict[str, list[float]] = {"man": [], "woman": [], "child": []}
    for speaker, utterance in utterances_of(60):
        voice = utterance.voice
        kind = "child" if voice.age <= 11 else {"m": "man", "f": "woman"}[voice.gender]
        if len(groups[kind]) < 5 and (kind == "child" or 20 <= voice.age <= 60):
            f0_hz = median_f0_hz(generate.make(engine, 0, speaker, utterance)[0])
            assert 0.75 < f0_hz / voice.f0_hz < 1.3
            groups[kind].append(f0_hz)
    men, women, children = (float(np.median(groups[kind])) for kind in ("man", "woman", "child"))
    assert 95 < men < 145
    assert 170 < women < 250
    assert 200 < children < 320
    assert men < women < children


def test_the_population_follows_the_published_averages() -> None:
    population = [voices.draw_voice(3, number) for number in range(1500)]

    def mean_f0_hz(gender: str, youngest: int, oldest: int) -> float:
        chosen = [v.f0_hz for v in population if v.gender == gender and youngest <= v.age <= oldest]
        return float(np.exp(np.mean(np.log(chosen))))

    def mean_tract(gender: str, youngest: int, oldest: int) -> float:
        chosen = [v.formant_scales for v in population if v.gender == gender and youngest <= v.age <= oldest]
        return float(np.mean(chosen))

    assert [v.gender for v in population].count("m") == 750
    assert mean_f0_hz("m", 20, 60) == pytest.approx(118, abs=4)
    assert mean_f0_hz("f", 20, 60) == pytest.approx(204, abs=6)
    assert mean_f0_hz("m", 7, 9) == pytest.approx(mean_f0_hz("f", 7, 9), rel=0.1)
    assert mean_f0_hz("m", 75, 85) > mean_f0_hz("m", 30, 55)
    assert mean_f0_hz("f", 75, 85) < mean_f0_hz("f", 20, 40)
    assert mean_tract("f", 20, 60) / mean_tract("m", 20, 60) == pytest.approx(1.16, abs=0.02)
    assert mean_tract("m", 7, 9) > 1.3


def test_the_voice_file_undoes_espeaks_own_formant_shift() -> None:
    voice = voices.draw_voice(0, 1)
    lines = dict(line.split(" ", 1) for line in voice.text().splitlines() if not line.startswith("formant"))
    formants = [line.split() for line in voice.text().splitlines() if line.startswith("formant")]
    floor_hz, top_hz = map(int, lines["pitch"].split())
    assert floor_hz < voice.f0_hz < top_hz
    raised = 1 + (floor_hz - 82) / 328
    for fields, scale in zip(formants, voice.formant_scales, strict=True):
        assert int(fields[2]) * raised / 100 == pytest.approx(scale, abs=0.0051 * raised)


def test_sentences_are_many_and_of_the_length_asked_for() -> None:
    rng = np.random.default_rng(0)
    texts = [sentences.draw_sentence(rng, words_per_minute=165, seconds=3.8) for _ in range(1000)]
    assert len(set(texts)) > 970
    lengths_s = [sentences.expected_seconds(text, 165) for text in texts]
    assert 3.2 < min(lengths_s) <= max(lengths_s) < 4.4
    for text in texts:
        assert text[0].isupper()
        assert text[-1] in ".?"
        assert " a a" not in text
        assert not any(slot in text.split() for slot in sentences._LISTS)


def test_an_interrupted_corpus_is_completed_with_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    synthesize(out, speakers=SPEAKERS, utterances=UTTERANCES, workers=1)
    whole, table = hashes(out), (out / "metadata.csv").read_bytes()
    assert whole == hashes(corpus)
    kept = out / "synth-0000" / "synth-0000-000.flac"
    modified = kept.stat().st_mtime_ns
    (out / "synth-0001" / "synth-0001-002.flac").unlink()
    (out / "synth-0003" / "synth-0003-000.flac").unlink()
    (out / "metadata.csv").unlink()
    synthesize(out, speakers=SPEAKERS, utterances=UTTERANCES, workers=1)
    assert hashes(out) == whole
    assert (out / "metadata.csv").read_bytes() == table
    assert kept.stat().st_mtime_ns == modified


def test_a_finished_corpus_is_left_alone(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_to_make(*_: object) -> None:
        pytest.fail("a finished corpus was made again")

    monkeypatch.setattr(generate, "_make_all", nothing_to_make)
    before = (corpus / "metadata.csv").stat().st_mtime_ns
    synthesize(corpus, speakers=SPEAKERS, utterances=UTTERANCES)
    assert (corpus / "metadata.csv").stat().st_mtime_ns == before


def test_wav_in_place_of_flac_holds_the_same_sound(corpus: Path, tmp_path: Path) -> None:
    synthesize(tmp_path, speakers=2, utterances=1, audio_format="wav", workers=1)
    table = rows(tmp_path)
    assert [row["path"] for row in table] == ["synth-0000/synth-0000-000.wav", "synth-0001/synth-0001-000.wav"]
    for row in table:
        made, flac = tmp_path / row["path"], (corpus / row["path"]).with_suffix(".flac")
        assert audio.probe(made).format == "WAV"
        # libsndfile rounds for the one and cuts for the other
        assert np.abs(audio.read(made)[0] - audio.read(flac)[0]).max() <= 1 / 32768
    with pytest.raises(ConfigError, match=r"\(format wav there, flac asked for\)"):
        synthesize(tmp_path, speakers=2, utterances=1)


def test_a_folder_of_before_there_was_a_choice_of_format_holds_flac(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "old")
    marker = tmp_path / "old" / "synth.json"
    marker.write_text(re.sub(r',\s*"format": "flac"', "", marker.read_text(encoding="utf-8")), encoding="utf-8")
    assert "format" not in marker.read_text(encoding="utf-8")
    assert synthesize(tmp_path / "old", speakers=SPEAKERS, utterances=UTTERANCES) == tmp_path / "old" / "metadata.csv"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"audio_format": "mp3"}, "audio_format is 'mp3': it must be flac or wav"),
        ({"speakers": 0}, "speakers is 0: it must be at least 1"),
        ({"utterances": -2}, "utterances is -2: it must be at least 1"),
        ({"seed": -1}, "seed is -1: it must be at least 0"),
        ({"workers": 0}, "workers is 0: it must be at least 1, or left out for one per core"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        synthesize(tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_another_corpus_is_refused(corpus: Path) -> None:
    before = hashes(corpus)
    with pytest.raises(ConfigError, match=r"different synthetic corpus \(seed 0 there, 5 asked for\)"):
        synthesize(corpus, speakers=SPEAKERS, utterances=UTTERANCES, seed=5)
    assert hashes(corpus) == before


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty and holds no synthetic corpus; choose a new or empty"):
        synthesize(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[1]", "holds no settings")])
def test_a_damaged_settings_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "synth.json").write_text(text)
    with pytest.raises(ConfigError, match=f"synth.json: {message}; choose another folder, or empty this one"):
        synthesize(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="is a file; name a folder for the corpus"):
        synthesize(tmp_path / "file")
    with pytest.raises(StorageError, match="cannot be written"):
        synthesize(tmp_path / "file" / "below")


def test_without_espeak_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xvectors\[synth\]'"):
        synthesize(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_library_that_stays_loaded_is_refused(engine: espeak.Espeak) -> None:
    import _ctypes
    import ctypes

    voice = voices.draw_voice(0, 0)
    held = ctypes.CDLL(espeak.locate()[0])
    try:
        with pytest.raises(XVectorsError, match="espeak-ng stays loaded in this process"):
            engine.speak("Hello.", voice=voice.text(), accent="en-us", words_per_minute=160, seed=1)
    finally:
        _ctypes.dlclose(held._handle)


def test_a_voice_that_cannot_be_spoken_is_an_error_with_its_sentence(engine: espeak.Espeak) -> None:
    voice = voices.draw_voice(0, 0)
    with pytest.raises(XVectorsError, match=r"espeak-ng failed on 'Hello\.'.*accent 'en-mars'"):
        engine.speak("Hello.", voice=voice.text(), accent="en-mars", words_per_minute=160, seed=1)


def test_a_script_without_a_guarded_main_module_makes_them_too(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom xvectors.corpus.synth import synthesize\n"
        "print(synthesize(sys.argv[1], speakers=2, utterances=11, workers=2))\n"
    )
    out = tmp_path / "out"
    ended = subprocess.run([sys.executable, script, out], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, f"{out / 'metadata.csv'}\n"), ended.stderr
    assert len(rows(out)) == 22


@pytest.mark.slow
def test_an_interrupt_leaves_whole_files_that_the_next_call_completes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom xvectors.corpus.synth import synthesize\n"
        "if __name__ == '__main__':\n"
        "    synthesize(sys.argv[1], speakers=40, utterances=20, workers=2)\n"
    )
    out = tmp_path / "out"
    running = subprocess.Popen([sys.executable, script, out], stderr=subprocess.PIPE, start_new_session=True, text=True)
    while not (out / "synth-0002").exists():
        assert running.poll() is None
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    made = hashes(out)
    assert 0 < len(made) < 800
    assert not (out / "metadata.csv").exists()
    assert all(audio.probe(out / path).duration_s > 2 for path in made)
    synthesize(out, speakers=40, utterances=20, workers=2)
    assert made.items() <= hashes(out).items()
    assert len(rows(out)) == 800
