"""Exported files beside their systems: every network, every length, both precisions, and what the files say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xvectors import SpeakerEncoder
from xvectors.backends import all_pairs_scores
from xvectors.config import FeaturesConfig
from xvectors.corpus import open_corpus
from xvectors.errors import CheckpointError, ExportError, MissingExtraError, StorageError
from xvectors.features.toolkits import KALDI_SRE16, REDIMNET
from xvectors.metrics import eer
from xvectors.models import MODELS
from xvectors.system import SystemFolder
from xvectors.verification import fingerprint_of

onnx = pytest.importorskip("onnx", reason="not installed; pip install 'xvectors[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="not installed; pip install 'xvectors[onnx]'")
pytest.importorskip("onnxscript", reason="not installed; pip install 'xvectors[onnx]'")

from xvectors.export import OPSET, check_onnx, checking, export_onnx, onnx_file  # noqa: E402

RATE = 16_000


def noises(lengths_s: list[float], seed: int = 3) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    swings = [np.exp(np.sin(np.arange(round(s * RATE)) / (900 + 400 * i))) for i, s in enumerate(lengths_s)]
    return [(0.02 * swing * generator.standard_normal(len(swing))).astype(np.float32) for swing in swings]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MODELS))
def test_every_network_exports_and_computes_the_same(
    name: str, small_system: Callable[..., SystemFolder], tmp_path: Path
) -> None:
    folder = small_system(tmp_path / "system", name, "features.mean_normalization=true")
    exported = export_onnx(folder.path, tmp_path / "model.onnx")
    assert max(difference.largest for difference in exported.differences) <= 1e-4
    encoder, onnx_encoder = (
        SpeakerEncoder.from_pretrained(path, device="cpu") for path in (folder.path, exported.path)
    )
    shortest = exported.description.min_samples / RATE
    waves = noises([shortest, 0.5, 1.0, 1.0, 2.3, 30.0])
    expected, found = encoder.encode(waves), onnx_encoder.encode(waves)
    scale = max(1.0, np.abs(expected).max())
    assert np.ptp(expected, axis=0).max() >= 0.05 * scale  # recordings are told apart, so the comparison could fail
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("features", [KALDI_SRE16, REDIMNET])
def test_features_that_mirror_the_recording_export(
    features: FeaturesConfig, small_system: Callable[..., SystemFolder], tmp_path: Path
) -> None:
    defaults = asdict(FeaturesConfig())
    changed = {key: value for key, value in asdict(features).items() if value != defaults[key]}
    settings = [f"features.{key}={json.dumps(value)}" for key, value in changed.items()]
    folder = small_system(tmp_path / "system", "xvector", *settings)
    exported = export_onnx(folder.path, tmp_path / "model.onnx")
    assert max(difference.largest for difference in exported.differences) <= 1e-4


def test_the_graph_takes_waveforms_of_any_length_and_number(exported: dict[str, Any]) -> None:
    model = onnx.load(exported["float32"].path)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import if entry.domain == ""] == [("", OPSET)]
    session = onnxruntime.InferenceSession(exported["float32"].path, providers=["CPUExecutionProvider"])
    (waveform,), (embedding,) = session.get_inputs(), session.get_outputs()
    assert (waveform.name, waveform.type) == ("waveform", "tensor(float)")
    assert (embedding.name, embedding.type) == ("embedding", "tensor(float)")
    assert [isinstance(size, str) for size in waveform.shape] == [True, True]
    assert embedding.shape[1] == 12
    for batch, samples in ((1, 4000), (3, 4001), (2, 40_000)):
        wave = np.stack(noises([samples / RATE] * batch))
        assert session.run(None, {"waveform": wave})[0].shape == (batch, 12)


def test_the_smallest_network_equals_torch_at_every_length(exported: dict[str, Any]) -> None:
    encoder = SpeakerEncoder.from_pretrained(exported["folder"].path, device="cpu")
    shortest = exported["float32"].description.min_samples / RATE
    waves = noises([shortest, 0.5, 1.0, 1.0, 2.3, 30.0])
    found = SpeakerEncoder.from_pretrained(exported["float32"].path, device="cpu", threads=1).encode(waves)
    np.testing.assert_allclose(found, encoder.encode(waves), atol=1e-4)


def test_int8_is_smaller_and_near(exported: dict[str, Any]) -> None:
    sizes = [exported[precision].size_bytes for precision in ("int8", "float32")]
    assert sizes[0] < 0.55 * sizes[1]  # the features' tables stay float32
    encoder, quantized = (
        SpeakerEncoder.from_pretrained(exported[key].path, device="cpu") for key in ("folder", "int8")
    )
    assert exported["int8"].description.precision == "int8"
    waves = noises([0.5, 1.0, 4.0])
    for expected, found in zip(encoder.encode(waves), quantized.encode(waves), strict=True):
        assert found @ expected >= 0.99 * np.linalg.norm(found) * np.linalg.norm(expected)
        assert np.abs(found - expected).max() > 1e-4  # else nothing was quantized


def test_the_file_says_what_it_is_and_names_no_speaker(exported: dict[str, Any]) -> None:

    model = onnx.load(exported["float32"].path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["xvectors.sample_rate_hz"] == "16000"
    assert metadata["xvectors.embedding_dim"] == "12"
    assert metadata["xvectors.fingerprint"] == fingerprint_of(exported["folder"])
    assert metadata["xvectors.precision"] == "float32"
    assert json.loads(metadata["xvectors.verifier"])["decision"] == {"p_target": 0.25}
    content = exported["float32"].path.read_bytes()
    assert b"ann" not in metadata["xvectors.verifier"].encode()
    assert str(exported["folder"].path).encode() not in content
    # nothing of the machine that exported it either: no stack traces with paths of source files
    assert b".py" not in content


@pytest.mark.usefixtures("built_before")
def test_a_system_without_a_calibration_has_cosines(small_system: Callable[..., SystemFolder], tmp_path: Path) -> None:
    folder = small_system(tmp_path / "system", "xvector", "model.size=0.25")
    exported = export_onnx(folder.path, tmp_path / "model.onnx")
    assert not SpeakerEncoder.from_pretrained(exported.path, device="cpu").verifier.is_calibrated
    assert SpeakerEncoder.from_pretrained(exported.path, device="cpu").verifier.name == "cosine"


def test_check_compares_named_recordings(
    exported: dict[str, Any], small_system: Callable[..., SystemFolder], tmp_path: Path
) -> None:
    wave = noises([1.0])[0]
    (difference,) = check_onnx(exported["folder"].path, exported["float32"].path, {"noise": wave})
    assert difference.name == "noise"
    assert difference.largest <= 1e-4
    assert difference.cosine == pytest.approx(1.0, abs=1e-6)
    other = small_system(tmp_path / "other", "xvector")
    with pytest.raises(ExportError, match="was exported from another system than"):
        check_onnx(other.path, exported["float32"].path, {"noise": wave})


@pytest.mark.usefixtures("built_before")
def test_a_file_that_computes_something_else_is_not_written(
    exported: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"what stood there")
    monkeypatch.setattr(onnx_file, "TOLERANCE", 1e-12)
    with pytest.raises(ExportError, match=r"model\.onnx: the embedding of .* differs by .* from torch's, more than"):
        export_onnx(exported["folder"].path, target)
    monkeypatch.setattr(onnx_file, "MIN_COSINE", 1.1)
    with pytest.raises(ExportError, match="this network is not fit for int8, export it without"):
        export_onnx(exported["folder"].path, target, int8=True)
    assert target.read_bytes() == b"what stood there"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.usefixtures("built_before")
def test_what_cannot_be_exported(exported: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        export_onnx(tmp_path / "none", tmp_path / "model.onnx")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        export_onnx(exported["folder"].path, tmp_path / "file" / "model.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"exporting needs onnxscript; pip install 'xvectors\[onnx\]'"):
        export_onnx(exported["folder"].path, tmp_path / "model.onnx")


def test_a_difference_is_a_share_of_large_values() -> None:
    ours, theirs = np.array([2.0, -4.0], np.float32), np.array([2.0, -3.0], np.float32)
    difference = checking.difference_of("a", ours, theirs)
    assert difference.largest == 0.25
    assert difference.cosine == pytest.approx(16 / (20 * 13) ** 0.5)
    assert checking.difference_of("a", ours / 4, theirs / 4).largest == 0.25


@pytest.mark.slow
@pytest.mark.real
def test_the_starter_on_real_recordings_of_half_a_second_to_thirty(speechocean: Path, tmp_path: Path) -> None:
    """Also what int8 costs: on 40 of the speakers, all of whom the starter knows, hardly anything."""
    from xvectors import audio

    exported = export_onnx("starter", tmp_path / "model.onnx")
    quantized = export_onnx("starter", tmp_path / "int8.onnx", int8=True)
    manifest = open_corpus(speechocean)
    voice = np.concatenate([audio.read(manifest.full_path(row))[0] for row in range(12)])
    assert len(voice) > 30 * RATE
    waves = [voice[: round(s * RATE)] for s in (0.5, 1.0, 2.0, 3.7, 10.0, 30.0)]
    encoder = SpeakerEncoder.from_pretrained(device="cpu")
    found, expected = SpeakerEncoder.from_pretrained(exported.path, device="cpu").encode(waves), encoder.encode(waves)
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)  # about 30
    np.testing.assert_allclose(found / lengths, expected / lengths, atol=2e-5)
    some = manifest.take(np.arange(0, 800, 2))
    paths = [some.full_path(row) for row in range(len(some))]
    encoders = [encoder, *(SpeakerEncoder.from_pretrained(file.path, device="cpu") for file in (exported, quantized))]
    rates = [eer(*all_pairs_scores(e.encode(paths), some.speaker_index)).eer for e in encoders]
    assert abs(rates[1] - rates[0]) < 1e-3
    assert abs(rates[2] - rates[0]) < 5e-3
