"""The calculator of training runs: steps, hours, memory and cost by hand, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch

from support.commands import run
from support.training import small
from xvectors.config import Recipe
from xvectors.errors import ConfigError
from xvectors.system.serialization import make_model
from xvectors.training import planning
from xvectors.training.planning import CorpusSize, StepTime, measure_step, memory_of, plan_training

CORPUS = CorpusSize(num_speakers=100, num_recordings=2000, hours=2.0)
STEP = StepTime(seconds=0.1, num_chunks=8, chunk_s=0.65, source="given")
LARGE = ("loss.name=aam_softmax", "training.large_margin_share=0.5", "data.large_margin_chunk_s=1.3")


def test_hours_by_hand() -> None:
    """Of 100 speakers and 2,000 recordings, 80 % and 75 % train: 1,200 in 75 steps of 16, 0.2 s each."""
    plan = plan_training(small(), CORPUS, step=STEP, devices=(1, 2), efficiency=0.8, price=3.0)
    assert (plan.num_recordings, plan.num_classes, plan.steps_per_epoch, plan.num_steps) == (1200, 80, 75, 225)
    one, two = plan.on_devices
    assert (one.step_s, one.chunks_per_s, one.hours) == pytest.approx((0.2, 80, 45 / 3600))
    assert (two.step_s, two.chunks_per_s, two.hours) == pytest.approx((0.125, 128, 45 / 1.6 / 3600))
    assert (one.cost, two.cost) == pytest.approx((3 * 45 / 3600, 2 * 3 * 45 / 1.6 / 3600))


def test_longer_chunks_and_speeds_count() -> None:
    """Half of the run has chunks twice as long, which take twice the time; each of three speeds is a class."""
    settings = (*LARGE, "augment.speed_prob=0.5", "augment.speeds=0.9,1.1")
    plan = plan_training(small(*settings), CORPUS, step=STEP)
    assert plan.on_devices[0].hours == pytest.approx(45 * 1.5 / 3600)
    assert plan.num_classes == 240
    assert plan.on_devices[0].cost is None


@pytest.mark.parametrize(("optimizer", "copies", "width"), [("adam", 2, 0.0), ("sgd", 1, 0.1)])
def test_memory_is_that_of_the_tensors(optimizer: str, copies: int, width: float) -> None:
    recipe = small(f"training.optimizer={optimizer}", f"training.average_width={width}")
    model = make_model(recipe, 80)
    size = 4 * sum(p.numel() for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    memory = memory_of(recipe, 80)
    assert (memory.parameters, memory.gradients, memory.optimizer) == (size + buffers, size, copies * size)
    assert memory.average == (size + buffers if width else 0)
    assert memory.total == memory.parameters + memory.gradients + memory.optimizer + memory.average


def test_the_head_counts_too() -> None:
    without, with_head = (memory_of(small(*settings), 80).gradients for settings in ((), ("loss.name=am_softmax",)))
    assert with_head - without == 4 * 80 * 32


def test_the_median_of_the_steps_after_the_first_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: Iterator[float] = iter([0.0, 50.0, 60.0, 61.0, 70.0, 73.0, 80.0, 82.0])
    monkeypatch.setattr(planning.time, "perf_counter", lambda: next(ticks))
    used: Iterator[float] = iter([5.0, 8.0])
    monkeypatch.setattr(planning.time, "process_time", lambda: next(used))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    before = torch.get_rng_state()
    step = measure_step(small(), CORPUS, torch.device("cpu"), num_chunks=4)
    assert (step.seconds, step.num_chunks, step.chunk_s, step.peak_memory_bytes) == (2.0, 4, 0.65, 0)
    assert step.source == "median of 3 steps on cpu (float32, 2 threads)"
    assert step.processor_share == 3 / 6 / 2
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        (small("training.minutes=5"), {}, "the recipe takes training.minutes = 5, whatever the corpus"),
        (small(), {"devices": (9,)}, "--devices 9: training.batch_size = 16 can be shared by 1 to 8 devices"),
        (small(), {"efficiency": 1.5}, "--efficiency 1.5 must be above 0 and at most 1"),
        (small(), {"price": -1.0}, "--price -1 must be at least 0"),
    ],
)
def test_what_cannot_be_planned(recipe: Recipe, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        plan_training(recipe, CORPUS, step=STEP, **options)


def test_a_corpus_needs_recordings() -> None:
    with pytest.raises(ConfigError, match="--utterances must be at least --speakers"):
        CorpusSize(num_speakers=10, num_recordings=9, hours=1.0)


def test_the_command_says_what_is_given_and_what_is_extrapolated() -> None:
    arguments = ("plan", "voxceleb-resnet34", "--step-s", 0.5, "--devices", "1,4,8", "--price", 2)
    printed = run(*arguments).stdout
    assert "155 epochs of 4,202 steps, each of 256 chunks of 2 s" in printed
    assert "corpus: 1,092,009 recordings of 7.8 s on average; training takes 1,075,683 of them" in printed
    assert "in 17,802 classes" in printed
    assert "given: 0.5 s for a step of 256 chunks of 2 s, --step-s" in printed
    assert "- several devices, at 90% of the ideal speed (--efficiency)" in printed
    assert "- the last 3.2% of the run, whose chunks of 6 s take 3 times as long" in printed
    assert "- ResNet34, with the large-margin stage: 0.797 / 0.937 / 1.695 % (WeSpeaker" in printed
    found = json.loads(run(*arguments, "--json").stdout)
    one, four, eight = found["on_devices"]
    # 651,310 steps of 0.5 s, of which 3.226 % take three times as long
    assert one["hours"] == pytest.approx(651_310 * 0.5 * (1 + 2 * 0.03226) / 3600)
    assert four["hours"] == pytest.approx(one["hours"] / 3.6)
    assert eight["cost"] == pytest.approx(2 * one["hours"] / 0.9)
    assert found["num_steps"] == 651_310
    assert not found["step"]["measured"]


def test_the_command_measures(tmp_path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('base = "resnet"\n[model]\nchannels = 4\nembedding_dim = 16\n')
    printed = run(
        "plan", recipe, "--speakers", 20, "--utterances", 400, "--hours", 1, "--chunks", 2, "--steps", 1
    ).stdout
    assert "s for a step of 2 chunks of 2 s, median of 1 step on " in printed
    assert "- a step of 64 chunks, as 32 times 2 chunks" in printed
    assert "public runs of mine: none known" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--devices", "1,x"), "--devices '1,x' must be whole numbers separated by commas, such as 1,4,8"),
        (("--devices", "0"), "--devices 0: training.batch_size = 256 can be shared by 1 to 128 devices"),
        (("--step-s", "0"), "--step-s 0 must be above 0"),
        (("--chunks", "1"), "--chunks 1 and --steps 3 must be at least 2 and 1"),
        (("--hours", "nan"), "--hours above 0"),
    ],
)
def test_a_wrong_option_is_named(options: tuple[str, ...], message: str) -> None:
    assert message in run("plan", "voxceleb-resnet34", *options, status=2).stderr
