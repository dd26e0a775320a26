"""Files whose stated length is wrong, missing or only of their first part: the whole sound, or an error."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from support.sounds import (
    RATE,
    encoded,
    mp3,
    noise,
    ogg_checksum,
    ogg_pages,
    without_end_mark,
    without_length,
    without_xing,
)
from xvectors import audio
from xvectors.audio.decoding import mpeg
from xvectors.audio.decoding.opening import opened
from xvectors.errors import AudioFileError, EmptyFileError, TruncatedFileError

SOUND = noise(6.0)
FRAME = 576  # samples of an MP3 frame at 16 kHz


def similar(first: np.ndarray, second: np.ndarray) -> float:
    """Their correlation, over what both hold."""
    count = min(len(first), len(second))
    return float(np.corrcoef(first[:count], second[:count])[0, 1])


def check(content: bytes, path: Path, num_samples: int, tolerance: int = 0) -> np.ndarray:
    """The file holds that many samples by every way of reading it, and segments are slices of the whole."""
    path.write_bytes(content)
    info = audio.probe(path)
    assert abs(info.num_frames - num_samples) <= tolerance
    whole, rate = audio.read(path)
    assert (len(whole), rate) == (info.num_frames, info.sample_rate_hz)
    np.testing.assert_array_equal(audio.read(content)[0], whole)
    streamed = np.concatenate(list(audio.stream(path, sample_rate_hz=rate, block_s=1.3)))
    np.testing.assert_allclose(streamed, whole, rtol=0, atol=1e-6)
    for start_s in (0.5, 0.61 * info.duration_s, info.duration_s - 0.2):
        first = round(start_s * rate)
        part, _ = audio.read(path, start_s=start_s, duration_s=0.5)
        np.testing.assert_allclose(part, whole[first : first + round(0.5 * rate)], rtol=0, atol=1e-6)
    return whole


def test_mp3_of_variable_bit_rate_without_a_xing_header(tmp_path: Path) -> None:
    """libsndfile reads a part of it: the length that the first frame's bit rate suggests."""
    content = without_xing(mp3(SOUND))
    believed = soundfile.info(io.BytesIO(content)).frames
    assert not 0.9 < believed / len(SOUND) < 1.1
    whole = check(content, tmp_path / "a.mp3", len(SOUND), tolerance=3 * FRAME)
    # without the header nothing states the encoder's delay: 1,105 samples before the sound, less the decoder's 529
    assert similar(whole[576:], SOUND) > 0.75


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 24_000, 44_100, 48_000])
def test_every_rate_gets_a_xing_header(tmp_path: Path, rate: int) -> None:
    sound = noise(3.0, rate)
    check(without_xing(mp3(sound, rate)), tmp_path / "a.mp3", len(sound), tolerance=3 * 1152)


def test_joined_mp3(tmp_path: Path) -> None:
    first, second = noise(2.0, seed=1), noise(3.0, seed=2)
    tag = b"TAG" + bytes(125)
    id3 = b"ID3\4\0\0\0\0\1\0" + bytes(128)
    whole = check(mp3(first) + mp3(second), tmp_path / "a.mp3", 5 * RATE)
    assert similar(whole, first) > 0.75
    assert similar(whole[2 * RATE :], second) > 0.75
    tagged = check(id3 + mp3(first) + tag + id3 + mp3(second) + tag, tmp_path / "b.mp3", 5 * RATE)
    np.testing.assert_array_equal(tagged, whole)
    bare = without_xing(mp3(first)) + without_xing(mp3(second))
    check(bare, tmp_path / "c.mp3", 5 * RATE, tolerance=6 * FRAME)
    check(mp3(first) + without_xing(mp3(second)), tmp_path / "d.mp3", 5 * RATE, tolerance=6 * FRAME)


def test_mp3_with_frames_that_are_missing(tmp_path: Path) -> None:
    content = mp3(SOUND)
    (tmp_path / "cut.mp3").write_bytes(content[: len(content) // 2])
    with pytest.raises(TruncatedFileError, match=r"cut\.mp3: truncated: its header states \d+ samples"):
        audio.probe(tmp_path / "cut.mp3")
    middle = len(content) // 2
    (tmp_path / "hole.mp3").write_bytes(content[:middle] + b"\1" * 5000 + content[middle:])
    with pytest.raises(AudioFileError, match=r"hole\.mp3: damaged: \d+ bytes from byte \d+ on are no MPEG frame"):
        audio.probe(tmp_path / "hole.mp3")
    kept = audio.probe(content[:-2])
    assert 0 < len(SOUND) - kept.num_frames < 0.1 * RATE or kept.num_frames >= len(SOUND)
    assert "ms more than there is" in kept.notes[0]


@pytest.mark.parametrize(
    ("header", "size", "num_samples", "rate"),
    [
        # MPEG 1 Layer III, 128 kbit/s, 44.1 kHz: 144 * 128,000 / 44,100 = 417.96
        (0xFFFB9000, 417, 1152, 44_100),
        (0xFFFB9200, 418, 1152, 44_100),
        # MPEG 2 Layer III, 64 kbit/s, 16 kHz: 72 * 64,000 / 16,000
        (0xFFF388C4, 288, 576, 16_000),
        # MPEG 2.5 Layer III, 8 kbit/s, 8 kHz
        (0xFFE318C4, 72, 576, 8_000),
        # MPEG 1 Layer II, 192 kbit/s, 48 kHz: 144 * 192,000 / 48,000
        (0xFFFDA400, 576, 1152, 48_000),
        # MPEG 1 Layer I, 384 kbit/s, 32 kHz: 12 * 384,000 / 32,000 * 4
        (0xFFFFC800, 576, 384, 32_000),
    ],
)
def test_headers_of_mpeg_frames(header: int, size: int, num_samples: int, rate: int) -> None:
    frame = mpeg.parse(header)
    assert frame is not None
    assert (frame.size, frame.num_samples, frame.sample_rate_hz) == (size, num_samples, rate)


@pytest.mark.parametrize("header", [0, 0xFFFBF000, 0xFFFB0000, 0xFFFB9C00, 0xFFEB9000, 0xFFF99000])
def test_what_is_no_header_of_an_mpeg_frame(header: int) -> None:
    assert mpeg.parse(header) is None


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_joined_ogg(tmp_path: Path, subtype: str) -> None:
    first, second = encoded(noise(2.0, seed=1), "OGG", subtype), encoded(noise(3.0, seed=2), "OGG", subtype)
    whole = check(first + second, tmp_path / "a.ogg", 5 * RATE)
    np.testing.assert_array_equal(whole[: 2 * RATE], audio.read(first)[0])
    np.testing.assert_array_equal(whole[2 * RATE :], audio.read(second)[0])
    check(first + first, tmp_path / "b.ogg", 4 * RATE)  # one serial number twice


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_without_an_end_mark(tmp_path: Path, subtype: str) -> None:
    content = encoded(SOUND, "OGG", subtype)
    whole = check(without_end_mark(content), tmp_path / "a.ogg", len(SOUND))
    np.testing.assert_array_equal(whole, audio.read(content)[0])
    assert audio.probe(tmp_path / "a.ogg").notes == ("the recording has no end mark: its end may be missing",)
    assert audio.probe(content).notes == ()


def test_the_end_of_vorbis_is_the_end(tmp_path: Path) -> None:
    """libsndfile alone gives another place's sound for segments within the last page."""
    for seed, rate in ((1, 16_000), (0, 44_100), (38, 8_000)):
        sound = noise(2.47, rate, seed)
        content = encoded(sound, "OGG", "VORBIS", rate)
        whole, _ = audio.read(content)
        for start_s in np.linspace(1.2, 2.46, 12):
            first = round(start_s * rate)
            np.testing.assert_array_equal(audio.read(content, start_s=start_s)[0], whole[first:])


@pytest.mark.parametrize("seed", range(4))
def test_pieces_of_vorbis_one_after_the_other(seed: int) -> None:
    """libsndfile that seeks a second time loses hundreds of samples at the end of some recordings."""
    num_samples = 11 * RATE + 4_111 * seed
    sound = noise(num_samples / RATE, seed=seed)
    content = encoded(np.stack([sound, -sound], axis=1), "OGG", "VORBIS")
    whole, _ = audio.read(content, channel=0)
    assert len(whole) == num_samples
    with opened(content) as recording:
        for first in [*range(0, num_samples - RATE, 18_000), num_samples - RATE, 0, num_samples - 100, 77_777]:
            count = min(RATE, num_samples - first)
            np.testing.assert_allclose(
                recording.read(first, count)[:, 0], whole[first : first + count], rtol=0, atol=1e-6
            )
    # whether the channels cancel is found from pieces
    assert len(audio.read(content)[0]) == num_samples


def test_ogg_with_what_is_no_page(tmp_path: Path) -> None:
    pages = ogg_pages(encoded(SOUND, "OGG", "VORBIS"))
    (tmp_path / "a.ogg").write_bytes(b"".join(pages[:4]) + b"junk" + b"".join(pages[4:]))
    with pytest.raises(AudioFileError, match=r"a\.ogg: damaged: no Ogg page at byte \d+"):
        audio.probe(tmp_path / "a.ogg")
    check(b"".join(pages) + bytes(1000), tmp_path / "padded.ogg", len(SOUND))


def test_opus_whose_pages_are_misnumbered_is_refused() -> None:
    """libsndfile finds its first sample at 6148914691236517101, and soundfile then reads less than none."""
    pages = [bytearray(page) for page in ogg_pages(encoded(noise(0.5), "OGG", "OPUS"))]
    pages[1][18:22] = b"\xcc\x58\xa8\x74"
    pages[1][22:26] = bytes(4)
    pages[1][22:26] = struct.pack("<I", ogg_checksum(bytes(pages[1])))
    with pytest.raises(AudioFileError, match=r"damaged: sample 0 is sought, sample .* found; replace"):
        audio.read(b"".join(pages))


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_flac_of_unknown_length(tmp_path: Path, level: float) -> None:
    for seconds in (0.01, 1.0, 6.0):
        sound = noise(seconds)
        content = encoded(sound, "FLAC", "PCM_16", compression_level=level)
        (tmp_path / "a.flac").write_bytes(without_length(content))
        assert audio.probe(tmp_path / "a.flac").num_frames == len(sound)
        np.testing.assert_array_equal(audio.read(without_length(content))[0], audio.read(content)[0])
    check(without_length(content), tmp_path / "b.flac", len(SOUND))
    with pytest.raises(TruncatedFileError, match="truncated: its last FLAC frame is incomplete"):
        audio.probe(without_length(content)[:-100])


def test_joined_flac(tmp_path: Path) -> None:
    first, second = encoded(noise(2.0, seed=1), "FLAC", "PCM_16"), encoded(noise(3.0, seed=2), "FLAC", "PCM_24")
    check(first + second, tmp_path / "a.flac", 5 * RATE)
    check(first + first, tmp_path / "b.flac", 4 * RATE)
    check(without_length(first) + without_length(second), tmp_path / "c.flac", 5 * RATE)


def test_flac_that_states_less_than_there_is(tmp_path: Path) -> None:
    content = bytearray(encoded(SOUND, "FLAC", "PCM_16"))
    content[22:26] = struct.pack(">I", RATE)
    whole = check(bytes(content), tmp_path / "a.flac", len(SOUND))
    np.testing.assert_allclose(whole, SOUND, rtol=0, atol=2**-15)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        *(("WAV", "PCM_16"), ("WAV", "ULAW"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("AU", "ULAW"), ("W64", "PCM_24")),
        *(("CAF", "PCM_16"), ("CAF", "ALAC_16")),
    ],
)
def test_joined_files(tmp_path: Path, kind: str, subtype: str) -> None:
    first, second = encoded(noise(2.0, seed=1), kind, subtype), encoded(noise(3.0, seed=2), kind, subtype)
    whole = check(first + second, tmp_path / "a", 5 * RATE)
    np.testing.assert_array_equal(whole[2 * RATE :], audio.read(second)[0])


@pytest.mark.parametrize(("kind", "at", "number"), [("AU", 4, bytes(8)), ("W64", 0, (2**62 - 1).to_bytes(8, "little"))])
def test_joined_files_are_sought_behind_the_first_and_within_the_file(
    tmp_path: Path, kind: str, at: int, number: bytes
) -> None:
    content = bytearray(encoded(noise(1.0), kind, "PCM_16"))
    if kind == "W64":
        at = content.index(b"data") + 16
    content[at : at + 8] = number
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(AudioFileError):
        audio.read(tmp_path / "a")


def test_what_is_joined_must_be_alike() -> None:
    with pytest.raises(AudioFileError, match=r"2 recordings are joined in it, which differ .*8000 Hz.*; split"):
        audio.probe(encoded(noise(1.0), "WAV", "PCM_16") + encoded(noise(1.0, 8000), "WAV", "PCM_16", 8000))


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        *(("WAV", "GSM610"), ("WAV", "G721_32"), ("WAV", "NMS_ADPCM_32"), ("AIFF", "GSM610"), ("W64", "GSM610")),
        *(("AU", "G721_32"), ("AU", "G723_24"), ("AU", "G723_40"), ("XI", "DPCM_16")),
    ],
)
def test_encodings_that_cannot_be_sought_in(tmp_path: Path, kind: str, subtype: str) -> None:
    sound = noise(3.0, 8000)
    rate = 8000 if kind != "XI" else 44_100  # it has this one rate
    num_samples = soundfile.info(io.BytesIO(encoded(sound, kind, subtype, 8000))).frames
    assert num_samples >= len(sound)
    whole = check(encoded(sound, kind, subtype, 8000), tmp_path / "a", num_samples)
    assert similar(whole, sound) > 0.5
    assert audio.probe(tmp_path / "a").sample_rate_hz == rate


CHUNKED = [
    ("WAV", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("W64", "PCM_16"),
    ("NIST", "PCM_16"),
    ("CAF", "PCM_16"),
]
OTHERS = [
    *(("SVX", "PCM_16"), ("RF64", "PCM_24"), ("WAV", "ALAW")),
    *(("AVR", "PCM_16"), ("MPC2K", "PCM_16"), ("VOC", "PCM_16"), ("VOC", "ULAW")),
]


@pytest.mark.parametrize(("kind", "subtype"), [*CHUNKED, *OTHERS])
def test_what_lacks_a_tenth_of_a_second_is_truncated_and_less_is_kept(kind: str, subtype: str) -> None:
    content = encoded(SOUND, kind, subtype)
    assert audio.probe(content).notes == ()
    info = audio.probe(content[:-2])
    assert len(SOUND) - 2 <= info.num_frames < len(SOUND)
    assert "ms more than there is" in info.notes[0]
    bytes_a_second = 3 * RATE if subtype == "PCM_24" else 2 * RATE if subtype == "PCM_16" else RATE
    with pytest.raises(TruncatedFileError, match=r"truncated: its header states .* bytes of sound"):
        audio.probe(content[: -round(0.1 * bytes_a_second) - 8])
    assert audio.probe(content[: -round(0.09 * bytes_a_second)]).num_frames > 5.9 * RATE


def test_a_psion_recording_that_is_cut() -> None:
    content = encoded(noise(2.0, 8000), "WVE", "ALAW", 8000)
    assert audio.probe(content).notes == ()
    with pytest.raises(TruncatedFileError, match="16000 bytes of sound, 15000 are there"):
        audio.probe(content[:-1000])


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        *(("PAF", "PCM_16"), ("PVF", "PCM_16"), ("IRCAM", "PCM_16")),
        *(("MAT4", "PCM_16"), ("MAT5", "PCM_16"), ("XI", "DPCM_16")),
    ],
)
def test_where_no_end_is_stated_a_note_says_so(kind: str, subtype: str) -> None:
    (note,) = audio.probe(encoded(noise(1.0), kind, subtype)[:-8000]).notes
    assert "cannot be checked" in note
    assert "WAV or FLAC" in note


def test_a_wav_whose_size_is_two_bytes_too_large(tmp_path: Path) -> None:
    content = bytearray(encoded(SOUND, "WAV", "PCM_16"))
    at = content.index(b"data") + 4
    struct.pack_into("<I", content, at, 2 * len(SOUND) + 2)
    check(bytes(content), tmp_path / "a.wav", len(SOUND))
    assert audio.probe(tmp_path / "a.wav").notes == ("its header states 0.062 ms more than there is",)


@pytest.mark.parametrize("first", [b"\x55\x55\x55\x55", b"\x55\xd5\x55\xd5", b"LIST", bytes(4)])
def test_a_streamed_wav_may_begin_with_any_bytes(tmp_path: Path, first: bytes) -> None:
    """A-law's silence is 0x55, which is a letter."""
    content = bytearray(encoded(SOUND, "WAV", "ALAW"))
    at = content.index(b"data") + 4
    struct.pack_into("<I", content, at, 0)
    content[at + 4 : at + 8] = first
    check(bytes(content), tmp_path / "a.wav", len(SOUND))


def test_a_wav_without_sound_but_with_chunks_is_empty() -> None:
    content = bytearray(encoded(SOUND[:0], "WAV", "PCM_16"))
    content = content[: content.index(b"data") + 8]
    content[-4:] = bytes(4)
    for chunks in (b"LIST\4\0\0\0INFO", b"LIST\4\0\0\0INFOid3 \3\0\0\0abc\0", b""):
        with pytest.raises(EmptyFileError, match="holds no samples"):
            audio.probe(bytes(content) + chunks)


@pytest.mark.parametrize(
    ("kind", "mark", "size", "fill"),
    [
        ("AU", b".snd", 8, b"\xff" * 4),
        ("W64", b"riff", 16, b"\xff" * 8),
        ("CAF", b"data", 4, b"\xff" * 8),
        ("AIFF", b"SSND", 4, bytes(4)),
        ("AIFF", b"SSND", 4, b"\xff" * 4),
    ],
)
def test_streamed_files_of_other_kinds(tmp_path: Path, kind: str, mark: bytes, size: int, fill: bytes) -> None:
    content = bytearray(encoded(SOUND, kind, "PCM_16"))
    at = content.index(mark) + size
    content[at : at + len(fill)] = fill
    whole = check(bytes(content), tmp_path / "a", len(SOUND))
    np.testing.assert_allclose(whole, SOUND, rtol=0, atol=2**-15)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64"])
def test_depths_and_chunks_of_odd_sizes(tmp_path: Path, kind: str, subtype: str) -> None:
    sound = SOUND[: 3 * RATE - 1]
    content = encoded(sound, kind, subtype)
    padded = content + b"\0" * (len(content) % 2) + b"LIST\5\0\0\0INFOx\0"
    whole = check(padded, tmp_path / "a.wav", len(sound))
    np.testing.assert_allclose(whole, sound, rtol=0, atol=2.0**-7 if subtype == "PCM_U8" else 2.0**-15)


def test_floats_beyond_full_scale_are_kept() -> None:
    loud = (4 * SOUND / np.abs(SOUND).max()).astype(np.float32)
    np.testing.assert_array_equal(audio.read(encoded(loud, "WAV", "FLOAT"))[0], loud)


def test_packets_that_cannot_be_found_are_an_error() -> None:
    content = encoded(SOUND, "CAF", "ALAC_16")
    assert audio.probe(content).num_frames == len(SOUND)
    with pytest.raises(TruncatedFileError, match="truncated"):
        audio.probe(content[:-2])


@pytest.mark.parametrize("rate", [1, 7, 16, 1999, 1_000_001, 2**31 - 1])
def test_absurd_rates_are_refused(tmp_path: Path, rate: int) -> None:
    content = bytearray(encoded(SOUND, "WAV", "PCM_16"))
    struct.pack_into("<I", content, 24, rate)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(
        AudioFileError, match=rf"a\.wav: its header states a sample rate of {rate} Hz; rates from 2,000"
    ):
        audio.read(tmp_path / "a.wav", sample_rate_hz=RATE)


@pytest.mark.parametrize("rate", [2000, 1_000_000])
def test_rates_at_the_bounds_are_read(rate: int) -> None:
    content = bytearray(encoded(SOUND, "WAV", "PCM_16"))
    struct.pack_into("<I", content, 24, rate)
    assert audio.probe(bytes(content)).sample_rate_hz == rate


def test_lengths_that_cannot_be_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    flac = bytearray(encoded(SOUND, "FLAC", "PCM_16"))
    flac[21] |= 0x0F
    flac[22:26] = b"\xff" * 4  # 2^36 - 1
    xing = bytearray(mp3(SOUND))
    at = max(xing.find(b"Xing"), xing.find(b"Info"))
    struct.pack_into(">I", xing, at + 8, 0xFFFFFFFF)
    ogg = ogg_pages(encoded(SOUND, "OGG", "VORBIS"))
    last = bytearray(ogg[-1])
    struct.pack_into("<q", last, 6, 2**62)
    last[22:26] = bytes(4)
    struct.pack_into("<I", last, 22, ogg_checksum(bytes(last)))
    for content in (bytes(flac), bytes(xing), b"".join(ogg[:-1]) + bytes(last)):
        with pytest.raises(AudioFileError, match=r"damaged|truncated"):
            audio.read(content)
    # one that could be is found out while decoding
    flac[21] &= 0xF0
    struct.pack_into(">I", flac, 22, 2000 * len(flac))
    with pytest.raises(TruncatedFileError, match="cannot be decoded to its end"):
        audio.read(bytes(flac))


def test_silence_may_be_small() -> None:
    """The least that encoders make of silence is within the bound on samples a byte."""
    for kind, subtype in (("FLAC", "PCM_16"), ("OGG", "OPUS"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")):
        content = encoded(np.zeros(60 * RATE, np.float32), kind, subtype)
        assert len(audio.read(content)[0]) == 60 * RATE
