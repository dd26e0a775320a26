"""Results of epochs and runs, printed as in the exercise."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from xvectors.system import SystemFolder
from xvectors.training import EpochResult, TrainingResult


@pytest.mark.parametrize(
    ("accuracies", "kept", "last"),
    [
        ([0.2, 0.9, 0.0], 3, ["Best validation accuracy: 90.00% (Epoch 2)", "epoch 3 (validation accuracy 0.00%)"]),
        ([0.2, 0.9, 0.9], 2, ["Best validation accuracy: 90.00% (Epoch 2)"]),
        ([math.nan, math.nan, math.nan], 3, ["Val Loss: nan, Acc: nan%"]),
    ],
)
def test_the_best_accuracy_is_the_best_whatever_is_kept(accuracies: list[float], kept: int, last: list[str]) -> None:
    epochs = tuple(
        EpochResult(i, 3, 1.0, 0.5, math.nan if math.isnan(accuracy) else float(i), accuracy, math.nan, 1e-3, 1.0)
        for i, accuracy in enumerate(accuracies, start=1)
    )
    lines = TrainingResult(SystemFolder(Path("s")), epochs, kept, 2, {}).lines()
    assert len(lines) == 3 + (len(last) if "Best" in last[0] else 0)
    for line, end in zip(lines[-len(last) :], last, strict=True):
        assert line.endswith(end)


def test_the_line_of_an_epoch_is_the_exercise_one() -> None:
    result = EpochResult(1, 10, 6.24537, 0.04949, 5.26789, 0.0031, math.nan, 5e-3, 12.0)
    assert str(result) == "Epoch [01/10] | Train Loss: 6.2454, Acc: 4.95% | Val Loss: 5.2679, Acc: 0.31%"
