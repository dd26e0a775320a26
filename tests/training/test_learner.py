"""One step of learning: where its random numbers come from, and the arithmetic of float16."""

from __future__ import annotations

import pytest
import torch

from xvectors.config import load_recipe
from xvectors.training import learner
from xvectors.training.checkpoint import Checkpoint
from xvectors.training.data.dataset import Batch
from xvectors.training.distributed import ALONE, Group
from xvectors.training.learner import Learner

CPU = torch.device("cpu")
SETTINGS = (
    "model.channels=4",
    "model.embedding_dim=16",
    "features.num_mels=20",
    "training.precision=float32",
    "augment.speed_prob=0",
    "augment.spec_augment_prob=1",
)


def make(*overrides: str, group: Group = ALONE) -> Learner:
    return Learner(load_recipe("resnet", [*SETTINGS, *overrides]), 4, CPU, group)


def batch() -> Batch:
    waveforms = 0.1 * torch.randn(4, 8000, generator=torch.Generator().manual_seed(0))
    return Batch(waveforms, torch.arange(4), torch.arange(4), [])


def losses(made: Learner, *places: tuple[int, int]) -> list[float]:
    """The loss of one batch at each place, the network as it is at first."""
    state = {key: value.clone() for key, value in made.network.state_dict().items()}
    found = []
    for place in places:
        made.network.load_state_dict(state)
        found.append(made.step(batch(), 0.0, place)[0])
    return found


def test_all_ranks_begin_alike_and_only_the_seed_decides() -> None:
    torch.manual_seed(5)
    one = make().network.state_dict()
    torch.manual_seed(6)
    two, other = make(group=Group(1, 2)).network.state_dict(), make("training.seed=1").network.state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_masks_come_of_seed_epoch_and_batch_alone() -> None:
    first = losses(make(), (0, 0), (0, 1), (1, 0), (0, 0))
    assert first[0] == first[3]
    assert len(set(first)) == 3
    torch.manual_seed(9)
    assert losses(make(), (1, 0), (0, 0)) == [first[2], first[0]]


def test_nothing_global_is_drawn_from() -> None:
    before = torch.get_rng_state()
    losses(make(), (0, 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_float16_scales_the_loss_and_keeps_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, where torch computes float16 though `training.precision` refuses it."""
    monkeypatch.setattr(learner, "choose_precision", lambda wanted, device: torch.float16)
    made = make()
    made.scaler.load_state_dict({**made.scaler.state_dict(), "scale": 2.0**10, "growth_interval": 2})
    before = made.network.state_dict()["head.weight"].clone()
    for number in range(3):
        made.step(batch(), 0.1, (0, number))
    assert made.scaler.get_scale() == 2.0**11
    assert not torch.equal(made.network.state_dict()["head.weight"], before)
    saved = Checkpoint(model={}, optimizer={})
    made.save_to(saved)
    other = make()
    other.load_from(saved, "here")
    assert other.scaler.state_dict() == made.scaler.state_dict()
    assert other.scaler.state_dict()["_growth_tracker"] == 1
    other.step(batch(), 0.1, (0, 3))
    assert other.scaler.get_scale() == 2.0**12


def test_a_gradient_too_large_for_float16_is_skipped_and_the_scale_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "choose_precision", lambda wanted, device: torch.float16)
    made = make()
    made.scaler.load_state_dict({**made.scaler.state_dict(), "scale": 2.0**40})
    before = made.network.state_dict()["head.weight"].clone()
    made.step(batch(), 0.1, (0, 0))
    assert made.scaler.get_scale() == 2.0**39
    assert torch.equal(made.network.state_dict()["head.weight"], before)


def test_other_arithmetic_has_no_scale() -> None:
    made, saved = make(), Checkpoint(model={}, optimizer={})
    made.step(batch(), 0.1, (0, 0))
    made.save_to(saved)
    assert saved.scaler == {}
