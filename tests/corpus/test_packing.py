"""Corpora in tar shards: what is packed, what is read back, and what an interrupted run leaves."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from support.commands import run
from xvectors import audio
from xvectors.corpus import Manifest, Reason, open_corpus, pack, scan
from xvectors.errors import AudioFileError, ConfigError, ManifestError, MissingFileError

RATE = 16_000


def test_shards_have_the_layout_of_webdataset(toy_corpus: Path, tmp_path: Path) -> None:
    printed = run("pack", toy_corpus, "-o", tmp_path / "shards", "--per-shard", 30, "--quiet")
    assert "80 recordings of 10 speakers in 3 shards" in printed.stdout
    corpus, seen = open_corpus(toy_corpus), []
    original = {utterance_id: row for row, utterance_id in enumerate(corpus.id)}
    for number, size in enumerate((30, 30, 20)):
        with tarfile.open(tmp_path / "shards" / f"shard-{number:06d}.tar", "r:") as tar:
            names = tar.getnames()
            assert [name.partition(".")[2] for name in names] == ["flac", "json"] * size
            for sound, facts in zip(names[::2], names[1::2], strict=True):
                assert sound.partition(".")[0] == facts.partition(".")[0]
                known = json.loads(tar.extractfile(facts).read())
                utterance = corpus.row(original[known["id"]])
                assert (known["speaker"], known["session"]) == (utterance.speaker, utterance.session)
                assert tar.extractfile(sound).read() == utterance.path.read_bytes()
                seen.append(known["id"])
    assert sorted(seen) == sorted(original)
    assert seen != sorted(seen)  # every shard is a sample of the corpus


def test_packed_recordings_are_read_like_files(toy_corpus: Path, tmp_path: Path) -> None:
    corpus = open_corpus(toy_corpus)
    pack(corpus, tmp_path / "shards", per_shard=25)
    packed = open_corpus(tmp_path / "shards")
    assert (packed.speakers, packed.sessions) == (corpus.speakers, corpus.sessions)
    row_of = {utterance_id: row for row, utterance_id in enumerate(corpus.id)}
    rows = [row_of[utterance_id] for utterance_id in packed.id]
    assert (corpus.gender[rows] == packed.gender).all()
    for at in (0, 41, 79):
        whole, rate_hz = audio.read(packed.full_path(at))
        np.testing.assert_array_equal(whole, audio.read(corpus.full_path(rows[at]))[0])
        part, _ = audio.read(packed.full_path(at), start_s=0.2, duration_s=0.3)
        np.testing.assert_array_equal(part, whole[round(0.2 * rate_hz) : round(0.5 * rate_hz)])
    assert scan(packed).report.hours == pytest.approx(scan(corpus).report.hours)


def test_segments_channels_and_rates_are_kept(tmp_path: Path) -> None:
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (8000, 2))
    soundfile.write(tmp_path / "long.wav", wave, 8000, subtype="FLOAT")
    rows = [
        {"path": "long.wav", "speaker": "a", "id": "first", "start_s": 0, "duration_s": 0.25},
        {"path": "long.wav", "speaker": "b", "id": "second", "start_s": 0.5, "duration_s": 0.5},
    ]
    packed = pack(Manifest.from_rows(rows, root=tmp_path), tmp_path / "shards").manifest
    for row, utterance_id in enumerate(packed.id):
        first, last = {"first": (0, 2000), "second": (4000, 8000)}[utterance_id]
        read = np.concatenate(list(audio.blocks(packed.full_path(row))))
        assert read.shape == (last - first, 2)
        assert np.abs(read - wave[first:last]).max() <= 2**-22  # rounded to 24 bits
    assert sorted(scan(open_corpus(tmp_path / "shards")).manifest.duration_s.tolist()) == [0.25, 0.5]


def test_an_interrupted_run_continues_with_the_missing_shards(toy_corpus: Path, tmp_path: Path) -> None:
    out, corpus = tmp_path / "shards", open_corpus(toy_corpus)
    pack(corpus, out, per_shard=30)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    kept = out / "shard-000000.tar"
    written = kept.stat().st_mtime_ns
    (out / "shard-000001.tar").unlink()
    (out / "manifest.csv").unlink()
    pack(corpus, out, per_shard=30, workers=3)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert kept.stat().st_mtime_ns == written
    with pytest.raises(ConfigError, match="another size"):
        pack(corpus, out, per_shard=40)
    with pytest.raises(ConfigError, match="not empty"):
        pack(corpus, toy_corpus)
    with pytest.raises(ConfigError, match="at least 1"):
        pack(corpus, tmp_path / "none", per_shard=0)


def test_what_cannot_be_decoded_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "good.wav", np.full(RATE, 0.25), RATE)
    rows = [{"path": f"{name}.wav", "speaker": "a"} for name in ("bad", "good")]
    packed = pack(Manifest.from_rows(rows, root=tmp_path), tmp_path / "shards")
    assert (len(packed.manifest), packed.num_left_out) == (1, 1)
    assert "bad.wav" in caplog.text
    with pytest.raises(ManifestError, match="none of its recordings"):
        pack(Manifest.from_rows(rows[:1], root=tmp_path), tmp_path / "none")


def test_damaged_shards_are_named(toy_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    manifest = pack(open_corpus(toy_corpus), out, per_shard=80).manifest
    shard = out / "shard-000000.tar"
    with pytest.raises(MissingFileError, match=r"holds no 1\.flac.*pack the corpus again"):
        audio.read(shard / "1.flac")
    content = shard.read_bytes()
    shard.write_bytes(content[:5000])
    with pytest.raises(AudioFileError, match=r"shard-000000\.tar.*(truncated|damaged)"):
        audio.read(manifest.full_path(0))
    with pytest.raises(ManifestError, match=Reason.UNREADABLE.value):
        scan(open_corpus(out))
    shard.write_bytes(content)
    assert len(scan(open_corpus(out)).manifest) == 80
    shard.unlink()
    with pytest.raises(ManifestError, match=Reason.MISSING.value):
        scan(open_corpus(out))
