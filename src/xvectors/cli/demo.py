"""The main job from nothing: synthetic voices, a trained system, its evaluation and its plots, in a few minutes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xvectors.config import DEFAULT_RECIPE, differences, load_recipe
from xvectors.corpus.synth import synthesize
from xvectors.evaluation import Evaluation
from xvectors.report import evaluate, plot
from xvectors.system import SystemFolder
from xvectors.system.serialization import read_description
from xvectors.training import EpochResult, TrainingResult, train

SPEAKERS, UTTERANCES, SEED = 60, 20, 0
OVERRIDES = ("data.train_test_prop=0.8", "data.held_out_prop=0.2", "training.minutes=2")
"""Ten speakers to calibrate on; and by the clock, so that slow machines are done in minutes too."""


@dataclass(frozen=True)
class DemoResult:
    corpus: Path
    training: TrainingResult
    evaluation: Evaluation | None
    plots: list[Path]


def run_demo(
    out: Path,
    *,
    say: Callable[[str], None],
    speakers: int = SPEAKERS,
    utterances: int = UTTERANCES,
    overrides: tuple[str, ...] = OVERRIDES,
    device: str = "auto",
    progress: bool = False,
) -> DemoResult:
    """Run every step under `out`; what an earlier, interrupted run has done is not done again.

    `say` gets a line before each step and after each epoch. Where a signal interrupts the training, the steps after
    it are left out and `evaluation` is None.
    """
    corpus, system = out / "corpus", out / "system"
    say(f"1/4 Reading {utterances} sentences with each of {speakers} synthetic voices (espeak-ng) into {corpus}")
    synthesize(corpus, speakers=speakers, utterances=utterances, seed=SEED, progress=progress)

    recipe = load_recipe(DEFAULT_RECIPE, overrides)
    say(f"2/4 Training recipe {DEFAULT_RECIPE!r} into {system}")

    def on_epoch(result: EpochResult) -> None:
        say(str(result))

    folder = SystemFolder(system)
    resume = folder.checkpoint.is_file() and not differences(read_description(folder).recipe, recipe)
    training = train(
        corpus,
        system,
        recipe,
        device=device,
        resume=resume,
        overwrite=not resume,
        on_epoch=on_epoch,
        progress=progress,
    )
    if training.interrupted is not None:
        return DemoResult(corpus, training, None, [])
    say("3/4 Evaluating on speakers it never heard")
    evaluation = evaluate(system, device=device, progress=progress)
    say("4/4 Drawing the plots")
    return DemoResult(corpus, training, evaluation, plot(system, device=device, progress=progress))
