"""Who is told apart: drawn embeddings with a verifier that learned from others of the same model."""

from __future__ import annotations

import numpy as np
import pytest

from support.drawn_voices import make_voices
from xvectors.backends import make_backend
from xvectors.diarization.clustering.ahc import SpeakerRange, by_first
from xvectors.diarization.clustering.purity import two_voices
from xvectors.diarization.clustering.speakers import ClusteringSettings, find_speakers
from xvectors.errors import CheckpointError, ConfigError
from xvectors.verification import Basis, Verifier, cosine_verifier, learn_verifier


@pytest.fixture(scope="module")
def verifiers() -> dict[str, Verifier]:
    """Of cosine and of PLDA, learned from 60 speakers in crops of different durations."""
    voices = make_voices(60, seed=2)
    rows, speakers, recording, duration = [], [], [], []
    for speaker in range(60):
        for number in range(5):
            for seconds in (5.0, 0.5, 1.5):
                rows.append(voices.record(speaker, seconds)[0][0])
                speakers.append(f"s{speaker:02d}")
                recording.append(5 * speaker + number)
                duration.append(seconds)
    seconds_of = np.array(duration)
    basis = Basis(
        embeddings=np.array(rows),
        speakers=np.array(speakers),
        recording=np.array(recording),
        duration_s=seconds_of,
        whole=seconds_of > 2,
    )
    plda = make_backend("plda").fit(basis.embeddings[basis.whole], basis.speakers[basis.whole])
    return {"cosine": learn_verifier(basis), "plda": learn_verifier(basis, fitted=plda)}


def conversation(speakers: int, windows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of windows of 1.5 s in turns of 6, and who speaks; everybody has several turns."""
    voices = make_voices(speakers, seed)
    turns = -(-windows // 6)
    order = np.concatenate([voices.rng.permutation(speakers) for _ in range(-(-turns // speakers))])[:turns]
    truth = np.repeat(order, 6)[:windows]
    return np.concatenate([voices.record(int(speaker), 1.5)[0] for speaker in truth]), by_first(truth)


def found(verifier: Verifier, rows: np.ndarray, speakers: str | None = None, **settings: object) -> np.ndarray:
    seconds = np.full(len(rows), 0.5)
    how = ClusteringSettings(**settings)  # type: ignore[arg-type]
    return find_speakers(rows, np.full(len(rows), 1.5), seconds, verifier, SpeakerRange.of(speakers), how)


@pytest.mark.parametrize("method", ["ahc", "spectral"])
@pytest.mark.parametrize("speakers", [2, 5])
def test_speakers_are_told_apart(verifiers: dict[str, Verifier], speakers: int, method: str) -> None:
    rows, truth = conversation(speakers, 120, seed=5)
    labels = found(verifiers["cosine"], rows, method=method)
    assert labels.max() + 1 == speakers
    assert np.mean(labels == truth) > 0.97


def test_one_speaker_is_one_and_twenty_are_twenty(verifiers: dict[str, Verifier]) -> None:
    for speakers, windows in ((1, 80), (20, 600)):
        rows, truth = conversation(speakers, windows, seed=6)
        labels = found(verifiers["cosine"], rows)
        assert labels.max() + 1 == speakers
        assert np.mean(labels == truth) > 0.97


def test_blocks_give_what_all_at_once_gives(verifiers: dict[str, Verifier]) -> None:
    rows, truth = conversation(4, 400, seed=7)
    labels = found(verifiers["cosine"], rows, block=60)
    np.testing.assert_array_equal(labels, found(verifiers["cosine"], rows))
    assert np.mean(labels == truth) > 0.97


def test_the_number_of_speakers_can_be_given(verifiers: dict[str, Verifier]) -> None:
    rows, truth = conversation(4, 160, seed=8)
    assert found(verifiers["cosine"], rows, "4").max() + 1 == 4
    assert found(verifiers["cosine"], rows, "2").max() + 1 == 2
    assert found(verifiers["cosine"], rows, "1..3").max() + 1 == 3
    assert found(verifiers["cosine"], rows, "6..9").max() + 1 == 6
    assert found(verifiers["cosine"], rows, "2..9").max() + 1 == 4
    assert found(verifiers["cosine"], rows[:3], "3").tolist() == [0, 1, 2]
    assert found(verifiers["cosine"], rows[:1], "3").tolist() == [0]
    assert np.mean(found(verifiers["cosine"], rows, "4") == truth) > 0.97


def test_vbx_refines_where_there_is_a_plda(verifiers: dict[str, Verifier]) -> None:
    rows, truth = conversation(3, 150, seed=9)
    settings = {"method": "vbx", "fa": 0.5, "fb": 5.0}
    # a first level so strict that it leaves parts of speakers apart
    labels = found(verifiers["plda"], rows, **settings, window_llr=60.0, cluster_llr=1e9)
    assert labels.max() + 1 == 3
    assert np.mean(labels == truth) > 0.97
    with pytest.raises(ConfigError, match="clustering vbx needs a back-end with PLDA"):
        found(verifiers["cosine"], rows, method="vbx")


def test_short_windows_found_no_speaker(verifiers: dict[str, Verifier]) -> None:
    rows, truth = conversation(2, 60, seed=10)
    voices = make_voices(2, 10)
    short = np.concatenate([voices.record(speaker, 0.3)[0] for speaker in (0, 1) * 6])
    every = np.concatenate([rows, short])
    window_s = np.concatenate([np.full(60, 1.5), np.full(12, 0.3)])
    labels = find_speakers(every, window_s, np.minimum(window_s, 0.5), verifiers["cosine"])
    assert labels.max() + 1 == 2
    assert np.mean(labels[:60] == truth) > 0.97


def test_what_a_speaker_says_too_little_of_goes_to_others(verifiers: dict[str, Verifier]) -> None:
    rows, truth = conversation(2, 60, seed=11)
    guest = make_voices(1, 99).record(0, *[1.5] * 3)[0]
    every = np.concatenate([rows[:30], guest, rows[30:]])
    assert found(verifiers["cosine"], every).max() + 1 == 2
    kept = found(verifiers["cosine"], every, min_speaker_s=1.0)
    assert kept.max() + 1 == 3
    assert set(kept[30:33].tolist()) == {2 if truth[:30].max() else 1}


def test_a_mixture_of_two_voices_is_doubted(verifiers: dict[str, Verifier]) -> None:
    rows, truth = conversation(3, 120, seed=13)
    mixed = np.minimum(truth, 1)  # the second and the third as one
    window_s, seconds = np.full(len(rows), 1.5), np.full(len(rows), 0.5)
    assert two_voices(rows, window_s, seconds, truth, verifiers["cosine"]) == {}
    ((number, llr),) = two_voices(rows, window_s, seconds, mixed, verifiers["cosine"]).items()
    assert number == 1
    assert llr < -4
    # 5 s in all are too little to tell
    assert two_voices(rows[:10], window_s[:10], seconds[:10], mixed[:10], verifiers["cosine"]) == {}


def test_a_system_without_calibration_is_told_how(verifiers: dict[str, Verifier]) -> None:
    rows, _ = conversation(2, 12, seed=12)
    with pytest.raises(CheckpointError, match="xvectors calibrate DIR"):
        found(cosine_verifier(), rows)
    with pytest.raises(ConfigError, match="clustering 'ach' is unknown; did you mean 'ahc'"):
        found(verifiers["cosine"], rows, method="ach")
