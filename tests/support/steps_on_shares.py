"""Run by the processes of a group: steps on shares of batches. In: which, and a folder. Out: gradients and weights.

Everything above the loss is computed in float64, so that only a wrong formula differs from one process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from xvectors.config import load_recipe
from xvectors.training.data.dataset import Batch
from xvectors.training.distributed import Group
from xvectors.training.learner import Learner

RECIPES = {
    "xvector": ("xvector", "model.size=0.06", "model.embedding_dim=16", "augment.spec_augment_prob=1"),
    "accumulated": ("xvector", "model.size=0.06", "model.embedding_dim=16", "training.accumulate=3"),
    "resnet": ("resnet", "model.channels=4", "model.embedding_dim=16", "augment.spec_augment_prob=0"),
}
PLAIN = ("training.precision=float32", "augment.speed_prob=0", "augment.noise_prob=0")
SIZES = (12, 7, 3)
"""Two processes get 6 chunks each of the first batch, and 4 and 3 of the second; of the last one gets all, and the
other idles. With accumulation only the first is taken: two processes cut it into 3 parts too, and not the others."""


def batch(size: int, num_samples: int = 8000, seed: int = 0) -> Batch:
    """Tones of various pitches in noise, with labels."""
    generator = torch.Generator().manual_seed(1000 * seed + size)
    pitches = torch.linspace(100, 900, size).unsqueeze(1)
    tones = torch.sin(2 * torch.pi * pitches * torch.arange(num_samples) / 16_000)
    waveforms = 0.1 * tones + 0.02 * torch.randn(size, num_samples, generator=generator)
    return Batch(waveforms, torch.arange(size) % 4, torch.arange(size), [])


def of_steps(group: Group) -> dict[str, torch.Tensor]:
    """Return loss, gradients and buffers after each step, by names."""
    found: dict[str, torch.Tensor] = {}
    for name, (base, *settings) in RECIPES.items():
        recipe = load_recipe(base, [*settings, *PLAIN, "training.optimizer=sgd"])
        learner = in_float64(Learner(recipe, 4, torch.device("cpu"), group))
        for number, size in enumerate(SIZES[:1] if name == "accumulated" else SIZES):
            loss, num_correct = learner.step(share_of(batch(size), group), 0.1, (0, number))
            place = f"{name}.{size}"
            found[f"{place}.measures"] = torch.tensor([loss, num_correct])
            for key, parameter in learner.network.named_parameters():
                if parameter.grad is not None:
                    found[f"{place}.gradient.{key}"] = parameter.grad.clone()
            for key, buffer in learner.network.named_buffers():
                found[f"{place}.buffer.{key}"] = buffer.clone()
    return found


def after_many_steps(group: Group) -> dict[str, torch.Tensor]:
    """Return the weights after 50 steps of the default optimizer on 64 chunks, together with the averaged ones."""
    recipe = load_recipe("xvector", ["model.size=0.03", "model.embedding_dim=8", "training.average_width=0.1", *PLAIN])
    learner = in_float64(Learner(recipe, 4, torch.device("cpu"), group))
    for number in range(50):
        learner.step(share_of(batch(64, 4000, seed=number), group), number / 50, (0, number))
    assert learner.average is not None
    averaged = {f"average.{key}": value for key, value in learner.average.module.state_dict().items()}
    return learner.network.state_dict() | averaged


def in_float64(learner: Learner) -> Learner:
    learner.network.double()
    if learner.average is not None:
        learner.average.module.double()
    features = learner.fbank
    learner.fbank = lambda waveforms: features(waveforms).double()
    return learner


def share_of(whole: Batch, group: Group) -> Batch:
    share = group.share(len(whole.rows))
    labels = whole.labels[share]
    return Batch(whole.waveforms[share], labels, whole.rows[share], [], None, len(whole.rows) - len(labels))


def main(what: Callable[[Group], dict[str, torch.Tensor]], out: Path) -> None:
    group = Group.from_environment()
    with group.joined(torch.device("cpu")):
        found = what(group)
    torch.save(found, out / f"{group.rank}.pt")


if __name__ == "__main__":
    main({each.__name__: each for each in (of_steps, after_many_steps)}[sys.argv[1]], Path(sys.argv[2]))
