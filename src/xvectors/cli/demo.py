"""Commands that need no recordings: synth, demo."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xvectors.cli.shared import TRY, Device, Quiet, command, one_of
from xvectors.cli.terminal import print
from xvectors.cli.training import print_training
from xvectors.demo import SEED, SPEAKERS, UTTERANCES, DemoResult, run_demo
from xvectors.text import count, printable

if TYPE_CHECKING:
    from xvectors.evaluation import Evaluation


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
