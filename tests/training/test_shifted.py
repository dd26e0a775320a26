"""Copies of a calibration set under made shifts, and the calibration that is learned from them."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from xvectors import SpeakerEncoder, open_corpus
from xvectors.augment.shifts import SHIFTS
from xvectors.corpus import scan
from xvectors.corpus.synth import synthesize
from xvectors.system import SystemFolder
from xvectors.training.calibrate import calibrate, embed_with_crops
from xvectors.training.shifted import embed_shifted
from xvectors.verification import verifier_of

SOME = {name: SHIFTS[name] for name in ("landline", "noise")}


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voices")
    synthesize(folder, speakers=10, utterances=2, seed=12, workers=1)
    return folder


@pytest.fixture(autouse=True)
def _two_shifts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xvectors.training.shifted.SHIFTS", SOME)


def test_each_recording_is_copied_under_each_shift(voices: Path) -> None:
    encoder = SpeakerEncoder.from_pretrained("starter", device="cpu")
    manifest = scan(open_corpus(voices)).manifest
    basis = embed_with_crops(encoder, manifest, 0.2)
    shifted = embed_shifted(encoder, manifest, basis)
    assert shifted is not None
    assert len(shifted.shift) == 2 * len(manifest)
    assert shifted.basis.condition is not None
    whole = basis.take(basis.whole)
    assert whole.condition is not None
    for row, recording in enumerate(shifted.basis.recording.tolist()):
        (at,) = np.flatnonzero(whole.recording == recording)
        assert shifted.basis.speakers[row] == whole.speakers[at]
        if shifted.shift[row] == "landline":
            assert shifted.basis.condition[row, 0] < whole.condition[at, 0] - 10  # less above 4 kHz
    noisy = shifted.basis.condition[shifted.shift == "noise", 2]
    assert noisy.mean() < whole.condition[:, 2].mean() - 3  # noise fills the pauses
    again = embed_shifted(encoder, manifest, basis)
    assert again is not None
    np.testing.assert_array_equal(again.basis.embeddings, shifted.basis.embeddings)
    few = basis.take(~np.isin(basis.speakers, basis.speakers[:1]))
    assert embed_shifted(encoder, manifest, few) is None  # nine speakers


def test_calibrate_learns_conditions_and_bounds_and_a_system_keeps_them(voices: Path, tmp_path: Path) -> None:
    system = SystemFolder(tmp_path / "system")
    shutil.copytree(Path(str(resources.files("xvectors.system") / "starter")), system.path)
    learned = calibrate(system.path, data=voices, device="cpu", backend="cosine")
    assert {(row["shift"], row["paired"]) for row in learned.figures["shifts"]} == {
        ("as recorded", "as recorded"),
        *((shift, paired) for shift in SOME for paired in ("both sides", "one side")),
    }
    loaded = verifier_of(system)
    assert loaded.condition is not None
    assert learned.condition is not None
    assert loaded.bounds == pytest.approx(learned.bounds)
    assert loaded.bounds == pytest.approx((-np.log(11), np.log(46)))
    rng = np.random.default_rng(0)
    scores, seconds = rng.normal(size=50), rng.uniform(1, 5, 50)
    conditions = [loaded.condition.low_ + rng.uniform(-20, 20, (50, 6)) for _ in range(2)]
    np.testing.assert_array_equal(
        loaded.llrs(scores, seconds, seconds, *conditions), learned.llrs(scores, seconds, seconds, *conditions)
    )
    encoder = SpeakerEncoder.from_pretrained(system.path, device="cpu")
    files = sorted(voices.rglob("*.flac"))
    usual = encoder.verify(files[0], files[1])
    assert usual.llr is not None
    assert not any("is unlike the recordings" in reason for reason in usual.reasons)
    from xvectors import audio

    wave, rate_hz = audio.read(files[0], sample_rate_hz=16_000)
    by_telephone = SHIFTS["landline"](wave, rate_hz, rng)
    unusual = encoder.verify(by_telephone, files[1], sample_rate_hz=rate_hz)
    assert any("as on a telephone" in reason for reason in unusual.reasons)
    assert any("xvectors calibrate" in reason for reason in unusual.reasons)
