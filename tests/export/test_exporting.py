"""The command `export`, as a user types it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from support.commands import run
from xvectors import SpeakerEncoder

pytest.importorskip("onnx", reason="not installed; pip install 'xvectors[onnx]'")
pytest.importorskip("onnxruntime", reason="not installed; pip install 'xvectors[onnx]'")


@pytest.mark.usefixtures("built_before")
def test_export_writes_the_file_and_says_how_near_it_comes(exported: dict[str, Any], tmp_path: Path) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal(20_000)
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    target = tmp_path / "out" / "model.onnx"
    printed, _ = run("export", exported["folder"].path, "-o", target, "--check", tmp_path / "a.wav")
    lines = printed.splitlines()
    assert re.match(
        rf"{target}: float32, [\d.]+ MB, opset 23; waveform \[batch, samples\] at 16000 Hz, at least", lines[0]
    )
    assert len(lines) == 5
    as_json = json.loads(run("export", exported["folder"].path, "-o", target, "--json").stdout)
    assert (as_json["path"], as_json["precision"], as_json["embedding_dim"]) == (str(target), "float32", 12)
    assert len(as_json["differences"]) == 3
    assert all(each["largest"] <= 1e-4 for each in as_json["differences"])
    assert re.fullmatch(r"  .*a\.wav: differs by \d\.\de-\d\d from torch, cosine 1\.000000", lines[4])
    assert SpeakerEncoder.from_pretrained(target, device="cpu").embedding_dim == 12


@pytest.mark.usefixtures("built_before")
def test_a_mistake_is_one_line(exported: dict[str, Any], tmp_path: Path) -> None:
    error = run("export", tmp_path / "none", "-o", tmp_path / "model.onnx", status=2).stderr
    assert len(error.splitlines()) == 1
    assert "no such folder" in error
    error = run(
        "export", exported["folder"].path, "-o", tmp_path / "m.onnx", "--check", tmp_path / "none.wav", status=2
    ).stderr
    assert len(error.splitlines()) == 1
    assert "none.wav: no such file" in error
