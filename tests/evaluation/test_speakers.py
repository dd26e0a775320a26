"""Who speaks, told in every form, and what cannot be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xvectors.errors import ManifestError
from xvectors.evaluation.score_files import measure_score_file
from xvectors.evaluation.speakers import GUESSED, speakers_of
from xvectors.trials import TrialList, read_trials


@pytest.fixture
def trials(tmp_path: Path) -> TrialList:
    """c1 and c2 meet in no target trial, so that these alone make two speakers of them."""
    (tmp_path / "t").write_text("1 a1.wav a2.wav\n0 a1.wav b1.wav\n0 c1.wav a1.wav\n0 c2.wav b1.wav\n")
    return read_trials(tmp_path / "t")


SPEAKERS = {"a1": "ann", "a2": "ann", "b1": "bob", "c1": "cy", "c2": "cy", "d1": "dan"}


@pytest.mark.parametrize(("name", "separator", "header"), [
    ("utt2spk", " ", ""),
    ("utt2spk", "\t", ""),
    ("s.csv", ",", "id,speaker\n"),
    ("s.tsv", "\t", "path\tspk_id\n"),
    ("s.npz", "", ""),
])  # fmt: skip
def test_told_in_every_form(tmp_path: Path, trials: TrialList, name: str, separator: str, header: str) -> None:
    path = tmp_path / name
    if name == "s.npz":
        np.savez(
            path,
            embeddings=np.ones((len(SPEAKERS), 2)),
            id=np.array(list(SPEAKERS)),
            speaker=np.array(list(SPEAKERS.values())),
        )
    else:
        path.write_text(header + "".join(f"{one}{separator}{speaker}\n" for one, speaker in SPEAKERS.items()))
    told = dict(zip(trials.names, speakers_of(trials, path).tolist(), strict=True))
    assert told == {"a1.wav": 0, "a2.wav": 0, "b1.wav": 1, "c1.wav": 2, "c2.wav": 2}
    guessed = dict(zip(trials.names, speakers_of(trials, None).tolist(), strict=True))
    assert guessed["a1.wav"] == guessed["a2.wav"]
    assert guessed["c1.wav"] != guessed["c2.wav"]


@pytest.mark.parametrize(("text", "message"), [
    ("", "{path}: is empty; it tells who speaks in lines: recording speaker"),
    ("a1 ann\nb1\n", "{path}: line 2 has 1 fields; write: recording speaker"),
    ("a1 ann\na2 ann\nb1 bob\n", "{path}: 2 names of {trials} have no speaker: c1.wav, c2.wav; add them"),
    ("gender,speaker\nm,ann\n", "{path}: the header must name a column id or path beside speaker"),
    (
        "a1 ann\na2 eve\nb1 bob\nc1 cy\nc2 bob\n",
        "{trials}: 2 trials contradict the speakers of {path}, such as a1.wav a2.wav; correct one of them",
    ),
])  # fmt: skip
def test_what_cannot_be_told(tmp_path: Path, trials: TrialList, text: str, message: str) -> None:
    path = tmp_path / "utt2spk"
    path.write_text(text)
    with pytest.raises(ManifestError) as caught:
        speakers_of(trials, path)
    assert str(caught.value) == message.format(path=path, trials=trials.source)


def test_a_score_file_says_who_told_its_speakers(tmp_path: Path) -> None:
    """Six speakers of two recordings; the seventh and eighth names have no target trial and are one person."""
    lines = [f"s{s}a s{s}b {2 + s} 1\n" for s in range(6)] + [f"s{s}a s{s + 1}a {s} 0\n" for s in range(5)]
    (tmp_path / "s.txt").write_text("".join([*lines, "x1 s0a -1 0\n", "x2 s1a -2 0\n"]))
    guessed, _ = measure_score_file(tmp_path / "s.txt")
    assert guessed.notes == (GUESSED,)
    (tmp_path / "utt2spk").write_text("".join(f"s{s}{u} s{s}\n" for s in range(6) for u in "ab") + "x1 x\nx2 x\n")
    told, _ = measure_score_file(tmp_path / "s.txt", speakers=tmp_path / "utt2spk")
    assert told.notes == ()
    for measured, number in ((guessed, 8), (told, 7)):
        interval = measured.measures["eer"].interval
        assert interval is not None
        assert interval.num_speakers == number
