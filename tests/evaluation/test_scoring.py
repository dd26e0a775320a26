"""A list scored between saved embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.conditions import record_conditions, some_conditions, usual_within_one
from xvectors.backends import AffineCalibration, make_backend
from xvectors.errors import CheckpointError, ConfigError, ManifestError
from xvectors.evaluation.scoring import score_trial_list
from xvectors.trials.score_files import read_scores
from xvectors.verification import Verifier
from xvectors.verification.verifier import QUALITY_NAMES, duration_quality


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    path = tmp_path / "emb.npz"
    vectors = np.array([[1, 0], [3, 3], [0, -2]], dtype=np.float32)
    np.savez(path, embeddings=vectors, id=np.array(["a/1", "a/2", "b/1"]), duration_s=np.ones(3))
    return path


def test_cosines_of_listed_trials(embeddings: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("1 a/1.wav a/2.wav\n0 a/2.wav b/1.wav\n0 a/1.wav a/1.wav\n")
    found = score_trial_list(embeddings, tmp_path / "t.txt", tmp_path / "s.csv")
    assert (found.num_trials, found.backend, found.has_llrs) == (2, "cosine", False)
    assert found.findings == ("1 of 3 trials of a recording with itself, left out: a/1.wav a/1.wav",)
    scores = read_scores(tmp_path / "s.csv")
    np.testing.assert_allclose(scores.scores, [0.5**0.5, -(0.5**0.5)], atol=1e-6)
    assert scores.names == ("a/1", "a/2", "b/1")


def test_models_of_several_recordings(embeddings: Path, tmp_path: Path) -> None:
    (tmp_path / "models.txt").write_text("ann a/1.wav a/2.wav\nbob b/1.wav\n")
    (tmp_path / "t.txt").write_text("1 ann a/3\n0 bob a/3\n0 ann b/1\n1 ann a/1\n")
    vectors = np.array([[1, 0], [3, 3], [0, -2], [0, 1]], dtype=np.float32)
    names = np.array(["a/1", "a/2", "b/1", "a/3"])
    np.savez(embeddings, embeddings=vectors, id=names, duration_s=np.ones(4))
    found = score_trial_list(embeddings, tmp_path / "t.txt", tmp_path / "s.csv", enrollment=tmp_path / "models.txt")
    assert found.findings == ("1 of 4 trials of a recording with itself, left out: ann a/1",)
    (tmp_path / "models.txt").write_text("modelid\tsegmentid\nann\ta/1\nann\ta/1.wav\nann\ta/2\nbob\tb/1\nbob\tb/1\n")
    found = score_trial_list(embeddings, tmp_path / "t.txt", tmp_path / "s.csv", enrollment=tmp_path / "models.txt")
    assert found.findings[1] == f"2 recordings that a model of {tmp_path / 'models.txt'} names again, counted once"
    scores = read_scores(tmp_path / "s.csv")
    # cosine takes the mean of the recordings as they are, (4, 3) / 2
    np.testing.assert_allclose(scores.scores, [0.6, -1, -0.6], atol=1e-6)
    assert [scores.names[row] for row in scores.enroll] == ["ann", "bob", "ann"]
    (tmp_path / "t.txt").write_text("1 eve a/3\n")
    with pytest.raises(ManifestError, match="1 in all: eve"):
        score_trial_list(embeddings, tmp_path / "t.txt", tmp_path / "s.csv", enrollment=tmp_path / "models.txt")


def test_plda_by_the_book_and_by_averaging(embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    training = np.repeat(3 * rng.standard_normal((40, 2)), 5, axis=0) + rng.standard_normal((200, 2))
    backend = make_backend("plda").fit(training.astype(np.float32), np.repeat(np.arange(40), 5))
    verifier = Verifier(backend=backend, name="plda")
    monkeypatch.setattr("xvectors.evaluation.scoring.load_back_end", lambda folder: verifier)
    (tmp_path / "models.txt").write_text("ann a/1 a/2\n")
    (tmp_path / "t.txt").write_text("0 ann b/1\n")
    vectors = np.load(embeddings)["embeddings"]
    found = {}
    for way in ("average", "book"):
        score_trial_list(
            embeddings,
            tmp_path / "t.txt",
            tmp_path / "s.csv",
            system="s",
            enrollment=tmp_path / "models.txt",
            enroll_by=way,
        )
        found[way] = read_scores(tmp_path / "s.csv").scores[0]
        models = backend.enroll(vectors[:2], [0, 0], average=way == "average")
        assert found[way] == pytest.approx(backend.score_pairs(models, vectors[2:], [0], [0])[0], rel=1e-6)
    assert abs(found["book"] - found["average"]) > 0.01
    with pytest.raises(ConfigError, match=r"^models cannot be enrolled by 'mean': give average or book$"):
        score_trial_list(embeddings, tmp_path / "t.txt", tmp_path / "s.csv", enroll_by="mean")
    with pytest.raises(ConfigError, match="enrolling by the book needs an enrollment file"):
        score_trial_list(embeddings, tmp_path / "t.txt", tmp_path / "s.csv", enroll_by="book")


def test_bad_input(embeddings: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("1 a/1 a/9\n")
    with pytest.raises(ManifestError, match="1 in all: a/9"):
        score_trial_list(embeddings, tmp_path / "t.txt", tmp_path / "s.csv")
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "text.npz").write_text("no arrays")
    for name in ("none.npz", "array.npy", "text.npz"):
        with pytest.raises(CheckpointError, match=f"{name}( is damaged or not an embeddings file|.*no such file)"):
            score_trial_list(tmp_path / name, tmp_path / "t.txt", tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()


def test_a_models_recordings_count_with_all_their_seconds(
    embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    seconds, target = rng.uniform(0.5, 8, (2, 200)), np.arange(200) % 2 == 0
    quality = duration_quality(*seconds)
    calibration = AffineCalibration().fit(rng.normal(0.5 * target, 0.3), target, quality, QUALITY_NAMES)
    verifier = Verifier(backend=make_backend("cosine"), name="cosine", calibration=calibration)
    monkeypatch.setattr("xvectors.evaluation.scoring.load_back_end", lambda folder: verifier)
    vectors = np.array([[1, 0], [3, 3], [0, -2]], dtype=np.float32)
    np.savez(embeddings, embeddings=vectors, id=np.array(["a/1", "a/2", "b/1"]), duration_s=np.array([1.0, 3.0, 2.0]))
    (tmp_path / "models.txt").write_text("ann a/1 a/2\n")
    (tmp_path / "t.txt").write_text("0 ann b/1\n")
    found = score_trial_list(
        embeddings, tmp_path / "t.txt", tmp_path / "s.csv", system="s", enrollment=tmp_path / "models.txt"
    )
    assert found.has_llrs
    scores = read_scores(tmp_path / "s.csv")
    assert scores.column == "llr"
    assert scores.scores == pytest.approx(verifier.llrs([-0.6], [4.0], [2.0]), rel=1e-5)
    assert scores.scores != pytest.approx(verifier.llrs([-0.6], [2.0], [2.0]), rel=1e-3)


def test_the_calibration_is_given_the_conditions_of_both_sides(
    embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    seconds, target = rng.uniform(0.5, 8, (2, 200)), np.arange(200) % 2 == 0
    calibration = AffineCalibration().fit(
        rng.normal(0.5 * target, 0.3), target, duration_quality(*seconds), QUALITY_NAMES
    )
    aware = usual_within_one()
    verifier = Verifier(backend=make_backend("cosine"), name="cosine", calibration=calibration, condition=aware)
    monkeypatch.setattr("xvectors.evaluation.scoring.load_back_end", lambda folder: verifier)
    calls = record_conditions(monkeypatch)
    arrays = {
        "embeddings": np.array([[1, 0], [3, 3], [0, -2]], dtype=np.float32),
        "id": np.array(["a/1", "a/2", "b/1"]),
        "speech_s": np.array([1.0, 3.0, 2.0]),
    }
    conditions = some_conditions(3)
    conditions[1, 4] = np.nan
    np.savez(embeddings, condition=conditions, **arrays)
    (tmp_path / "t.txt").write_text("0 a/1 b/1\n1 a/2 a/1\n")
    score_trial_list(embeddings, tmp_path / "t.txt", tmp_path / "s.csv", system="s")
    np.testing.assert_array_equal(calls[0][0], conditions[[0, 1]])
    np.testing.assert_array_equal(calls[0][1], conditions[[2, 0]])

    (tmp_path / "models.txt").write_text("ann a/1 a/2\nbob b/1\n")
    (tmp_path / "t.txt").write_text("0 bob a/1\n0 ann b/1\n")
    score_trial_list(embeddings, tmp_path / "t.txt", tmp_path / "s.csv", system="s", enrollment=tmp_path / "models.txt")
    mean = (conditions[0] + 3 * conditions[1]) / 4
    mean[4] = conditions[0, 4]
    np.testing.assert_allclose(calls[1][0], [conditions[2], mean], rtol=1e-6)
    np.testing.assert_array_equal(calls[1][1], conditions[[0, 2]])

    np.savez(embeddings, **arrays)
    (tmp_path / "t.txt").write_text("0 a/1 b/1\n1 a/2 a/1\n")
    score_trial_list(embeddings, tmp_path / "t.txt", tmp_path / "s.csv", system="s")
    assert calls[2] == (None, None)
