"""Lengths of embeddings as a measure of quality: used where speakers left out bear it out, and only there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xvectors.errors import CheckpointError, ShapeError
from xvectors.metrics import ROC
from xvectors.trials import Trials, all_pairs
from xvectors.verification import Basis, Verifier, learn_verifier, load_verifier, save_verifier
from xvectors.verification.speaker_models import model_speakers
from xvectors.verification.verifier import MAGNITUDE_NAMES, QUALITY_NAMES, magnitudes_of

DIM, EACH = 24, 4


def drawn(speakers: int, seed: int, *, telling: bool = True) -> Basis:
    """Voices in noise of a strength that differs by recording; the length of an embedding tells it, or nothing."""
    rng = np.random.default_rng(seed)
    noise = rng.uniform(0.3, 3.0, speakers * EACH)
    means = np.repeat(rng.standard_normal((speakers, DIM)), EACH, axis=0)
    rows = means + noise[:, None] * rng.standard_normal((len(noise), DIM))
    length = 1 / (1 + noise) if telling else rng.uniform(0.3, 0.8, len(noise))
    rows *= (length / np.linalg.norm(rows, axis=1))[:, None]
    return Basis(
        embeddings=rows.astype(np.float32),
        speakers=np.repeat([f"s{number:02d}" for number in range(speakers)], EACH),
        recording=np.arange(len(rows)),
        duration_s=np.full(len(rows), 4.0),
        whole=np.ones(len(rows), dtype=np.bool_),
    )


@pytest.fixture(scope="module")
def learned() -> Verifier:
    return learn_verifier(drawn(30, 0), backend_name="cosine")


def test_lengths_that_tell_quality_lower_cllr_of_other_speakers(learned: Verifier) -> None:
    assert learned.uses_magnitude
    assert learned.calibration is not None
    assert learned.calibration.quality_names_ == (*QUALITY_NAMES, *MAGNITUDE_NAMES)
    found = learned.basis["magnitude"]
    assert found["used"]
    assert found["low"] < found["difference"] < found["high"] < 0
    others = drawn(60, 1)
    trials = all_pairs(others.speakers)
    scores = learned.score(others.embeddings, trials)
    with_lengths = learned.trial_llrs(scores, trials, others.embeddings, others.duration_s)
    seconds, unknown = others.duration_s[trials.enroll], np.full(len(trials), np.nan)
    without = learned.llrs(scores, seconds, seconds, enroll_magnitude=unknown, test_magnitude=unknown)
    cllr = [ROC.from_scores(*trials.split(llrs)).cllr() for llrs in (with_lengths, without)]
    assert cllr[0] < cllr[1] - 0.03


def test_a_low_score_says_less_against_one_speaker_where_embeddings_are_short(learned: Verifier) -> None:
    score, seconds = np.array([0.0]), np.array([4.0])
    clear, unclear = (
        learned.llrs(score, seconds, seconds, enroll_magnitude=[value], test_magnitude=[value])[0]
        for value in np.log([0.7, 0.3])
    )
    assert clear < unclear - 0.5
    unknown = [np.nan]
    usual = learned.llrs(score, seconds, seconds, enroll_magnitude=unknown, test_magnitude=unknown)[0]
    assert clear < usual < unclear < 0
    one_known = learned.llrs(score, seconds, seconds, enroll_magnitude=[np.nan], test_magnitude=[-0.5])
    assert one_known[0] == usual
    with pytest.raises(ShapeError, match="give the magnitudes of both sides, or use `trial_llrs`"):
        learned.llrs(score, seconds, seconds)


def test_lengths_that_tell_nothing_are_not_used() -> None:
    verifier = learn_verifier(drawn(30, 2, telling=False), backend_name="cosine")
    assert not verifier.uses_magnitude
    assert not verifier.basis["magnitude"]["used"]


def test_normalized_embeddings_and_few_speakers_are_not_asked() -> None:
    basis = drawn(30, 0)
    unit = basis.embeddings / np.linalg.norm(basis.embeddings, axis=1, keepdims=True)
    for other in (replace(basis, embeddings=unit), basis.take(np.arange(9 * EACH))):
        verifier = learn_verifier(other, backend_name="cosine")
        assert "magnitude" not in verifier.basis
        assert not verifier.uses_magnitude


def test_a_model_of_several_recordings_has_their_mean_length(learned: Verifier) -> None:
    rows = np.array([[1.0, 0], [0, np.e], [np.e**2, 0]], dtype=np.float32).repeat(DIM // 2, axis=1)
    models = model_speakers(learned, np.array([3, 3, 7]), rows, np.array([1.0, 3.0, 2.0]))
    base = np.log(DIM // 2) / 2
    np.testing.assert_allclose(models.magnitude, base + np.array([0.75, 2.0]), rtol=1e-6)


def test_it_survives_the_file_and_other_measures_do_not(learned: Verifier, tmp_path: Path) -> None:
    files = {"backend": tmp_path / "backend.npz", "calibration": tmp_path / "calibration.toml", "fingerprint": "f"}
    save_verifier(learned, **files)
    loaded = load_verifier(**files)
    assert loaded.uses_magnitude
    trials = Trials(enroll=np.array([0], np.int32), test=np.array([9], np.int32), target=np.array([False]))
    rows, seconds = drawn(3, 4).embeddings, np.full(12, 3.0)
    expected = learned.trial_llrs(learned.score(rows, trials), trials, rows, seconds)
    np.testing.assert_allclose(loaded.trial_llrs(loaded.score(rows, trials), trials, rows, seconds), expected)
    text = files["calibration"].read_text()
    files["calibration"].write_text(text.replace("larger_log_magnitude", "larger_snr"))
    with pytest.raises(CheckpointError, match=r"larger_snr.*calibrate the system again"):
        load_verifier(**files)


def test_the_length_of_nothing_is_unknown() -> None:
    found = magnitudes_of(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert found[0] == pytest.approx(np.log(5))
    assert np.isnan(found[1])
