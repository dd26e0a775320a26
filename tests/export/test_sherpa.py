"""A file for sherpa-onnx, run by sherpa-onnx."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from support.commands import run
from support.onnx_networks import copy_of
from xvectors import SpeakerEncoder
from xvectors.config.schema import FeaturesConfig
from xvectors.errors import ExportError
from xvectors.export import export_for_sherpa, sherpa
from xvectors.export.graph import EmbeddingGraph
from xvectors.export.sherpa import sherpa_features, what_differs
from xvectors.system import SystemFolder

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package, reason="not installed; pip install 'xvectors[onnx]'")
sherpa_onnx = pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed: it has no wheel here")

MakeSystem = Callable[..., SystemFolder]
ITS_FEATURES = (
    "features.num_mels=80",
    "features.snip_edges=false",
    "features.high_frequency_hz=-400",
    "features.mean_normalization=true",
    "features.normalize_level=false",
)


@pytest.fixture(autouse=True)
def exported_before(monkeypatch: pytest.MonkeyPatch, graphs: dict[str, Any]) -> None:
    """Exports of the x-vector's network, which is the same in these tests, take the graph of the first one."""
    export_graph = sherpa.export_graph

    def export(graph: EmbeddingGraph, *given: Any, **more: Any) -> Any:
        name = type(graph.model).__name__
        if name not in graphs:
            graphs[name] = export_graph(graph, *given, **more)
        return copy_of(graphs[name])

    monkeypatch.setattr(sherpa, "export_graph", export)


@pytest.fixture(scope="module")
def graphs() -> dict[str, Any]:
    """Graphs by network."""
    return {}


def buzz(seconds: float, rate_hz: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = np.sign(np.sin(2 * np.pi * 140 * time + np.sin(9 * time))) + 0.2 * rng.standard_normal(len(time))
    return (0.1 * wave * (1.2 + np.sin(11 * time))).astype(np.float32)


def embedded_there(path: Path, samples: np.ndarray, rate_hz: int) -> np.ndarray:
    config = sherpa_onnx.SpeakerEmbeddingExtractorConfig(model=str(path), num_threads=1)
    assert config.validate()
    extractor = sherpa_onnx.SpeakerEmbeddingExtractor(config)
    stream = extractor.create_stream()
    stream.accept_waveform(sample_rate=rate_hz, waveform=samples)
    stream.input_finished()
    assert extractor.is_ready(stream)
    found = np.array(extractor.compute(stream), dtype=np.float32)
    assert found.shape == (extractor.dim,)
    return found


@pytest.mark.parametrize(
    ("name", "settings", "rate_hz"),
    [
        ("xvector", ITS_FEATURES, 16_000),
        ("xvector", (*ITS_FEATURES, "features.sample_rate_hz=8000", "features.sample_scale=32768"), 8_000),
        ("xvector", (*ITS_FEATURES, "features.mean_normalization=false"), 16_000),
        pytest.param("campplus", ITS_FEATURES, 16_000, marks=pytest.mark.slow),
    ],
)
def test_sherpa_onnx_computes_our_embeddings(
    small_system: MakeSystem, tmp_path: Path, name: str, settings: tuple[str, ...], rate_hz: int
) -> None:
    folder = small_system(tmp_path / "system", name, *settings)
    exported = export_for_sherpa(folder.path, tmp_path / "model.onnx")
    assert (exported.different, exported.embedding_dim, exported.sample_rate_hz) == ((), 12, rate_hz)
    assert all(each.largest < 1e-4 for each in (*exported.graph, *exported.costs))
    encoder = SpeakerEncoder.from_pretrained(folder.path, device="cpu")
    for seconds in (0.8, 2.013):
        samples = buzz(seconds, rate_hz)
        (ours,) = encoder.encode([samples], trim_silence=None)
        theirs = embedded_there(exported.path, samples, rate_hz)
        assert np.abs(ours).max() > 0.1
        np.testing.assert_allclose(theirs, ours, atol=1e-3 * max(1.0, float(np.abs(ours).max())))


def test_what_other_features_cost(small_system: MakeSystem, tmp_path: Path) -> None:
    """The command names them and measures; sherpa-onnx computes what it was said to compute."""
    folder = small_system(tmp_path / "system", "xvector", "features.num_mels=80", "features.mean_normalization=true")
    soundfile.write(tmp_path / "a.wav", buzz(2.0, 16_000), 16_000, subtype="FLOAT")
    path = tmp_path / "model.onnx"
    arguments = ("export", folder.path, "-o", path, "--for", "sherpa-onnx", "--check", tmp_path / "a.wav")
    lines = run(*arguments).stdout.splitlines()
    assert lines[0].startswith(f"{path}: for sherpa-onnx, ")
    assert lines[1] == (
        "sherpa-onnx computes other features than the system was trained on: snip_edges true, not false; "
        "high_frequency_hz 8000, not 7600; normalize_level true, not false"
    )
    assert [line.split(": the embedding there has a cosine of ")[0] for line in lines[2:]] == [
        "  0.50 s of noise", "  3.00 s of noise", "  10.00 s of noise", f"  {tmp_path / 'a.wav'}"
    ]  # fmt: skip
    found = json.loads(run(*arguments, "--json").stdout)
    assert len(found["different"]) == 3
    cost = found["costs"][-1]["cosine"]
    assert cost < 0.9999
    (ours,) = SpeakerEncoder.from_pretrained(folder.path, device="cpu").encode([tmp_path / "a.wav"], trim_silence=None)
    theirs = embedded_there(path, buzz(2.0, 16_000), 16_000)
    assert ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) == pytest.approx(cost, abs=1e-3)


def test_settings_without_effect_do_not_count() -> None:
    its = sherpa_features(FeaturesConfig(mean_normalization=True))
    assert what_differs(its) == ()
    assert what_differs(FeaturesConfig(num_mels=80, snip_edges=False, high_frequency_hz=7600.0, normalize_level=False,
                                       level_increase_only=True, cepstral_lifter=0.0)) == ()  # fmt: skip
    assert what_differs(FeaturesConfig(num_mels=80, center_padding="zeros", window="hamming", high_frequency_hz=7600.0,
                                       normalize_level=False)) == (
        "window hamming, not povey", "snip_edges true, not false", "center_padding zeros, not none",
    )  # fmt: skip


def test_systems_that_it_cannot_run(small_system: MakeSystem, tmp_path: Path) -> None:
    folder = small_system(tmp_path / "system", "xvector", "features.num_mels=40")
    with pytest.raises(ExportError, match=r"the system takes 40 filterbanks; train one with features\.num_mels=80"):
        export_for_sherpa(folder.path, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
    for options, remedy in (
        (("--for", "coreml"), "write --for sherpa-onnx, or leave it out"),
        (("--for", "sherpa-onnx", "--int8"), "leave --int8 out"),
    ):
        error = run("export", folder.path, "-o", tmp_path / "m.onnx", *options, status=2).stderr
        assert remedy in error
