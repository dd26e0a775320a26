"""The config.yaml beside WeSpeaker's models: read as text, applied to the features, and refused where not supported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from support.published import golden, golden_checkpoint
from xvectors.errors import CheckpointError
from xvectors.features.toolkits import WESPEAKER
from xvectors.system.importers import convert
from xvectors.system.importers.plain_yaml import read_settings

BY_HAND = """### train configuration

exp_dir: exp/ReDimNet-fbank24   # where it was trained
gpus: "[0,1]"
dataset_args:
  # a comment
  shuffle: True
  resample_rate: 8000
  fbank_args:
    num_mel_bins: 24
    frame_shift: 10
    frame_length: 20
    dither: 1.0
  spec_aug: False

model: ReDimNet # ReDimNetB0, ReDimNetB1
model_init: null
model_args:
  feat_dim: 24
  pooling_func: 'ASTP'
loss_args: { }
"""
"""In the form of WeSpeaker's recipes."""
DUMPED = """data_list: !!python/tuple
- a: 1
- - 2
  - b: 3
description: a long text that yaml.dump
  wraps, with colon: and all
notes: |
  resample_rate: 1
empty:
lr: 5.0e-05
negative: -3
path: http://host:80/a
stages:
- - - 1
    - 1
  - 3
  key: 4
nested:
  inner:
    deep: 'it is #1'
  after: "on"
last: off
"""
"""In the form of yaml.dump, with all that is passed over."""


def folder(tmp_path: Path, settings: str, name: str = "wespeaker-redimnet-residual") -> Path:
    path = tmp_path / "avg_model.pt"
    torch.save(golden_checkpoint(golden(name)), path)
    (tmp_path / "config.yaml").write_text(settings)
    return path


def test_settings_by_hand(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(BY_HAND)
    assert read_settings(tmp_path / "config.yaml") == {
        "exp_dir": "exp/ReDimNet-fbank24",
        "gpus": "[0,1]",
        "dataset_args": {
            "shuffle": True,
            "resample_rate": 8000,
            "fbank_args": {"num_mel_bins": 24, "frame_shift": 10, "frame_length": 20, "dither": 1.0},
            "spec_aug": False,
        },
        "model": "ReDimNet",
        "model_init": None,
        "model_args": {"feat_dim": 24, "pooling_func": "ASTP"},
        "loss_args": "{ }",
    }


def test_lists_texts_and_tags_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(DUMPED)
    assert read_settings(tmp_path / "config.yaml") == {
        "data_list": "!!python/tuple",
        "description": "a long text that yaml.dump",
        "notes": "|",
        "empty": {},
        "lr": 5e-5,
        "negative": -3,
        "path": "http://host:80/a",
        "stages": {},
        "nested": {"inner": {"deep": "it is #1"}, "after": "on"},
        "last": False,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model: ResNet34\nno setting here\n", r"config\.yaml, line 2: 'no setting here' is no setting"),
        (b"a:\n\tb: 1\n", r"config\.yaml, line 2"),
        (b"a" + b" " * 900_000 + b"b\n", r"config\.yaml, line 1: .* of at most 2,000 characters"),  # read in hours
        (b"a: " + b"9" * 5000, r"config\.yaml, line 1: 'a: 999"),  # more digits than Python reads
        (b"\xff\xfe", r"config\.yaml: is not a readable file of settings"),
        (b"a: 1\n" * (1 << 18), r"config\.yaml: has more than 1 MiB"),
    ],
)
def test_other_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_settings(tmp_path / "config.yaml")


def test_rate_and_frames_come_from_the_settings(tmp_path: Path) -> None:
    found = convert(folder(tmp_path, BY_HAND)).imported.features
    assert found == replace(WESPEAKER, num_mels=24, sample_rate_hz=8000, frame_length_ms=20.0)


def test_published_error_rates_are_those_of_the_toolkits_features(tmp_path: Path) -> None:
    assert convert(folder(tmp_path, "", "wespeaker-ecapa")).imported.figures
    assert not convert(folder(tmp_path, "dataset_args:\n  resample_rate: 8000\n", "wespeaker-ecapa")).imported.figures


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("resample_rate: 8000", "resample_rate: 16000", {"sample_rate_hz": 16_000}),
        ("  spec_aug: False", "  cmvn: False", {"mean_normalization": False}),
        ("  spec_aug: False", "  cmvn_args:\n    norm_mean: no", {"mean_normalization": False}),
        ("dither: 1.0", "window_type: povey", {"window": "povey"}),
        ("frame_shift: 10", "frame_shift: 12.5", {"frame_shift_ms": 12.5}),
        ("model_args:", "dataset_args:\nmodel_args:", {"sample_rate_hz": 16_000, "frame_length_ms": 25.0}),
    ],
)
def test_settings_change_the_features(old: str, new: str, changes: dict[str, Any], tmp_path: Path) -> None:
    found = convert(folder(tmp_path, BY_HAND.replace(old, new))).imported.features
    assert found == replace(WESPEAKER, **{"num_mels": 24, "sample_rate_hz": 8000, "frame_length_ms": 20.0, **changes})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  shuffle: True", "  frontend: s3prl", r"dataset_args\.frontend is 's3prl'; only networks on filterbanks"),
        ("'ASTP'", "MQMHASTP", r"model_args\.pooling_func is 'MQMHASTP'; .*imported with ASTP"),
        ("num_mel_bins: 24", "num_mel_bins: 64", r"num_mel_bins is 64; the network in avg_model\.pt takes 24"),
        ("feat_dim: 24", "feat_dim: 40", r"model_args\.feat_dim is 40; the network in avg_model\.pt takes 24"),
        ("dither: 1.0", "low_freq: 100", r"fbank_args\.low_freq is 100; supported are num_mel_bins"),
        ("dither: 1.0", "window_type: blackman", r"window_type is 'blackman'; it must be one of hamming"),
        ("  spec_aug: False", "  cmvn_args:\n    norm_var: True", r"norm_var is True"),
        ("resample_rate: 8000", "resample_rate: high", r"resample_rate is 'high'; a value of another kind"),
    ],
)
def test_settings_that_are_not_supported_are_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = folder(tmp_path, BY_HAND.replace(old, new))
    with pytest.raises(CheckpointError, match=rf"config\.yaml: .*{message}"):
        convert(path)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("wespeaker-campplus", "TSTP"),
        ("wespeaker-ecapa", "ASTP"),
        ("wespeaker-resnet-18", "TSTP"),
        ("wespeaker-xvector", "TSTP"),
    ],
)
def test_every_family_reads_them(name: str, pooling: str, tmp_path: Path) -> None:
    settings = f"dataset_args:\n  resample_rate: 8000\nmodel_args:\n  pooling_func: {pooling}\n"
    assert convert(folder(tmp_path, settings, name)).imported.features.sample_rate_hz == 8000
    with pytest.raises(CheckpointError, match=r"model_args\.pooling_func is 'MHASTP'"):
        convert(folder(tmp_path, settings.replace(pooling, "MHASTP"), name))
