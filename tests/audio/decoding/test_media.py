"""What FFmpeg decodes through PyAV (extra `media`), and what is said without it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from support.sounds import RATE, by_ffmpeg, encoded, noise
from xvectors import audio
from xvectors.errors import AudioError, AudioFileError, MissingExtraError, TruncatedFileError

SOUND = noise(4.0)
KINDS = {
    # name: encoder, container, rate; how much longer the decoded sound may be, in seconds: the codec's last packet
    "a.m4a": ("aac", "ipod", 16_000, 0.07),
    "a.aac": ("aac", "adts", 16_000, 0.15),
    "a.webm": ("libopus", "webm", 48_000, 0.03),
    "a.wma": ("wmav2", "asf", 16_000, 0.13),
    "a.mka": ("flac", "matroska", 16_000, 0.0),
    "a.flv": ("adpcm_swf", "flv", 22_050, 0.2),
    "alac.m4a": ("alac", "ipod", 16_000, 0.0),
}


@pytest.fixture(scope="module", params=KINDS)
def media_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    codec, container, rate, _ = KINDS[request.param]
    path = tmp_path_factory.mktemp("media") / request.param
    return by_ffmpeg(path, audio.resample(SOUND, RATE, rate), codec, rate, container)


def test_the_whole_sound_by_every_way_of_reading(media_file: Path) -> None:
    _, _, rate, longer_s = KINDS[media_file.name]
    info = audio.probe(media_file)
    assert (info.sample_rate_hz, info.num_channels, info.format) == (rate, 1, media_file.suffix[1:].upper())
    assert -0.035 <= info.duration_s - 4.0 <= longer_s
    whole, _ = audio.read(media_file)
    assert len(whole) == info.num_frames
    np.testing.assert_array_equal(audio.read(media_file.read_bytes())[0], whole)
    np.testing.assert_array_equal(
        np.concatenate(list(audio.stream(media_file, sample_rate_hz=rate, block_s=0.7))), whole
    )
    for start_s, duration_s in ((0.0, 0.5), (1.2345, 1.0), (3.8, 9.0)):
        first = round(start_s * rate)
        part, _ = audio.read(media_file, start_s=start_s, duration_s=duration_s)
        np.testing.assert_array_equal(part, whole[first : first + round(duration_s * rate)])


def test_a_broken_file_is_an_error_and_never_less_sound(media_file: Path, tmp_path: Path) -> None:
    content = media_file.read_bytes()
    (tmp_path / "head.bin").write_bytes(content[:50])
    with pytest.raises(AudioFileError, match=r"head\.bin: "):
        audio.read(tmp_path / "head.bin")
    if media_file.suffix in {".aac", ".webm", ".mka", ".flv"}:
        return  # streams, which state no length: what is there is the recording
    (tmp_path / "half.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioFileError, match=r"half\.bin: "):
        audio.read(tmp_path / "half.bin")


def test_a_cut_file_is_truncated(tmp_path: Path) -> None:
    path = by_ffmpeg(tmp_path / "a.wma", SOUND, "wmav2", RATE, "asf")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(TruncatedFileError, match=r"a\.wma: .* truncated"):
        audio.probe(path)


@pytest.mark.parametrize("name", ["a.m4a", "a.webm", "a.wma"])
def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    codec, container, rate, _ = KINDS[name]
    path = by_ffmpeg(tmp_path / name, audio.resample(SOUND[:RATE], RATE, rate), codec, rate, container)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=rf"{name}: .*pip install 'xvectors\[media\]'"):
        audio.probe(path)


def test_what_libsndfile_refuses_is_tried_with_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FLAC in Ogg as FFmpeg writes it, and a WAV of a codec that libsndfile does not know."""
    paths = [
        by_ffmpeg(tmp_path / "a.ogg", SOUND, "flac", RATE, "ogg"),
        by_ffmpeg(tmp_path / "b.wav", SOUND, "wmav2", RATE, "wav"),
    ]
    for path in paths:
        assert abs(audio.probe(path).duration_s - 4.0) < 0.13
    np.testing.assert_allclose(audio.read(paths[0])[0], SOUND, rtol=0, atol=2**-15)
    monkeypatch.setitem(sys.modules, "av", None)
    for path in paths:
        with pytest.raises(AudioFileError, match=rf"{path.name}: .*libsndfile.*pip install 'xvectors\[media\]'"):
            audio.probe(path)


def test_channels_and_rates(tmp_path: Path) -> None:
    frames = np.stack([noise(2.0, seed=1), noise(2.0, seed=2)], axis=1)
    path = by_ffmpeg(tmp_path / "a.mka", frames, "flac", RATE, "matroska")
    assert audio.probe(path).num_channels == 2
    np.testing.assert_allclose(audio.read(path, channel=1)[0], frames[:, 1], rtol=0, atol=2**-15)
    half, rate = audio.read(path, sample_rate_hz=8000, start_s=0.5, duration_s=1.0, channel=0)
    assert (len(half), rate) == (8000, 8000)
    with pytest.raises(AudioError, match="has no channel 2, it has 2"):
        audio.read(path, channel=2)


def test_an_encoding_that_nobody_knows_is_refused() -> None:
    content = bytearray(encoded(noise(0.5), "WAV", "PCM_16"))
    content[20:22] = b"\x34\x12"
    with av.open(io.BytesIO(content)) as container:
        assert container.streams.audio[0].codec_context is None  # FFmpeg has no decoder for it
    with pytest.raises(AudioFileError, match=r"not a sound file that can be read .*convert it"):
        audio.read(bytes(content))
