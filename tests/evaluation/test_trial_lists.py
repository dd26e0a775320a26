"""All pairs, sampled pairs, and lists whose names fit the corpus in one way or another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xvectors.corpus import Manifest
from xvectors.errors import ManifestError
from xvectors.evaluation.trial_lists import choose_trials

ROWS = [("id1/v/1.wav", "id1"), ("id1/v/2.wav", "id1"), ("id2/v/3.wav", "id2"), ("id2/v/4.wav", "id2")]


@pytest.fixture
def manifest() -> Manifest:
    return Manifest.from_rows([{"path": f"wav/{path}", "id": path[:-4], "speaker": s} for path, s in ROWS])


def test_all_pairs_by_default(manifest: Manifest) -> None:
    chosen = choose_trials(manifest, None)
    assert (chosen.source, len(chosen.trials), chosen.trials.num_target) == ("all pairs", 6, 2)


def test_too_many_pairs_are_sampled_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xvectors.evaluation.trial_lists.MAX_PAIRS", 400)
    rows = [{"path": f"{s}/{u}.wav", "speaker": str(s)} for s in range(10) for u in range(10)]
    manifest = Manifest.from_rows(rows)
    chosen, again = choose_trials(manifest, None), choose_trials(manifest, None)
    assert chosen.source.endswith("of all 4,950 pairs, at most 20 target and 20 non-target trials a speaker, seed 0")
    assert chosen.trials.num_target == 200
    assert 150 < chosen.trials.num_nontarget <= 200
    np.testing.assert_array_equal(chosen.trials.enroll, again.trials.enroll)
    np.testing.assert_array_equal(chosen.trials.test, again.trials.test)


@pytest.mark.parametrize("lines", [
    "1 id1/v/1.wav id1/v/2.wav\n0 id1/v/1.wav id2/v/3.wav\n",  # ids
    "wav/id1/v/1.wav wav/id1/v/2.wav target\nwav/id1/v/1.wav wav/id2/v/3.wav nontarget\n",  # paths
    "enroll,test,target\n1.wav,2.wav,1\n1.wav,3.wav,0\n",  # names of files
])  # fmt: skip
def test_a_list_in_any_published_form(manifest: Manifest, tmp_path: Path, lines: str) -> None:
    path = tmp_path / "trials.txt"
    path.write_text(lines)
    chosen = choose_trials(manifest, path)
    trials = chosen.trials
    assert list(zip(trials.enroll.tolist(), trials.test.tolist(), trials.target.tolist(), strict=True)) == [
        (0, 1, True),
        (0, 2, False),
    ]
    assert (chosen.source, chosen.findings) == (str(path), ())


def test_trials_of_recordings_that_could_not_be_embedded_are_counted(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "trials.txt"
    path.write_text("1 id2/v/3 id2/v/4\n0 id1/v/1 id2/v/3\n0 id1/v/2 id2/v/3\n0 id1/v/2 id1/v/2\n")
    chosen = choose_trials(manifest, path, embedded_rows=[1, 2, 3])
    assert chosen.trials.enroll.tolist() == [1, 0]
    assert chosen.trials.test.tolist() == [2, 1]
    assert chosen.findings == (
        "1 of 4 trials of a recording with itself, left out: id1/v/2 id1/v/2",
        "1 of 3 trials of recordings that could not be embedded, left out",
    )


@pytest.mark.parametrize(("lines", "message"), [
    ("", "is empty"),
    ("1 id1/v/1 id9/v/9\n0 id1/v/1 id2/v/3\n", "names? unknown recordings or models, 1 in all: id9/v/9"),
    ("2 id1/v/1 id1/v/2\n", "is a label"),
    ("0 id1/v/1 id2/v/3\n", "no target trials are left"),
    ("1 id1/v/1 id2/v/3\n0 id1/v/1 id2/v/4\n", "contradicts? the speakers of the corpus, such as the target trial"),
])  # fmt: skip
def test_bad_lists(manifest: Manifest, tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "trials.txt"
    path.write_text(lines)
    with pytest.raises(ManifestError, match=message):
        choose_trials(manifest, path)
