"""What a training command says to settings and corpora that cannot work: one line, exit status 2, nothing written."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from xvectors.cli import main
from xvectors.config import load_recipe
from xvectors.training import train

QUICK = (
    "model.channels=4",
    "model.embedding_dim=16",
    "features.num_mels=20",
    "training.epochs=1",
    "training.workers=0",
    "training.precision=float32",
    "data.chunk_min_s=0.5",
    "data.chunk_max_s=0.6",
    "data.validation_chunk_s=0.6",
)


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """The error line of `xvectors train` with these arguments."""
    settings = [part for setting in QUICK for part in ("--set", setting)]
    monkeypatch.setattr("sys.argv", ["xvectors", "train", "--quiet", *settings, *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    return lines[-1]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.name=resnet", "unknown model 'resnet'; did you mean 'resnet34'?"),
        ("loss.margin=-0.1", "loss.margin = -0.1 must be between 0 and 1.57079632679"),
        ("loss.margin=1.6", "loss.margin = 1.6 must be between 0 and 1.57079632679"),
        ("loss.large_margin=2", "loss.large_margin = 2.0 must be between 0 and 1.57079632679"),
        ("loss={name='am_softmax', large_margin=1.2}", "loss.large_margin = 1.2 must be at least 0 and below 1 with"),
        ("training.minutes=-1", "training.minutes = -1.0 must be at least 0"),
        ("training.average_width=0.5", "training.average_width = 0.5 must be between 0 and 0.28"),
        ("data.held_out_prop=1", "data.held_out_prop = 1.0 must be at least 0 and below 1"),
        ("data.sampler=pxk", "data.sampler = 'pxk' is not known; did you mean 'p_x_k'?"),
    ],
)
def test_settings(
    setting: str,
    message: str,
    toy_corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = said(capsys, monkeypatch, str(toy_corpus), "-o", str(tmp_path / "s"), "--set", setting)
    assert message in line
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("recipe", ["xvector", "lab"])
def test_a_noise_folder_that_the_recipe_does_not_use(
    recipe: str, toy_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("--recipe", recipe, "--set", "model.name=thin_resnet", "--set", f"augment.noise_folder={tmp_path}")
    line = said(capsys, monkeypatch, str(toy_corpus), "-o", str(tmp_path / "s"), *settings)
    assert "has no effect while augment.noise_prob = 0; set augment.noise_prob" in line
    assert not (tmp_path / "s").exists()


def test_an_empty_noise_folder(
    toy_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noise").mkdir()
    folder = f"augment.noise_folder={tmp_path / 'noise'}"
    line = said(capsys, monkeypatch, str(toy_corpus), "-o", str(tmp_path / "s"), "--set", folder)
    assert "holds no recordings; fill it, or leave the setting empty" in line


def test_one_speaker_only(
    toy_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(toy_corpus / "s00", tmp_path / "corpus" / "s00")
    line = said(capsys, monkeypatch, str(tmp_path / "corpus"), "-o", str(tmp_path / "s"))
    assert "1 of 1 speakers for training" in line
    assert not (tmp_path / "s").exists()


def test_noise_at_another_rate_is_resampled(toy_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    hiss = np.random.default_rng(0).standard_normal(44_100).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "noise" / "hiss.wav", hiss, 44_100)
    recipe = load_recipe("resnet", [*QUICK, f"augment.noise_folder={tmp_path / 'noise'}", "augment.noise_prob=1"])
    result = train(toy_corpus, tmp_path / "s", recipe)
    assert len(result.epochs) == 1
    assert not result.unreadable


def test_fewer_utterances_than_the_batch_make_one_batch_of_them_all(toy_corpus: Path, tmp_path: Path) -> None:
    recipe = load_recipe("resnet", [*QUICK, "training.batch_size=1000", "data.held_out_prop=0"])
    result = train(toy_corpus, tmp_path / "s", recipe)
    with (tmp_path / "s" / "corpus.csv").open() as file:
        trained = sum(row["split"] == "train" for row in csv.DictReader(file))
    assert trained < 1000
    assert len(result.epochs) == 1
    assert np.isfinite(result.epochs[0].train_loss)
