"""One step of learning: where its random numbers come from, and the arithmetic of float16."""

from __future__ import annotations

import pytest
import torch

from support.steps_on_shares import batch as tones
from support.steps_on_shares import in_float64
from xvectors.config import load_recipe
from xvectors.training import learner
from xvectors.training.checkpoint import Checkpoint
from xvectors.training.data.dataset import Batch
from xvectors.training.distributed import ALONE, Group
from xvectors.training.learner import Learner, num_parts, parts_of

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


def test_a_batch_is_cut_into_parts_of_two_chunks_or_more() -> None:
    assert [num_parts(4, total, num_ranks) for total, num_ranks in [(64, 1), (7, 1), (2, 1), (64, 2), (12, 2)]] == [
        *(4, 3, 1),
        *(4, 3),
    ]
    assert [part.stop - part.start for part in parts_of(7, 3)] == [2, 2, 3]
    assert [row for part in parts_of(7, 3) for row in range(7)[part]] == list(range(7))


def gradients(recipe: str, *overrides: str) -> tuple[Learner, list[torch.Tensor], tuple[float, int]]:
    """Take one step on 7 chunks, in float64, and return the gradients and the measures."""
    settings = ["model.size=0.06", "model.embedding_dim=16", "training.max_gradient_norm=0", *overrides]
    made = in_float64(Learner(load_recipe(recipe, settings), 4, CPU))
    measures = made.step(tones(7), 0.1, (0, 0))
    return made, [p.grad for p in made.network.parameters() if p.grad is not None], measures


@pytest.mark.parametrize("loss", ["softmax", "sphereface2"])
def test_parts_of_a_batch_equal_the_whole(loss: str) -> None:
    """Gradients, weights after the step, loss and accuracy, without BatchNorm, with SpecAugment's masks."""
    settings = (f"loss.name={loss}", "augment.spec_augment_prob=0.5")
    _, expected, (wanted, num_correct) = gradients("lab", *settings)
    for number in (2, 3, 100):
        parts, found, measures = gradients("lab", *settings, f"training.accumulate={number}")
        assert measures == (pytest.approx(wanted, rel=1e-6), num_correct)
        assert len(found) == len(expected) > 10
        for mine, theirs in zip(found, expected, strict=True):
            # the softmax is computed in float32
            torch.testing.assert_close(mine, theirs, atol=1e-6 * float(theirs.abs().max()), rtol=1e-5)
        assert parts.optimizer.state_dict()["state"][0]["step"] == 1


def test_batch_norm_takes_its_statistics_from_each_part() -> None:
    """The limit of accumulation: running statistics move once a part, and gradients are not those of the batch."""
    whole, expected, _ = gradients("xvector")
    parts, found, _ = gradients("xvector", "training.accumulate=3")
    assert [int(made.model.pool_bn.num_batches_tracked) for made in (whole, parts)] == [1, 3]
    furthest = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))
    assert furthest > 0.01
