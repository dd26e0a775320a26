"""Systems on the same trials: the better one is found, equal ones are not told apart, other trials are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xvectors.errors import ConfigError, ManifestError
from xvectors.evaluation.curves import DET
from xvectors.evaluation.score_files import SystemComparison, compare_score_files
from xvectors.evaluation.speakers import GUESSED
from xvectors.metrics import ROC, LeastCost, eer
from xvectors.report.comparison import write_comparison
from xvectors.report.error_plots import det_figure
from xvectors.trials import all_pairs
from xvectors.trials.score_files import read_scores, write_scores

SPEAKERS = np.repeat(np.arange(12), 5)
NAMES = [f"s{speaker}/{row}" for row, speaker in enumerate(SPEAKERS)]


def evaluated(folder: Path, separation: float, seed: int, *, llrs: bool = False) -> tuple[Path, float]:
    """A system whose target and non-target scores are so many deviations apart, and its EER."""
    trials = all_pairs(SPEAKERS)
    noise = np.random.default_rng(seed).standard_normal(len(trials))
    scores = (separation * trials.target + noise).astype(np.float32)
    write_scores(folder / "report" / "scores.csv", NAMES, trials, scores, scores.astype(float) if llrs else None)
    return folder, eer(*trials.split(scores)).eer


def compare(systems: list[Path], out: Path | None = None, **options: object) -> SystemComparison:
    comparison = compare_score_files(systems, **options)  # type: ignore[arg-type]
    write_comparison(comparison, out or comparison.folder)
    return comparison


def test_the_better_system_is_found(tmp_path: Path) -> None:
    (good, eer_good), (bad, eer_bad) = evaluated(tmp_path / "good", 4.0, 0), evaluated(tmp_path / "bad", 1.0, 1)
    compared = compare([bad, good])
    assert compared.values[str(good)]["eer"] == eer_good
    row = compared.differences[str(good)]["eer"]
    assert row.difference.value == pytest.approx(eer_good - eer_bad)
    assert row.difference.high < 0
    assert row.p_value < 0.014  # no draw of 1000 above 0: as small as it gets with 12 speakers
    assert (compared.num_target, compared.num_nontarget, compared.num_speakers) == (120, 1650, 12)
    assert set(compared.values[str(bad)]) == {"eer", "rocch_eer", "min_dcf", "min_cllr", "auc"}
    written = json.loads((bad / "report" / "comparison.json").read_text())
    assert written["differences"][str(good)]["eer"]["p_value"] == row.p_value
    assert (bad / "report" / "det.png").read_bytes().startswith(b"\x89PNG")
    assert f"({row.difference.value:+.2%}, 95 % interval " in "\n".join(compared.lines())


def test_equal_systems_are_not_told_apart(tmp_path: Path) -> None:
    a, b = (evaluated(tmp_path / name, 2.0, seed, llrs=True)[0] for name, seed in (("a", 2), ("b", 3)))
    compared = compare([a, b], tmp_path / "out")
    row = compared.differences[str(b)]["eer"]
    assert row.difference.low < 0 < row.difference.high
    assert row.p_value > 0.05
    assert set(compared.values[str(a)]) == {
        *("eer", "rocch_eer", "min_dcf", "min_cllr", "auc", "actual_dcf", "cllr", "calibration_loss"),
    }
    loss = compared.differences[str(b)]["calibration_loss"]
    assert loss.difference.low <= loss.difference.value <= loss.difference.high
    assert loss.b == compared.values[str(b)]["cllr"] - compared.values[str(b)]["min_cllr"]
    other = compare([a, b], tmp_path / "out", cost=LeastCost(0.2, 3, 1))
    assert other.definitions["min_dcf"].name == "minDCF(0.2, 3, 1)"
    trials, scores = read_scores(a / "report" / "scores.csv").labeled()
    assert other.values[str(a)]["min_dcf"] == ROC.from_trials(scores, trials.target).min_dcf(0.2, 3, 1).min_dcf
    assert other.values[str(a)]["eer"] == compared.values[str(a)]["eer"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["comparison.json", "det.png"]


def test_the_speakers_are_those_of_the_evaluation(tmp_path: Path) -> None:
    a, b = (evaluated(tmp_path / name, 2.0, seed)[0] for name, seed in (("a", 2), ("b", 3)))
    guessed = compare([a, b], tmp_path / "out")
    assert (guessed.speakers_source, guessed.notes) == ("target trials", (GUESSED,))
    npz = a / "report" / "embeddings.npz"
    np.savez(
        npz,
        embeddings=np.ones((len(NAMES), 2)),
        id=np.array(NAMES),
        speaker=np.array([f"s{speaker}" for speaker in SPEAKERS]),
    )
    known = compare([a, b], tmp_path / "out")
    assert (known.speakers_source, known.notes, known.num_speakers) == (str(npz), (), 12)
    assert known.differences[str(b)] == guessed.differences[str(b)]  # here both know the same
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["speakers"] == str(npz)


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    a, _ = evaluated(tmp_path / "a", 2.0, 0)
    lines = (a / "report" / "scores.csv").read_text().splitlines()
    shorter, other = tmp_path / "shorter.csv", tmp_path / "other.csv"
    shorter.write_text("\n".join(lines[:-1]) + "\n")
    other.write_text("\n".join([*lines[:-1], lines[-1].replace("s11/59", "s11/99")]) + "\n")
    relabeled = tmp_path / "relabeled.csv"
    enroll, test, target, score = lines[-1].split(",")
    relabeled.write_text("\n".join([*lines[:-1], f"{enroll},{test},{1 - int(target)},{score}"]) + "\n")
    for folders, message in (
        ([a], "name two or more systems"),
        ([a, a], "only once"),
        ([a, tmp_path / "none"], r"none holds no scores to compare; `xvectors evaluate .*none` writes them"),
        ([a, shorter], "has 1,770 trials and .* 1,769: only systems on the same trials can be compared"),
        ([a, other], r"do not hold the same trials and labels \(.* 1 of 1,770 trials .* such as s11/58 s11/59"),
        ([a, relabeled], r"do not hold .* \(.* label 1 trial differently, such as s11/58 s11/59"),
    ):
        with pytest.raises(ManifestError, match=message):
            compare_score_files(folders)


def test_det_axes_are_normal_deviates_and_reach_what_the_trials_can_tell() -> None:
    """Scores N(2, 1) and N(0, 1): a straight line of slope -1, through an EER of 15.9 % in the middle."""
    rng = np.random.default_rng(0)
    roc = ROC.from_scores(2 + rng.standard_normal(20_000), rng.standard_normal(20_000))
    figure = det_figure({"one": DET.from_roc(roc)})
    axes = figure.axes[0]
    diagonal, curve, eer = axes.lines
    assert diagonal.get_slope() == 1
    x, y = curve.get_data()
    middle = (np.abs(x) < 1.5) & (np.abs(y) < 1.5)
    slope = np.polyfit(x[middle], y[middle], 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.1)
    assert eer.get_xdata()[0] == pytest.approx(-1.0, abs=0.03)
    assert [text.get_text() for text in axes.get_xticklabels()][:4] == ["0.01", "0.1", "1", "2"]
    assert figure.legends[0].get_texts()[0].get_text() == f"one: EER {roc.eer().eer:.2%}"
    with pytest.raises(ConfigError, match="no curves to draw"):
        det_figure({})
