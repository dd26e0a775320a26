"""Decoding in limited processes: the same samples and errors, and an AudioError for what takes too much."""

from __future__ import annotations

import io
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from support.sounds import RATE, encoded, noise
from xvectors import audio
from xvectors.audio.decoding.untrusted import Decoder
from xvectors.audio.speech import listen
from xvectors.errors import AudioError, AudioFileError, ConfigError, MissingFileError, TruncatedFileError

on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux lists a process's children, and limits memory"
)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(2) as decoder:
        yield decoder


@pytest.fixture(scope="module")
def silent_hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stereo silence of 9 hours (2 GB), of which the disk holds the header alone."""
    path = tmp_path_factory.mktemp("silent") / "hours.wav"
    size = 2_000_000_000
    riff = (
        b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, RATE, 4 * RATE, 4, 16)
    )
    path.write_bytes(riff + b"data" + struct.pack("<I", size))
    os.truncate(path, size + 44)
    return path


def children() -> set[int]:
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has ended
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.add(int(status.parent.name))
    return found


def test_it_reads_what_audio_reads(decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(np.stack([noise(2), -noise(2)], 1), "WAV", "PCM_16")
    monkeypatch.chdir(tmp_path)
    Path("a b ü.wav").write_bytes(content)
    for source in ("a b ü.wav", Path("a b ü.wav"), content):
        for options in ({}, {"sample_rate_hz": 8_000, "start_s": 0.5, "duration_s": np.float32(1), "channel": "right"}):
            expected, rate_hz = audio.read(source, **options)
            found, found_hz = decoder.read(source, **options)
            assert found_hz == rate_hz
            assert found.dtype == np.float32
            assert np.array_equal(found, expected)
            assert found.flags.writeable
        assert decoder.probe(source) == audio.probe(source)
        assert decoder.canceled(source) == audio.canceled(source)
    assert np.array_equal(decoder.read(io.BytesIO(content))[0], audio.read(content)[0])
    assert decoder.canceled(encoded(noise(1), "WAV", "PCM_16")) is None


def test_it_listens_as_speech_does(decoder: Decoder, tmp_path: Path) -> None:
    content = encoded(noise(2.0), "FLAC", "PCM_16")
    path = tmp_path / "noise.flac"
    path.write_bytes(content)
    for source, name in ((content, "the call"), (io.BytesIO(content), "the call"), (path, str(path))):
        expected = listen(content, name, sample_rate_hz=8000)
        heard = decoder.listen(source, "the call", sample_rate_hz=8000, max_duration_s=2.0)
        assert heard.name == name
        assert heard.speech_s == expected.speech_s
        assert heard.quality.to_dict() == expected.quality.to_dict()
        np.testing.assert_array_equal(heard.samples, expected.samples)
        np.testing.assert_array_equal(heard.condition, expected.condition)


def test_too_long_a_recording_is_not_decoded(decoder: Decoder, silent_hours: Path) -> None:
    with pytest.raises(AudioError, match=r"hours\.wav lasts \d+ s, but at most 60 s are accepted"):
        decoder.listen(silent_hours, sample_rate_hz=RATE, max_duration_s=60.0)
    with pytest.raises(AudioError, match=r"^the call: .*not a sound file"):
        decoder.listen(b"RIFF of nothing", "the call", sample_rate_hz=RATE)


def test_errors_are_those_of_audio(decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(noise(1), "WAV", "PCM_16")
    monkeypatch.chdir(tmp_path)
    Path("cut.wav").write_bytes(content[:9000])
    for source, kind, options in (
        ("none.wav", MissingFileError, {}),
        ("cut.wav", TruncatedFileError, {}),
        (b"no sound", AudioFileError, {}),
        (content, AudioError, {"channel": 3}),
        (content, AudioError, {"start_s": 5.0}),
        (content, AudioError, {"start_s": float("nan")}),
    ):
        with pytest.raises(kind) as expected:
            audio.read(source, **options)
        with pytest.raises(kind) as found:
            decoder.read(source, **options)
        assert type(found.value) is type(expected.value)
        assert str(found.value) == str(expected.value)


def test_several_threads_share_it(decoder: Decoder) -> None:
    contents = [encoded(noise(1, seed=seed), "FLAC", "PCM_16") for seed in range(8)]
    expected = [audio.read(content)[0] for content in contents]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda content: decoder.read(content)[0], contents * 5))
    assert all(np.array_equal(one, other) for one, other in zip(found, expected * 5, strict=True))


def test_what_takes_too_long_is_an_error(silent_hours: Path) -> None:
    content = encoded(noise(0.5), "WAV", "PCM_16")
    with Decoder(wall_s=0.3) as decoder:
        decoder.read(content)
        start = time.monotonic()
        with pytest.raises(AudioError, match=r"hours\.wav: took more than 0\.3 s to decode.*wall_s"):
            decoder.canceled(silent_hours)
        # it was ended then, not when it was done; the bound leaves room for a busy machine
        assert time.monotonic() - start < 5
        decoder._wall_s = 60.0  # a new process may be slow to start its first decoding
        assert len(decoder.read(content)[0]) == RATE // 2


@on_linux
def test_what_takes_too_much_processor_time_is_an_error(silent_hours: Path) -> None:
    with (
        Decoder(wall_s=60, cpu_s=0.1) as decoder,
        pytest.raises(AudioError, match=r"hours\.wav: took more than 0\.1 s of processor time.*cpu_s"),
    ):
        decoder.canceled(silent_hours)


@on_linux
def test_what_takes_too_much_memory_is_an_error(silent_hours: Path) -> None:
    content = encoded(noise(0.5), "WAV", "PCM_16")
    with Decoder(memory_bytes=200_000_000) as decoder:
        for what in (silent_hours, bytes(150_000_000), bytes(300_000_000)):
            with pytest.raises(AudioError, match=r"needs more than 0\.2 GB to decode.*memory_bytes"):
                decoder.read(what, channel="left")
            assert len(decoder.read(content)[0]) == RATE // 2


@on_linux
def test_a_decoder_that_dies_is_replaced(silent_hours: Path) -> None:
    content, before = encoded(noise(0.5), "WAV", "PCM_16"), children()
    with Decoder(wall_s=60) as decoder:
        decoder.read(content)
        (worker,) = children() - before
        threading.Timer(0.2, os.kill, (worker, signal.SIGSEGV)).start()
        with pytest.raises(AudioError, match=r"hours\.wav: its decoder ended \(SIGSEGV\)"):
            decoder.canceled(silent_hours)
        decoder.read(content)
        (other,) = children() - before
        assert other != worker
        os.kill(other, signal.SIGKILL)  # while nothing is decoded: no recording is to blame
        os.waitid(os.P_PID, other, os.WEXITED | os.WNOWAIT)
        assert len(decoder.read(content)[0]) == RATE // 2
    assert children() == before


@on_linux
def test_it_ends_with_what_made_it(tmp_path: Path) -> None:
    before = children()
    decoder = Decoder()
    decoder.read(encoded(noise(0.5), "WAV", "PCM_16"))
    assert len(children() - before) == 1
    del decoder
    assert children() == before


def test_once_closed_it_decodes_no_more() -> None:
    decoder = Decoder()
    decoder.close()
    decoder.close()
    with pytest.raises(AudioError, match="closed"):
        decoder.read(b"RIFF")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_needs_its_own(decoder: Decoder) -> None:
    content = encoded(noise(0.5), "WAV", "PCM_16")
    decoder.read(content)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            decoder.read(content)
        except AudioError as error:
            os.write(writer, str(error).encode())
        finally:
            decoder.close()
            os._exit(0)
    os.waitpid(child, 0)
    assert b"forked" in os.read(reader, 1000)
    assert len(decoder.read(content)[0]) == RATE // 2
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("limits", [{"num_workers": 0}, {"wall_s": 0}, {"cpu_s": -1}, {"memory_bytes": 0}])
def test_limits_that_allow_nothing_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(limits))):
        Decoder(**limits)


def test_media_are_read_too(decoder: Decoder) -> None:
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise(1)[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    assert np.array_equal(decoder.read(file.getvalue())[0], audio.read(file.getvalue())[0])
