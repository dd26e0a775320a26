"""Reading, resampling and writing sound, in every format and in every state of repair."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xvectors import audio
from xvectors.errors import (
    AudioError,
    AudioFileError,
    EmptyFileError,
    MissingFileError,
    StorageError,
    TruncatedFileError,
)

KINDS = {
    "a.wav": "PCM_16",
    "b.wav": "PCM_24",
    "c.wav": "PCM_32",
    "d.wav": "FLOAT",
    "e.wav": "PCM_U8",
    "f.wav": "ULAW",
    "g.flac": "PCM_16",
    "h.flac": "PCM_24",
    "i.ogg": "VORBIS",
    "j.opus": "OPUS",
    "k.mp3": "MPEG_LAYER_III",
    "l.aiff": "PCM_16",
}
# Largest error of one pass through the encoding, for a tone of amplitude 0.5.
TOLERANCES = {
    "PCM_16": 4e-5,
    "PCM_U8": 9e-3,
    "ULAW": 0.03,
    "VORBIS": 0.05,
    "OPUS": 0.1,
    "MPEG_LAYER_III": 0.05,
}


def tone(seconds: float, rate: int = 16000, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def chirp_and_noise(seconds: float, rate: int) -> np.ndarray:
    """A band-limited signal that is different everywhere."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    smooth = np.convolve(noise, np.hanning(9) / 4.0, mode="same")
    return (0.4 * np.sin(2 * np.pi * (100 + 400 * time) * time) + 0.05 * smooth).astype(np.float32)


@pytest.fixture(scope="module", params=KINDS.items(), ids=lambda kind: kind[0])
def sound_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    name, subtype = request.param
    path = tmp_path_factory.mktemp("sounds") / name
    audio.write(path, tone(2.0), 16000, subtype)
    return path, subtype


def test_every_format_reads_back(sound_file: tuple[Path, str]) -> None:
    path, subtype = sound_file
    info = audio.probe(path)
    assert (info.sample_rate_hz, info.num_channels, info.num_frames) == (16000, 1, 32000)
    assert info.duration_s == 2.0
    assert info.subtype == subtype
    samples, rate = audio.read(path)
    assert rate == 16000
    assert samples.dtype == np.float32
    assert samples.shape == (32000,)
    inner = slice(2000, 30000)  # lossy codecs ring at the edges
    np.testing.assert_allclose(samples[inner], tone(2.0)[inner], atol=TOLERANCES.get(subtype, 1e-6))


def test_bytes_and_file_objects_equal_the_path(sound_file: tuple[Path, str]) -> None:
    path, _ = sound_file
    expected, _ = audio.read(path)
    np.testing.assert_array_equal(audio.read(path.read_bytes())[0], expected)
    with path.open("rb") as file:
        np.testing.assert_array_equal(audio.read(file)[0], expected)


def test_a_segment_is_the_slice_of_the_whole(sound_file: tuple[Path, str]) -> None:
    path, subtype = sound_file
    whole, _ = audio.read(path)
    tolerance = 1e-6 if subtype in {"MPEG_LAYER_III", "OPUS"} else 0.0
    for start_s, duration_s in ((0.0, 0.5), (0.12345, 0.7), (1.50003, 0.25), (1.9, 5.0), (1.2, None)):
        first = round(start_s * 16000)
        count = len(whole) if duration_s is None else round(duration_s * 16000)
        segment, _ = audio.read(path, start_s=start_s, duration_s=duration_s)
        np.testing.assert_allclose(segment, whole[first : first + count], rtol=0, atol=tolerance)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_resampled_segment_is_the_slice_of_the_resampled_whole(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "x.wav"
    audio.write(path, chirp_and_noise(3.0, rate), rate, "FLOAT")
    whole, _ = audio.read(path, sample_rate_hz=16000)
    assert len(whole) == 48000
    for start_s, duration_s in ((0.0, 1.0), (0.333, 0.5), (1.00003, 1.0), (2.5, 0.5), (2.9, 3.0)):
        first = round(start_s * 16000)
        segment, returned = audio.read(path, sample_rate_hz=16000, start_s=start_s, duration_s=duration_s)
        expected = whole[first : first + round(duration_s * 16000)]
        assert returned == 16000
        assert segment.shape == expected.shape
        np.testing.assert_allclose(segment, expected, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rates=st.sampled_from([(11025, 16000), (44100, 8000), (16000, 16000), (16000, 11025), (12345, 16000)]),
    start_s=st.floats(0, 1.4),
    duration_s=st.floats(0.01, 2.0),
)
def test_segments_of_any_place(tmp_path: Path, rates: tuple[int, int], start_s: float, duration_s: float) -> None:
    from_hz, to_hz = rates
    path = tmp_path / f"{from_hz}.wav"
    if not path.exists():
        audio.write(path, chirp_and_noise(1.5, from_hz), from_hz, "FLOAT")
    whole, _ = audio.read(path, sample_rate_hz=to_hz)
    segment, _ = audio.read(path, sample_rate_hz=to_hz, start_s=start_s, duration_s=duration_s)
    first = round(start_s * to_hz)
    expected = whole[first : first + round(duration_s * to_hz)]
    assert segment.shape == expected.shape
    np.testing.assert_allclose(segment, expected, rtol=0, atol=1e-4)


def test_a_segment_of_a_long_file_reads_only_the_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.wav"
    audio.write(path, np.zeros(44100 * 60, np.float32), 44100)
    decoded = []
    read = soundfile.SoundFile.read

    def counting(self: soundfile.SoundFile, frames: int = -1, **options: object) -> np.ndarray:
        decoded.append(frames)
        return read(self, frames, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    audio.read(path, sample_rate_hz=16000, start_s=30.0, duration_s=1.0)
    assert sum(decoded) < 1.5 * 44100


def test_channels_are_averaged_or_picked(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    left, right = tone(0.5), tone(0.5, hz=1000.0)
    audio.write(path, np.stack([left, right], axis=1), 16000, "FLOAT")
    np.testing.assert_allclose(audio.read(path)[0], (left + right) / 2, atol=1e-7)
    np.testing.assert_array_equal(audio.read(path, channel=0)[0], left)
    np.testing.assert_array_equal(audio.read(path, channel=1)[0], right)
    for channel in (2, -1):
        with pytest.raises(AudioError, match=rf"stereo\.wav: has no channel {channel}, it has 2"):
            audio.read(path, channel=channel)


def test_integers_are_scaled_to_one(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.array([-32768, 0, 16384, 32767], np.int16), 16000)
    assert audio.read(path)[0].tolist() == [-1.0, 0.0, 0.5, 32767 / 32768]


def test_what_is_not_finite_is_returned_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    samples = np.array([0.0, np.nan, np.inf, -np.inf], np.float32)
    audio.write(path, samples, 16000, "FLOAT")
    np.testing.assert_array_equal(audio.read(path)[0], samples)


def test_resampling_keeps_a_tone_and_the_length() -> None:
    for from_hz, to_hz in ((8000, 16000), (44100, 16000), (48000, 16000), (16000, 8000)):
        out = audio.resample(tone(1.0, from_hz), from_hz, to_hz)
        assert out.shape == (to_hz,)
        assert out.dtype == np.float32
        inner = slice(to_hz // 10, -to_hz // 10)
        np.testing.assert_allclose(out[inner], tone(1.0, to_hz)[inner], atol=1e-3)
    assert audio.resample(np.zeros(0, np.float32), 8000, 16000).shape == (0,)
    with pytest.raises(AudioError, match="cannot resample from 0 Hz to 16000 Hz"):
        audio.resample(tone(0.1), 0, 16000)


def test_blocks_join_to_the_whole(sound_file: tuple[Path, str]) -> None:
    path, _ = sound_file
    blocks = list(audio.blocks(path, block_s=0.3))
    assert [len(block) for block in blocks] == [4800] * 6 + [3200]
    np.testing.assert_allclose(np.concatenate(blocks)[:, 0], audio.read(path)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 48_000])
@pytest.mark.parametrize("block_s", [0.05, 0.3, 10.0])
def test_a_stream_is_what_read_gives(sound_file: tuple[Path, str], rate_hz: int, block_s: float) -> None:
    path, _ = sound_file
    streamed = np.concatenate(list(audio.stream(path, sample_rate_hz=rate_hz, block_s=block_s)))
    whole, _ = audio.read(path, sample_rate_hz=rate_hz)
    assert streamed.dtype == np.float32
    assert len(streamed) == len(whole)
    np.testing.assert_allclose(streamed, whole, rtol=0, atol=1e-3)


def test_a_stream_of_a_segment_and_of_one_channel(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).uniform(-0.5, 0.5, (32_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", frames, 16_000, subtype="FLOAT")
    for channel in ("mix", 0, 1):
        where = {"sample_rate_hz": 16_000, "start_s": 0.25, "duration_s": 1.0, "channel": channel}
        pieces = list(audio.stream(tmp_path / "a.wav", block_s=0.3, **where))
        assert [len(piece) for piece in pieces] == [4800, 4800, 4800, 1600]
        np.testing.assert_array_equal(np.concatenate(pieces), audio.read(tmp_path / "a.wav", **where)[0])
    with pytest.raises(AudioError, match="has no channel 2"):
        list(audio.stream(tmp_path / "a.wav", sample_rate_hz=8_000, channel=2))
    with pytest.raises(AudioError, match="cannot resample from 16000 Hz to 0 Hz"):
        audio.Resampler(16_000, 0)


@pytest.mark.parametrize(
    ("start_s", "duration_s", "message"),
    [
        (-0.1, None, "can start at -0.1 s"),
        (float("nan"), None, "can start at nan s"),
        (0.0, 0.0, "last 0.0 s"),
        (0.0, -1.0, "last -1.0 s"),
        (2.0, None, "a segment starts at 2 s, the recording lasts 1.000 s"),
    ],
)
def test_impossible_segments(tmp_path: Path, start_s: float, duration_s: float | None, message: str) -> None:
    path = tmp_path / "x.wav"
    audio.write(path, tone(1.0), 16000)
    with pytest.raises(AudioError, match=message):
        audio.read(path, start_s=start_s, duration_s=duration_s)
    with pytest.raises(AudioError, match="sample_rate_hz is 0; it must be positive"):
        audio.read(path, sample_rate_hz=0)


def broken(folder: Path) -> dict[str, Path]:
    """One file of every broken kind."""
    folder.joinpath("empty.wav").write_bytes(b"")
    folder.joinpath("text.wav").write_text("no sound here, only words " * 20)
    folder.joinpath("raw.raw").write_bytes(b"\x01\x02" * 500)
    folder.joinpath("random.flac").write_bytes(np.random.default_rng(0).bytes(5000))
    folder.joinpath("folder.wav").mkdir()
    soundfile.write(folder / "no_samples.wav", np.zeros(0, np.float32), 16000)
    for name in ("a.wav", "b.flac", "c.ogg", "d.mp3", "e.aiff", "f.opus"):
        path = folder / f"cut_{name}"
        audio.write(path, chirp_and_noise(4.0, 16000), 16000, KINDS.get(name, _subtype(name)))
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    return {path.name: path for path in folder.iterdir()}


def _subtype(name: str) -> str:
    return {
        "wav": "PCM_16",
        "flac": "PCM_16",
        "ogg": "VORBIS",
        "mp3": "MPEG_LAYER_III",
        "aiff": "PCM_16",
    }.get(name.rpartition(".")[2], "OPUS")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing.wav", MissingFileError, "missing.wav: no such file"),
        ("folder.wav", AudioFileError, "folder.wav: is a folder, not a recording"),
        ("empty.wav", EmptyFileError, r"empty.wav: the file is empty \(0 bytes\)"),
        ("no_samples.wav", EmptyFileError, "no_samples.wav: holds no samples"),
        ("text.wav", AudioFileError, "text.wav: not a sound file that can be read"),
        ("raw.raw", AudioFileError, "raw.raw: not a sound file that can be read"),
        ("random.flac", AudioFileError, "random.flac: not a sound file that can be read"),
        (
            "cut_a.wav",
            TruncatedFileError,
            "cut_a.wav: truncated: its header states 128000 bytes of sound",
        ),
        ("cut_b.flac", TruncatedFileError, "cut_b.flac: cannot be decoded to its end"),
        ("cut_c.ogg", TruncatedFileError, "cut_c.ogg: truncated: its last Ogg page is incomplete"),
        ("cut_d.mp3", TruncatedFileError, r"cut_d.mp3: truncated: its header states \d+ samples"),
        ("cut_e.aiff", TruncatedFileError, "cut_e.aiff: truncated: its header states"),
        ("cut_f.opus", TruncatedFileError, "cut_f.opus: truncated: its last Ogg page is incomplete"),
    ],
)
def test_broken_files_are_told_apart(tmp_path: Path, name: str, error: type[Exception], message: str) -> None:
    broken(tmp_path)
    with pytest.raises(error, match=message) as caught:
        audio.read(tmp_path / name)
    assert type(caught.value) is error
    assert isinstance(caught.value, AudioFileError | OSError)


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioFileError, match=r"pipe\.wav: is a pipe or device"):
        audio.probe(tmp_path / "pipe.wav")
    with pytest.raises(AudioFileError, match="cannot be opened"):
        audio.probe("a\0b.wav")


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_streamed_wav_whose_size_was_never_filled_in(tmp_path: Path, size: int) -> None:
    path = tmp_path / "stream.wav"
    audio.write(path, tone(1.0), 16000)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"data") + 4, size)
    path.write_bytes(content)
    assert audio.probe(path).num_frames == 16000
    np.testing.assert_allclose(audio.read(path)[0], tone(1.0), atol=4e-5)


def test_a_wav_with_chunks_behind_the_sound_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "tagged.wav"
    audio.write(path, tone(1.0), 16000)
    content = path.read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO"
    path.write_bytes(content)
    assert audio.probe(path).num_frames == 16000
    empty = bytearray(content[: content.index(b"data") + 8]) + content[-12:]
    struct.pack_into("<I", empty, empty.index(b"data") + 4, 0)
    path.write_bytes(empty)
    with pytest.raises(EmptyFileError, match="holds no samples"):
        audio.probe(path)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    audio.write(tmp_path / "x.wav", tone(0.2), 16000)
    strange = tmp_path / b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    (tmp_path / "x.wav").rename(strange)
    assert audio.probe(strange).num_frames == 3200


def test_write_is_atomic_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    audio.write(path, tone(0.2), 16000)
    before = path.read_bytes()
    with pytest.raises(AudioError, match="NaN or infinite samples cannot be written as PCM_16"):
        audio.write(path, np.array([np.nan]), 16000)
    with pytest.raises(AudioError, match=r"x\.flac: cannot be written as FLOAT FLAC; FLAC takes PCM_S8"):
        audio.write(tmp_path / "x.flac", tone(0.1), 16000, "FLOAT")
    with pytest.raises(AudioError, match=r"use a suffix such as \.wav"):
        audio.write(tmp_path / "x.xyz", tone(0.1), 16000)
    with pytest.raises(StorageError, match=r"x\.wav: cannot be written"):
        audio.write("/proc/x.wav", tone(0.1), 16000)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.wav"]
    audio.write(path, np.array([2.0, -2.0], np.float32), 16000)
    assert audio.read(path)[0].tolist() == [32767 / 32768, -1.0]


def test_minutes_of_vorbis_are_written(tmp_path: Path) -> None:
    """libsndfile's encoder ends the process when it is given them at once."""
    audio.write(tmp_path / "a.ogg", np.zeros(16000 * 200, np.float32), 16000, "VORBIS")
    assert audio.probe(tmp_path / "a.ogg").duration_s == 200
