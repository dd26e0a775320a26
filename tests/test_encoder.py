from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from xvectors.config import load_recipe
from xvectors.corpus import Manifest, open_corpus
from xvectors.encoder import SpeakerEncoder, _batches, save_embeddings
from xvectors.errors import AudioError, CheckpointError, ConfigError, TooShortError
from xvectors.system import SystemFolder, make_model, write_description, write_weights

RATE = 16_000


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network with random BatchNorm statistics, saved as a system."""
    folder = SystemFolder(tmp_path_factory.mktemp("system") / "s")
    recipe = load_recipe("xvector", ["model.size=0.25", "model.embedding_dim=48"])
    torch.manual_seed(1)
    model = make_model(recipe, 5)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5)
    write_description(folder, recipe, [f"s{i}" for i in range(5)])
    write_weights(folder, model.state_dict(), 1)
    return folder.path


@pytest.fixture(scope="module")
def encoder(system: Path) -> SpeakerEncoder:
    return SpeakerEncoder.load(system, device="cpu")


def noises(lengths_s: list[float]) -> list[np.ndarray]:
    """Noise whose loudness swings more and quicker from one to the next: mean normalisation takes none of that away."""
    generator = np.random.default_rng(0)
    waves = []
    for i, duration_s in enumerate(lengths_s):
        t = np.arange(round(duration_s * RATE)) / RATE
        swing = np.exp(i * np.sin(2 * np.pi * (2 + i) * t))
        waves.append((swing * generator.normal(0, 0.01, len(t))).astype(np.float32))
    return waves


def test_embeddings_do_not_depend_on_batch_or_order(encoder: SpeakerEncoder) -> None:
    waves = noises([0.3, 2.0, 0.7, 5.0, 1.1, 0.2, 3.0])
    alone = np.concatenate([encoder.encode(wave) for wave in waves])
    together = encoder.encode(waves, batch_size=7)
    backwards = encoder.encode(waves[::-1], batch_size=3)[::-1]
    assert alone.shape == (7, 48)
    assert alone.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(backwards, alone, atol=1e-4)
    assert np.abs(alone[0] - alone[1]).max() > 1e-2  # the comparison could fail


def test_a_file_an_array_and_a_tensor_give_one_embedding(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    wave = noises([1.0])[0]
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    embeddings = encoder.encode([tmp_path / "a.wav", str(tmp_path / "a.wav"), wave, torch.from_numpy(wave)])
    np.testing.assert_allclose(embeddings, np.broadcast_to(embeddings[:1], embeddings.shape), atol=1e-5)


def test_other_rates_are_resampled(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    t = np.arange(2 * 48_000) / 48_000
    wave = sum(np.sin(2 * np.pi * f * t) for f in (200, 900, 2500)).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.wav", wave, 48_000, subtype="FLOAT")
    from_file, from_array = (
        encoder.encode([tmp_path / "a.wav"]),
        encoder.encode([wave], sample_rate_hz=48_000),
    )
    np.testing.assert_allclose(from_file, from_array, atol=1e-4)


def test_saved_and_loaded_is_the_same(encoder: SpeakerEncoder, system: Path) -> None:
    wave = noises([1.0])[0]
    np.testing.assert_array_equal(SpeakerEncoder.load(system, device="cpu").encode(wave), encoder.encode(wave))


@pytest.mark.parametrize(
    ("recording", "error", "message"),
    [
        (np.zeros(RATE, np.float32), AudioError, "recording 0: only zeros"),
        (np.full(RATE, np.nan, np.float32), AudioError, "recording 0: samples that are NaN or infinite"),
        (
            np.ones(100, np.float32),
            TooShortError,
            "recording 0: 0.006 s of audio are less than the 0.165 s",
        ),
        (
            np.ones(1600, np.float32),
            TooShortError,
            "0.100 s of audio are less than the 0.165 s",
        ),
        (
            np.zeros((2, RATE), np.float32),
            AudioError,
            r"one-dimensional floats in \[-1, 1\], not float32 \[2, 16000\]",
        ),
        (np.zeros(RATE, np.int16), AudioError, "not int16"),
        ("nowhere.wav", AudioError, "nowhere.wav"),
    ],
)
def test_unusable_recordings(encoder: SpeakerEncoder, recording: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        encoder.encode([recording])


def test_a_manifest_lists_what_it_leaves_out(encoder: SpeakerEncoder, toy_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    rows = [
        {"path": str(toy_corpus / "s01" / f"u{u}.flac"), "speaker": "s01", "gender": "f", "age": 30} for u in (1, 2)
    ]
    rows.insert(1, {"path": str(tmp_path / "bad.wav"), "speaker": "s02"})
    rows.insert(0, {"path": str(tmp_path / "silent.wav"), "speaker": "s02"})
    manifest = Manifest.from_rows(rows, root=tmp_path)
    embedded = encoder.encode_manifest(manifest)
    assert embedded.rows.tolist() == [1, 3]
    assert [row for row, _ in embedded.failures] == [0, 2]
    assert "silent.wav: only zeros" in embedded.failures[0][1]
    assert "bad.wav" in embedded.failures[1][1]
    np.testing.assert_allclose(
        embedded.embeddings, encoder.encode([manifest.full_path(1), manifest.full_path(3)]), atol=1e-5
    )
    save_embeddings(tmp_path / "emb.npz", manifest, embedded)
    with np.load(tmp_path / "emb.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["embeddings"], embedded.embeddings)
        assert arrays["speaker"].tolist() == ["s01", "s01"]
        assert arrays["gender"].tolist() == [1, 1]
        assert arrays["path"].tolist() == [str(manifest.full_path(1)), str(manifest.full_path(3))]


def test_segments_of_one_file(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    wave = noises([4.0])[0]
    soundfile.write(tmp_path / "long.wav", wave, RATE, subtype="FLOAT")
    rows = [
        {"path": "long.wav", "speaker": "a", "start_s": start, "duration_s": 1.5, "id": f"part{start}"}
        for start in (0.5, 2.0)
    ]
    embedded = encoder.encode_manifest(Manifest.from_rows(rows, root=tmp_path))
    expected = encoder.encode([wave[RATE // 2 : 2 * RATE], wave[2 * RATE : round(3.5 * RATE)]])
    np.testing.assert_allclose(embedded.embeddings, expected, atol=1e-5)


def test_a_stated_duration_alone_is_no_segment(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    wave = noises([1.0, 3.0])[1]
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    manifest = Manifest.from_rows([{"path": "a.wav", "speaker": "a", "duration_s": 1.0}], root=tmp_path)
    np.testing.assert_allclose(encoder.encode_manifest(manifest).embeddings, encoder.encode([wave]), atol=1e-5)


def test_batches_are_bounded_by_their_padded_length() -> None:
    lengths = [10, 20, 1_000_000, 2_000_000, 3_000_000, 9_000_000]
    assert list(_batches(list("abcdef"), lengths, 4)) == [["a", "b", "c"], ["d"], ["e"], ["f"]]
    assert list(_batches([1, 2, 3, 4, 5], [1] * 5, 2)) == [[1, 2], [3, 4], [5]]


def test_an_embedding_that_is_not_finite_fails_by_name(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    wave = noises([1.0, 1.0])[1]
    soundfile.write(tmp_path / "huge.wav", wave.astype(np.float64) * 1e25, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "sound.wav", wave, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"huge\.wav: its embedding is not finite"):
        encoder.encode([tmp_path / "huge.wav"])
    rows = [{"path": f"{name}.wav", "speaker": "a"} for name in ("huge", "sound")]
    embedded = encoder.encode_manifest(Manifest.from_rows(rows, root=tmp_path))
    assert embedded.rows.tolist() == [1]
    assert np.isfinite(embedded.embeddings).all()


def test_batch_size_must_be_positive(encoder: SpeakerEncoder) -> None:
    with pytest.raises(ConfigError, match="batch_size must be at least 1, not 0"):
        encoder.encode(noises([1.0]), batch_size=0)


def test_damaged_systems(system: Path, tmp_path: Path, toy_corpus: Path) -> None:
    def broken_copy(name: str, change) -> Path:
        copy = tmp_path / name
        copy.mkdir()
        for source in system.iterdir():
            (copy / source.name).write_bytes(source.read_bytes())
        change(copy)
        return copy

    def rewrite(file: str, old: str, new: str):
        def change(folder: Path) -> None:
            text = (folder / file).read_text()
            assert old in text
            (folder / file).write_text(text.replace(old, new))

        return change

    cases = [
        ("a", lambda f: (f / "model.safetensors").unlink(), "holds no model.safetensors yet"),
        ("b", lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), "model.safetensors is damaged"),
        (
            "c",
            lambda f: (f / "system.toml").unlink(),
            "holds no system.toml, so it is not a system directory",
        ),
        (
            "d",
            rewrite("system.toml", "format_version = 1", "format_version = 99"),
            "format version 99 is not 1",
        ),
        (
            "e",
            rewrite("system.toml", "embedding_dim = 48", "embedding_dim = 24"),
            "does not fit this model: .* where the",
        ),
        ("f", rewrite("system.toml", "[recipe.training]", "[recipe.trainin]"), "did you mean 'training'"),
        ("g", rewrite("speakers.csv", "4,s4\n", ""), "names 4 speakers but .* counts 5"),
        ("h", rewrite("speakers.csv", "4,s4", "7,s4"), "speakers.csv is damaged"),
    ]
    for name, change, message in cases:
        with pytest.raises((CheckpointError, ConfigError), match=message):
            SpeakerEncoder.load(broken_copy(name, change))
    with pytest.raises(CheckpointError, match="no such folder"):
        SpeakerEncoder.load(tmp_path / "none")
    with pytest.raises(CheckpointError, match="not a system directory"):
        SpeakerEncoder.load(toy_corpus)
    with pytest.raises(ConfigError, match="unknown device 'gpu'; give cuda"):
        SpeakerEncoder.load(system, device="gpu")


@pytest.mark.real
def test_real_speech_embeds_alike_from_file_and_batch(encoder: SpeakerEncoder, speechocean: Path) -> None:
    manifest = open_corpus(speechocean).take(np.arange(0, 2500, 250))
    embedded = encoder.encode_manifest(manifest, batch_size=10)
    paths = [manifest.full_path(row) for row in range(10)]
    np.testing.assert_allclose(embedded.embeddings, np.concatenate([encoder.encode(path) for path in paths]), atol=1e-4)
