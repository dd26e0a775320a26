"""Every step from synthetic voices to a report, in a few minutes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xvectors.evaluation import Evaluation
    from xvectors.training import TrainingResult

SPEAKERS, UTTERANCES, SEED = 60, 20, 0
OVERRIDES = ("data.train_test_prop=0.8", "data.held_out_prop=0.2", "training.minutes=2")
"""Settings of the demo: ten speakers to calibrate on, and a training time that does not depend on the machine."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo made; `evaluation` is None if a signal interrupted the training."""

    corpus: Path
    training: TrainingResult
    evaluation: Evaluation | None
    plots: list[Path]


def run_demo(
    output: Path,
    *,
    say: Callable[[str], None],
    speakers: int = SPEAKERS,
    utterances: int = UTTERANCES,
    overrides: tuple[str, ...] = OVERRIDES,
    device: str = "auto",
    progress: bool = False,
) -> DemoResult:
    """Run every step of the demo in the folder `output`, skipping what an interrupted run has finished.

    `say` gets a line before each step and after each epoch. If a signal interrupts the training, the steps after it
    are skipped.
    """
    from xvectors.config import DEFAULT_RECIPE, differences, load_recipe
    from xvectors.corpus.synth import synthesize
    from xvectors.report import evaluate, plot
    from xvectors.system import SystemFolder
    from xvectors.system.serialization import read_description
    from xvectors.training import train

    corpus, system = output / "corpus", output / "system"
    say(f"1/4 Synthesizing {utterances} sentences with each of {speakers} voices (espeak-ng) into {corpus}")
    synthesize(corpus, speakers=speakers, utterances=utterances, seed=SEED, progress=progress)

    recipe = load_recipe(DEFAULT_RECIPE, overrides)
    say(f"2/4 Training recipe {DEFAULT_RECIPE!r} into {system}")
    folder = SystemFolder(system)
    resume = folder.checkpoint.is_file() and not differences(read_description(folder).recipe, recipe)
    training = train(
        corpus,
        system,
        recipe,
        device=device,
        resume=resume,
        overwrite=not resume,
        on_epoch=lambda result: say(str(result)),
        progress=progress,
    )
    if training.interrupted is not None:
        return DemoResult(corpus, training, None, [])
    say("3/4 Evaluating on speakers that were not trained on")
    evaluation = evaluate(system, device=device, progress=progress)
    say("4/4 Drawing the plots")
    return DemoResult(corpus, training, evaluation, plot(system, device=device, progress=progress))
