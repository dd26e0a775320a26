"""Adaptation to a new domain: how far means move, what it does to drifted scores, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from xvectors.backends import LDA, PLDA, Backend, Cosine, LengthNorm, ScoreNorm
from xvectors.backends.transforms import Center
from xvectors.errors import ManifestError
from xvectors.metrics import ROC
from xvectors.verification import Basis, Verifier, learn_verifier
from xvectors.verification.calibration_set import all_trials
from xvectors.verification.new_domain import Adaptation, NewDomain, lines
from xvectors.verification.own_speakers import learn_from_own

Simulate = Callable[..., Basis]
OFFSET = np.linspace(1.0, 3.0, 16, dtype=np.float32)
"""What all recordings of the new domain have in common: |OFFSET| is 8.3, a voice's deviation about 4."""


def other_domain(simulate: Simulate, speakers: int, each: int, seed: int, offset: float = 1.0) -> Basis:
    drawn = simulate(speakers, each, seed)
    whole = drawn.take(drawn.whole)
    return replace(whole, embeddings=whole.embeddings + offset * OFFSET)


def cllr(verifier: Verifier, tested: Basis) -> float:
    trials = all_trials(tested)
    scores = verifier.score(tested.embeddings, trials)
    llrs = verifier.trial_llrs(scores, trials, tested.embeddings, tested.duration_s)
    return ROC.from_scores(llrs[trials.target], llrs[~trials.target]).cllr()


def test_means_move_by_the_share_of_their_distance_that_is_not_chance(simulate: Simulate) -> None:
    basis, new = simulate(12, 3, 0), other_domain(simulate, 10, 2, 11, offset=0.3)
    found = Adaptation.to(NewDomain(embeddings=new.embeddings), basis)
    assert found.num_groups == 10  # the people, whom no label tells apart
    people = new.embeddings.reshape(10, 2, 16).mean(axis=1)
    whole = basis.embeddings[basis.whole]
    known = whole.reshape(12, 3, 16).mean(axis=1)
    error = people.var(axis=0, ddof=1).sum() / 10 + known.var(axis=0, ddof=1).sum() / 12
    difference = people.mean(axis=0) - known.mean(axis=0)
    assert found.weight == pytest.approx(1 - error / (difference @ difference), rel=1e-4)
    assert 0.3 < found.weight < 0.9
    spread = np.sqrt(whole.var(axis=0).sum())
    assert found.distance == pytest.approx(np.linalg.norm(difference) / spread, rel=1e-4)
    assert found.by_chance == pytest.approx(np.sqrt(error) / spread, rel=1e-4)
    moved = found.moved(basis)
    step = moved.embeddings - basis.embeddings
    np.testing.assert_allclose(step, np.tile(found.weight * difference, (len(step), 1)), atol=1e-4)


def test_every_domain_of_the_calibration_set_moves_to_the_new_one(simulate: Simulate) -> None:
    basis, new = simulate(12, 3, 0), other_domain(simulate, 10, 2, 1, offset=5.0)
    far = np.isin(basis.speakers, ["s00", "s01", "s02", "s03"])
    rows = basis.embeddings - 2.0 * far[:, None] * OFFSET
    basis = replace(basis, embeddings=rows.astype(np.float32), domain=np.where(far, "far", "near"))
    found = Adaptation.to(NewDomain(embeddings=new.embeddings), basis)
    assert found.weight > 0.98
    moved = found.moved(basis)
    for name in ("far", "near"):
        here = basis.whole & (basis.domain == name)
        expected = basis.embeddings[here].mean(axis=0) * (1 - found.weight) + found.weight * found.mean
        np.testing.assert_allclose(moved.embeddings[here].mean(axis=0), expected, atol=1e-3)
    # copies move as their originals do, whatever their own mean
    copies = replace(basis, embeddings=basis.embeddings + 1)
    np.testing.assert_allclose(found.moved(copies, like=basis).embeddings, moved.embeddings + 1, atol=1e-4)


@pytest.mark.parametrize("backend", ["cosine", "cosine_centered", "asnorm"])
def test_scores_that_drift_as_a_whole_are_put_right(simulate: Simulate, backend: str) -> None:
    basis = simulate(20, 3, 0)
    unlabeled, tested = other_domain(simulate, 25, 2, 1), other_domain(simulate, 12, 3, 2)
    before = learn_from_own(basis, backend_name=backend)
    found = Adaptation.to(NewDomain(embeddings=unlabeled.embeddings), basis)
    after = learn_from_own(found.moved(basis), backend_name=backend, complete=found.complete)
    assert cllr(before, tested) > 2 * cllr(after, tested)
    assert cllr(before, tested) > 0.8
    assert cllr(after, tested) < 0.4
    facts = {"file": "new", **found.record(before, after, 4.0)}
    assert facts["called_one_speaker_before"] > 0.4 > 0.2 > facts["called_one_speaker_after"]
    assert facts["median_llr_before"] > facts["median_llr_after"]
    said = lines(facts)
    assert said[0] == "50 unlabeled recordings (new), which sound like about 20 people"
    assert f"{facts['mean_distance']:.2f} spreads" in said[1]
    assert ("20 of these people joined the cohort" in said) == (backend == "asnorm")
    assert f"{facts['cllr_before']:.3f} bits before" in said[-2]
    assert "xvectors evaluate" in said[-1]


def test_a_few_recordings_of_the_own_domain_change_little(simulate: Simulate) -> None:
    basis, tested = simulate(20, 3, 0), simulate(12, 3, 2)
    tested = tested.take(tested.whole)
    own = simulate(10, 2, 3)
    found = Adaptation.to(NewDomain(embeddings=own.embeddings[own.whole]), basis)
    assert found.weight < 0.35
    for backend in ("cosine", "cosine_centered", "asnorm"):
        before = learn_from_own(basis, backend_name=backend)
        after = learn_from_own(found.moved(basis), backend_name=backend, complete=found.complete)
        assert cllr(after, tested) < cllr(before, tested) + 0.02


def test_recordings_join_a_cohort_unless_one_was_given(simulate: Simulate) -> None:
    basis, new = simulate(12, 3, 0), other_domain(simulate, 10, 2, 1)
    whole = basis.take(basis.whole)
    backend = Backend([Center()], Cosine(), ScoreNorm(0.2)).fit(whole.embeddings, whole.speakers)
    Adaptation.to(NewDomain(embeddings=new.embeddings), basis, keep_cohort=True).complete(backend)
    assert backend.normalizer is not None
    assert len(backend.normalizer.cohort_) == 12
    Adaptation.to(NewDomain(embeddings=new.embeddings), basis).complete(backend)
    assert backend.normalizer.cohort_speakers_[12:].tolist() == [f"unlabeled {at}" for at in range(1, 10)]
    assert backend.normalizer.leave_out == 1


def test_few_people_are_said_to_be_few(simulate: Simulate) -> None:
    basis, new = simulate(12, 3, 0), other_domain(simulate, 3, 5, 1)
    found = Adaptation.to(NewDomain(embeddings=new.embeddings), basis)
    assert found.num_groups == 3
    assert found.distance > 1.5
    verifier = learn_from_own(basis, backend_name="cosine")
    said = lines({"file": "new", **found.record(verifier, verifier, 4.0)})
    assert "so few people may do harm" in said[2]
    assert "make sure that they are embeddings by this system" in said[3]


def test_plda_is_adapted_if_there_are_more_recordings_than_dimensions(simulate: Simulate) -> None:
    basis = simulate(12, 3, 0)
    whole = basis.take(basis.whole)
    for num_speakers, adapts in ((5, False), (8, True)):
        new = NewDomain(embeddings=other_domain(simulate, num_speakers, 2, 1).embeddings)
        backend = Backend([LDA(11), LengthNorm()], PLDA()).fit(whole.embeddings, whole.speakers)
        assert isinstance(backend.scorer, PLDA)
        mean = backend.scorer.mean_
        Adaptation.to(new, basis).complete(backend)
        assert isinstance(backend.scorer, PLDA)
        expected = backend.transform(new.embeddings).mean(axis=0) if adapts else mean
        np.testing.assert_allclose(backend.scorer.mean_, expected, atol=1e-5)


def test_an_imported_back_end_subtracts_the_mean_of_the_new_domain(simulate: Simulate) -> None:
    basis, new = simulate(20, 3, 0), other_domain(simulate, 25, 2, 1)
    tested = other_domain(simulate, 12, 3, 2)
    whole = basis.take(basis.whole)
    imported = Backend([Center()], Cosine()).fit(whole.embeddings, whole.speakers)
    before = learn_verifier(basis, fitted=imported)
    unadapted = cllr(before, tested)
    found = Adaptation.to(NewDomain(embeddings=new.embeddings), basis)
    found.recenter(imported)
    assert imported.center is not None
    assert np.linalg.norm(imported.center - found.mean) < 0.05 * np.linalg.norm(OFFSET)
    after = learn_verifier(found.moved(basis), fitted=imported, complete=found.complete)
    assert unadapted > 0.8
    assert cllr(after, tested) < 0.4
    uncentered = Backend([LengthNorm()], Cosine())
    found.recenter(uncentered)  # which has no mean to move
    assert uncentered.center is None


def test_too_few_recordings_are_refused(simulate: Simulate) -> None:
    basis, new = simulate(12, 3, 0), other_domain(simulate, 10, 2, 1)
    with pytest.raises(ManifestError, match="1 usable unlabeled recording to adapt to; give 10 or more"):
        Adaptation.to(NewDomain(embeddings=new.embeddings[:1]), basis)
    alike = simulate(1, 12, 5)
    with pytest.raises(ManifestError, match="all 12 unlabeled recordings seem to be of one person"):
        Adaptation.to(NewDomain(embeddings=np.repeat(alike.embeddings[alike.whole][:1], 12, axis=0)), basis)
