"""What a training run will take: steps, hours, memory and cost, from one measured step."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from xvectors.config import Recipe
from xvectors.errors import ConfigError
from xvectors.losses import make_head
from xvectors.system.serialization import make_model, num_classes
from xvectors.text import count
from xvectors.training.data.dataset import Batch
from xvectors.training.distributed import MIN_SHARE
from xvectors.training.learner import Learner
from xvectors.training.public_runs import PUBLIC_RUNS, PublicRun

AUTO_TRAINED, AUTO_HELD_OUT = 0.95, 0.1
"""Shares of the speakers that a recipe's -1 stands for, in a large corpus."""
MEASURED_CHUNKS = {"cpu": 8, "mps": 32, "cuda": 128}
"""Chunks of a measured step by device, unless the batch is smaller."""
WARM_UP_STEPS = 1
COPIES_OF_OPTIMIZER = {"adam": 2, "adamw": 2, "sgd": 1}
"""Numbers that an optimizer keeps for each parameter."""


@dataclass(frozen=True, kw_only=True)
class CorpusSize:
    """Size of a corpus: speakers, recordings, and hours of sound."""

    num_speakers: int
    num_recordings: int
    hours: float

    def __post_init__(self) -> None:
        if self.num_speakers < 2 or self.num_recordings < self.num_speakers or not 0 < self.hours < math.inf:
            raise ConfigError(
                f"{self.num_recordings:,} recordings of {self.num_speakers:,} speakers in {self.hours:g} hours are no "
                "corpus to train on; --utterances must be at least --speakers, of which there are two or more, and "
                "--hours above 0"
            )


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of a step on one device: `seconds` for `num_chunks` chunks of `chunk_s`, and where they are from."""

    seconds: float
    num_chunks: int
    chunk_s: float
    source: str
    peak_memory_bytes: int = 0
    """The most memory that the measured steps took on a GPU; 0 where it was not measured."""
    processor_share: float = 1.0
    """Share of its threads' time in which the processor computed the steps; less if other programs used it."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on each device besides activations, which depend on the batch."""

    parameters: int
    gradients: int
    optimizer: int
    average: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimizer + self.average


@dataclass(frozen=True, kw_only=True)
class OnDevices:
    """The run on a number of devices: seconds of a step with ordinary chunks, chunks per second, hours, and cost."""

    devices: int
    step_s: float
    chunks_per_s: float
    hours: float
    cost: float | None

    @property
    def device_hours(self) -> float:
        return self.devices * self.hours


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a recipe takes on a corpus.

    Attributes
    ----------
    num_recordings, num_classes
        Recordings and classes that are trained on, after splitting, with a class for each speed.
    chunk_s
        Mean length of the chunks, before the large-margin stage.
    steps_per_epoch, num_steps
        Optimizer steps.
    step
        What one step took, measured or given.
    memory
        Of parameters, gradients, optimizer and average.
    on_devices
        One entry for each number of devices.
    public_runs
        What others reached with this recipe.
    """

    recipe: Recipe
    corpus: CorpusSize
    num_recordings: int
    num_classes: int
    chunk_s: float
    steps_per_epoch: int
    num_steps: int
    step: StepTime
    efficiency: float
    memory: Memory
    on_devices: tuple[OnDevices, ...]
    public_runs: tuple[PublicRun, ...]


def plan_training(
    recipe: Recipe,
    corpus: CorpusSize,
    *,
    step: StepTime,
    devices: Sequence[int] = (1,),
    efficiency: float = 0.9,
    price: float | None = None,
) -> Plan:
    """Derive a run's steps, hours, memory and cost.

    Parameters
    ----------
    recipe
        The recipe, whose length must be given in epochs.
    corpus
        The corpus before it is split.
    step
        The time of a step, from `measure_step` or from elsewhere.
    devices
        Numbers of devices to plan for.
    efficiency
        Share of the ideal speed that several devices reach, in (0, 1]: an assumption, not a measurement.
    price
        Price of one device for one hour.

    Raises
    ------
    ConfigError
        The recipe's length is in minutes, a number is out of range, or the batch is too small for the devices.
    """
    training, data = recipe.training, recipe.data
    if training.minutes:
        raise ConfigError(
            f"the recipe takes training.minutes = {training.minutes:g}, whatever the corpus; plan with epochs: "
            "--set training.minutes=0 --set training.epochs=N"
        )
    if not 0 < efficiency <= 1:
        raise ConfigError(f"--efficiency {efficiency:g} must be above 0 and at most 1")
    if price is not None and not 0 <= price < math.inf:
        raise ConfigError(f"--price {price:g} must be at least 0")
    if not 0 < step.seconds < math.inf:
        raise ConfigError(f"--step-s {step.seconds:g} must be above 0")
    for number in devices:
        if not 1 <= number <= training.batch_size // MIN_SHARE:
            raise ConfigError(
                f"--devices {number}: training.batch_size = {training.batch_size} can be shared by 1 to "
                f"{training.batch_size // MIN_SHARE} devices"
            )
    num_speakers, num_recordings = trained_on(recipe, corpus)
    steps_per_epoch = math.ceil(num_recordings / training.batch_size)
    num_steps = training.epochs * steps_per_epoch
    chunk_s = (data.chunk_min_s + data.chunk_max_s) / 2
    whole_s = step.seconds * training.batch_size / step.num_chunks * chunk_s / step.chunk_s
    longer = data.large_margin_chunk_s / chunk_s
    run_s = num_steps * whole_s * (1 + training.large_margin_share * (longer - 1))
    planned = []
    for number in devices:
        faster = number * (efficiency if number > 1 else 1.0)
        hours = run_s / faster / 3600
        planned.append(
            OnDevices(
                devices=number,
                step_s=whole_s / faster,
                chunks_per_s=training.batch_size * faster / whole_s,
                hours=hours,
                cost=None if price is None else price * number * hours,
            )
        )
    return Plan(
        recipe=recipe,
        corpus=corpus,
        num_recordings=num_recordings,
        num_classes=num_classes(recipe, num_speakers),
        chunk_s=chunk_s,
        steps_per_epoch=steps_per_epoch,
        num_steps=num_steps,
        step=step,
        efficiency=efficiency,
        memory=memory_of(recipe, num_speakers),
        on_devices=tuple(planned),
        public_runs=PUBLIC_RUNS.get(recipe.name, ()),
    )


def trained_on(recipe: Recipe, corpus: CorpusSize) -> tuple[int, int]:
    """Return how many speakers and recordings the recipe's split leaves for training, of equally many each."""
    data = recipe.data
    trained = AUTO_TRAINED if data.train_test_prop < 0 else data.train_test_prop
    held_out = AUTO_HELD_OUT if data.held_out_prop < 0 else data.held_out_prop
    share = trained * (1 - held_out)
    return max(2, round(corpus.num_speakers * share)), max(
        2, round(corpus.num_recordings * share * data.train_val_prop)
    )


def memory_of(recipe: Recipe, num_speakers: int) -> Memory:
    """Count the bytes of parameters, gradients, optimizer and average, without allocating them."""
    with torch.device("meta"):
        model = make_model(recipe, num_speakers)
        modules: list[nn.Module] = [model]
        if recipe.loss.name != "softmax":
            modules.append(make_head(recipe.loss, model.embedding_dim, num_classes(recipe, num_speakers)))
    size = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
    buffers = sum(b.numel() * b.element_size() for module in modules for b in module.buffers())
    return Memory(
        parameters=size + buffers,
        gradients=size,
        optimizer=size * COPIES_OF_OPTIMIZER[recipe.training.optimizer],
        average=size + buffers if recipe.training.average_width else 0,
    )


def measure_step(
    recipe: Recipe, corpus: CorpusSize, device: torch.device, *, num_chunks: int = 0, num_steps: int = 3
) -> StepTime:
    """Time training steps on noise: filterbanks, network, loss and optimizer, without reading and augmentation.

    Parameters
    ----------
    recipe, corpus
        What to train, with all its classes.
    device
        Where to compute.
    num_chunks
        Chunks in a step; 0 chooses by device. The batch of the recipe may be larger.
    num_steps
        Number of steps, of which the median counts. One more is left out before them.

    Raises
    ------
    ConfigError
        Fewer than two chunks or no step, or the memory does not suffice.
    """
    training = recipe.training
    num_chunks = num_chunks or min(training.batch_size, MEASURED_CHUNKS.get(device.type, MIN_SHARE))
    if num_chunks < MIN_SHARE or num_steps < 1:
        raise ConfigError(f"--chunks {num_chunks} and --steps {num_steps} must be at least {MIN_SHARE} and 1")
    num_speakers, _ = trained_on(recipe, corpus)
    small = dataclasses.replace(training, batch_size=num_chunks, accumulate=1)
    chunk_s = (recipe.data.chunk_min_s + recipe.data.chunk_max_s) / 2
    generator = torch.Generator().manual_seed(training.seed)
    samples = round(chunk_s * recipe.features.sample_rate_hz)
    waveforms = 0.1 * torch.randn(num_chunks, samples, generator=generator)
    labels = torch.randint(num_classes(recipe, num_speakers), (num_chunks,), generator=generator)
    batch = Batch(waveforms, labels, torch.arange(num_chunks), [])
    try:
        learner = Learner(dataclasses.replace(recipe, training=small), num_speakers, device)
        times, computed_s = [], 0.0
        for number in range(WARM_UP_STEPS + num_steps):
            if number == WARM_UP_STEPS:
                computed_s = -time.process_time()
            began_at = time.perf_counter()
            learner.step(batch, 0.5, (0, number))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - began_at)
        computed_s += time.process_time()
    except torch.cuda.OutOfMemoryError as error:
        raise ConfigError(
            f"{num_chunks} chunks do not fit into the memory of {device}; measure with fewer, --chunks "
            f"{max(MIN_SHARE, num_chunks // 2)}, and train with training.accumulate"
        ) from error
    on_cpu, timed_s = device.type == "cpu", sum(times[WARM_UP_STEPS:])
    dtype = str(learner.dtype).removeprefix("torch.")
    threads = f", {count(torch.get_num_threads(), 'thread')}" if on_cpu else ""
    return StepTime(
        seconds=statistics.median(times[WARM_UP_STEPS:]),
        num_chunks=num_chunks,
        chunk_s=chunk_s,
        source=f"median of {count(num_steps, 'step')} on {_name(device)} ({dtype}{threads})",
        peak_memory_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
        processor_share=min(1.0, computed_s / timed_s / torch.get_num_threads()) if on_cpu else 1.0,
    )


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
