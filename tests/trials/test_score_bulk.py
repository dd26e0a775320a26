"""Score files read in bulk: what comes out equals what reading line by line gives, or it is left to that."""

from __future__ import annotations

import logging
import re
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xvectors.errors import ManifestError
from xvectors.trials import score_bulk, score_files
from xvectors.trials.score_bulk import Irregular, read_bulk
from xvectors.trials.score_files import read_scores
from xvectors.trials.score_lines import ScoreColumns, form_of, read_lines

CHUNK_BYTES = 300
"""A few lines: files of some lines are parted then as those of millions are."""

NAME = st.text("abyz019/_-.éß語", min_size=1, max_size=12)
NUMBER = st.floats(allow_nan=False, allow_infinity=False).flatmap(
    lambda number: (
        st.sampled_from([repr(number), f"{number:.6f}", f"{number:.7g}", f"{number:+.3e}"])
        if abs(number) < 1e9
        else st.just(repr(number))
    )
)
LABEL = st.sampled_from(["1", "0", "target", "nontarget", "TARGET", "imposter", "tgt"])
HEADERS = (("enroll", "test", "score", "label"), ("key", "other", "UTT1", "utt2", "llr"), ("score", "enroll", "test"))


def both(text: str) -> tuple[ScoreColumns | str, ScoreColumns | str]:
    """What either reader makes of a file: columns, or what it complains of."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(score_bulk, "CHUNK_BYTES", CHUNK_BYTES):
        path = Path(folder) / "scores.txt"
        path.write_bytes(text.encode())
        form = form_of(path)
        read: list[ScoreColumns | str] = []
        for reader in (read_bulk, read_lines):
            try:
                read.append(reader(path, form))
            except (Irregular, ManifestError) as error:
                read.append(str(error))
    return read[0], read[1]


def assert_equal(bulk: ScoreColumns | str, lines: ScoreColumns | str) -> None:
    assert isinstance(bulk, ScoreColumns), bulk
    assert isinstance(lines, ScoreColumns), lines
    assert bulk.names == lines.names == tuple(sorted(bulk.names))
    for column in ("enroll", "test", "scores"):
        left, right = getattr(bulk, column), getattr(lines, column)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(np.signbit(bulk.scores), np.signbit(lines.scores))
    assert (bulk.target is None) == (lines.target is None)
    if bulk.target is not None:
        np.testing.assert_array_equal(bulk.target, lines.target)


@st.composite
def plain_files(draw: st.DrawFn) -> str:
    separator = draw(st.sampled_from(" \t,;"))
    # semicolons part tables only
    header = draw(st.sampled_from(HEADERS if separator == ";" else (None, *(HEADERS if separator != " " else ()))))
    fields = ("enroll", "test", "score", "label")[: draw(st.sampled_from([3, 4]))] if header is None else header
    kinds = {"score": NUMBER, "llr": NUMBER, "label": LABEL, "key": LABEL, "other": st.text("xyz '", max_size=3)}
    rows = draw(st.lists(st.tuples(*(kinds.get(field, NAME) for field in fields)), min_size=1, max_size=40))
    if "other" in fields:  # a column that is not read must be ASCII, or nobody would look whether it is UTF-8
        rows = [tuple(cell.encode("ascii", "replace").decode() for cell in row) for row in rows]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = [separator.join(row) for row in rows]
    for at in draw(st.lists(st.integers(0, len(lines)), max_size=3)):
        lines.insert(at, "")
    if header is not None:
        lines.insert(0, separator.join(header))
    return end.join(lines) + draw(st.sampled_from(["", end, end + end]))


@settings(deadline=None, max_examples=200)
@given(plain_files())
def test_plain_files_are_read_in_bulk_and_as_line_by_line(text: str) -> None:
    assert_equal(*both(text))


ODD_NAMES = [
    "a",
    "b",
    " a",
    "a ",
    "a b",
    "",
    '"a"',
    'a"',
    "a\tb",
    "\x85a",
    "\ufeffa",
    "a\x00",
    "\u2028",
    "a\x0bb",
    "a\rb",
]
ODD_SCORES = [
    "1",
    "0.5",
    " 2",
    "+3",
    "1_0",
    ".5",
    "5.",
    "1e400",
    "1e-400",
    "-0",
    "nan",
    "inf",
    "0x1",
    "1d2",
    "",
    "NA",
    "१",
]
ODD_LABELS = ["1", "0", "true", "Target", "1 ", " 0", "2", "", "null", '"1"']


@st.composite
def odd_files(draw: st.DrawFn) -> str:
    separator = draw(st.sampled_from(" \t,"))
    header = draw(st.sampled_from(["", "enroll,test,score,label\n", "enroll,test,score,label,other\n"]))
    header = "" if separator == " " else header.replace(",", separator)

    def some(odd: list[str]) -> st.SearchStrategy[str]:
        return st.integers(0, 9).flatmap(lambda at: st.sampled_from(odd if at == 0 else odd[:2]))

    cells = [some(ODD_NAMES), some(ODD_NAMES), some(ODD_SCORES), some(ODD_LABELS)]
    if "other" in header:
        cells.append(st.sampled_from(["x", "", '"', '"y', "é"]))
    rows = draw(st.lists(st.tuples(*cells), min_size=1, max_size=12))
    lines = [separator.join(row) + draw(some(["", "", " ", separator + "x", "\r", "\n ", "\n\n"])) for row in rows]
    return draw(some(["", "", "\ufeff", "\n", " \n"])) + header + "\n".join(lines)


@settings(deadline=None, max_examples=250)
@given(odd_files())
def test_odd_files_are_read_the_same_or_left_to_the_reader_of_lines(text: str) -> None:
    bulk, lines = both(text)
    if isinstance(bulk, ScoreColumns):
        assert_equal(bulk, lines)


@pytest.mark.parametrize(("text", "reason"), [
    ("a  b 1 1\n", "lines differ in their number of fields, or a score is written in an unusual way"),
    ("a b 1 1\na b 1_0 1\n", "a score is written in an unusual way"),
    ("a,b ,1\n", r"there are spaces around or in the name 'b '"),
    ('enroll,test,score\n"a",b,1\n', "it has quoted cells"),
    ('"enroll",test,score\na,b,1\n', "its header has quotes or spaces above it"),
    (" \nenroll,test,score\na,b,1\n", "its header has quotes or spaces above it"),
    ("enroll,test,score,other\na,b,1,é\n", "it has columns that are not read and may not be UTF-8"),
    ("a b nan\n", "it has scores that are not finite"),
    ("a b 1 yes\n", "it has labels that are not known"),
    ("enroll,test,score\n", "it holds no scores"),
    ("a b\n", "its first line has 2 fields"),
    ("a b 1\n" * 50 + "a" * 400 + " b 1\n", "it has a line of more than 300 bytes"),
])  # fmt: skip
def test_what_is_left_to_the_reader_of_lines(text: str, reason: str) -> None:
    bulk, _ = both(text)
    assert isinstance(bulk, str)
    assert re.search(reason, bulk), bulk


def test_names_are_numbered_across_chunks() -> None:
    rng = np.random.default_rng(0)
    enroll, test = rng.integers(0, 30, (2, 500))
    text = "".join(f"n{e:02d} n{t:02d} {e - t} {int(e == t)}\n" for e, t in zip(enroll, test, strict=True))
    bulk, lines = both(text)
    assert_equal(bulk, lines)
    assert isinstance(bulk, ScoreColumns)
    np.testing.assert_array_equal(bulk.enroll, enroll)
    np.testing.assert_array_equal(bulk.test, test)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_chunks_of_blank_lines_hold_nothing(end: str) -> None:
    blank = end * CHUNK_BYTES
    assert_equal(*both(f"{blank}a b 1 0{end}{blank}b c 2 1{end}{blank}"))


def test_room_is_made_where_the_first_lines_promised_fewer() -> None:
    assert_equal(*both(f"{'a' * 60} {'b' * 60} 0.125 target\n" * 4 + "a b 1 0\n" * 500))


def test_a_large_file_that_is_not_plain_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(score_files, "BULK_BYTES", 0)
    path = tmp_path / "scores.txt"
    path.write_text("a  b 1.5 target\na c 0.5 nontarget\n")
    with caplog.at_level(logging.WARNING):
        scores = read_scores(path)
    assert scores.scores.tolist() == [1.5, 0.5]
    assert f"{path} is read line by line, which is slow: " in caplog.text
    path.write_text("a b 1.5 target\na c x nontarget\n")
    with pytest.raises(ManifestError, match="line 2: the score 'x' is not a number"):
        read_scores(path)
