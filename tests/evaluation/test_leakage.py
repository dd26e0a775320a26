"""Speakers and recordings on both sides of the split, and pairs that look mislabeled, made on purpose and found."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from xvectors.corpus import TRAIN, VAL, Manifest
from xvectors.evaluation import leakage
from xvectors.evaluation.leakage import cohort_line, find_leakage, leakage_lines


@pytest.fixture
def corpora(tmp_path: Path) -> tuple[Manifest, Manifest]:
    """Training: a, b of two recordings, c of the test. Test: x, y of two, and two recordings of the training."""
    for name in ("a/1", "a/2", "b/1", "b/2", "c/1", "x/1", "x/2", "y/1", "y/2"):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(f"sound of {name}".encode())  # of equal size
    training = Manifest.from_rows(
        [{"path": f"{n}.wav", "speaker": n[0], "split": "test" if n[0] == "c" else "train"}
         for n in ("a/1", "a/2", "b/1", "b/2", "c/1")],
        root=tmp_path,
    )  # fmt: skip
    shutil.copy(tmp_path / "b" / "2.wav", tmp_path / "y" / "copy.wav")
    rows = [("x/1", "x"), ("x/2", "x"), ("y/1", "y"), ("y/2", "y"), ("y/copy", "y"), ("a/1", "a"), ("c/1", "c")]
    test = Manifest.from_rows([{"path": f"{n}.wav", "speaker": s} for n, s in rows], root=tmp_path)
    return training, test


def embeddings_of(manifest: Manifest, seed: int = 0) -> np.ndarray:
    """A direction a speaker, with a little noise."""
    rng = np.random.default_rng(seed)
    return (np.eye(8)[manifest.speaker_index] + 0.05 * rng.standard_normal((len(manifest), 8))).astype(np.float32)


def test_shared_recordings_are_found_by_place_and_by_content(corpora: tuple[Manifest, Manifest]) -> None:
    training, test = corpora
    found = find_leakage(
        test,
        embeddings_of(test),
        trained_speakers=["a", "b"],
        calibration_speakers=["x", "z"],
        training_corpus=training,
    )
    assert found.checked
    assert found.shared_speakers == ("a",)
    assert found.calibration_speakers == ("x",)
    assert [
        (s.row, Path(s.train_path).name, Path(s.train_path).parent.name, s.by) for s in found.shared_recordings
    ] == [
        (4, "2.wav", "b", "content"),
        (5, "1.wav", "a", "path"),
    ]
    assert found.num_suspect_pairs == 0
    lines = leakage_lines(found, test)
    assert [line.split(":")[0] for line in lines] == [
        "1 of the 4 test speakers bears a name that was trained on (a)",
        "1 of the 4 test speakers bears a name that the calibration was fitted on (x)",
        "2 of the 7 test recordings were trained on (y/copy, a/1)",
    ]


def test_a_mislabeled_recording_is_suspected(corpora: tuple[Manifest, Manifest]) -> None:
    _, test = corpora
    vectors = embeddings_of(test)
    vectors[3] = vectors[0]  # y/2 is x/1
    found = find_leakage(test, vectors, trained_speakers=[])
    assert not found.checked
    assert (found.suspect_pairs[0].a, found.suspect_pairs[0].b) == (0, 3)
    assert found.suspect_pairs[0].cosine == pytest.approx(1.0)
    (line,) = leakage_lines(found, test)[:1]
    assert "such as x/1 and y/2 (cosine 1.000)" in line
    assert "listen to them" in line
    one = found.num_suspect_pairs == 1
    assert line.startswith("1 pair of" if one else f"{found.num_suspect_pairs} pairs of")


def test_segments_of_one_file_are_no_shared_recording(tmp_path: Path) -> None:
    """Two starts in one file are two recordings, the same start is one."""
    (tmp_path / "long.wav").write_bytes(b"long")
    rows = [{"path": "long.wav", "speaker": "a", "start_s": 1, "duration_s": 2, "id": "one"}]
    training = Manifest.from_rows(rows, root=tmp_path)
    starts = [("x", 5), ("x", 9), ("y", 1)]
    test = Manifest.from_rows(
        [{"path": "long.wav", "speaker": s, "start_s": t, "duration_s": 2, "id": f"{s}{t}"} for s, t in starts],
        root=tmp_path,
    )
    found = find_leakage(test, embeddings_of(test), trained_speakers=[], training_corpus=training)
    assert [shared.row for shared in found.shared_recordings] == [2]


@pytest.mark.parametrize("values", [1, 100, 10**6], ids="{} cosines at once".format)
def test_all_pairs_of_two_speakers_are_compared(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "BLOCK_VALUES", values)
    manifest = Manifest.from_rows([{"path": f"{at}.wav", "speaker": f"s{at % 6}"} for at in range(60)])
    rng = np.random.default_rng(1)
    vectors = (rng.standard_normal((6, 8))[manifest.speaker_index] + rng.standard_normal((60, 8))).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    a, b = np.triu_indices(60, 1)
    cosines, same = (unit[a] * unit[b]).sum(axis=1), manifest.speaker_index[a] == manifest.speaker_index[b]
    bound = np.quantile(cosines[same], 0.99)
    above = np.flatnonzero(~same & (cosines > bound + 1e-3))
    found = find_leakage(manifest, vectors, trained_speakers=[])
    assert len(above) <= found.num_suspect_pairs <= np.count_nonzero(~same & (cosines > bound - 1e-3))
    assert found.num_suspect_pairs > 0
    nearest = sorted(above, key=lambda at: -cosines[at])[:20]
    assert [(one.a, one.b) for one in found.suspect_pairs][: len(nearest)] == [(a[at], b[at]) for at in nearest]
    assert found.num_compared == 60


def test_of_very_many_recordings_some_of_each_speaker_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "MAX_COMPARED", 30)
    manifest = Manifest.from_rows([{"path": f"{at}.wav", "speaker": f"s{at % 6}"} for at in range(60)])
    found = find_leakage(manifest, np.random.default_rng(1).standard_normal((60, 8)), trained_speakers=[])
    assert found.num_compared == 30


def test_speakers_of_one_recording_each_have_no_measure_of_alike() -> None:
    manifest = Manifest.from_rows([{"path": f"{at}.wav", "speaker": f"s{at}"} for at in range(4)])
    found = find_leakage(manifest, np.ones((4, 3)), trained_speakers=[])
    assert (found.suspect_pairs, found.num_suspect_pairs, found.num_compared) == ((), 0, 4)


def test_test_speakers_in_the_cohort_are_named(corpora: tuple[Manifest, Manifest]) -> None:
    line = cohort_line(["a"], corpora[1])
    assert line.startswith("1 of the 4 test speakers is in the cohort of the score normalization (a)")
    assert line.endswith("give a cohort of other speakers")


def test_two_people_under_one_name_are_warned_about() -> None:
    rows = [{"path": f"{s}{u}.wav", "speaker": s} for s in "abcdef" for u in range(8)]
    whose = np.repeat(np.arange(6), 8)
    whose[3:8] = 7  # five of the recordings of "a" are somebody else's
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((8, 16))[whose] + 0.3 * rng.standard_normal((48, 16))
    test = Manifest.from_rows(rows)
    found = find_leakage(test, embeddings.astype(np.float32), trained_speakers=["x"])
    (voices,) = found.two_voices
    assert (voices.speaker, [group.tolist() for group in voices.rows]) == ("a", [[3, 4, 5, 6, 7], [0, 1, 2]])
    line = leakage_lines(found, test)[-1]
    start = f"speaker 'a': 5 and 3 of its recordings sound like two people, such as {test.id[3]} and {test.id[0]}"
    assert line.startswith(start)
    assert line.endswith("correct the labels")


def test_recordings_of_held_out_speakers_were_not_trained_on(corpora: tuple[Manifest, Manifest]) -> None:
    training, _ = corpora
    held_out = training.with_columns(split=np.full(len(training), VAL))
    found = find_leakage(training, embeddings_of(training), trained_speakers=["z"], training_corpus=held_out)
    assert found.shared_recordings == ()
    trained = training.with_columns(split=np.full(len(training), TRAIN))
    found = find_leakage(training, embeddings_of(training), trained_speakers=["z"], training_corpus=trained)
    assert len(found.shared_recordings) == len(training)
