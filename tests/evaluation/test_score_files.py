"""Score files in every form, measured against counts done by hand, and every mistake named with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xvectors.errors import ManifestError
from xvectors.evaluation.score_files import measure_score_file
from xvectors.trials import read_trials, score_files
from xvectors.trials.score_files import read_scores

TRIALS = [
    ("a1", "a2", 2.5, 1),
    ("a1", "b1", -1.0, 0),
    ("a2", "b1", 1.5, 0),
    ("b1", "b2", 0.5, 1),
    ("a1", "b2", -2.0, 0),
]


@pytest.fixture(autouse=True, params=["line by line", "in bulk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in bulk":
        monkeypatch.setattr(score_files, "BULK_BYTES", 0)


def written(folder: Path, text: str, name: str = "scores.txt") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(("separator", "labels", "header"), [
    (" ", ("0", "1"), ""),
    ("\t", ("nontarget", "target"), ""),
    (",", ("imposter", "TARGET"), ""),
    (",", ("0", "1"), "enroll,test,score,label\n"),
    (";", ("0", "1"), "utt1;utt2;LLR;targettype\n"),
])  # fmt: skip
def test_every_form_reads_the_same(tmp_path: Path, separator: str, labels: tuple[str, str], header: str) -> None:
    lines = [separator.join([a, b, str(score), labels[target]]) for a, b, score, target in TRIALS]
    scores = read_scores(written(tmp_path, header + "\n".join(lines) + "\n"))
    named = [(scores.names[e], scores.names[t]) for e, t in zip(scores.enroll, scores.test, strict=True)]
    assert named == [(a, b) for a, b, _, _ in TRIALS]
    assert scores.scores.tolist() == [score for _, _, score, _ in TRIALS]
    assert scores.target is not None
    assert scores.target.tolist() == [bool(target) for _, _, _, target in TRIALS]
    assert scores.column == ("llr" if "LLR" in header else "score")


def test_our_own_scores_are_measured_by_their_llrs(tmp_path: Path) -> None:
    path = written(tmp_path, "enroll,test,target,score,llr\na,b,1,0.5,3.25\na,c,0,0.1,-2\n", "scores.csv")
    scores = read_scores(path)
    assert (scores.column, scores.scores.tolist()) == ("llr", [3.25, -2.0])


def test_measured_as_counted_by_hand(tmp_path: Path) -> None:
    """Targets 2.5 and 0.5, non-targets 1.5, -1 and -2: from (FRR 0, FAR 1/3) to (1/2, 1/3) it crosses at 1/3."""
    path = written(tmp_path, "".join(f"{a} {b} {score} {target}\n" for a, b, score, target in TRIALS))
    measured, trials = measure_score_file(path)
    values = {key: measure.value for key, measure in measured.measures.items()}
    assert values["eer"] == pytest.approx(1 / 3)
    assert values["auc"] == pytest.approx(5 / 6)
    by_hand = [np.log2(1 + np.exp([-2.5, -0.5])).mean(), np.log2(1 + np.exp([1.5, -1.0, -2.0])).mean()]
    assert values["cllr"] == pytest.approx(sum(by_hand) / 2)
    assert values["min_dcf"] == pytest.approx(0.5)  # accept 2.5 alone
    assert (len(trials), int(trials.target.sum())) == (5, 2)
    assert measured.notes == ("no interval: 2 speakers, fewer than 5",)


def test_labels_from_a_list_in_another_order_and_the_other_side_first(tmp_path: Path) -> None:
    scores = written(tmp_path, "".join(f"{a} {b} {score}\n" for a, b, score, _ in TRIALS))
    trials = written(tmp_path, "1 b2 b1\n0 a1 b1\n1 a1 a2\n", "trials.txt")
    listed, values = read_scores(scores).labeled(read_trials(trials))
    assert values.tolist() == [0.5, -1.0, 2.5]
    assert listed.target.tolist() == [True, False, True]
    measured, _ = measure_score_file(scores, trials)
    assert measured.measures["eer"].value == 0.0


def test_two_spellings_in_a_list_are_one_trial(tmp_path: Path) -> None:
    scores = written(tmp_path, "".join(f"{a}.wav {b}.wav {score}\n" for a, b, score, _ in TRIALS))
    trials = written(tmp_path, "1 a1 a2\n1 a1.wav a2\n0 a1 b1\n1 a1 a1.wav\n", "trials.txt")
    listed, values = read_scores(scores).labeled(read_trials(trials))
    assert values.tolist() == [2.5, -1.0]
    assert (listed.findings.num_self, listed.findings.num_duplicates) == (1, 1)


@pytest.mark.parametrize(("text", "message"), [
    ("", "is empty"),
    ("a b 1.0 1\n\na c nan 0\n", r"line 3: the score is nan; leave the trial out"),
    ("a b 1.0 1\na c inf 0\n", "line 2: the score is inf"),
    ("a b 1.0 1\na c high 0\n", "line 2: the score 'high' is not a number"),
    ("a b 1.0 1\na c 0.5 2\n", "line 2: '2' is not a label; write 1 or target, 0 or nontarget"),
    ("a b 1.0 1\na c 0.5\n", "line 2 has 3 fields, the lines above have 4"),
    ("a b\n", "line 1 has 2 fields, a scored trial has three or four"),
    ("a b 1.0 1\nc d 0.5 1\n", "no non-target trials"),
    ("a b 1.0\na c 0.5\n", "has no labels: add target or nontarget to every line, or name a list with --trials"),
    ("enroll,test,score\n", "has a header but no scores"),
    ("enroll,test,score,target\na,b,1.0,1\na,c,x,0\n", "line 3: the score 'x' is not a number"),
])  # fmt: skip
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        measure_score_file(written(tmp_path, text))


@pytest.mark.parametrize(("lines", "message"), [
    ("1 a1 a2\n0 a1 z9\n", "1 name is not in .*, such as z9; name the list that was scored"),
    ("1 a1 a2\n0 a2 b2\n", "1 of 2 trials of .* has no score, such as a2 b2; score them"),
    ("1 a1 a2\n1 b1 b2\n", "no non-target trials"),
])  # fmt: skip
def test_lists_that_do_not_fit(tmp_path: Path, lines: str, message: str) -> None:
    scores = written(tmp_path, "".join(f"{a} {b} {score}\n" for a, b, score, _ in TRIALS))
    with pytest.raises(ManifestError, match=message):
        measure_score_file(scores, written(tmp_path, lines, "trials.txt"))


def test_labels_of_the_file_and_of_the_list_must_agree(tmp_path: Path) -> None:
    scores = written(tmp_path, "".join(f"{a} {b} {score} {target}\n" for a, b, score, target in TRIALS))
    trials = written(tmp_path, "1 a1 a2\n1 a1 b1\n0 b1 b2\n", "trials.txt")
    with pytest.raises(ManifestError, match=r"label 2 trials differently, such as a1 b1; correct one of them"):
        measure_score_file(scores, trials)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        read_scores(tmp_path / "none.txt")


def test_self_trials_and_repeated_pairs_of_the_file_are_counted_and_left_out(tmp_path: Path) -> None:
    lines = "".join(f"{a} {b} {score} {target}\n" for a, b, score, target in TRIALS)
    once, _ = measure_score_file(written(tmp_path, lines))
    # again in the same order; in the other one, which may score otherwise; with itself
    measured, trials = measure_score_file(written(tmp_path, lines + "a1 a2 2.5 1\nb1 a1 -1.25 0\na1 a1 99 1\n", "more"))
    assert trials.findings.lines() == [
        "1 of 8 trials of a recording with itself, left out: a1 a1",
        "2 of 8 trials that repeat an earlier one, left out: a1 a2, b1 a1",
    ]
    assert measured.measures == once.measures


@pytest.mark.parametrize(("more", "message"), [
    ("a1 a2 2.25 1\n", "1 pair has two scores, such as a1 a2 with 2.5 and 2.25; keep the scores of one system"),
    ("a2 a1 2.5 0\n", "1 trial is called both target and non-target, such as a2 a1; correct the labels"),
])  # fmt: skip
def test_contradictions_within_a_file(tmp_path: Path, more: str, message: str) -> None:
    path = written(tmp_path, "".join(f"{a} {b} {score} {target}\n" for a, b, score, target in TRIALS) + more)
    with pytest.raises(ManifestError) as caught:
        measure_score_file(path)
    assert str(caught.value) == f"{path}: {message}"
    if "two scores" in message:
        with pytest.raises(ManifestError, match="1 pair has two scores"):
            measure_score_file(path, written(tmp_path, "1 a1 a2\n0 a1 b1\n", "trials.txt"))


def test_of_very_many_lines_repeated_pairs_are_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_files, "MAX_EXAMINED", 5)
    lines = "".join(f"{a} {b} {score} {target}\n" for a, b, score, target in TRIALS)
    measured, trials = measure_score_file(written(tmp_path, lines + "a1 a2 3 1\na1 a1 9 1\n"))
    assert trials.findings.lines() == ["1 of 7 trials of a recording with itself, kept: a1 a1"]
    assert len(trials) == 7
    assert measured.notes[-1] == "pairs that come again were not looked for: the file has more than 5 lines"


@pytest.mark.parametrize(
    "line", ["{e} {t} {s} {y}", "{e} {t} {y} {s}", "{y} {e} {t} {s}", "{y} {s} {e} {t}", "{e},{t},{y},{s}"]
)
def test_the_order_of_the_fields_is_found_out(line: str, tmp_path: Path) -> None:
    """SpeechBrain writes `enrol test label score`; others put the label first."""
    trials = [("a", "b", "0.370000", 1), ("a", "c", "-1.5", 0), ("b", "c", "1", 0)]
    text = "".join(line.format(e=e, t=t, s=s, y=y) + "\n" for e, t, s, y in trials)
    (tmp_path / "scores.txt").write_text(text)
    found = read_scores(tmp_path / "scores.txt")
    assert found.names == ("a", "b", "c")
    assert [(found.names[e], found.names[t]) for e, t in zip(found.enroll, found.test, strict=True)] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    assert found.scores.tolist() == [0.37, -1.5, 1.0]
    assert found.target is not None
    assert found.target.tolist() == [True, False, False]
