"""Embedding a corpus into parts."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from xvectors.corpus import Manifest, open_corpus
from xvectors.encoder import SpeakerEncoder, save_embeddings
from xvectors.encoder.sharded import embed_in_parts, parse_shard, read_parts
from xvectors.errors import CheckpointError, ConfigError, StorageError


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    return SpeakerEncoder.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def manifest(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """25 recordings, of which rows 3, 12 and 13 cannot be read."""
    rows = open_corpus(toy_corpus).take(np.arange(25))
    listed = [{"path": str(rows.full_path(i)), "speaker": rows.row(i).speaker, "age": 20 + i} for i in range(25)]
    for row in (3, 12, 13):
        listed[row]["path"] = f"gone{row}.wav"
    return Manifest.from_rows(listed, root=tmp_path_factory.mktemp("none"))


@pytest.fixture(scope="module")
def whole(encoder: SpeakerEncoder, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What one npz of all rows holds."""
    path = tmp_path_factory.mktemp("whole") / "emb.npz"
    save_embeddings(path, manifest, encoder.encode_manifest(manifest))
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def assert_equal(parts: dict, whole: dict) -> None:
    assert parts.keys() == whole.keys()
    np.testing.assert_allclose(parts["embeddings"], whole["embeddings"], atol=1e-4)
    for key in whole.keys() - {"embeddings"}:
        np.testing.assert_array_equal(parts[key], whole[key])


@pytest.mark.parametrize("part_format", ["parquet", "npz"])
def test_parts_are_the_whole(
    encoder: SpeakerEncoder, manifest: Manifest, whole: dict, tmp_path: Path, part_format: str
) -> None:
    out = tmp_path / "emb"
    written = embed_in_parts(encoder, manifest, out, part_format=part_format, rows_per_part=10)
    assert (written.num_there, written.num_written, written.num_embedded, written.num_failed) == (0, 3, 22, 3)
    assert sorted(path.name for path in out.glob("part*")) == [f"part-0000{i}.{part_format}" for i in range(3)]
    assert_equal(read_parts(out), whole)
    assert len(whole["embeddings"]) == 22
    with (out / "_failures.csv").open(newline="") as file:
        failures = list(csv.DictReader(file))
    assert [row["row"] for row in failures] == ["3", "12", "13"]
    assert failures[0]["id"] == "gone3"
    assert "gone3.wav: no such file" in failures[0]["reason"]


def test_readers_of_parquet_see_one_table(
    encoder: SpeakerEncoder, manifest: Manifest, whole: dict, tmp_path: Path
) -> None:
    embed_in_parts(encoder, manifest, tmp_path / "emb.parquet", rows_per_part=10)
    table = parquet.read_table(tmp_path / "emb.parquet")
    names = ["id", "path", "speaker", "gender", "age", "start_s", "duration_s", "speech_s", "condition", "embedding"]
    assert (table.num_rows, table.column_names) == (22, names)
    assert table["id"].to_pylist() == whole["id"].tolist()
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), whole["embeddings"], atol=1e-4)
    about = json.loads(parquet.read_schema(tmp_path / "emb.parquet" / "part-00000.parquet").metadata[b"xvectors"])
    assert about["system_sha256"] == encoder.fingerprint


def test_a_run_goes_on_where_it_stopped(
    encoder: SpeakerEncoder, manifest: Manifest, whole: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed, calls = encoder.encode_manifest, []

    def stopped(manifest: Manifest, *, rows: np.ndarray, **settings: object) -> object:
        calls.append(rows.tolist())
        if len(calls) == 2:
            raise KeyboardInterrupt
        return embed(manifest, rows=rows, **settings)

    monkeypatch.setattr(encoder, "encode_manifest", stopped)
    with pytest.raises(KeyboardInterrupt):
        embed_in_parts(encoder, manifest, tmp_path, rows_per_part=10)
    first = tmp_path / "part-00000.parquet"
    before = first.stat().st_mtime_ns
    with pytest.raises(CheckpointError, match=r"lacks 2 of its 3 parts, such as part-00001\.parquet; run the same"):
        read_parts(tmp_path)
    written = embed_in_parts(encoder, manifest, tmp_path, rows_per_part=10)
    assert (written.num_there, written.num_written) == (1, 2)
    assert [rows[0] for rows in calls] == [0, 10, 10, 20]
    assert first.stat().st_mtime_ns == before
    assert_equal(read_parts(tmp_path), whole)
    assert embed_in_parts(encoder, manifest, tmp_path, rows_per_part=10).num_written == 0
    assert len((tmp_path / "_failures.csv").read_text().splitlines()) == 4


def test_shards_divide_the_work(encoder: SpeakerEncoder, manifest: Manifest, whole: dict, tmp_path: Path) -> None:
    written = [embed_in_parts(encoder, manifest, tmp_path, shard=(i, 4), rows_per_part=4) for i in (2, 1, 4, 3)]
    assert [run.num_written for run in written] == [2, 2, 1, 2]
    assert sum(run.num_embedded for run in written) == 22
    assert_equal(read_parts(tmp_path), whole)
    assert len((tmp_path / "_failures.csv").read_text().splitlines()) == 4


def test_a_part_of_failures_alone_is_a_part(encoder: SpeakerEncoder, manifest: Manifest, tmp_path: Path) -> None:
    for part_format in ("parquet", "npz"):
        embed_in_parts(
            encoder, manifest.take([12, 13, 14]), tmp_path / part_format, part_format=part_format, rows_per_part=2
        )
        assert read_parts(tmp_path / part_format)["embeddings"].shape == (1, 128)
        assert read_parts(tmp_path / part_format)["id"].tolist() == [manifest.id[14]]


def test_what_was_begun_otherwise(encoder: SpeakerEncoder, manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed_in_parts(encoder, manifest.take([0, 1]), out, rows_per_part=10)
    cases = [
        ({"rows_per_part": 5}, "parts of 10 rows, not 5"),
        ({"part_format": "npz", "rows_per_part": 10}, "parquet parts, not npz"),
        ({"trim_silence": None, "rows_per_part": 10}, "trim_silence 'energy', not 'none'"),
    ]
    for settings, message in cases:
        with pytest.raises(ConfigError, match=f"was begun with {message}; name another folder"):
            embed_in_parts(encoder, manifest.take([0, 1]), out, **settings)
    with pytest.raises(ConfigError, match="or the corpus was changed; a corpus of 2 rows, not 3"):
        embed_in_parts(encoder, manifest.take([0, 1, 2]), out, rows_per_part=10)
    about = json.loads((out / "_embedding.json").read_text())
    (out / "_embedding.json").write_text(json.dumps({**about, "system_sha256": "0"}))
    with pytest.raises(ConfigError, match="was begun with another system; name"):
        embed_in_parts(encoder, manifest.take([0, 1]), out, rows_per_part=10)
    (out / "_embedding.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"_embedding\.json is damaged"):
        embed_in_parts(encoder, manifest.take([0, 1]), out, rows_per_part=10)
    (out / "_embedding.json").unlink()
    with pytest.raises(ConfigError, match=r"holds parts without _embedding\.json"):
        embed_in_parts(encoder, manifest.take([0, 1]), out, rows_per_part=10)


def test_impossible_settings(encoder: SpeakerEncoder, manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="part format 'csv' is unknown; known are npz, parquet"):
        embed_in_parts(encoder, manifest, tmp_path, part_format="csv")
    with pytest.raises(ConfigError, match="rows_per_part must be at least 1, not 0"):
        embed_in_parts(encoder, manifest, tmp_path, rows_per_part=0)
    with pytest.raises(ConfigError, match="shard 3 of 2 does not exist"):
        embed_in_parts(encoder, manifest, tmp_path, shard=(3, 2))
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file is a file; name a folder for the parts"):
        embed_in_parts(encoder, manifest, tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"holds no _embedding\.json, so it is not a folder of embeddings"):
        read_parts(tmp_path)


def test_shards_by_name() -> None:
    assert parse_shard("2/16") == (2, 16)
    for text in ("0/4", "5/4", "1", "a/b", "1/2/3", "-1/4", ""):
        with pytest.raises(ConfigError, match="must have the form i/n, from 1/n to n/n, as in 1/4"):
            parse_shard(text)


def test_a_damaged_part(encoder: SpeakerEncoder, manifest: Manifest, tmp_path: Path) -> None:
    for part_format in ("parquet", "npz"):
        out = tmp_path / part_format
        embed_in_parts(encoder, manifest.take([0, 1]), out, part_format=part_format)
        (out / f"part-00000.{part_format}").write_bytes(b"x" * 100)
        with pytest.raises(
            CheckpointError, match=rf"part-00000\.{part_format} is damaged: .*remove it and embed again"
        ):
            read_parts(out)


@pytest.mark.slow
def test_a_killed_run_goes_on(toy_corpus: Path, encoder: SpeakerEncoder, tmp_path: Path) -> None:
    """SIGKILL at the first part, then the same command again."""
    out = tmp_path / "emb.parquet"
    command = [sys.executable, "-m", "xvectors", "embed", toy_corpus, "-o", out]
    command = [*map(str, command), "--rows-per-part", "8", "--device", "cpu", "--threads", "1", "-q"]
    run = subprocess.Popen(command)
    while not any(out.glob("part-*")) and run.poll() is None:
        time.sleep(0.002)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    there = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 1 <= len(there) < 10
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    left = 10 - len(there)
    assert printed == f"{8 * left} embeddings of 128 dimensions in {left} parts, {len(there)} were there: {out}\n"
    assert all((out / name).stat().st_mtime_ns == time_ns for name, time_ns in there.items())
    corpus = open_corpus(toy_corpus)
    np.testing.assert_allclose(read_parts(out)["embeddings"], encoder.encode_manifest(corpus).embeddings, atol=1e-4)
