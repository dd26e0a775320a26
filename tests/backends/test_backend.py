"""Whole back-ends: every one by name, enrollment, cohorts, and their files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xvectors.backends import (
    BACKENDS,
    LDA,
    PLDA,
    WCCN,
    Backend,
    Center,
    Cosine,
    Fusion,
    LengthNorm,
    ScoreNorm,
    cosine_scores,
    length_normalize,
    load_backend,
    load_fusion,
    make_backend,
    save_backend,
    save_fusion,
)
from xvectors.errors import CheckpointError, ConfigError, ManifestError, ShapeError
from xvectors.metrics import eer
from xvectors.trials import all_pairs


@pytest.fixture
def train(simulator: Any) -> tuple[Any, Any]:
    x, speakers = simulator.draw(np.full(30, 6), seed=1)
    return x, np.array([f"speaker {s}" for s in speakers])


@pytest.fixture
def unseen(simulator: Any) -> tuple[Any, Any]:
    return simulator.draw(np.full(8, 5), seed=2)


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_scores_lists_matrices_and_all_pairs_alike(name: str, train: Any, unseen: Any) -> None:
    backend = make_backend(name).fit(*train)
    x, speakers = unseen
    trials = all_pairs(speakers)
    scores = backend.score(x, trials)
    assert scores.dtype == np.float32
    matrix = backend.score_matrix(x, x.copy())
    np.testing.assert_allclose(scores, matrix[trials.enroll, trials.test], rtol=1e-3, atol=1e-3)
    target, nontarget = backend.all_pairs_scores(x, speakers)
    np.testing.assert_allclose(target, scores[trials.target], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(nontarget, scores[~trials.target], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        backend.score_pairs(x[:20], x[20:], [3, 19], [0, 7]), matrix[[3, 19], [20, 27]], rtol=1e-3, atol=1e-3
    )
    assert eer(target, nontarget).eer < 0.4


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("average", [False, True])
def test_a_model_of_one_recording_scores_as_the_recording(name: str, average: bool, train: Any, unseen: Any) -> None:
    backend = make_backend(name).fit(*train)
    x, _ = unseen
    models = backend.enroll(x, np.arange(len(x)), average=average)
    np.testing.assert_allclose(backend.score_matrix(models, x), backend.score_matrix(x, x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_saved_backend_scores_as_before(name: str, train: Any, unseen: Any, tmp_path: Path) -> None:
    backend = make_backend(name).fit(*train)
    save_backend(tmp_path / "backend.npz", backend)
    loaded = load_backend(tmp_path / "backend.npz")
    assert repr(loaded) == repr(backend)
    np.testing.assert_array_equal(loaded.score_matrix(unseen[0], unseen[0]), backend.score_matrix(unseen[0], unseen[0]))
    assert loaded.warn_of_overlap(["speaker 3"]) == backend.warn_of_overlap(["speaker 3"])
    assert [path.name for path in tmp_path.iterdir()] == ["backend.npz"]


def test_plain_cosines_are_cosine_scores(unseen: Any) -> None:
    x, speakers = unseen
    trials = all_pairs(speakers)
    np.testing.assert_allclose(make_backend("cosine").score(x, trials), cosine_scores(x, trials), atol=1e-6)


def test_steps_apply_in_their_order(train: Any, unseen: Any) -> None:
    backend = Backend([Center(), LengthNorm(), WCCN(shrinkage=0.0)], Cosine()).fit(*train)
    centered = length_normalize(train[0] - train[0].mean(axis=0))
    wccn = WCCN(shrinkage=0.0).fit(centered, train[1])
    expected = wccn.transform(length_normalize(unseen[0] - train[0].mean(axis=0)))
    np.testing.assert_allclose(backend.transform(unseen[0]), expected, atol=1e-4)
    assert repr(backend) == "Center() > LengthNorm() > WCCN(shrinkage=0.0) > Cosine()"


def test_enrollment_by_the_book_and_by_averaging(train: Any, unseen: Any) -> None:
    backend = Backend([LDA(dim=4), LengthNorm()], PLDA()).fit(*train)
    x, _ = unseen
    vectors = backend.transform(x)
    names = np.array(list("ab"))[np.arange(12) % 2]
    means = np.stack([vectors[:12:2].mean(axis=0), vectors[1:12:2].mean(axis=0)])
    book = backend.enroll(x[:12], names)
    np.testing.assert_array_equal(book.names, ["a", "b"])
    np.testing.assert_array_equal(book.counts, [6, 6])
    np.testing.assert_allclose(book.means, means, atol=1e-6)
    left, right = backend.scorer.project(means, vectors[12:], [6, 6])
    np.testing.assert_allclose(backend.score_matrix(book, x[12:]), left @ right.T, atol=1e-3)
    averaged = backend.enroll(x[:12], names, average=True)
    np.testing.assert_array_equal(averaged.counts, [1, 1])
    np.testing.assert_allclose(averaged.means, length_normalize(means), atol=1e-6)


def test_more_recordings_make_better_models(train: Any, simulator: Any) -> None:
    backend = Backend([], PLDA()).fit(*train)
    x, speakers = simulator.draw(np.full(100, 11), seed=9)
    order = np.argsort(speakers, kind="stable")
    recordings = x[order].reshape(100, 11, 6)
    costs = []
    for number in (1, 3, 10):
        enrolled = recordings[:, 1 : 1 + number].reshape(-1, 6)
        scores = backend.score_matrix(backend.enroll(enrolled, np.repeat(np.arange(100), number)), recordings[:, 0])
        same = np.eye(100, dtype=bool)
        costs.append(float(np.logaddexp(0, -scores[same]).mean() + np.logaddexp(0, scores[~same]).mean()))
    assert costs[0] > costs[1] > costs[2]


def test_the_cohort_is_the_training_speakers_unless_another_is_given(
    train: Any, unseen: Any, caplog: pytest.LogCaptureFixture
) -> None:
    x, speakers = unseen
    backend = Backend([Center()], Cosine(), ScoreNorm(top_k=5)).fit(*train)
    names = sorted(set(train[1]))
    assert backend.normalizer is not None
    assert backend.normalizer.cohort_speakers_.tolist() == names
    means = [(train[0] - train[0].mean(axis=0))[train[1] == name].mean(axis=0) for name in names]
    np.testing.assert_allclose(backend.normalizer.cohort_, means, atol=1e-5)
    assert backend.warn_of_overlap(["speaker 7"]) == ["speaker 7"]
    assert len(caplog.messages) == 1
    before = backend.score_matrix(x, x)
    backend.use_cohort(x, speakers)
    assert backend.warn_of_overlap(["speaker 7"]) == []
    assert backend.warn_of_overlap([3, 99]) == ["3"]
    assert np.abs(backend.score_matrix(x, x) - before).max() > 0.1
    assert make_backend("cosine").fit(*train).warn_of_overlap(["speaker 7"]) == []
    with pytest.raises(ConfigError, match=r"this back-end normalizes no scores.*give it a ScoreNorm to use a cohort"):
        make_backend("cosine").use_cohort(x, speakers)


def test_impostors_join_the_cohort(train: Any, unseen: Any, tmp_path: Path) -> None:
    x, speakers = unseen
    backend = make_backend("asnorm").fit(*train)
    assert backend.normalizer is not None
    before, num_before = backend.score_matrix(x, x), len(backend.normalizer.cohort_)
    backend.extend_cohort(x, [f"new {speaker}" for speaker in speakers])
    num_new = len(np.unique(speakers))
    assert len(backend.normalizer.cohort_) == num_before + num_new
    first = backend.normalizer.cohort_speakers_[num_before]
    mean = backend.transform(x[[f"new {speaker}" == first for speaker in speakers]]).mean(axis=0)
    np.testing.assert_allclose(backend.normalizer.cohort_[num_before], mean, atol=1e-5)
    after = backend.score_matrix(x, x)
    assert np.abs(after - before).max() > 0.1
    save_backend(tmp_path / "backend.npz", backend)
    np.testing.assert_array_equal(load_backend(tmp_path / "backend.npz").score_matrix(x, x), after)
    with pytest.raises(ConfigError, match=r"normalizes no scores.*give it a ScoreNorm"):
        make_backend("cosine").extend_cohort(x, speakers)


def test_another_mean_is_subtracted_first(train: Any, unseen: Any) -> None:
    x, _ = unseen
    backend = make_backend("wccn").fit(*train)
    assert backend.center is not None
    before, step = backend.transform(x), np.arange(6) / 10
    np.testing.assert_allclose(backend.recenter(backend.center + step).transform(x + step), before, atol=1e-4)
    with pytest.raises(ShapeError, match="embeddings have 3 dimensions"):
        backend.recenter(np.zeros(3))
    plain = make_backend("cosine")
    assert plain.center is None
    with pytest.raises(ConfigError, match="does not begin by subtracting a mean"):
        plain.recenter(np.zeros(6))


def test_unusable_input_is_refused(train: Any, unseen: Any) -> None:
    x, speakers = unseen
    backend = make_backend("lda_plda").fit(*train)
    bad = x.copy()
    bad[2] = np.nan
    with pytest.raises(ShapeError, match=r"embedding row 2.*leave it out"):
        backend.score(bad, all_pairs(speakers))
    with pytest.raises(ShapeError, match=r"embeddings have 3 dimensions, but this LDA was fitted on 6"):
        backend.score(x[:, :3], all_pairs(speakers))
    with pytest.raises(ShapeError, match=r"embedding row 1.*leave it out"):
        make_backend("cosine").fit(*train).score_matrix(x, [[1.0] * 6, [0.0] * 6])
    with pytest.raises(ShapeError, match=r"6 dimensions in enrollment, 3.*use one network for both"):
        make_backend("cosine").fit(*train).score_matrix(x, x[:, :3])
    with pytest.raises(ShapeError, match=r"trial 1 names row 40, but embeddings have rows 0 to 39"):
        backend.score_pairs(x, x, [0, 40], [0, 0])
    with pytest.raises(ShapeError, match=r"40 embeddings, but 3.*give one speaker a row"):
        backend.enroll(x, [1, 2, 3])
    with pytest.raises(ManifestError, match=r"no embeddings.*give at least one"):
        backend.enroll(x[:0], [])
    with pytest.raises(ConfigError, match=r"this LDA is not fitted.*call fit\(embeddings, speakers\) first"):
        make_backend("lda_plda").score(x, all_pairs(speakers))
    with pytest.raises(ManifestError, match=r"no embeddings to learn from.*give at least one"):
        make_backend("cosine_centered").fit(x[:0], [])
    with pytest.raises(ConfigError, match=r"back-end 'lda_pdla'.*did you mean 'lda_plda'\?"):
        make_backend("lda_pdla")


def test_a_fusion_is_saved(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fusion = Fusion(p_target=0.2).fit(rng.normal(size=(50, 2)) + 1, rng.normal(size=(50, 2)))
    save_fusion(tmp_path / "fusion.npz", fusion)
    loaded = load_fusion(tmp_path / "fusion.npz")
    assert repr(loaded) == "Fusion(p_target=0.2, penalty=1e-06)"
    assert loaded.offset_ == fusion.offset_
    np.testing.assert_array_equal(loaded.weights_, fusion.weights_)
    with pytest.raises(CheckpointError, match=r"fusion.npz holds no back-end$"):
        load_backend(tmp_path / "fusion.npz")


def test_what_is_no_backend_is_refused(train: Any, tmp_path: Path) -> None:
    path = tmp_path / "backend.npz"
    with pytest.raises(CheckpointError, match=r"backend.npz(: no such file| is damaged, or no back-end)"):
        load_backend(path)
    with pytest.raises(ConfigError, match=r"this LDA is not fitted"):
        save_backend(path, make_backend("lda"))
    assert not path.exists()
    save_backend(path, make_backend("lda_plda").fit(*train))
    with pytest.raises(CheckpointError, match=r"backend.npz holds no fusion$"):
        load_fusion(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"no such file|is damaged, or no back-end"):
        load_backend(path)
    path.write_bytes(pickle.dumps({"scorer": 1}))
    with pytest.raises(CheckpointError, match=r"no such file|is damaged, or no back-end"):
        load_backend(path)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(CheckpointError, match=r"no such file|is damaged, or no back-end"):
        load_backend(path)
    np.savez(path, embeddings=np.ones(3))
    with pytest.raises(CheckpointError, match=r"holds no description, so it is no back-end$"):
        load_backend(path)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("format_version = 3\n", "format version 3 is not 2; bring its system up to date with `xvectors upgrade`"),
        ("format_version = 2\n[parts.scorer]\nkind = 'PLDA'\n", "PLDA needs the arrays mean_, within_, between_, "),
        ("format_version = 2\n[parts.scorer]\nkind = 'Cosine'\npower = 2\n", "cannot be read as a back-end: "),
        ("format_version = 2\n[parts.scorer]\nkind = 'eval'\n", "cannot be read as a back-end: 'eval'"),
        ("format_version = 2\n", "cannot be read as a back-end: 'parts'"),
        ("format_version = 2\n[parts.scorer]\nkind = 'LengthNorm'\n", "holds no back-end"),
        ("format_version = 2\n[parts.step0]\nkind = 'LengthNorm'\n", "holds no back-end"),
        ("format_version = ", "not valid TOML"),
    ],
)
def test_descriptions_that_fit_no_backend_are_refused(description: str, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "backend.npz", description=np.array(description))
    with pytest.raises(CheckpointError) as caught:
        load_backend(tmp_path / "backend.npz")
    assert message in str(caught.value)
