"""The calibration is given the condition of both sides of every trial that is measured, if it knows conditions."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.conditions import record_conditions, some_conditions, usual_within_one
from xvectors.embeddings import load_embeddings
from xvectors.evaluation.embeddings import measure_embeddings
from xvectors.evaluation.shift import EARLIER_VERSION, NOT_LEARNED
from xvectors.evaluation.system import measure_system
from xvectors.labeled_embeddings import calibrate_embeddings
from xvectors.system import SystemFolder
from xvectors.verification import Verifier, save_verifier, verifier_of
from xvectors.verification.fingerprint import fingerprint_of
from xvectors.verification.verifier import OF_EMBEDDINGS, is_back_end_alone


def change(system: Path, **changed: object) -> None:
    """Replace parts of the system's verifier."""
    folder = SystemFolder(system)
    verifier: Verifier = replace(verifier_of(folder), **changed)  # type: ignore[arg-type]
    fingerprint = OF_EMBEDDINGS if is_back_end_alone(folder) else fingerprint_of(folder)
    save_verifier(verifier, backend=folder.backend, calibration=folder.calibration, fingerprint=fingerprint)


def test_of_recordings(
    calibrated_starter: Path, toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(calibrated_starter, tmp_path / "system")
    change(tmp_path / "system", condition=usual_within_one())
    calls = record_conditions(monkeypatch)
    files = [
        f"{toy_corpus / f's0{speaker}' / f'u{number}.flac'},s0{speaker}" for speaker in range(2) for number in (0, 1)
    ]
    (tmp_path / "few.csv").write_text("\n".join(["path,speaker", *files]) + "\n")
    result = measure_system(tmp_path / "system", data=tmp_path / "few.csv", out=tmp_path / "report", device="cpu")
    condition = load_embeddings(tmp_path / "report" / "embeddings.npz", "condition")["condition"]
    assert np.isfinite(condition[:, :4]).all()
    ((enroll, test),) = calls
    np.testing.assert_array_equal(enroll, condition[result.trials.enroll])
    np.testing.assert_array_equal(test, condition[result.trials.test])
    assert result.shift is not None
    # levels are tens of dB, and not from -1 to 1, but those of a recording without speech say nothing
    assert (result.shift.num_usual, result.shift.num_shifted) == (1, 3)
    assert result.verdict.shift is result.shift


def test_of_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    vectors = np.repeat(rng.standard_normal((6, 8)), 4, axis=0) + rng.standard_normal((24, 8))
    ids, speakers = [f"u{row:02d}" for row in range(24)], np.repeat([f"s{at}" for at in range(6)], 4)
    conditions = some_conditions(24)
    conditions[3] = np.nan
    vectors[7] = 0  # left out, with a warning
    arrays = {"embeddings": vectors.astype(np.float32), "id": np.array(ids), "speaker": speakers}
    np.savez(tmp_path / "emb.npz", condition=conditions, speech_s=rng.uniform(1, 5, 24), **arrays)
    calibrate_embeddings(tmp_path / "emb.npz", None, tmp_path / "backend", backend="cosine")
    calls = record_conditions(monkeypatch)
    unaware = measure_embeddings(tmp_path / "emb.npz", None, system=tmp_path / "backend")
    assert calls == [(None, None)]  # nothing is gathered for a calibration that does not know conditions
    assert (unaware.shift, unaware.no_shift) == (None, NOT_LEARNED)
    assert unaware.llr_bounds is not None
    change(tmp_path / "backend", bounds=None)
    earlier = measure_embeddings(tmp_path / "emb.npz", None, system=tmp_path / "backend")
    assert (earlier.shift, earlier.no_shift, earlier.llr_bounds) == (None, EARLIER_VERSION, None)
    change(tmp_path / "backend", condition=usual_within_one())
    calls.clear()
    result = measure_embeddings(tmp_path / "emb.npz", None, system=tmp_path / "backend")
    kept = np.delete(conditions, 7, axis=0)
    ((enroll, test),) = calls
    np.testing.assert_array_equal(enroll, kept[result.trials.enroll])
    np.testing.assert_array_equal(test, kept[result.trials.test])
    assert result.shift is not None
    assert (result.shift.num_shifted, result.shift.num_unknown, result.no_shift) == (22, 1, "")
