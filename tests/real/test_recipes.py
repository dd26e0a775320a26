"""The recipes on real speech: minutes each, so they run only with `-m slow`."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from xvectors.config import DEFAULT_RECIPE, load_recipe
from xvectors.report import evaluate
from xvectors.training import train

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_the_xvector_recipe_learns_in_three_epochs(speechocean: Path, tmp_path: Path) -> None:
    """A fifth of its own length: 100 speakers to train on, 25 to test; chance is 1 % and 50 %."""
    recipe = load_recipe("xvector", ["training.epochs=3", "data.train_test_prop=0.8", "data.held_out_prop=0"])
    result = train(speechocean, tmp_path / "s", recipe)
    assert result.num_speakers == 100
    assert result.epochs[result.best_epoch - 1].val_accuracy >= 0.4
    evaluation = evaluate(tmp_path / "s")
    assert len(evaluation.manifest.speakers) == 25
    assert (evaluation.trials.num_target, evaluation.trials.num_nontarget) == (4750, 120_000)
    assert evaluation.eer <= 0.2


def test_the_default_recipe_learns_in_three_epochs(speechocean: Path, tmp_path: Path) -> None:
    """A twentieth of its own length; chance is 50 %."""
    recipe = load_recipe(DEFAULT_RECIPE, ["training.epochs=3", "data.train_test_prop=0.8"])
    result = train(speechocean, tmp_path / "s", recipe)
    assert result.num_speakers == 90
    assert not math.isnan(result.epochs[-1].val_eer)
    assert evaluate(tmp_path / "s").eer <= 0.2
