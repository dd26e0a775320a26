"""Trial lists in both published orders and as tables, what is wrong with them, and models of several recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xvectors.errors import ManifestError
from xvectors.trials import (
    RecordingRows,
    TrialList,
    Trials,
    all_pairs,
    list_files,
    read_enrollment,
    read_trials,
    write_trials,
)


def written(folder: Path, text: str, name: str = "trials.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def triples(trials: TrialList) -> list[tuple[str, str, bool]]:
    return [
        (trials.names[e], trials.names[t], bool(y))
        for e, t, y in zip(trials.enroll, trials.test, trials.target, strict=True)
    ]


EXPECTED = [("a/1.wav", "a/2.wav", True), ("a/1.wav", "b/1.wav", False), ("b/1.wav", "a/2.wav", False)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("voxceleb.txt", "1 a/1.wav a/2.wav\n0 a/1.wav b/1.wav\n0 b/1.wav a/2.wav\n"),
        ("kaldi", "a/1.wav a/2.wav target\n\na/1.wav b/1.wav nontarget\n  b/1.wav\ta/2.wav nontarget"),
        ("numbers", "a/1.wav a/2.wav 1\na/1.wav b/1.wav 0\nb/1.wav a/2.wav 0\n"),
        ("byte-order-mark.txt", "\ufeffa/1.wav a/2.wav Target\r\na/1.wav b/1.wav imposter\r\nb/1.wav a/2.wav 0\r\n"),
        ("t.csv", "enroll,test,target\na/1.wav,a/2.wav,1\na/1.wav,b/1.wav,0\nb/1.wav,a/2.wav,0\n"),
        ("key.tsv", "modelid\tsegmentid\tside\ttargettype\na/1.wav\ta/2.wav\ta\ttarget\n"
                    "a/1.wav\tb/1.wav\ta\tnontarget\nb/1.wav\ta/2.wav\ta\tnontarget\n"),
        ("aliases", "Label;utt1;utt2\ntrue;a/1.wav;a/2.wav\nfalse;a/1.wav;b/1.wav\nfalse;b/1.wav;a/2.wav\n"),
    ],
)  # fmt: skip
def test_both_orders_and_tables_read_alike(tmp_path: Path, name: str, text: str) -> None:
    trials = read_trials(written(tmp_path, text, name))
    assert triples(trials) == EXPECTED
    assert set(trials.names) == {"a/1.wav", "a/2.wav", "b/1.wav"}
    assert trials.findings.num_read == 3
    assert trials.findings.lines() == []


def test_a_recording_may_be_named_as_a_label_if_another_line_tells_the_order(tmp_path: Path) -> None:
    trials = read_trials(written(tmp_path, "1 target 0\nann target 1\n"))
    assert triples(trials) == [("1", "target", False), ("ann", "target", True)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t", "", "{path}: is empty; a trial list has one trial per line, such as: a.wav b.wav target"),
        ("t", "\n \n", "{path}: is empty; a trial list has one trial per line, such as: a.wav b.wav target"),
        (
            "t",
            "a b target\n\na b\n",
            "{path}: line 3 has 2 fields; a trial has three, such as: a.wav b.wav target, or: 1 a.wav b.wav",
        ),
        ("t", "a b c\n", "{path}: line 1: neither 'a' nor 'c' is a label; write 1 or target, 0 or nontarget"),
        ("t", "a b 1\n\nb c 2\n", "{path}: line 3: '2' is not a label; write 1 or target, 0 or nontarget"),
        ("t", "2 a b\n", "{path}: line 1: neither '2' nor 'b' is a label; write 1 or target, 0 or nontarget"),
        (
            "t",
            "a b target\n1 a b\n",
            "{path}: line 2 has its label first, the lines above last; use one order",
        ),
        (
            "t",
            "1 a b\na c target\n",
            "{path}: line 2 has its label last, the lines above first; use one order",
        ),
        (
            "t",
            "1 a 0\n0 b 1\n",
            "{path}: every line can be read with the label first or last, such as line 1: 1 a 0; write a CSV table "
            "with the columns enroll, test and target",
        ),
        (
            "t.csv",
            "a,b,c\n1,2,3\n",
            "{path}: the header must name the columns enroll, test and target (columns found: a, b, c)",
        ),
        (
            "t.csv",
            "enroll,model,test,target\na,b,c,1\n",
            "{path}: columns enroll and model both mean enroll; rename or remove one",
        ),
        ("t.csv", "enroll,test,target\na,b,1\na,c,x\n", "{path}: line 3: 'x' is not a label; write 1 or target, 0 or"),
        ("t.csv", "enroll,test,target\na,,1\n", "{path}: line 2: an empty cell; every trial needs enroll, test and"),
        ("t.csv", "enroll,test,target\n", "{path}: is empty; a trial list has one trial per line"),
    ],
)
def test_lists_that_make_no_sense_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = written(tmp_path, text, name)
    with pytest.raises(ManifestError) as caught:
        read_trials(path)
    assert str(caught.value).startswith(message.format(path=path))


def test_lines_are_numbered_past_the_first_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_files, "LINES_AT_A_TIME", 2)
    path = written(tmp_path, "1 a b\n\n0 a c\n1 a d\n0 b c\nmaybe c d\n")
    with pytest.raises(ManifestError, match=r"line 6: 'maybe' is not a label; write 1 or target, 0 or nontarget$"):
        read_trials(path)
    assert len(read_trials(written(tmp_path, "1 a b\n\n0 a c\n1 a d\n0 b c\n0 c d\n"))) == 5


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"missing: no such file$"):
        read_trials(tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"a b 1\n\xff\xfe\n")
    with pytest.raises(ManifestError, match=r"binary: is not UTF-8 text"):
        read_trials(tmp_path / "binary")


def test_self_trials_and_duplicates_are_counted_and_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, "1 a b\n1 a a\n0 a c\n1 b a\n0 a c\n0 c b\n1 a b\n")
    trials = read_trials(path)
    assert triples(trials) == [("a", "b", True), ("a", "c", False), ("c", "b", False)]
    assert trials.findings.num_read == 7
    assert trials.findings.lines() == [
        "1 of 7 trials of a recording with itself, left out: a a",
        "3 of 7 trials that repeat an earlier one, left out: b a, a c, a b",
    ]
    published = read_trials(path, as_published=True)
    assert len(published) == 7
    assert (published.findings.num_self, published.findings.num_duplicates) == (1, 3)
    assert published.findings.lines()[0] == "1 of 7 trials of a recording with itself, kept: a a"


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("t", "1 a b\n\n0 a c\n1 b c\n0 a b\n1 c a\n", ("1 and 5", "3 and 6")),
        ("t.csv", "enroll,test,target\na,b,1\na,c,0\nb,c,1\na,b,0\nc,a,1\n", ("2 and 5", "3 and 6")),
    ],
)
def test_contradictions_are_errors_that_name_their_lines(
    tmp_path: Path, name: str, text: str, lines: tuple[str, str]
) -> None:
    path = written(tmp_path, text, name)
    for as_published in (False, True):
        with pytest.raises(ManifestError) as caught:
            read_trials(path, as_published=as_published)
        caught.match(rf"{path.name}: 2 trials.*a b \(lines {lines[0]}\), c a \(lines {lines[1]}\); correct the labels")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40))
def test_what_is_kept_equals_a_plain_loop(tmp_path: Path, pairs: list[tuple[int, int]]) -> None:
    lines = [f"{int(a % 2 == b % 2)} r{a} r{b}" for a, b in pairs]
    kept: dict[frozenset[int], tuple[str, str, bool]] = {}
    for a, b in pairs:
        if a != b:
            kept.setdefault(frozenset((a, b)), (f"r{a}", f"r{b}", a % 2 == b % 2))
    trials = read_trials(written(tmp_path, "\n".join(lines)))
    assert triples(trials) == list(kept.values())
    selves = sum(a == b for a, b in pairs)
    assert (trials.findings.num_self, trials.findings.num_duplicates) == (selves, len(pairs) - selves - len(kept))


def test_names_become_rows_with_or_without_suffixes(tmp_path: Path) -> None:
    rows = RecordingRows(["b/1", "a/1.wav", "a/2.flac", "sw_0.5", "c.wav", "c.flac"])
    assert rows.rows(["a/1", "a/2.wav", "b/1.wav", "sw_0.5", "sw_0", "c.flac", "c", "d"]).tolist() == [
        *(1, 2, 0, 3, -1, 5, -1, -1),
    ]
    resolved = read_trials(written(tmp_path, "1 a/1.wav a/2.wav\n0 b/1.wav a/1.wav\n")).resolve(rows)
    assert resolved.trials.enroll.tolist() == [1, 0]
    assert resolved.trials.test.tolist() == [2, 1]
    assert resolved.trials.target.tolist() == [True, False]
    with pytest.raises(ManifestError, match=r"recordings 0 and 2.*rename one"):
        RecordingRows(["a", "b", "a"])


def test_unknown_recordings_are_named_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "1 a b\n0 a x\n0 y x\n0 a c\n")
    rows = RecordingRows(["a", "b", "c"])
    with pytest.raises(ManifestError) as caught:
        read_trials(path).resolve(rows)
    caught.match(f"{path.name}: 2 of 4 trials.*: y, x; embed them, or correct the names")
    resolved = read_trials(path).resolve(rows, drop_unknown=True)
    assert resolved.trials.test.tolist() == [1, 2]
    assert resolved.findings.lines() == ["2 of 4 trials of unknown recordings, left out: y, x"]
    with pytest.raises(ManifestError, match=r"4 of 4 trials name unknown recordings or models"):
        read_trials(path).resolve(RecordingRows(["z"]), drop_unknown=True)


def test_models_of_several_recordings(tmp_path: Path) -> None:
    enrollment = read_enrollment(written(tmp_path, "m2 a/1.wav a/2.wav\n\nm1 b/1.wav\nm2 a/3.wav a/1.wav\n", "enroll"))
    assert enrollment.models == ("m1", "m2")
    assert enrollment.utterances == (("b/1.wav",), ("a/1.wav", "a/2.wav", "a/3.wav"))
    assert enrollment.num_repeated == 1
    recordings = RecordingRows(["a/1", "a/2", "a/3", "a/4", "b/1", "b/2"])
    rows, models = enrollment.resolve(recordings)
    assert (rows.tolist(), models.tolist()) == ([4, 0, 1, 2], [0, 1, 1, 1])
    path = written(tmp_path, "m2 a/4.wav target\nm1 a/4.wav nontarget\nm1 b/2.wav target\nm2 a/2.wav target\n")
    resolved = read_trials(path).resolve(recordings, enrollment)
    assert resolved.trials.enroll.tolist() == [1, 0, 0]
    assert resolved.trials.test.tolist() == [3, 3, 5]
    assert resolved.findings.lines() == ["1 of 4 trials of a recording with itself, left out: m2 a/2.wav"]
    kept = read_trials(path, as_published=True).resolve(recordings, enrollment)
    assert (len(kept.trials), kept.findings.num_self) == (4, 1)
    with pytest.raises(ManifestError, match=r"1 in all: m3; embed them, or correct the names$"):
        read_trials(written(tmp_path, "m3 a/4 1\nm1 b/2 1\n")).resolve(recordings, enrollment)


def test_unusable_enrollments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"enroll: is empty; an enrollment file has lines: model utterance \.\.\.$"):
        read_enrollment(written(tmp_path, "\n", "enroll"))
    path = written(tmp_path, "m1 a\nm2\n", "enroll")
    with pytest.raises(ManifestError, match=r"line 2: model m2 has no recording; write: model utterance \.\.\.$"):
        read_enrollment(path)
    enrollment = read_enrollment(written(tmp_path, "m1 a b\nm2 c\n", "enroll"))
    with pytest.raises(ManifestError) as caught:
        enrollment.resolve(RecordingRows(["a"]))
    caught.match(f"{path.name}: 2 of 3 enrollment recordings.*: b, c; embed them, or correct the names")


def test_target_trials_tell_the_speakers(tmp_path: Path) -> None:
    trials = read_trials(written(tmp_path, "1 a1 a2\n1 b1 b2\n0 a1 b1\n1 a3 a2\n0 c1 a3\n"))
    speakers = dict(zip(trials.names, trials.speakers().tolist(), strict=True))
    assert speakers["a1"] == speakers["a2"] == speakers["a3"]
    assert speakers["b1"] == speakers["b2"]
    assert len(set(speakers.values())) == 3
    path = written(tmp_path, "1 a1 a2\n1 a2 a3\n0 a1 a3\n")
    with pytest.raises(ManifestError) as caught:
        read_trials(path).speakers()
    caught.match(f"{path.name}: 1 non-target trial.*one speaker: a1 a3; correct the labels")


def test_written_trials_read_back(tmp_path: Path) -> None:
    names = ["a 1.wav", "a,2.wav", "b.wav"]
    trials = all_pairs([0, 0, 1])
    write_trials(tmp_path / "t.csv", trials, names)
    back = read_trials(tmp_path / "t.csv").resolve(RecordingRows(names)).trials
    for side in ("enroll", "test", "target"):
        np.testing.assert_array_equal(getattr(back, side), getattr(trials, side))
    assert isinstance(back, Trials)


def test_two_spellings_of_one_recording_hide_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, "1 a b\n1 b.wav a\n1 a a.wav\n0 a c\n0 a.wav c\n1 a b\n")
    rows = RecordingRows(["a.wav", "b.wav", "c.wav"])
    resolved = read_trials(path).resolve(rows)
    assert (resolved.trials.enroll.tolist(), resolved.trials.test.tolist()) == ([0, 0], [1, 2])
    assert resolved.findings.lines() == [
        "1 of 6 trials of a recording with itself, left out: a a.wav",
        "3 of 6 trials that repeat an earlier one, left out: a b, b.wav a, a.wav c",
    ]
    kept = read_trials(path, as_published=True).resolve(rows)
    assert len(kept.trials) == 6
    assert (kept.findings.num_self, kept.findings.num_duplicates) == (1, 3)
    path = written(tmp_path, "1 a b\n0 a.wav b\n")
    with pytest.raises(ManifestError) as caught:
        read_trials(path).resolve(rows)
    caught.match(f"{path.name}: 1 trial.*two spellings.*: a.wav b; correct the labels")


def test_two_spellings_in_trials_of_models(tmp_path: Path) -> None:
    enrollment = read_enrollment(written(tmp_path, "m1 a a.wav b\n", "enroll"))
    rows = RecordingRows(["a.wav", "b.wav", "c.wav"])
    of_models, numbers = enrollment.resolve(rows)
    assert (of_models.tolist(), numbers.tolist()) == ([0, 1], [0, 0])
    assert enrollment.lines(2) == [
        f"1 recordings that a model of {tmp_path / 'enroll'} names again, counted once",
    ]
    resolved = read_trials(written(tmp_path, "m1 c target\nm1 c.wav target\nm1 a target\n")).resolve(rows, enrollment)
    assert (resolved.trials.enroll.tolist(), resolved.trials.test.tolist()) == ([0], [2])
    assert (resolved.findings.num_self, resolved.findings.num_duplicates) == (1, 1)


@pytest.mark.parametrize(("name", "text"), [
    ("enroll.tsv", "modelid\tsegmentid\tside\n1001_sre16\tx.sph\ta\n1001_sre16\ty.sph\ta\n1002_sre16\tz.sph\ta\n"),
    ("enroll", "modelid\tsegmentid\tside\n1001_sre16\tx.sph\ta\n1001_sre16\ty.sph\ta\n1002_sre16\tz.sph\ta\n"),
    ("enroll.csv", "recording,model\nx.sph,1001_sre16\ny.sph,1001_sre16\nz.sph,1002_sre16\n"),
])  # fmt: skip
def test_enrollment_tables_of_the_nist_sre(tmp_path: Path, name: str, text: str) -> None:
    enrollment = read_enrollment(written(tmp_path, text, name))
    assert enrollment.models == ("1001_sre16", "1002_sre16")
    assert enrollment.utterances == (("x.sph", "y.sph"), ("z.sph",))


@pytest.mark.parametrize(("name", "text", "message"), [
    ("e", "modelid\tsegmentid\nm1\t\n", "line 2: an empty cell; every line needs model and recording"),
    ("e.csv", "a,b\nm1,x\n", "the header must name the columns model and recording (columns found: a, b)"),
    ("e.csv", "model,recording\n", "is empty; an enrollment file has lines: model utterance ..."),
    (
        "e",
        "modelid\tsegmentid\tside\nm1\tx\ta\nm2\tx\tb\n",
        "line 3: side b of x, of which earlier lines use side a; make a recording of each side, and use their names",
    ),
])  # fmt: skip
def test_enrollment_tables_that_make_no_sense(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = written(tmp_path, text, name)
    with pytest.raises(ManifestError) as caught:
        read_enrollment(path)
    assert str(caught.value) == f"{path}: {message}"
