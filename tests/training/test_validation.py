"""Validation, the EER on held-out speakers, and the choice of the epoch to keep."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import soundfile

import xvectors.training.loop as loop
from support.training import small
from xvectors.backends import all_pairs_scores
from xvectors.corpus import Manifest
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import ConfigError
from xvectors.metrics import eer
from xvectors.system import SystemFolder
from xvectors.system.serialization import read_description
from xvectors.training import train

HELD_OUT = ("data.held_out_prop=0.25", "data.train_test_prop=1.0")


def test_the_error_rate_of_held_out_speakers_is_that_of_the_kept_weights(toy_corpus: Path, tmp_path: Path) -> None:
    result = train(toy_corpus, tmp_path / "s", small(*HELD_OUT, "training.best=last"))
    description = read_description(SystemFolder(tmp_path / "s"))
    corpus = Manifest.read_csv(tmp_path / "s" / "corpus.csv")
    speakers = np.array(corpus.speakers)[corpus.speaker_index]
    held_out = sorted(set(speakers) - set(description.speakers))
    assert len(held_out) == 3
    assert result.num_speakers == 7
    rows = np.flatnonzero(np.isin(speakers, held_out))
    encoder = SpeakerEncoder.from_pretrained(tmp_path / "s")
    waves = [soundfile.read(corpus.full_path(row), dtype="float32")[0] for row in rows.tolist()]
    centers = [np.resize(w, 12_800) if len(w) < 12_800 else w[(len(w) - 12_800) // 2 :][:12_800] for w in waves]
    target, nontarget = all_pairs_scores(encoder.encode(centers), corpus.speaker_index[rows])
    assert result.epochs[-1].val_eer == pytest.approx(eer(target, nontarget).eer, abs=0.02)
    assert f", EER: {result.epochs[-1].val_eer:.2%}" in str(result.epochs[-1])


def test_the_best_held_out_error_rate_decides(toy_corpus: Path, tmp_path: Path) -> None:
    result = train(toy_corpus, tmp_path / "s", small(*HELD_OUT, "training.best=val_eer"))
    best = min(result.epochs, key=lambda epoch: (epoch.val_eer, epoch.val_loss))
    assert result.best_epoch == best.epoch
    with pytest.raises(
        ConfigError, match=r"training\.best = 'val_eer' needs two held-out speakers.*data\.held_out_prop"
    ):
        train(toy_corpus, tmp_path / "none", small("training.best=val_eer"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("error_rates", "best"), [([0.2, 0.1, 0.3], 2), ([0.1, math.nan, 0.1], 3)])
def test_the_best_held_out_error_rate_decides_without_validation(
    error_rates: list[float],
    best: int,
    toy_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Among equal rates the newest epoch wins."""
    left = iter(error_rates)
    monkeypatch.setattr(loop, "held_out_eer", lambda *given: next(left))
    recipe = small(*HELD_OUT, "data.train_val_prop=1.0", "training.best=val_eer")
    result = train(toy_corpus, tmp_path / "s", recipe, calibrate=False)
    assert [epoch.val_loss for epoch in result.epochs] == pytest.approx([math.nan] * 3, nan_ok=True)
    assert result.best_epoch == best
    with safetensors.safe_open(tmp_path / "s" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"epoch": str(best)}
    assert "the weights with the lowest held-out error rate will be kept" in caplog.text


def test_speakers_with_one_recording_train_without_validation(
    toy_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for s in range(10):
        target = tmp_path / "corpus" / f"s{s:02d}" / "u.flac"
        target.parent.mkdir(parents=True)
        target.write_bytes((toy_corpus / f"s{s:02d}" / "u5.flac").read_bytes())
    result = train(
        tmp_path / "corpus",
        tmp_path / "s",
        small("data.train_test_prop=1.0"),
        device="cpu",
    )
    assert "no speaker has recordings to validate on" in caplog.text
    assert "not calibrated, the system scores by cosine: " in caplog.text
    assert not result.folder.calibration.exists()
    assert math.isnan(result.epochs[-1].val_loss)
    assert result.best_epoch == 3
    assert result.lines() == [str(epoch) for epoch in result.epochs]
