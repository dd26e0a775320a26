"""The choice among back-ends: it must find what the data were made for, on held-out speakers alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from xvectors.config import parse_toml, to_toml
from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.scoring import eer
from xvectors.scoring.backends import BACKENDS, PLDA, Backend, make_backend, select_backend, selection
from xvectors.scoring.backends.selection import _folds, _some_recordings


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    """Speakers differ in 5 of 20 dimensions, recordings in all of them, more so where speakers do not."""
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(60), 6)
    parts = rng.normal(size=(60, 20)) * (np.arange(20) < 5)
    noise = rng.normal(size=(360, 20)) * np.where(np.arange(20) < 5, 0.7, 3.0)
    return parts[speakers] + noise + 4.0, speakers


@pytest.mark.parametrize("criterion", ["cllr", "eer", "min_dcf"])
def test_the_choice_has_the_least_figure(data: tuple[Any, Any], criterion: Any) -> None:
    found = select_backend(*data, criterion=criterion)
    figures = {row.name: row for row in found.figures}
    assert list(figures) == list(BACKENDS)
    assert getattr(figures[found.name], criterion) == min(getattr(row, criterion) for row in found.figures)
    assert "plda" in found.name or "wccn" in found.name or found.name == "lda"
    assert figures["cosine"].eer > 0.3
    assert figures["lda_plda"].eer < 0.25
    assert figures["lda_plda"].cllr < 0.7 < figures["cosine_centred"].cllr < 1.05
    assert 0 < figures["lda_plda"].cllr_error < 0.1
    np.testing.assert_array_equal(
        found.backend.score_matrix(data[0], data[0]), make_backend(found.name).fit(*data).score_matrix(data[0], data[0])
    )


def test_figures_are_means_over_speakers_held_out(data: tuple[Any, Any]) -> None:
    x, speakers = data
    found = select_backend(x, speakers, {"lda_plda": BACKENDS["lda_plda"]}, folds=3, seed=4)
    fold = _folds(np.bincount(speakers), 3, 4)[speakers]
    rates = []
    for number in range(3):
        backend = make_backend("lda_plda").fit(x[fold != number], speakers[fold != number])
        rates.append(eer(*backend.all_pairs_scores(x[fold == number], speakers[fold == number])).eer)
    np.testing.assert_allclose(found.figures[0].eer, np.mean(rates), rtol=1e-6)
    np.testing.assert_allclose(found.figures[0].eer_error, np.std(rates, ddof=1) / np.sqrt(3), rtol=1e-6)


def test_the_same_seed_chooses_alike_and_names_serve_as_numbers(data: tuple[Any, Any]) -> None:
    x, speakers = data
    names = np.array([f"{s:03d}" for s in speakers])
    some = {name: BACKENDS[name] for name in ("cosine_centred", "wccn")}
    assert select_backend(x, speakers, some, seed=2).table() == select_backend(x, names, some, seed=2).table()


def test_the_table_can_be_written(data: tuple[Any, Any]) -> None:
    candidates = {"cosine": BACKENDS["cosine"], "too much": lambda: Backend([], PLDA(rank=60))}
    found = select_backend(*data, candidates)
    table = found.table()
    assert parse_toml(to_toml(table), "") == json.loads(json.dumps(table)) == table
    assert table["name"] == "cosine"
    assert table["num_speakers"] == 60
    assert table["candidates"][1] == {
        "name": "too much",
        "left_out": "PLDA of rank 60 for embeddings of 20 dimensions: give a rank from 1 to 20",
    }
    assert table["candidates"][0]["eer"] == found.figures[0].eer


def test_folds_part_speakers_and_spread_those_who_repeat() -> None:
    counts = np.array([1] * 30 + [5] * 13)
    fold = _folds(counts, 4, seed=0)
    assert sorted(np.bincount(fold[counts > 1]).tolist()) == [3, 3, 3, 4]
    assert np.bincount(fold).max() - np.bincount(fold).min() <= 1
    assert not np.array_equal(fold, _folds(counts, 4, seed=1))


def test_held_out_recordings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "RECORDINGS_A_SPEAKER", 4)
    monkeypatch.setattr(selection, "RECORDINGS_A_FOLD", 30)
    numbers = np.repeat(np.arange(20), 10).astype(np.int32)
    rows = _some_recordings(np.flatnonzero(numbers % 2 == 1), numbers, seed=0)
    assert len(set(rows.tolist())) == 30
    counts = np.bincount(numbers[rows], minlength=20)
    assert (counts[::2] == 0).all()
    assert sorted(counts[1::2].tolist()) == [0, 0, 2, 4, 4, 4, 4, 4, 4, 4]
    assert counts.max() == 4


def test_what_allows_no_choice_is_refused(data: tuple[Any, Any]) -> None:
    x, speakers = data
    with pytest.raises(ConfigError, match=r"^criterion 'err' is not known; did you mean 'eer'\?$"):
        select_backend(x, speakers, criterion="err")
    with pytest.raises(ConfigError, match=r"^no candidates: name at least one back-end$"):
        select_backend(x, speakers, {})
    with pytest.raises(ConfigError, match=r"^folds is 1: give 2 or more, to hold speakers out$"):
        select_backend(x, speakers, folds=1)
    with pytest.raises(ManifestError) as caught:
        select_backend(x[:24], speakers[:24])
    assert str(caught.value) == (
        "5 folds need 10 speakers with two recordings or more, and there are 4: "
        "give fewer folds, or recordings of more speakers"
    )
    with pytest.raises(ManifestError) as none:
        select_backend(x, speakers, {"much": lambda: Backend([], PLDA(rank=99))})
    assert str(none.value) == (
        "no candidate could be fitted to these speakers: "
        "much: PLDA of rank 99 for embeddings of 20 dimensions: give a rank from 1 to 20"
    )
    with pytest.raises(ShapeError, match=r"^embedding row 0 holds a value that is not finite"):
        select_backend(x * np.nan, speakers)
