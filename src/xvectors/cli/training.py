"""Commands that make systems: synth, train, calibrate, models, demo."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xvectors.cli.shared import SIGNAL_STATUS, Device, Metadata, Quiet, System, app, print_lines
from xvectors.errors import ConfigError

if TYPE_CHECKING:
    from xvectors.corpus import ScanReport
    from xvectors.training import TrainingResult


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write the corpus to.")],
    speakers: Annotated[int, typer.Option(help="How many synthetic voices.")] = 60,
    utterances: Annotated[int, typer.Option(help="How many sentences each voice reads.")] = 20,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    audio_format: Annotated[str, typer.Option("--format", metavar="flac|wav", help="Of the recordings.")] = "flac",
    workers: Annotated[int | None, typer.Option(help="Processes; by default one a core.")] = None,
    quiet: Quiet = False,
) -> None:
    """Make a corpus of synthetic voices (espeak-ng), to try things on without recordings."""
    from xvectors.corpus.synth import synthesise

    metadata = synthesise(
        out,
        speakers=speakers,
        utterances=utterances,
        seed=seed,
        audio_format=audio_format,
        workers=workers,
        show_progress=not quiet,
    )
    print(f"{speakers} synthetic voices x {utterances} utterances: {metadata}")


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The system directory to write.")],
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="A manifest CSV, a folder with one sub-folder a speaker, a VoxCeleb folder (with --metadata) or a "
            "Kaldi data directory. May be left out with --resume.",
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A recipe's name (resnet, xvector, lab) or a TOML file.", show_default="resnet")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: training.epochs=20."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DIR|starter",
            help="Fine-tune: keep features and backbone of this system, or of the one that comes with xvectors.",
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Length of the run by the clock; the schedule ends when the time does.")
    ] = None,
    metadata: Metadata = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last saved state.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a system that stands in DIR.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a system on recordings and write it to a directory."""
    from xvectors.config import DEFAULT_RECIPE, FINE_TUNING_RECIPE, load_recipe, override_recipe
    from xvectors.system import SystemFolder, read_description
    from xvectors.training import EpochResult
    from xvectors.training import train as run

    def on_scan(report: ScanReport) -> None:
        print_lines(report.lines())

    def on_epoch(result: EpochResult) -> None:
        print(result, flush=True)

    overrides = [*(settings or ()), *([f"training.minutes={minutes}"] if minutes is not None else [])]
    if resume and recipe is None:
        chosen = override_recipe(read_description(SystemFolder(out)).recipe, overrides)
    else:
        chosen = load_recipe(recipe or (FINE_TUNING_RECIPE if start else DEFAULT_RECIPE), overrides)
    kept = [override for override in overrides if override.strip().startswith(("model.", "features."))]
    if start and kept:
        raise ConfigError(f"--set {kept[0]}: features and network are those of {start!r}; leave it out, or --from")
    result = run(
        data,
        out,
        chosen,
        start=start,
        metadata=metadata,
        device=device,
        resume=resume,
        overwrite=overwrite,
        on_scan=on_scan,
        on_epoch=on_epoch,
        show_progress=not quiet,
    )
    _finish_training(result, f"xvectors train -o {shlex.quote(str(out))} --resume")


@app.command()
def calibrate(
    system: System,
    data: Annotated[
        Path | None,
        typer.Option(help="A corpus of other speakers to learn from; by default those that training held out."),
    ] = None,
    metadata: Metadata = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="The back-end to use, such as asnorm; by default the one that does best on held-out speakers."
        ),
    ] = None,
    cohort: Annotated[
        Path | None,
        typer.Option(
            metavar="COHORT.npz",
            help="Imposters to normalise scores by, as `xvectors embed` writes them; by default the training speakers.",
        ),
    ] = None,
    adapt_to: Annotated[
        Path | None,
        typer.Option(
            metavar="NEW.npz",
            help="Embeddings of another domain, whoever speaks, that PLDA is adapted to; --data should be of it too.",
        ),
    ] = None,
    adapt_by: Annotated[str, typer.Option(metavar="METHOD", help="coral_plus, coral or kaldi.")] = "coral_plus",
    p_target: Annotated[
        float,
        typer.Option(
            metavar="P", help="How probable a target trial is where decisions are made: of fit and threshold."
        ),
    ] = 0.5,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Choose a system's back-end and calibrate its scores to log-likelihood ratios; `train` ends with it."""
    from xvectors.calibrate import calibrate as run

    verifier = run(
        system,
        data=data,
        metadata=metadata,
        backend=backend,
        cohort=cohort,
        adapt_to=adapt_to,
        adapt_by=adapt_by,
        p_target=p_target,
        device=device,
        show_progress=not quiet,
    )
    basis, chosen = verifier.basis, verifier.backend_table
    print(f"back-end     {verifier.name}: {chosen['reason']}")
    print(
        f"learnt from  {basis['num_speakers']} speakers ({basis['source']}), {basis['num_recordings']} recordings and "
        f"{basis['num_crops']} crops of them"
    )
    if "cohort" in basis:
        used = basis["cohort"]
        print(f"cohort       {used['num_speakers']} speakers, {used['num_embeddings']} recordings ({used['file']})")
    if "adapted_to" in basis:
        used = basis["adapted_to"]
        print(f"adapted to   {used['num_embeddings']} recordings ({used['file']}), by {used['by']}")
    for name, figures in verifier.figures.items():
        trials = figures["num_target_trials"] + figures["num_nontarget_trials"]
        cllr = f"Cllr {figures['cllr']:.3f} bits, at best {figures['min_cllr']:.3f}"
        print(f"{name.replace('_', ' '):<16} {trials:,} trials, EER {figures['eer']:.2%}, {cllr}")
    print(f"written to {system}: backend.npz, calibration.toml")


@app.command()
def models(
    mels: Annotated[int, typer.Option(help="Filterbanks a frame.")] = 80,
    seconds: Annotated[float, typer.Option(help="Length of the recording whose embedding is counted.")] = 3.0,
) -> None:
    """List the networks that `--set model.name=...` takes, with their papers, sizes and costs."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from xvectors.models import PUBLISHED, build_model, count_flops, count_parameters

    caption = "parameters up to the embedding; as published with so many filterbanks a frame, and ours with as many"
    table = Table(caption=caption, caption_justify="left")
    for column in ("name", "settings", "paper"):
        table.add_column(column)
    for column in ("embedding", "published", "ours", f"{mels} mels", f"GFLOP for {seconds:g} s"):
        table.add_column(column, justify="right")
    for row in PUBLISHED:
        with torch.device("meta"):
            published, model = (
                build_model(row.model, num_speakers=2, input_dim=input_dim, **row.settings)
                for input_dim in (row.num_mels, mels)
            )
        table.add_row(
            row.model,
            ", ".join(f"{key}={str(value).lower()}" for key, value in row.settings.items()),
            row.paper,
            str(model.embedding_dim),
            "-" if row.size_m is None else f"{row.size_m:g} M ({row.num_mels})",
            f"{count_parameters(published) / 1e6:.2f} M",
            f"{count_parameters(model) / 1e6:.2f} M",
            f"{count_flops(model, round(100 * seconds)) / 1e9:.2f}",
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write everything to.")],
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """The whole job from nothing: synthetic voices, training, evaluation and plots, in a few minutes."""
    from rich.console import Console
    from rich.table import Table

    from xvectors.demo import run_demo

    result = run_demo(out, say=lambda line: print(line, flush=True), device=device, show_progress=not quiet)
    if result.evaluation is None:
        _finish_training(result.training, f"xvectors demo {shlex.quote(str(out))}")
        return
    best = result.training.epochs[result.training.best_epoch - 1]
    evaluation = result.evaluation
    table = Table(title="Speaker recognition on synthetic voices", title_justify="left")
    table.add_column("what")
    table.add_column("result")
    table.add_row("training speakers", str(result.training.num_speakers))
    table.add_row("validation accuracy", f"{best.val_accuracy:.1%} (epoch {best.epoch})")
    table.add_row("unseen speakers", f"{evaluation.num_speakers} ({evaluation.num_utterances} utterances)")
    table.add_row("EER on unseen speakers", f"{evaluation.eer:.2%}")
    table.add_row("minDCF(0.01)", f"{evaluation.min_dcf:.3f}")
    table.add_row("report", str(Path(evaluation.report) / "index.html"))
    table.add_row("corpus", str(result.corpus))
    table.add_row("system", str(result.training.folder.path))
    for path in result.plots:
        table.add_row(path.stem, str(path))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _finish_training(result: TrainingResult, command: str) -> None:
    """Print the figures of a run; end with the shell's status for the signal that interrupted it."""
    if result.epochs:
        print()
        print_lines(result.lines())
    if result.unreadable:
        print(f"{len(result.unreadable)} recordings could not be read any more:")
        print_lines(f"  {reason}" for reason in result.unreadable.values())
    if result.interrupted is not None:
        print(f"interrupted by {result.interrupted.name} and saved; go on with: {command}")
        raise typer.Exit(SIGNAL_STATUS + result.interrupted.value)
    print(f"system: {result.folder.path}")
