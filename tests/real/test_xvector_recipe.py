"""The recipe `xvector` on real speech: minutes, so it runs only with `-m slow`."""

from __future__ import annotations

from pathlib import Path

import pytest

from xvectors.config import load_recipe
from xvectors.report import evaluate
from xvectors.training import train

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_the_xvector_recipe_learns_in_three_epochs(speechocean: Path, tmp_path: Path) -> None:
    """A fifth of its own length and half its size: 100 speakers to train on, 25 to test; chance is 1 % and 50 %.

    Measured: a validation accuracy of 87 % and an EER of 13.0 %. The bars leave room for other roundings.
    """
    settings = ["model.size=0.5", "training.epochs=3", "data.train_test_prop=0.8", "data.held_out_prop=0"]
    recipe = load_recipe("xvector", settings)
    result = train(speechocean, tmp_path / "s", recipe)
    assert result.num_speakers == 100
    assert result.epochs[result.best_epoch - 1].val_accuracy >= 0.7
    evaluation = evaluate(tmp_path / "s")
    assert len(evaluation.manifest.speakers) == 25
    assert (evaluation.trials.num_target, evaluation.trials.num_nontarget) == (4750, 120_000)
    assert evaluation.eer <= 0.18
