"""The command that says what a training run will take: plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xvectors.cli.shared import TRAIN, Device, Json, Trust, command, one_of, print_lines
from xvectors.cli.terminal import print_json
from xvectors.config import recipe_names
from xvectors.errors import ConfigError
from xvectors.text import count

if TYPE_CHECKING:
    from xvectors.training.planning import Plan

MIB = 2**20
BUSY = 0.7
"""With a smaller share of the processor, a measured step says little."""


@command(
    TRAIN,
    "xvectors plan voxceleb-resnet34 --devices 1,4,8",
    "xvectors plan voxceleb-resnet34 --step-s 0.35 --devices 8 --price 2.50",
    "xvectors plan resnet --speakers 300 --utterances 40000 --hours 50",
)
def plan_command(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="Recipe: a name (`xvectors recipes` lists them) or a TOML file.",
            autocompletion=one_of(*recipe_names()),
        ),
    ],
    hours: Annotated[
        float, typer.Option(metavar="N", help="Hours of sound in the corpus. The default is VoxCeleb2's, rounded.")
    ] = 2360.0,
    utterances: Annotated[
        int, typer.Option(metavar="M", help="Recordings in the corpus. The default is VoxCeleb2's development set.")
    ] = 1_092_009,
    speakers: Annotated[int, typer.Option(metavar="S", help="Speakers in the corpus.")] = 5994,
    devices: Annotated[str, typer.Option(metavar="LIST", help="Numbers of devices to plan for.")] = "1",
    step_s: Annotated[
        float | None,
        typer.Option(
            "--step-s",
            metavar="X",
            help="Seconds of one step of the whole batch on one device, measured elsewhere. By default, steps are "
            "measured here.",
        ),
    ] = None,
    chunks: Annotated[
        int,
        typer.Option(metavar="N", help="Chunks in a measured step. 0 chooses: 8 on a processor, 128 on a GPU."),
    ] = 0,
    steps: Annotated[int, typer.Option(metavar="N", help="Measured steps, of which the median counts.")] = 3,
    efficiency: Annotated[
        float, typer.Option(metavar="E", help="Share of the ideal speed that several devices are assumed to reach.")
    ] = 0.9,
    price: Annotated[float | None, typer.Option(metavar="P", help="Price of one device for one hour.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of the recipe, as in `xvectors train`."),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
    trust: Trust = None,
) -> None:
    """Estimate the hours, the memory and the cost of a training run from a few measured steps.

    The output says what is measured and what is extrapolated from it. Nothing is trained or written.
    """
    from xvectors.config import load_recipe
    from xvectors.devices import find_device
    from xvectors.training.planning import CorpusSize, StepTime, measure_step, plan_training

    loaded = load_recipe(recipe, settings or ())
    numbers = _whole_numbers(devices)
    corpus = CorpusSize(num_speakers=speakers, num_recordings=utterances, hours=hours)
    chunk_s = (loaded.data.chunk_min_s + loaded.data.chunk_max_s) / 2
    given = StepTime(
        seconds=1.0 if step_s is None else step_s,
        num_chunks=loaded.training.batch_size,
        chunk_s=chunk_s,
        source="--step-s",
    )
    # before measuring, which takes longer, because it refuses what cannot be planned
    plan = plan_training(loaded, corpus, step=given, devices=numbers, efficiency=efficiency, price=price)
    if step_s is None:
        measured = measure_step(loaded, corpus, find_device(device), num_chunks=chunks, num_steps=steps)
        plan = plan_training(loaded, corpus, step=measured, devices=numbers, efficiency=efficiency, price=price)
    if as_json:
        print_json(_to_dict(plan, measured=step_s is None))
        return
    print_lines(_lines(plan, measured=step_s is None))


def _whole_numbers(text: str) -> list[int]:
    words = text.replace(",", " ").split()
    if not words or not all(word.isdecimal() for word in words):
        raise ConfigError(f"--devices {text!r} must be whole numbers separated by commas, such as 1,4,8")
    return [int(word) for word in words]


def _lines(plan: Plan, *, measured: bool) -> Iterator[str]:
    recipe, training, step, memory = plan.recipe, plan.recipe.training, plan.step, plan.memory
    yield (
        f"{recipe.name}: {count(training.epochs, 'epoch')} of {count(plan.steps_per_epoch, 'step')}, "
        f"each of {training.batch_size:,} chunks of {plan.chunk_s:g} s"
    )
    mean_s = 3600 * plan.corpus.hours / plan.corpus.num_recordings
    yield (
        f"corpus: {count(plan.corpus.num_recordings, 'recording')} of {mean_s:.1f} s on average; training takes "
        f"{plan.num_recordings:,} of them, in {plan.num_classes:,} classes"
    )
    yield ""
    what = "measured" if measured else "given"
    yield f"{what}: {step.seconds:.3g} s for a step of {step.num_chunks} chunks of {step.chunk_s:g} s, {step.source}"
    if step.processor_share < BUSY:
        yield (
            f"warning: other programs used the processor, and the steps had {step.processor_share:.0%} of it; measure "
            "again when it is idle"
        )
    if step.peak_memory_bytes:
        yield f"measured: {step.peak_memory_bytes / MIB:,.0f} MiB of memory for it, activations included"
    yield ""
    header = f"{'devices':>7}  {'a step':>9}  {'chunks/s':>9}  {'hours':>8}  {'device hours':>12}"
    has_price = plan.on_devices[0].cost is not None
    yield header + (f"  {'cost':>10}" if has_price else "")
    for each in plan.on_devices:
        line = f"{each.devices:>7}  {each.step_s:>7.3g} s  {each.chunks_per_s:>9,.0f}  {each.hours:>8,.1f}"
        cost = f"  {each.cost:>10,.2f}" if each.cost is not None else ""
        yield f"{line}  {each.device_hours:>12,.1f}{cost}"
    yield ""
    parts = [(name, getattr(memory, name)) for name in ("parameters", "gradients", "optimizer", "average")]
    listed = ", ".join(f"{name} {size / MIB:,.0f}" for name, size in parts if size)
    yield f"memory of each device: {memory.total / MIB:,.0f} MiB ({listed}), besides the activations"
    yield ""
    yield "extrapolated, not measured:"
    yield from (f"- {line}" for line in _extrapolated(plan))
    yield ""
    if not plan.public_runs:
        yield f"public runs of {recipe.name}: none known"
        return
    yield "public runs, EER on VoxCeleb1-O / E / H, cosine scoring; this program has not been run at this scale:"
    yield from (f"- {each.line()}" for each in plan.public_runs)


def _extrapolated(plan: Plan) -> Iterator[str]:
    training, step = plan.recipe.training, plan.step
    if step.num_chunks != training.batch_size:
        times = training.batch_size / step.num_chunks
        yield f"a step of {training.batch_size:,} chunks, as {times:.3g} times {step.num_chunks} chunks"
    if training.large_margin_share:
        longer = plan.recipe.data.large_margin_chunk_s
        yield (
            f"the last {training.large_margin_share:.1%} of the run, whose chunks of {longer:g} s take "
            f"{longer / plan.chunk_s:.3g} times as long"
        )
    if any(each.devices > 1 for each in plan.on_devices):
        yield f"several devices, at {plan.efficiency:.0%} of the ideal speed (--efficiency)"
    fastest = max(each.chunks_per_s for each in plan.on_devices)
    yield (
        f"reading and augmentation are assumed to keep up: up to {fastest:,.0f} chunks a second; validation, "
        "calibration and saving are left out"
    )


def _to_dict(plan: Plan, *, measured: bool) -> dict[str, Any]:
    from dataclasses import asdict

    on_devices = [{**asdict(each), "device_hours": each.device_hours} for each in plan.on_devices]
    return {
        "recipe": plan.recipe.name,
        "corpus": asdict(plan.corpus),
        "num_recordings": plan.num_recordings,
        "num_classes": plan.num_classes,
        "chunk_s": plan.chunk_s,
        "batch_size": plan.recipe.training.batch_size,
        "steps_per_epoch": plan.steps_per_epoch,
        "num_steps": plan.num_steps,
        "step": {**asdict(plan.step), "measured": measured},
        "efficiency": plan.efficiency,
        "memory_bytes": {**asdict(plan.memory), "total": plan.memory.total},
        "on_devices": on_devices,
        "extrapolated": list(_extrapolated(plan)),
        "public_runs": [asdict(each) for each in plan.public_runs],
    }
