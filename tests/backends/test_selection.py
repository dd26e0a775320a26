"""The choice among back-ends: it must find what the data were made for, on held-out speakers alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from xvectors.backends import BACKENDS, PLDA, AffineCalibration, Backend, make_backend, select_backend, selection
from xvectors.config import parse_toml, to_toml
from xvectors.errors import ConfigError, ManifestError, ShapeError
from xvectors.metrics import ROC, eer
from xvectors.trials import all_pairs


def simulated(num_speakers: int, seed: int) -> tuple[Any, Any]:
    """Speakers differ in 5 of 20 dimensions, recordings in all of them, more so where speakers do not."""
    rng = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(num_speakers), 6)
    parts = rng.normal(size=(num_speakers, 20)) * (np.arange(20) < 5)
    scatter = rng.normal(size=(6 * num_speakers, 20)) * np.where(np.arange(20) < 5, 0.7, 3.0)
    return parts[speakers] + scatter + 4.0, speakers


TRAINING, HELD_OUT = simulated(60, 0), simulated(25, 1)


def test_the_choice_has_the_least_cllr_and_is_fitted_on_the_training_speakers() -> None:
    found = select_backend(*TRAINING, *HELD_OUT)
    figures = {row.name: row for row in found.figures}
    assert list(figures) == list(BACKENDS)
    assert figures[found.name].cllr == min(row.cllr for row in found.figures)
    assert "plda" in found.name or "wccn" in found.name or found.name == "lda"
    assert figures["cosine"].eer > 0.3
    assert figures["lda_plda"].eer < 0.25
    assert figures["lda_plda"].cllr < 0.7 < figures["cosine"].cllr < 1.05
    assert figures[found.name].high < 0
    assert found.reason == (
        f"a Cllr on held-out speakers {figures['cosine'].cllr - figures[found.name].cllr:.3f} bits below that of cosine"
    )
    fitted = make_backend(found.name).fit(*TRAINING)
    np.testing.assert_array_equal(
        found.backend.score_matrix(HELD_OUT[0], HELD_OUT[0]), fitted.score_matrix(HELD_OUT[0], HELD_OUT[0])
    )


def test_figures_are_of_the_held_out_speakers() -> None:
    found = select_backend(*TRAINING, *HELD_OUT, {"cosine": BACKENDS["cosine"], "lda_plda": BACKENDS["lda_plda"]})
    x, speakers = HELD_OUT
    trials = all_pairs(speakers)
    scores = make_backend("lda_plda").fit(*TRAINING).score(x, trials)
    llrs = AffineCalibration().fit(scores, trials.target).transform(scores)
    roc = ROC.from_scores(llrs[trials.target], llrs[~trials.target])
    figures = found.figures[1]
    assert (figures.eer, figures.cllr) == pytest.approx((roc.eer().eer, roc.cllr()))
    assert figures.min_dcf == pytest.approx(roc.min_dcf(0.01).min_dcf)
    assert figures.difference == pytest.approx(figures.cllr - found.figures[0].cllr)
    assert figures.low < figures.difference < figures.high
    assert (found.figures[0].difference, found.figures[0].low, found.figures[0].high) == (0, 0, 0)


def test_figures_are_of_trials_within_a_domain() -> None:
    x, speakers = HELD_OUT
    domains = np.where(speakers < 10, "a", "b")
    found = select_backend(*TRAINING, x, speakers, {"cosine": BACKENDS["cosine"]}, domains=domains)
    trials = all_pairs(speakers)
    within = domains[trials.enroll] == domains[trials.test]
    scores = make_backend("cosine").score(x, trials)[within]
    expected = ROC.from_scores(scores[trials.target[within]], scores[~trials.target[within]]).eer().eer
    assert found.figures[0].eer == pytest.approx(expected)
    assert found.figures[0].eer != select_backend(*TRAINING, *HELD_OUT, {"cosine": BACKENDS["cosine"]}).figures[0].eer


def test_in_doubt_the_reference_is_taken() -> None:
    """LDA before PLDA, of which it is a part, gains or loses a trifle: eight speakers cannot tell."""
    some = {name: BACKENDS[name] for name in ("plda", "lda_plda")}
    held_out = simulated(8, 3)
    assured = select_backend(*TRAINING, *held_out, some, reference="plda")
    assert (assured.name, assured.reason) == ("plda", "the least Cllr on held-out speakers")
    doubted = select_backend(*TRAINING, *held_out, some, reference="lda_plda")
    plda = doubted.figures[0]
    assert plda.low < plda.difference < 0 < plda.high
    assert doubted.name == "lda_plda"
    assert doubted.reason == (
        f"plda has a Cllr lower by {-plda.difference:.3f} bits, "
        f"but the 90 % interval is {-plda.high:.3f} to {-plda.low:.3f}"
    )


def test_candidates_are_completed_before_they_are_judged() -> None:
    """With a cohort of other speakers, say."""
    cohort = simulated(30, 9)

    def complete(backend: Backend) -> None:
        if backend.normalizer is not None:
            backend.use_cohort(*cohort)

    some = {name: BACKENDS[name] for name in ("cosine", "snorm")}
    found = select_backend(*TRAINING, *HELD_OUT, some, complete=complete)
    x, speakers = HELD_OUT
    trials = all_pairs(speakers)
    rates = [
        eer(*trials.split(backend.score(x, trials))).eer
        for backend in (BACKENDS["snorm"]().fit(*TRAINING).use_cohort(*cohort), BACKENDS["snorm"]().fit(*TRAINING))
    ]
    assert found.figures[1].eer == pytest.approx(rates[0])
    assert rates[0] != pytest.approx(rates[1])


def test_the_same_seed_chooses_alike_and_names_serve_as_numbers() -> None:
    x, speakers = HELD_OUT
    names = np.array([f"{s:03d}" for s in speakers])
    some = {name: BACKENDS[name] for name in ("cosine", "wccn")}
    tables = [select_backend(*TRAINING, x, who, some, seed=2).table() for who in (speakers, names)]
    assert tables[0] == tables[1]


def test_recordings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "EACH", 3)
    monkeypatch.setattr(selection, "AT_MOST", 30)
    found = select_backend(*TRAINING, *HELD_OUT, {"cosine": BACKENDS["cosine"]})
    assert (found.num_speakers, found.num_training_speakers) == (10, 60)


def test_the_table_can_be_written() -> None:
    candidates = {"cosine": BACKENDS["cosine"], "too much": lambda: Backend([], PLDA(rank=60))}
    found = select_backend(*TRAINING, *HELD_OUT, candidates)
    table = found.table()
    assert parse_toml(to_toml(table), "") == json.loads(json.dumps(table)) == table
    assert (table["name"], table["reference"]) == ("cosine", "cosine")
    assert (table["num_training_speakers"], table["num_speakers"]) == (60, 25)
    assert table["candidates"][1] == {
        "name": "too much",
        "left_out": "PLDA of rank 60 for embeddings of 20 dimensions: give a rank from 1 to 20",
    }
    assert table["candidates"][0]["eer"] == found.figures[0].eer


def test_what_allows_no_choice_is_refused() -> None:
    x, speakers = HELD_OUT
    with pytest.raises(ConfigError, match=r"the reference 'cosin'.*did you mean 'cosine'"):
        select_backend(*TRAINING, x, speakers, reference="cosin")
    with pytest.raises(ConfigError, match="is not among the candidates"):
        select_backend(*TRAINING, x, speakers, {})
    with pytest.raises(ManifestError, match="needs at least 5 of them, there are 4"):
        select_backend(*TRAINING, x[:24], speakers[:24])
    with pytest.raises(ManifestError) as none:
        select_backend(*TRAINING, x, speakers, {"much": lambda: Backend([], PLDA(rank=99))}, reference="much")
    none.match("the reference much.*rank 99 .*20 dimensions: give a rank from 1 to 20")
    with pytest.raises(ShapeError, match=r"embedding row 0 holds a value that is not finite"):
        select_backend(*TRAINING, x * np.nan, speakers)
