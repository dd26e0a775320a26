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
from xvectors.trials import Trials, all_pairs


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


def test_figures_are_of_the_given_trials() -> None:
    x, speakers = HELD_OUT
    pairs = all_pairs(speakers)
    kept = (speakers[pairs.enroll] < 10) == (speakers[pairs.test] < 10)
    trials = Trials(enroll=pairs.enroll[kept], test=pairs.test[kept], target=pairs.target[kept])
    found = select_backend(*TRAINING, x, speakers, {"cosine": BACKENDS["cosine"]}, trials=trials)
    scores = make_backend("cosine").score(x, trials)
    expected = ROC.from_scores(*trials.split(scores)).eer().eer
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


def test_a_back_end_that_drifts_under_shifts_is_not_chosen() -> None:
    """Shifted recordings have a common offset. Cosine is as good as without it on unshifted ones, and loses on them."""
    rng = np.random.default_rng(0)
    means, offset = rng.normal(size=(85, 20)), 3 * np.eye(20)[0]
    means[:, 0] = 0.1  # no voices there
    draw = lambda who: means[who] + 0.6 * rng.normal(size=(len(who), 20))  # noqa: E731
    trained, speakers = np.repeat(np.arange(60), 6), np.repeat(np.arange(60, 85), 4)
    training = draw(trained) + np.where(np.arange(len(trained))[:, None] % 2 == 1, offset, 0)
    rows = np.concatenate([draw(speakers), draw(speakers) + offset])
    trials = all_pairs(speakers)
    pairs = np.argwhere(np.ones((100, 100), dtype=bool)).astype(np.int32)
    pairs = pairs[pairs[:, 0] % 4 != pairs[:, 1] % 4]
    one_side = Trials(enroll=pairs[:, 0], test=pairs[:, 1] + 100, target=speakers[pairs[:, 0]] == speakers[pairs[:, 1]])
    some = {name: BACKENDS[name] for name in ("cosine", "wccn")}
    both = np.tile(speakers, 2)
    plain = select_backend(training, trained, rows[:100], speakers, some, trials=trials)
    found = select_backend(training, trained, rows, both, some, trials=trials, shifted=one_side)
    cosine, wccn = found.figures
    assert plain.name == "cosine"
    assert [row.cllr for row in found.figures] == pytest.approx([row.cllr for row in plain.figures])
    assert cosine.cllr_shifted > cosine.cllr + 0.2
    assert wccn.cllr_shifted < cosine.cllr_shifted - 0.1
    assert found.name == "wccn"
    assert wccn.criterion == pytest.approx((wccn.cllr + wccn.cllr_shifted) / 2)
    assert wccn.difference == pytest.approx(wccn.cllr - cosine.cllr, abs=1e-6)
    assert "under made shifts" in found.reason
    assert np.isnan(plain.figures[0].cllr_shifted)
    with pytest.raises(ConfigError, match="give both"):
        select_backend(training, trained, rows, both, some, shifted=one_side)


def test_gains_under_shifts_do_not_buy_losses_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """WCCN is better under the shift, but may not be chosen where it loses more than is allowed without."""
    rng = np.random.default_rng(0)
    offset = 3 * np.eye(20)[0]
    means = rng.normal(size=(85, 20))
    means[:, 0] = 0.1
    trained, speakers = np.repeat(np.arange(60), 6), np.repeat(np.arange(60, 85), 4)
    noisy = [means[who] + 0.6 * rng.normal(size=(len(who), 20)) for who in (trained, speakers, speakers)]
    training = noisy[0] + np.where(np.arange(len(trained))[:, None] % 2 == 1, offset, 0)
    rows = np.concatenate([noisy[1], noisy[2] + offset])
    pairs = np.argwhere(np.ones((100, 100), dtype=bool)).astype(np.int32)
    pairs = pairs[pairs[:, 0] % 4 != pairs[:, 1] % 4]
    target = speakers[pairs[:, 0]] == speakers[pairs[:, 1]]
    one_side = Trials(enroll=pairs[:, 0], test=pairs[:, 1] + 100, target=target)
    some = {name: BACKENDS[name] for name in ("cosine", "wccn")}
    given = {"trials": all_pairs(speakers), "shifted": one_side}
    both = np.tile(speakers, 2)
    assert select_backend(training, trained, rows, both, some, **given).name == "wccn"
    monkeypatch.setattr(selection, "MAX_LOSS", -1.0)
    kept = select_backend(
        training, trained, rows, both, {**some, "plda": BACKENDS["plda"]}, reference="cosine", **given
    )
    assert kept.name == "cosine"
