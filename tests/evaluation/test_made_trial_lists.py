"""Lists made of a corpus or of embeddings, in every form, as `xvectors trials` makes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from xvectors.errors import ConfigError, ManifestError
from xvectors.evaluation import trial_lists
from xvectors.evaluation.trial_lists import make_trials
from xvectors.trials import read_trials

ROWS = [
    ("a1", "ann", "f", "x"),
    ("a2", "ann", "f", "x"),
    ("a3", "ann", "f", "y"),
    ("b1", "bob", "m", "x"),
    ("c1", "cat", "f", "x"),
    ("c2", "cat", "f", "z"),
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    lines = [f"{name}.wav,{name},{speaker},{gender},{session}\n" for name, speaker, gender, session in ROWS]
    (tmp_path / "c.csv").write_text("path,id,speaker,gender,session\n" + "".join(lines))
    return tmp_path / "c.csv"


def pairs_of(path: Path) -> set[tuple[str, str, bool]]:
    trials = read_trials(path)
    return {
        (trials.names[e], trials.names[t], bool(y))
        for e, t, y in zip(trials.enroll, trials.test, trials.target, strict=True)
    }


@pytest.mark.parametrize(("name", "options", "first"), [
    ("t.csv", (), "enroll,test,target"),
    ("t.txt", (), "a1 a2 target"),
    ("t.txt", ("--format", "voxceleb"), "1 a1 a2"),
])  # fmt: skip
def test_all_pairs_in_every_form(corpus: Path, name: str, options: tuple[str, ...], first: str) -> None:
    out = corpus.with_name(name)
    assert run("trials", corpus, "-o", out, *options).stdout == f"4 target and 11 non-target trials: {out}\n"
    assert out.read_text().splitlines()[0] == first
    ids = [row[0] for row in ROWS]
    speaker = {row[0]: row[1] for row in ROWS}
    assert pairs_of(out) == {(a, b, speaker[a] == speaker[b]) for a in ids for b in ids if a < b}


@pytest.mark.parametrize("per_speaker", [(), ("--per-speaker", 100)])
@pytest.mark.parametrize(("options", "targets", "nontargets"), [
    (
        ("--same-gender", "--cross-session"),
        {"a1 a3", "a2 a3", "c1 c2"},
        {"a1 c1", "a1 c2", "a2 c1", "a2 c2", "a3 c1", "a3 c2"},
    ),
    (("--cross-gender", "--same-session"), {"a1 a2"}, {"a1 b1", "a2 b1", "a3 b1", "b1 c1", "b1 c2"}),
])  # fmt: skip
def test_switches(
    corpus: Path, per_speaker: tuple[object, ...], options: tuple[str, ...], targets: set[str], nontargets: set[str]
) -> None:
    run("trials", corpus, "-o", corpus.with_name("t"), *options, *per_speaker)
    found = pairs_of(corpus.with_name("t"))
    assert {" ".join(sorted((a, b))) for a, b, target in found if target} == targets
    assert {" ".join(sorted((a, b))) for a, b, target in found if not target} == nontargets


def test_of_embeddings_and_by_seed(tmp_path: Path) -> None:
    names, speakers = [f"r{row:02d}" for row in range(40)], np.array([f"s{row // 8}" for row in range(40)])
    np.savez(
        tmp_path / "e.npz",
        embeddings=np.ones((len(names), 2)),
        id=np.array(names),
        speaker=speakers,
        gender=np.arange(40) // 8 % 2,
    )
    lists = []
    for seed in (0, 0, 1):
        made = make_trials(tmp_path / "e.npz", tmp_path / "t", per_speaker=3, seed=seed, form="kaldi")
        assert made.num_target == 15
        lists.append((tmp_path / "t").read_text())
    assert lists[0] == lists[1] != lists[2]
    same = make_trials(tmp_path / "e.npz", tmp_path / "t", nontarget_gender="same")
    assert (same.num_target, same.num_nontarget) == (5 * 28, 64 * (3 + 1))


def test_what_cannot_be_made(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = corpus.with_name("t")
    with pytest.raises(ManifestError, match=r"e\.npz does not say which recordings are of one session"):
        make_trials("e.npz", out, target_session="same")
    with pytest.raises(ConfigError, match=r"'xml'.*csv, voxceleb or kaldi"):
        make_trials(corpus, out, form="xml")
    monkeypatch.setattr(trial_lists, "MAX_WRITTEN_PAIRS", 14)
    with pytest.raises(ManifestError, match="6 recordings make 15 pairs, more than 14; give --per-speaker N"):
        make_trials(corpus, out)
    corpus.write_text("path,speaker\na 1.wav,ann\na2.wav,ann\nb.wav,bob\n")
    with pytest.raises(ManifestError, match=r"1 recording has a name with spaces: a 1.*; write a CSV table$"):
        make_trials(corpus, out, per_speaker=2, form="kaldi")
    assert not out.exists()
