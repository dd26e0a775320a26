"""Commands that make systems: synth, train, calibrate, recipes, models, demo."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xvectors.cli.shared import (
    SIGNAL_STATUS,
    TRAIN,
    TRY,
    Device,
    Json,
    Metadata,
    Quiet,
    SpeakerLevel,
    System,
    Trust,
    command,
    one_of,
    print_lines,
)
from xvectors.cli.terminal import print, print_json
from xvectors.config import recipe_names
from xvectors.errors import ConfigError
from xvectors.text import count

if TYPE_CHECKING:
    from xvectors.corpus import ScanReport
    from xvectors.training import TrainingResult
    from xvectors.training.corpus import PreparedCorpus


@command(TRY, "xvectors synth -o voices --num-speakers 20 --seed 1")
def synth(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write the corpus to.")],
    speakers: Annotated[int, typer.Option("--num-speakers", metavar="N", help="Number of synthetic voices.")] = 60,
    utterances: Annotated[
        int, typer.Option("--num-utterances", metavar="N", help="Number of sentences that each voice reads.")
    ] = 20,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed; the same seed writes the same bytes.")] = 0,
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
        int | None, typer.Option(metavar="N", help="Number of processes; by default one for each core.")
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


@command(
    TRAIN,
    "xvectors train recordings -o exp/mine",
    "xvectors train recordings -o exp/mine --recipe xvector --set training.epochs=20",
    "xvectors train recordings -o exp/mine --from starter --minutes 10",
    "xvectors train -o exp/mine --resume",
)
def train(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="System directory to write.")],
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Corpus: a folder with one sub-folder for each speaker, a manifest CSV, a VoxCeleb folder (with "
            "--metadata), or a Kaldi data directory. Not needed with --resume.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Recipe: a name (`xvectors recipes` lists them) or a TOML file; by default resnet, or finetune with "
            "--from.",
            autocompletion=one_of(*recipe_names()),
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a setting of the recipe, as in training.epochs=20; may be repeated.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DIR|starter",
            help="Fine-tune this system, or the bundled starter: its features and backbone are kept.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="N", help="Train for N minutes instead of a number of epochs; the schedule fits."),
    ] = None,
    metadata: Metadata = None,
    speaker_level: SpeakerLevel = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the system in DIR.")] = False,
    quiet: Quiet = False,
    trust: Trust = None,
) -> None:
    """Train a system on recordings, calibrate it, and write it to a directory."""
    from xvectors.config import DEFAULT_RECIPE, FINE_TUNING_RECIPE, load_recipe, override_recipe
    from xvectors.system import SystemFolder
    from xvectors.system.serialization import read_description
    from xvectors.training import EpochResult
    from xvectors.training import train as run

    def on_scan(report: ScanReport) -> None:
        print_lines(report.lines())

    def on_division(corpus: PreparedCorpus) -> None:
        print(corpus.line(), flush=True)

    def on_epoch(result: EpochResult) -> None:
        print(result, flush=True)

    overrides = [*(settings or ()), *([f"training.minutes={minutes}"] if minutes is not None else [])]
    if resume and recipe is None:
        chosen = override_recipe(read_description(SystemFolder(output)).recipe, overrides)
    else:
        chosen = load_recipe(recipe or (FINE_TUNING_RECIPE if start else DEFAULT_RECIPE), overrides)
    kept = [override for override in overrides if override.strip().startswith(("model.", "features."))]
    if start and kept:
        raise ConfigError(f"--set {kept[0]}: features and network are those of {start!r}; leave it out, or --from")
    result = run(
        data,
        output,
        chosen,
        start=start,
        metadata=metadata,
        speaker_level=speaker_level,
        device=device,
        resume=resume,
        overwrite=overwrite,
        on_scan=on_scan,
        on_division=on_division,
        on_epoch=on_epoch,
        progress=not quiet,
    )
    _finish_training(result, f"xvectors train -o {shlex.quote(str(output))} --resume")


@command(TRAIN, "xvectors calibrate exp/mine", "xvectors calibrate exp/mine --data other-speakers --backend plda")
def calibrate(
    system: System,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="Corpus of speakers that were not trained on; by default those that training held out."
        ),
    ] = None,
    metadata: Metadata = None,
    speaker_level: SpeakerLevel = None,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Back-end to use, such as asnorm; by default the one that does best on held-out speakers.",
        ),
    ] = None,
    cohort: Annotated[
        Path | None,
        typer.Option(
            metavar="EMB",
            help="Cohort that normalizes scores, as `xvectors embed` writes it (npz, CSV, or a folder of parts); by "
            "default the training speakers.",
        ),
    ] = None,
    adapt_to: Annotated[
        Path | None,
        typer.Option(
            metavar="EMB",
            help="Unlabeled embeddings of a new domain, as `xvectors embed` writes them, to which PLDA is adapted; "
            "--data should be of that domain too.",
        ),
    ] = None,
    adapt_by: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="How PLDA is adapted: coral_plus, coral or kaldi.",
            autocompletion=one_of("coral_plus", "coral", "kaldi"),
        ),
    ] = "coral_plus",
    p_target: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Prior probability of a target trial, at which the calibration is fitted and decisions are made.",
        ),
    ] = 0.5,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    trust: Trust = None,
) -> None:
    """Choose a system's back-end and calibrate its scores to log-likelihood ratios.

    `xvectors train` ends with this; run it again with other data or another back-end.
    """
    from xvectors.training.calibrate import calibrate as run

    verifier = run(
        system,
        data=data,
        metadata=metadata,
        speaker_level=speaker_level,
        backend=backend,
        cohort=cohort,
        adapt_to=adapt_to,
        adapt_by=adapt_by,
        p_target=p_target,
        device=device,
        progress=not quiet,
    )
    basis, chosen = verifier.basis, verifier.backend_table
    if as_json:
        print_json({"backend": verifier.name, **chosen, "basis": basis, "figures": verifier.figures})
        return
    print(f"back-end     {verifier.name}: {chosen['reason']}")
    print(
        f"learned from  {count(basis['num_speakers'], 'speaker')} ({basis['source']}), "
        f"{count(basis['num_recordings'], 'recording')} and "
        f"{count(basis['num_crops'], 'crop')} of them"
    )
    if "cohort" in basis:
        used = basis["cohort"]
        print(
            f"cohort       {count(used['num_speakers'], 'speaker')}, "
            f"{count(used['num_embeddings'], 'recording')} ({used['file']})"
        )
    if "adapted_to" in basis:
        used = basis["adapted_to"]
        print(f"adapted to   {count(used['num_embeddings'], 'recording')} ({used['file']}), by {used['by']}")
    for name, figures in verifier.figures.items():
        trials = figures["num_target_trials"] + figures["num_nontarget_trials"]
        cllr = f"Cllr {figures['cllr']:.3f} bits, at best {figures['min_cllr']:.3f}"
        print(f"{name.replace('_', ' '):<16} {trials:,} trials, EER {figures['eer']:.2%}, {cllr}")
    print(f"written to {system}: backend.npz, calibration.toml")


@command(TRAIN, "xvectors recipes", "xvectors recipes resnet", "xvectors recipes resnet > mine.toml")
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Recipe to print, by its name or as a TOML file; without it, the bundled recipes are listed.",
            autocompletion=one_of(*recipe_names()),
        ),
    ] = None,
    as_json: Json = False,
    trust: Trust = None,
) -> None:
    """List the recipes, or print one with every key explained.

    What is printed is a recipe file: change it and train with `--recipe FILE`. A file that says `base = "resnet"` needs
    only the keys that it changes.
    """
    from dataclasses import asdict

    from xvectors.config import load_recipe, recipe_lines, settings_of

    if name is None:
        found = {each: load_recipe(each).description for each in recipe_names()}
        width = max(map(len, found))
        lines = [f"{each:<{width}}  {description}" for each, description in found.items()]
        if as_json:
            print_json(found)
        else:
            print_lines(lines)
        return
    from xvectors.models import find_backbone, settings_of_model

    recipe = load_recipe(name)
    settings = settings_of(recipe, settings_of_model(find_backbone(recipe.model.name)))
    if as_json:
        print_json({"name": recipe.name, "settings": [asdict(each) for each in settings]})
        return
    print_lines(recipe_lines(settings))


@command(TRAIN, "xvectors models", "xvectors models --mels 24 --seconds 5")
def models(
    mels: Annotated[int, typer.Option(metavar="N", help="Number of mel filterbanks.")] = 80,
    seconds: Annotated[float, typer.Option(metavar="N", help="Duration of the recording whose cost is counted.")] = 3.0,
    as_json: Json = False,
) -> None:
    """List the networks that `--set model.name=...` accepts, with their papers, sizes and costs."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from xvectors.config import BACKBONES
    from xvectors.models import PUBLISHED, build_model, count_flops, count_parameters

    rows: list[dict[str, Any]] = []
    for row in PUBLISHED:
        with torch.device("meta"):
            published, model = (
                build_model(row.model, num_speakers=2, input_dim=input_dim, **row.settings)
                for input_dim in (row.num_mels, mels)
            )
        rows.append(
            {
                "name": row.model,
                "settings": dict(row.settings),
                "paper": row.paper,
                "embedding_dim": model.embedding_dim,
                "published_parameters_m": row.size_m,
                "published_mels": row.num_mels,
                "parameters_at_published_mels": count_parameters(published),
                "parameters": count_parameters(model),
                "flop": count_flops(model, round(100 * seconds)),
            }
        )
    of_packages = BACKBONES.names()
    if as_json:
        print_json({"mels": mels, "seconds": seconds, "models": rows, "of_installed_packages": of_packages})
        return
    caption = "parameters up to the embedding; the number of filterbanks of the published network is in parentheses"
    table = Table(caption=caption, caption_justify="left")
    for column in ("name", "settings", "paper"):
        table.add_column(column)
    for column in ("embedding", "published", "ours", f"{mels} mels", f"GFLOP for {seconds:g} s"):
        table.add_column(column, justify="right")
    for found in rows:
        size_m = found["published_parameters_m"]
        table.add_row(
            found["name"],
            ", ".join(f"{key}={str(value).lower()}" for key, value in found["settings"].items()),
            found["paper"],
            str(found["embedding_dim"]),
            "-" if size_m is None else f"{size_m:g} M ({found['published_mels']})",
            f"{found['parameters_at_published_mels'] / 1e6:.2f} M",
            f"{found['parameters'] / 1e6:.2f} M",
            f"{found['flop'] / 1e9:.2f}",
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    if of_packages:
        print(f"installed packages also offer: {', '.join(of_packages)}")


@command(TRY, "xvectors demo -o try")
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write everything to.")],
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Run the whole job in a few minutes: make synthetic voices, train, evaluate and plot."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from xvectors.cli.demo import run_demo
    from xvectors.text import printable

    result = run_demo(output, say=lambda line: print(line, flush=True), device=device, progress=not quiet)
    if result.evaluation is None:
        _finish_training(result.training, f"xvectors demo -o {shlex.quote(str(output))}")
        return
    best = result.training.epochs[result.training.best_epoch - 1]
    evaluation = result.evaluation
    manifest = evaluation.manifest
    table = Table(title="Speaker recognition on synthetic voices", title_justify="left")
    table.add_column("what")
    table.add_column("result")
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
        table.add_row(what, Text(printable(str(path))))  # not markup, whatever brackets are in it
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _finish_training(result: TrainingResult, command: str) -> None:
    """Print the figures of a run; end with the shell's status for the signal that interrupted it."""
    if result.epochs:
        print()
        print_lines(result.lines())
    if result.unreadable:
        print(f"{count(len(result.unreadable), 'recording')} could not be read any more:")
        print_lines(f"  {reason}" for reason in result.unreadable.values())
    if result.interrupted is not None:
        print(f"interrupted by {result.interrupted.name} and saved; go on with: {command}")
        raise typer.Exit(SIGNAL_STATUS + result.interrupted.value)
    print(f"system: {result.folder.path}")
