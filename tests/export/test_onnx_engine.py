"""An exported system in SpeakerEncoder: the same embeddings and errors, what it knows of its system, and no torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from support.tolerances import ROUNDING
from support.voices import spoken
from xvectors import SpeakerEncoder
from xvectors.audio.condition import CONDITION_NAMES, LEAST_SPREAD
from xvectors.backends import PLDA, AffineCalibration, Backend, ConditionCalibration, save_backend
from xvectors.errors import AudioError, CheckpointError, ConfigError, MissingExtraError, MissingFileError, TooShortError
from xvectors.trials import all_pairs
from xvectors.verification import Verifier, cosine_verifier
from xvectors.verification.verifier import IMPORTED, QUALITY_NAMES, duration_quality

onnx = pytest.importorskip("onnx", reason="not installed; pip install 'xvectors[onnx]'")
pytest.importorskip("onnxruntime", reason="not installed; pip install 'xvectors[onnx]'")

from xvectors.encoder.engines.onnx import OnnxDescription, OnnxEngine, sealed  # noqa: E402

RATE = 16_000
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def encoder(exported: dict[str, Any]) -> SpeakerEncoder:
    return SpeakerEncoder.from_pretrained(exported["float32"].path, device="cpu", threads=1)


@pytest.fixture(scope="module")
def path(exported: dict[str, Any]) -> Path:
    return exported["float32"].path


def noises(lengths_s: list[float]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    swings = [np.exp((1 + i % 5) * np.sin(np.arange(round(s * RATE)) / 900)) for i, s in enumerate(lengths_s)]
    return [(0.01 * swing * generator.standard_normal(len(swing))).astype(np.float32) for swing in swings]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_embeddings_do_not_depend_on_batch_or_order(exported: dict[str, Any], precision: str, threads: int) -> None:
    encoder = SpeakerEncoder.from_pretrained(exported[precision].path, device="cpu", threads=threads)
    waves = noises([0.3, 1.0, 0.7, 1.0, 1.1, 0.2, 1.0])
    alone = np.concatenate([encoder.encode(wave) for wave in waves])
    assert alone.shape == (7, 12)
    assert alone.dtype == np.float32
    np.testing.assert_allclose(encoder.encode(waves, batch_size=7), alone, atol=1e-4)
    np.testing.assert_allclose(encoder.encode(waves[::-1], batch_size=2)[::-1], alone, atol=1e-4)
    assert np.abs(alone[0] - alone[1]).max() > 1e-2  # the comparison could fail


FORKED = """
import multiprocessing, sys
import numpy as np
from xvectors import SpeakerEncoder

waves = [np.random.default_rng(0).standard_normal(length).astype(np.float32) for length in (48000, 96000)]
encoder = SpeakerEncoder.from_pretrained(sys.argv[1], device="cpu", threads=3)

def embed(_):
    return encoder.encode(waves)

expected = embed(0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print([bool(np.abs(found - expected).max() < 1e-4) for found in pool.map(embed, range(4))])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_computes_where_its_parent_has(path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FORKED, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "[True, True, True, True]\n"), ended.stderr


def test_more_recordings_than_are_read_ahead_keep_their_order(encoder: SpeakerEncoder) -> None:
    waves = noises([0.2 + 0.01 * (i % 7) for i in range(150)])
    together = encoder.encode(waves)
    for index in (0, 63, 64, 127, 128, 149):
        np.testing.assert_allclose(together[index], encoder.encode(waves[index])[0], atol=1e-4)


def test_a_file_its_bytes_an_array_and_a_tensor_give_one_embedding(
    encoder: SpeakerEncoder, exported: dict[str, Any], tmp_path: Path
) -> None:
    wave, path = noises([1.0])[0], tmp_path / "a.wav"
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    embeddings = encoder.encode([path, str(path), path.read_bytes(), wave, torch.from_numpy(wave)])
    np.testing.assert_allclose(embeddings, np.broadcast_to(embeddings[:1], embeddings.shape), atol=ROUNDING)
    expected = SpeakerEncoder.from_pretrained(exported["folder"].path, device="cpu").encode([path])
    np.testing.assert_allclose(embeddings[:1], expected, atol=1e-4)
    np.testing.assert_allclose(encoder.encode(path), embeddings[:1], atol=ROUNDING)


def test_other_rates_and_channels_come_out_as_with_torch(
    encoder: SpeakerEncoder, exported: dict[str, Any], tmp_path: Path
) -> None:
    t = np.arange(48_000) / 48_000
    wave = sum(np.sin(2 * np.pi * f * t) for f in (200, 900, 2500)).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.wav", np.stack([wave, 0.5 * wave], axis=1), 48_000, subtype="FLOAT")
    theirs = SpeakerEncoder.from_pretrained(exported["folder"].path, device="cpu")
    np.testing.assert_allclose(encoder.encode(tmp_path / "a.wav"), theirs.encode(tmp_path / "a.wav"), atol=1e-4)
    found, expected = (e.encode([wave], sample_rate_hz=48_000) for e in (encoder, theirs))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("recording", "error"),
    [
        (np.zeros(RATE, np.float32), AudioError),
        (np.full(RATE, np.nan, np.float32), AudioError),
        (np.ones(100, np.float32), TooShortError),
        (np.zeros((2, RATE), np.float32), AudioError),
        (np.zeros(RATE, np.int16), AudioError),
        ("nowhere.wav", MissingFileError),
    ],
)
def test_unusable_recordings_give_the_errors_that_torch_gives(
    encoder: SpeakerEncoder, exported: dict[str, Any], recording: Any, error: type[Exception]
) -> None:
    sound = noises([0.5])[0]
    with pytest.raises(error) as expected:
        SpeakerEncoder.from_pretrained(exported["folder"].path, device="cpu").encode([sound, recording])
    with pytest.raises(error, match=re.escape(str(expected.value))) as found:
        encoder.encode([sound, recording])
    assert type(found.value) is type(expected.value)


def test_impossible_settings(encoder: SpeakerEncoder, path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size must be at least 1, not 0"):
        encoder.encode(noises([0.5]), batch_size=0)
    with pytest.raises(ConfigError, match="threads must be at least 1, not 0"):
        SpeakerEncoder.from_pretrained(path, threads=0)
    with pytest.raises(ConfigError, match="device 'mps': this onnxruntime has cpu"):
        SpeakerEncoder.from_pretrained(path, device="mps")
    with pytest.raises(ConfigError, match=r"precision 'bfloat16': .* was exported with its own"):
        SpeakerEncoder.from_pretrained(path, precision="bfloat16")


def test_it_knows_its_system_and_its_calibration(encoder: SpeakerEncoder, exported: dict[str, Any]) -> None:
    engine, verifier = encoder.engine, exported["verifier"]
    assert isinstance(engine, OnnxEngine)
    about = engine.description
    assert (encoder.sample_rate_hz, encoder.embedding_dim, engine.channel) == (16_000, 12, "mix")
    assert engine.samples_needed == about.min_samples == 2640
    assert encoder.fingerprint == exported["float32"].description.fingerprint
    assert set(about.versions) >= {"trained with torch", "exported with xvectors"}
    read: Verifier = encoder.verifier
    assert (read.name, read.p_target, read.speakers) == ("wccn", 0.25, frozenset())
    assert read.figures == {"whole": {"eer": 0.125, "cllr": None}}
    embeddings = encoder.encode(noises([0.5, 1.0, 2.0]))
    trials, seconds = all_pairs(["a", "a", "b"]), np.array([0.5, 1.0, 2.0])
    scores = [v.score(embeddings, trials) for v in (verifier, read)]
    np.testing.assert_array_equal(*scores)
    sides = seconds[trials.enroll], seconds[trials.test]
    np.testing.assert_array_equal(verifier.llrs(scores[0], *sides), read.llrs(scores[1], *sides))


def test_files_that_are_no_exported_system(path: Path, tmp_path: Path) -> None:
    model, path = onnx.load(path), tmp_path / "model.onnx"
    with pytest.raises(CheckpointError, match=r"model\.onnx: no such file; `xvectors export DIR -o .*` writes it"):
        SpeakerEncoder.from_pretrained(path)
    path.write_bytes(b"RIFF")
    with pytest.raises(CheckpointError, match=r"model\.onnx is damaged or not an ONNX file"):
        SpeakerEncoder.from_pretrained(path)
    whole = {entry.key: entry.value for entry in model.metadata_props}

    def with_metadata(change: dict[str, str]) -> Path:
        metadata = whole | change
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, {key: value for key, value in metadata.items() if value})
        path.write_bytes(sealed(model.SerializeToString()))
        return path

    for change, message in (
        ({"xvectors.backend": "no base64"}, r"model\.onnx: damaged metadata \(.*; export it again"),
        ({"xvectors.embedding_dim": "many"}, r"damaged metadata \(ValueError.*many"),
        ({"xvectors.fingerprint": ""}, r"damaged metadata \(KeyError"),
        ({"xvectors.format_version": "99"}, r"format version 99 is not 2; .* export it again"),
        ({"xvectors.format_version": ""}, "not exported by xvectors: its metadata lacks xvectors.format_version"),
    ):
        with pytest.raises(CheckpointError, match=message):
            SpeakerEncoder.from_pretrained(with_metadata(change))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_flipped_byte(path: Path, tmp_path: Path, share: float) -> None:
    """Most of the file is weights: onnxruntime loads them whatever they are."""
    content = bytearray(path.read_bytes())
    content[round(share * len(content))] ^= 0x40
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"model\.onnx.*(was changed after it was exported|is damaged|not exported)"
    ):
        SpeakerEncoder.from_pretrained(tmp_path / "model.onnx")


def test_metadata_survive_the_round_trip(path: Path) -> None:
    about = OnnxEngine(path).description
    again = OnnxDescription.from_metadata(about.to_metadata(None), "here")
    assert not again.verifier.is_calibrated
    assert (again.fingerprint, again.min_samples, again.versions) == (
        about.fingerprint, about.min_samples, about.versions,
    )  # fmt: skip


def test_conditions_and_bounds_are_in_the_metadata(path: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    target = np.arange(200) % 2 == 0
    scores, sides = rng.normal(size=200) + target, [rng.normal(size=(200, 6)) * 9 for _ in range(2)]
    condition = ConditionCalibration(CONDITION_NAMES, LEAST_SPREAD).fit(
        rng.normal(size=(50, 6)), scores, target, *sides
    )
    seconds = np.full(200, 3.0)
    calibration = AffineCalibration().fit(scores, target, duration_quality(seconds, seconds), QUALITY_NAMES)
    verifier = replace(cosine_verifier(), calibration=calibration, condition=condition, bounds=(-2.0, 3.0))
    save_backend(tmp_path / "backend.npz", verifier.backend)
    about = replace(OnnxEngine(path).description, verifier=verifier)
    again = OnnxDescription.from_metadata(about.to_metadata((tmp_path / "backend.npz").read_bytes()), "here").verifier
    assert again.bounds == (-2.0, 3.0)
    np.testing.assert_array_equal(
        again.llrs(scores, seconds, seconds, *sides), verifier.llrs(scores, seconds, seconds, *sides)
    )
    damaged = about.to_metadata((tmp_path / "backend.npz").read_bytes())
    table = json.loads(damaged["xvectors.verifier"])
    table["bounds"]["least_llr"] = 1.0
    with pytest.raises(CheckpointError, match=r"here.*bounds"):
        OnnxDescription.from_metadata({**damaged, "xvectors.verifier": json.dumps(table)}, "here")


def test_a_back_end_without_calibration_is_in_the_metadata(path: Path, tmp_path: Path) -> None:
    scorer = PLDA.from_covariances(np.zeros(3), within=np.eye(3), between=np.diag([4.0, 2.0, 1.0]))
    verifier = Verifier(backend=Backend([], scorer), name=IMPORTED)
    save_backend(tmp_path / "backend.npz", verifier.backend)
    about = replace(OnnxEngine(path).description, verifier=verifier)
    again = OnnxDescription.from_metadata(about.to_metadata((tmp_path / "backend.npz").read_bytes()), "here").verifier
    assert (again.name, again.is_calibrated) == (IMPORTED, False)
    rows = np.random.default_rng(0).standard_normal((4, 3))
    np.testing.assert_array_equal(again.backend.score_matrix(rows, rows), verifier.backend.score_matrix(rows, rows))


def test_without_onnxruntime_the_extra_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"needs onnxruntime; pip install 'xvectors\[onnx\]'"):
        SpeakerEncoder.from_pretrained(path)


WITHOUT_TORCH = """
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Forbidden())
try:
    import torch
except AssertionError:
    print("torch is forbidden")
import numpy
from xvectors import SpeakerEncoder

encoder = SpeakerEncoder.from_pretrained(sys.argv[1], threads=1)
numpy.save(sys.argv[2], encoder.encode(sys.argv[3:]))
print(encoder.verify(*sys.argv[3:5]).llr is not None)
"""


def test_it_runs_where_torch_is_forbidden(encoder: SpeakerEncoder, path: Path, tmp_path: Path) -> None:
    for index, (wave, _) in enumerate(spoken(3, 2)):
        soundfile.write(tmp_path / f"{index}.wav", wave, RATE, subtype="FLOAT")
    paths = [str(tmp_path / f"{index}.wav") for index in (0, 1)]
    command = [sys.executable, "-c", WITHOUT_TORCH, str(path), str(tmp_path / "e.npy"), *paths]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "torch is forbidden\nTrue\n"), result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "e.npy"), encoder.encode(paths), atol=ROUNDING)


@pytest.mark.slow
def test_the_ten_lines_of_the_documentation_run_without_torch(
    encoder: SpeakerEncoder, path: Path, tmp_path: Path
) -> None:
    """In an environment of their own that holds onnxruntime, numpy and soundfile alone."""
    code = re.search(
        r"```python\n(import.*?)```", (ROOT / "docs" / "how-to" / "export.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert code is not None
    assert len([line for line in code[1].splitlines() if line.strip()]) <= 12
    (tmp_path / "lines.py").write_text(code[1], encoding="utf-8")
    (tmp_path / "model.onnx").write_bytes(path.read_bytes())
    waves = noises([1.0, 2.0])
    for name, wave in zip("ab", waves, strict=True):
        soundfile.write(tmp_path / f"{name}.wav", wave, RATE, subtype="FLOAT")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = ["install", "-q", "-c", ROOT / "constraints.txt", "onnxruntime", "numpy", "soundfile"]
    subprocess.run([python, "-m", "pip", *install], check=True)
    settings = {"env": {"PATH": os.environ["PATH"]}, "cwd": tmp_path, "capture_output": True}
    assert subprocess.run([python, "-c", "import torch"], check=False, **settings).returncode != 0
    assert subprocess.run([python, "-c", "import xvectors"], check=False, **settings).returncode != 0
    done = subprocess.run([python, "lines.py"], text=True, check=True, **settings)
    a, b = encoder.encode(waves)
    assert float(done.stdout) == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-4)
