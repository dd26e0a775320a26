"""Commands that need no recordings: synth, demo."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xvectors.cli.shared import TRY, Device, Quiet, command, one_of
from xvectors.cli.terminal import print
from xvectors.cli.training import print_training
from xvectors.text import count, printable

if TYPE_CHECKING:
    from xvectors.evaluation import Evaluation
    from xvectors.training import TrainingResult

SPEAKERS, UTTERANCES, SEED = 60, 20, 0
OVERRIDES = ("data.train_test_prop=0.8", "data.held_out_prop=0.2", "training.minutes=2")
"""Settings of the demo: ten speakers to calibrate on, and a training time that does not depend on the machine."""


@command(TRY, "xvectors synth -o voices --num-speakers 20 --seed 1")
def synth_command(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write the corpus to.")],
    speakers: Annotated[
        int, typer.Option("--num-speakers", metavar="N", help="Number of synthetic voices.")
    ] = SPEAKERS,
    utterances: Annotated[
        int, typer.Option("--num-utterances", metavar="N", help="Number of sentences for each voice.")
    ] = UTTERANCES,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed; the same seed writes the same bytes.")] = SEED,
    audio_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="flac|wav",
            help="Audio format of the recordings.",
            autocompletion=one_of("flac", "wav"),
        ),
    ] = "flac",
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Number of processes. By default one for each CPU core.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make a corpus of synthetic voices with espeak-ng."""
    from xvectors.corpus.synth import synthesize

    metadata = synthesize(
        output,
        speakers=speakers,
        utterances=utterances,
        seed=seed,
        audio_format=audio_format,
        workers=workers,
        progress=not quiet,
    )
    print(f"{speakers} synthetic voices x {utterances} utterances: {metadata}")


@command(TRY, "xvectors demo -o try")
def demo_command(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write everything to.")],
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Run every step in a few minutes: make synthetic voices, train, evaluate and plot."""
    result = run_demo(output, say=lambda line: print(line, flush=True), device=device, progress=not quiet)
    if result.evaluation is None:
        print_training(result.training, f"xvectors demo -o {shlex.quote(str(output))}")
        return
    _print_demo(result, result.evaluation)


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


def _print_demo(result: DemoResult, evaluation: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    manifest, best = evaluation.manifest, result.training.epochs[result.training.best_epoch - 1]
    table = Table("what", "result", title="Speaker recognition on synthetic voices", title_justify="left")
    table.add_row("training speakers", str(result.training.num_speakers))
    table.add_row("validation accuracy", f"{best.val_accuracy:.1%} (epoch {best.epoch})")
    table.add_row("unseen speakers", f"{len(manifest.speakers)} ({count(len(manifest), 'utterance')})")
    table.add_row("EER on unseen speakers", f"{evaluation.eer:.2%}")
    table.add_row("minDCF(0.01)", f"{evaluation.measures['min_dcf'].value:.3f}")
    paths = {
        "report": evaluation.report / "index.html",
        "corpus": result.corpus,
        "system": result.training.folder.path,
    }
    for what, path in (paths | {path.stem: path for path in result.plots}).items():
        table.add_row(what, Text(printable(str(path))))  # Text, because brackets in a path are not markup
    Console(width=None if sys.stdout.isatty() else 120).print(table)
