from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from support.waves import RATE, noises
from xvectors.corpus import Manifest, open_corpus
from xvectors.encoder import SpeakerEncoder, save_embeddings
from xvectors.encoder.batching import batches
from xvectors.errors import AudioError, CheckpointError, ConfigError, MissingFileError, TooShortError
from xvectors.progress import Silent
from xvectors.system import SystemFolder
from xvectors.verification import fingerprint_of


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


def test_bytes_and_files_that_are_open_are_files_too(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noises([1.0])[0], RATE)
    content = path.read_bytes()
    with path.open("rb") as file:
        embeddings = encoder.encode([path, content, bytearray(content), io.BytesIO(content), file])
    np.testing.assert_allclose(embeddings, np.broadcast_to(embeddings[:1], embeddings.shape), atol=1e-5)
    for single in (content, io.BytesIO(content)):
        np.testing.assert_allclose(encoder.encode(single), embeddings[:1], atol=1e-5)


def test_channels_of_a_file_are_mixed(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    wave = noises([1.0] * 6)
    for channels in (2, 6):
        soundfile.write(tmp_path / "a.wav", np.stack(wave[:channels], axis=1), RATE, subtype="FLOAT")
        mixed = np.stack(wave[:channels]).mean(axis=0)
        np.testing.assert_allclose(encoder.encode(tmp_path / "a.wav"), encoder.encode(mixed), atol=1e-5)


def test_any_iterable_and_an_array_of_names(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    waves = noises([0.5, 0.7])
    paths = [str(tmp_path / f"{i}.wav") for i in range(2)]
    for path, wave in zip(paths, waves, strict=True):
        soundfile.write(path, wave, RATE, subtype="FLOAT")
    expected = encoder.encode(waves)
    for recordings in ((wave for wave in waves), tuple(paths), np.array(paths), np.array(paths, dtype=object)):
        np.testing.assert_allclose(encoder.encode(recordings), expected, atol=1e-5)
    assert encoder.encode([]).shape == (0, 48)


def test_progress_is_shown_only_if_asked_for(encoder: SpeakerEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []

    @contextmanager
    def show(description: str, total: int, *, enabled: bool) -> Iterator[Silent]:
        shown.append((description, total, enabled))
        yield Silent()

    monkeypatch.setattr("xvectors.encoder.batching.progress_bar", show)
    waves = noises([0.5, 0.7])
    encoder.encode(waves, progress=True)
    encoder.encode(waves)
    assert shown == [("embedding", 2, True), ("embedding", 2, False)]


@pytest.mark.usefixtures("bfloat16_units")
def test_bfloat16_is_near_and_features_stay_float32() -> None:
    wave = np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    exact = SpeakerEncoder.from_pretrained(device="cpu").encode(wave)[0]
    encoder = SpeakerEncoder.from_pretrained(device="cpu", precision="bfloat16")
    near = encoder.encode(wave)[0]
    assert near.dtype == np.float32
    assert 0 < np.abs(near - exact).max() < 0.05 * np.abs(exact).max()
    assert near @ exact > 0.999 * np.linalg.norm(near) * np.linalg.norm(exact)
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder.fbank(torch.from_numpy(wave))
    assert torch.equal(features, encoder.fbank(torch.from_numpy(wave)))
    with pytest.raises(ConfigError, match="precision 'int8' is unknown; give float32 or bfloat16"):
        SpeakerEncoder.from_pretrained(precision="int8")


def test_small_batches_on_a_cpu_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SpeakerEncoder.from_pretrained(device="cpu")
    waves = noises([0.5, 1.0, 0.7, 1.5, 0.6])
    together = encoder.encode(waves)
    sizes, inner = [], encoder.engine._embed
    monkeypatch.setattr(encoder.engine, "_embed", lambda part: sizes.append(len(part)) or inner(part))
    monkeypatch.setattr("xvectors.encoder.engines.torch.MAX_BATCH_SAMPLES_ON_CPU", 3 * RATE)
    np.testing.assert_allclose(encoder.encode(waves), together, atol=1e-4)
    assert sizes == [2, 2, 1]


def test_threads_are_set_while_it_embeds_alone(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = noises([0.5])[0]
    calls = []
    before = torch.get_num_threads()
    monkeypatch.setattr(torch, "set_num_threads", calls.append)
    embeddings = [
        SpeakerEncoder.from_pretrained(system, device="cpu", threads=threads).encode(wave)
        for threads in (before, before + 1, None)
    ]
    assert calls == [before + 1, before]
    np.testing.assert_allclose(embeddings[0], embeddings[1], atol=1e-4)
    with pytest.raises(ConfigError, match="threads must be at least 1, not 0"):
        SpeakerEncoder.from_pretrained(system, device="cpu", threads=0)


def test_torch_comes_with_a_system_only() -> None:
    code = "import sys; from xvectors import SpeakerEncoder; SpeakerEncoder.encode; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_fingerprint_is_that_of_the_system(encoder: SpeakerEncoder, system: Path) -> None:
    assert encoder.fingerprint == fingerprint_of(SystemFolder(system))


def test_the_first_unusable_recording_is_named(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    waves = noises([0.5]) * 100
    with pytest.raises(AudioError, match=r"^recording 70: only zeros"):
        encoder.encode([*waves[:70], np.zeros(RATE, np.float32), *waves[71:99], "nowhere.wav"])


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
    np.testing.assert_array_equal(
        SpeakerEncoder.from_pretrained(system, device="cpu").encode(wave), encoder.encode(wave)
    )


@pytest.mark.parametrize(
    ("recording", "error", "message"),
    [
        (np.zeros(RATE, np.float32), AudioError, "recording 0: only zeros"),
        (
            np.full(RATE, np.nan, np.float32),
            AudioError,
            "recording 0: the samples are NaN, infinite or absurdly large",
        ),
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
        (
            np.zeros((RATE, 6), np.float32),
            AudioError,
            r"not float32 \[16000, 6\]; mix its channels, as in samples.mean",
        ),
        (np.zeros((1, RATE), np.int16), AudioError, "mix its channels"),
        (np.zeros(RATE, np.int16), AudioError, "not int16 .*; divide integers by their full scale"),
        ("nowhere.wav", AudioError, "nowhere.wav"),
        ("https://example.org/a.wav", MissingFileError, "is an address, not a file; download it"),
        (b"", AudioError, "^recording 0: the file is empty"),
        (b"no sound at all, but text", AudioError, "^recording 0: not a sound file"),
        (io.StringIO("text"), AudioError, "recording 0: the file object gives str; open it as binary, with 'rb'"),
        (7, AudioError, "recording 0: cannot read a int as a recording; give a path, the bytes of a sound file"),
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
    assert list(batches(list("abcdef"), lengths, 4)) == [["a", "b", "c"], ["d"], ["e"], ["f"]]
    assert list(batches([1, 2, 3, 4, 5], [1] * 5, 2)) == [[1, 2], [3, 4], [5]]


def test_absurdly_large_samples_fail_by_name(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    wave = noises([1.0, 1.0])[1]
    soundfile.write(tmp_path / "huge.wav", wave.astype(np.float64) * 1e25, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "sound.wav", wave, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"huge\.wav: the samples are .* absurdly large"):
        encoder.encode([tmp_path / "huge.wav"])
    rows = [{"path": f"{name}.wav", "speaker": "a"} for name in ("huge", "sound")]
    embedded = encoder.encode_manifest(Manifest.from_rows(rows, root=tmp_path))
    assert embedded.rows.tolist() == [1]
    assert np.isfinite(embedded.embeddings).all()


def test_an_embedding_that_is_not_finite_fails_by_name(
    encoder: SpeakerEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a network makes of sound, such as one whose training went wrong."""
    monkeypatch.setattr(
        encoder.engine, "embed", lambda waves: np.full((len(waves), encoder.embedding_dim), np.nan, np.float32)
    )
    with pytest.raises(AudioError, match=r"recording 0: its embedding is not finite; check its samples"):
        encoder.encode(noises([1.0]))


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
            rewrite("system.toml", "format_version = 3", "format_version = 99"),
            "format version 99 is not 3",
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
            SpeakerEncoder.from_pretrained(broken_copy(name, change))
    with pytest.raises(CheckpointError, match="no such folder"):
        SpeakerEncoder.from_pretrained(tmp_path / "none")
    with pytest.raises(CheckpointError, match="not a system directory"):
        SpeakerEncoder.from_pretrained(toy_corpus)
    with pytest.raises(ConfigError, match="unknown device 'gpu'; give cuda"):
        SpeakerEncoder.from_pretrained(system, device="gpu")


def test_what_is_no_list_of_recordings(encoder: SpeakerEncoder) -> None:
    with pytest.raises(AudioError, match="cannot read a NoneType as a recording; give a path"):
        encoder.encode(None)


def test_rows_of_a_manifest(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    """A few rows at a time are what all of them are, also where only other rows have a start."""
    wave = noises([4.0])[0]
    soundfile.write(tmp_path / "long.wav", wave, RATE, subtype="FLOAT")
    starts = (0.0, 0.5, 2.0)
    rows = [{"path": "long.wav", "speaker": "a", "start_s": s, "duration_s": 1.5, "id": f"{s}"} for s in starts]
    rows.insert(1, {"path": "none.wav", "speaker": "a", "start_s": 0, "duration_s": 1, "id": "none"})
    manifest = Manifest.from_rows(rows, root=tmp_path)
    whole, part = encoder.encode_manifest(manifest), encoder.encode_manifest(manifest, rows=[0, 1])
    assert whole.rows.tolist() == [0, 2, 3]
    assert whole.duration_s.tolist() == [1.5] * 3
    assert part.rows.tolist() == [0]
    assert [row for row, _ in part.failures] == [1]
    np.testing.assert_allclose(part.embeddings, whole.embeddings[:1], atol=1e-5)


@pytest.mark.real
def test_real_speech_embeds_alike_from_file_and_batch(encoder: SpeakerEncoder, speechocean: Path) -> None:
    manifest = open_corpus(speechocean).take(np.arange(0, 2500, 250))
    embedded = encoder.encode_manifest(manifest, batch_size=10)
    paths = [manifest.full_path(row) for row in range(10)]
    np.testing.assert_allclose(embedded.embeddings, np.concatenate([encoder.encode(path) for path in paths]), atol=1e-4)
