"""Embedded corpora: every form that `xvectors embed` writes is read by every command that takes embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from support.commands import run
from xvectors.audio.condition import unknown_conditions
from xvectors.corpus import Manifest
from xvectors.embeddings import load_embeddings, write_embeddings
from xvectors.encoder import Embedded
from xvectors.errors import CheckpointError


@pytest.fixture(scope="module")
def written(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 recordings embedded by the starter as emb.npz, emb.csv, emb.parquet and parts of npz."""
    out = tmp_path_factory.mktemp("embedded")
    rows = [
        f"{toy_corpus / f's0{s}' / f'u{u}.flac'},s0{s},s0{s}/u{u},{'mf'[s % 2]}" for s in range(3) for u in range(8)
    ]
    table = out / "corpus.csv"
    table.write_text("\n".join(["path,speaker,id,gender", *rows]) + "\n")
    for name, options in (("emb.npz", []), ("emb.csv", []), ("emb.parquet", ["--rows-per-part", "10"])):
        run("embed", table, "-o", out / name, "--device", "cpu", "-q", *options)
    run("embed", table, "-o", out / "parts", "--parts", "npz", "--device", "cpu", "-q")
    return out


FORMS = ("emb.npz", "emb.csv", "emb.parquet", "parts")


def test_every_form_reads_back_equal(written: Path) -> None:
    columns = ("id", "path", "speaker", "gender", "age", "duration_s")
    expected = load_embeddings(written / "emb.npz", *columns)
    assert expected["embeddings"].shape == (24, 128)
    for form in FORMS:
        found = load_embeddings(written / form, "id", optional=columns[1:])
        assert found.keys() == expected.keys()
        for key in ("id", "path", "speaker", "gender", "age", "duration_s"):
            np.testing.assert_array_equal(found[key], expected[key], err_msg=f"{form} {key}")
        if form == "emb.csv":  # the very numbers of the same run
            np.testing.assert_array_equal(found["embeddings"], expected["embeddings"])
        # other batches: rounding, as two runs over one corpus differ
        np.testing.assert_allclose(found["embeddings"], expected["embeddings"], atol=1e-4)
    one = load_embeddings(written / "emb.parquet" / "part-00001.parquet", "id")
    assert one["id"].tolist() == expected["id"][10:20].tolist()


def test_every_form_with_speech_holds_the_condition(written: Path, tmp_path: Path) -> None:
    expected = load_embeddings(written / "emb.npz", "id", "condition")["condition"]
    assert expected.dtype == np.float32
    assert expected.shape == (24, 6)
    assert np.isfinite(expected[:, :4]).all()
    for form in ("emb.parquet", "parts"):
        found = load_embeddings(written / form, "condition")["condition"]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected, err_msg=form)
    part = load_embeddings(written / "emb.parquet" / "part-00001.parquet", optional=["condition"])["condition"]
    np.testing.assert_array_equal(part, expected[10:20])
    assert "condition" not in load_embeddings(written / "emb.csv", optional=["condition"])


def test_conditions_are_ours_or_left_out_and_never_infinite(tmp_path: Path) -> None:
    rows, path = np.eye(3, dtype=np.float32), tmp_path / "emb.npz"
    for theirs in (np.array(["phone", "room", "car"]), np.ones((3, 2)), np.ones(3)):
        np.savez(path, embeddings=rows, condition=theirs)
        assert load_embeddings(path, optional=["condition"]).keys() == {"embeddings"}
    pq.write_table(
        pa.table({"embeddings": rows.tolist(), "condition": ["phone", "room", "car"]}), tmp_path / "a.parquet"
    )
    assert load_embeddings(tmp_path / "a.parquet", optional=["condition"]).keys() == {"embeddings"}
    for damaged in (np.full((3, 6), np.inf), np.ones((2, 6))):
        np.savez(path, embeddings=rows, condition=damaged)
        with pytest.raises(CheckpointError, match=r"emb\.npz.*condition has infinite values, or not one row"):
            load_embeddings(path, optional=["condition"])


def test_the_commands_take_every_form(written: Path, tmp_path: Path) -> None:
    figures = set()
    for form in FORMS:
        trials = run("trials", written / form, "-o", tmp_path / "t.csv").stdout
        assert trials.startswith("84 target and 192 non-target trials")
        scores = tmp_path / f"{form}.scores.csv"
        run("score", written / form, "--trials", tmp_path / "t.csv", "-o", scores)
        printed = run("evaluate", "--scores", scores, "--speakers", written / form).stdout
        figures.add(next(line for line in printed.splitlines() if line.startswith("EER")))
    assert len(figures) == 1


def test_tables_keep_names_that_spreadsheets_would_compute(tmp_path: Path) -> None:
    names = ["=1+1", "-5", "@x", "'quoted'"]
    manifest = Manifest.from_rows([{"path": f"{name}/a.wav", "speaker": name} for name in names], tmp_path)
    seconds = np.full(4, 2.5)
    vectors = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
    embedded = Embedded(
        embeddings=vectors,
        rows=np.arange(4),
        failures=[],
        duration_s=seconds,
        speech_s=seconds,
        condition=unknown_conditions(4),
    )
    write_embeddings(tmp_path / "emb.csv", manifest, embedded)
    assert (tmp_path / "emb.csv").stat().st_mode & 0o777 == 0o600
    found = load_embeddings(tmp_path / "emb.csv", "id", "speaker")
    assert found["speaker"].tolist() == names
    assert found["id"].tolist() == [f"{name}/a" for name in names]
    np.testing.assert_array_equal(found["embeddings"], vectors)
    first = (tmp_path / "emb.csv").read_text().splitlines()[1].split(",")
    assert (first[0], first[2], first[-2]) == ("'=1+1/a", "'=1+1", "-1.0")


def test_what_holds_no_embeddings_says_so(written: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "text.parquet").write_text("no parquet")
    (tmp_path / "text.csv").write_text("id,speaker\na,b\n")
    for name, message in (
        ("none.npz", "none.npz: no such file; `xvectors embed"),
        ("none.parquet", "none.parquet: no such file"),
        ("folder", "folder holds no _embedding.json"),
        ("text.npz", "text.npz is damaged or not an embeddings file"),
        ("text.parquet", "text.parquet is damaged"),
        ("text.csv", "its header names no columns e0, e1"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_embeddings(tmp_path / name)
    with pytest.raises(CheckpointError, match="it has no session"):
        load_embeddings(written / "emb.csv", "session")


def test_the_suffix_says_the_form(toy_corpus: Path, tmp_path: Path) -> None:
    for name in ("out.txt", "out", "out.xlsx"):
        printed = run("embed", toy_corpus, "-o", tmp_path / name, "--device", "cpu", "-q", status=2)
        assert "end the name in one of them" in printed.stderr
        assert all(suffix in printed.stderr for suffix in (".npz", ".csv", ".parquet"))
    assert list(tmp_path.iterdir()) == []
