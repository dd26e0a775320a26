"""Commands that make systems: train, recipes, models, upgrade."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xvectors.cli.shared import (
    SIGNAL_STATUS,
    TRAIN,
    Device,
    GalleryOption,
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
    from xvectors.models.sizes import NetworkSize
    from xvectors.training import TrainingResult
    from xvectors.training.data.corpus import PreparedCorpus


FEW_SPEAKERS = 30
"""With at most this many training speakers, `--from starter` is recommended. It was measured with 15."""
FEW_SPEAKERS_NOTE = (
    "note: from {number} speakers, a network learns little about other voices. `--from starter` begins with a network "
    "that has heard hundreds: trained on 15 speakers of a corpus that was new to it, it had 4.4 % EER on other "
    "speakers, and a network from scratch 14.9 %."
)
"""Figures of benchmarks/fine_tuning.py with --scratch; docs/explanation/results.md has them."""


@command(
    TRAIN,
    "xvectors train recordings -o exp/mine",
    "xvectors train recordings -o exp/mine --recipe xvector --set training.epochs=20",
    "xvectors train recordings -o exp/mine --from starter --minutes 10",
    "xvectors train recordings -o exp/small --teacher exp/campplus --minutes 30",
    "xvectors train -o exp/mine --resume",
)
def train_command(
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
            help="Recipe: a name (`xvectors recipes` lists them) or a TOML file. By default resnet, finetune with "
            "--from, or distill with --teacher.",
            autocompletion=one_of(*recipe_names()),
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a setting of the recipe, as in training.epochs=20. Repeat the option for more.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DIR|starter",
            help="Fine-tune this system, or the bundled starter. Its features and backbone are kept.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="SYSTEM",
            help="Learn the embeddings of this system, such as an imported model, with the recipe distill.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="N", help="Train for N minutes instead of a number of epochs; the learning rate adapts to it."
        ),
    ] = None,
    metadata: Metadata = None,
    speaker_level: SpeakerLevel = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint in DIR.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the system in DIR.")] = False,
    log: Annotated[
        str | None,
        typer.Option(
            metavar="tensorboard",
            help="Write training curves for TensorBoard to DIR/tensorboard (pip install 'xvectors\\[tensorboard]').",
            autocompletion=one_of("tensorboard"),
        ),
    ] = None,
    quiet: Quiet = False,
    trust: Trust = None,
) -> None:
    """Train a system on recordings and calibrate it.

    With several GPUs, `torchrun --nproc-per-node N -m xvectors train ...` trains on N of them.
    """
    from xvectors.training import EpochResult, TensorBoardLog, choose_recipe, train
    from xvectors.training.distributed import Group

    def on_scan(report: ScanReport) -> None:
        print_lines(report.lines())

    def on_split(corpus: PreparedCorpus) -> None:
        print(corpus.line(), flush=True)
        if len(corpus.speakers) <= FEW_SPEAKERS and start is None and teacher is None and not resume:
            print(FEW_SPEAKERS_NOTE.format(number=len(corpus.speakers)), file=sys.stderr, flush=True)

    def on_epoch(result: EpochResult) -> None:
        print(result, flush=True)
        if curves is not None:
            curves.on_epoch(result)

    overrides = [*(settings or ()), *([f"training.minutes={minutes}"] if minutes is not None else [])]
    if log not in (None, "tensorboard"):
        raise ConfigError(f"--log {log}: the only kind of log is tensorboard")
    is_first = Group.from_environment().is_first
    with TensorBoardLog(output) if log and is_first else nullcontext() as curves:
        result = train(
            data,
            output,
            choose_recipe(output, recipe, overrides, resume=resume, start=start, teacher=teacher),
            start=start,
            metadata=metadata,
            speaker_level=speaker_level,
            device=device,
            resume=resume,
            overwrite=overwrite,
            on_scan=on_scan,
            on_split=on_split,
            on_epoch=on_epoch,
            on_step=None if curves is None else curves.on_step,
            progress=not quiet,
        )
    if is_first:
        print_training(result, f"xvectors train -o {shlex.quote(str(output))} --resume")
    elif result.interrupted is not None:
        raise typer.Exit(SIGNAL_STATUS + result.interrupted.value)


def print_training(result: TrainingResult, resume_command: str) -> None:
    """Print the results of a run; exit with the shell's status for the signal that interrupted it, if any."""
    if result.epochs:
        print()
        print_lines(result.lines())
    if result.unreadable:
        print(f"{count(len(result.unreadable), 'recording')} could not be read during training:")
        print_lines(f"  {reason}" for reason in result.unreadable.values())
    if result.interrupted is not None:
        print(f"interrupted by {result.interrupted.name}; the state is saved. Continue with: {resume_command}")
        raise typer.Exit(SIGNAL_STATUS + result.interrupted.value)
    print(f"system: {result.folder.path}")


@command(TRAIN, "xvectors recipes", "xvectors recipes resnet", "xvectors recipes resnet > mine.toml")
def recipes_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Recipe to print, a name or a TOML file. Without it, the bundled recipes are listed.",
            autocompletion=one_of(*recipe_names()),
        ),
    ] = None,
    as_json: Json = False,
    trust: Trust = None,
) -> None:
    """List the recipes, or print one with an explanation of every key.

    The output is itself a recipe file: edit it and train with `--recipe FILE`. A file that begins with
    `base = "resnet"` needs only the keys that differ.
    """
    from dataclasses import asdict

    from xvectors.config import load_recipe, recipe_lines, settings_of

    if name is None:
        found = {each: load_recipe(each).description for each in recipe_names()}
        width = max(map(len, found))
        if as_json:
            print_json(found)
        else:
            print_lines(f"{each:<{width}}  {description}" for each, description in found.items())
        return
    from xvectors.models import find_backbone, settings_of_model

    recipe = load_recipe(name)
    settings = settings_of(recipe, settings_of_model(find_backbone(recipe.model.name)))
    if as_json:
        print_json({"name": recipe.name, "settings": [asdict(each) for each in settings]})
        return
    print_lines(recipe_lines(settings))


@command(TRAIN, "xvectors models", "xvectors models --mels 24 --seconds 5")
def models_command(
    mels: Annotated[int, typer.Option(metavar="N", help="Number of mel filterbanks of the features.")] = 80,
    seconds: Annotated[
        float, typer.Option(metavar="S", help="Duration in seconds of the recording whose cost is counted.")
    ] = 3.0,
    as_json: Json = False,
) -> None:
    """List the networks for `--set model.name=...`, with their papers, sizes and costs."""
    from xvectors.config import BACKBONES
    from xvectors.models.sizes import network_sizes

    sizes, of_packages = network_sizes(mels, seconds), BACKBONES.names()
    if as_json:
        rows = [size.to_dict() for size in sizes]
        print_json({"mels": mels, "seconds": seconds, "models": rows, "of_installed_packages": of_packages})
        return
    _print_sizes(sizes, mels, seconds)
    if of_packages:
        print(f"installed packages also offer: {', '.join(of_packages)}")


def _print_sizes(sizes: list[NetworkSize], mels: int, seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        caption="Parameters are counted up to the embedding; in parentheses the filterbanks of the published network.",
        caption_justify="left",
    )
    for column in ("name", "settings", "paper"):
        table.add_column(column)
    for column in ("embedding", "published", "ours", f"{mels} mels", f"GFLOP for {seconds:g} s"):
        table.add_column(column, justify="right")
    for size in sizes:
        published_m = size.published_parameters_m
        table.add_row(
            size.name,
            ", ".join(f"{key}={str(value).lower()}" for key, value in size.settings.items()),
            size.paper,
            str(size.embedding_dim),
            "-" if published_m is None else f"{published_m:g} M ({size.published_mels})",
            f"{size.parameters_at_published_mels / 1e6:.2f} M",
            f"{size.parameters / 1e6:.2f} M",
            f"{size.flop / 1e9:.2f}",
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


@command(TRAIN, "xvectors upgrade exp/xv", "xvectors upgrade exp/xv --gallery team.sqlite")
def upgrade_command(system: System, gallery: GalleryOption = None) -> None:
    """Bring a system of an earlier version of xvectors, and the speakers enrolled with it, up to date.

    From then on, its calibration and its enrolled speakers are bound to its features as well as its weights: make sure
    first that system.toml is as training wrote it.
    """
    from xvectors.gallery import is_there, open_store
    from xvectors.system import SystemFolder
    from xvectors.system.upgrade import upgrade_system
    from xvectors.verification.fingerprint import fingerprint_of, weights_digest

    folder = SystemFolder(system)
    old_fingerprint = upgrade_system(folder)
    print(f"{folder.path} {'is' if old_fingerprint is None else 'was brought'} up to date")
    if gallery is not None or is_there():
        with open_store(gallery) as store:
            number = store.rebind(old_fingerprint or weights_digest(folder.weights), fingerprint_of(folder))
        print(f"{store.location}: {count(number, 'voiceprint')} of this system brought up to date")
