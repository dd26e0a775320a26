"""Where a training run's time goes: the share of its steps' wall time in forward, backward and optimizer.

    python benchmarks/step_share.py CORPUS --recipe resnet --minutes 1

Trains as `xvectors train` does, loader process and all, on a CPU. From one batch to the next, each second counts once:

waiting       for batches that are not there yet (reading, decoding, augmentation of waveforms)
features      the filterbanks
SpecAugment   their masks
network       forward (with the loss), backward, and optimizer (gradient clipping and the step)
other         the rest: averages of weights, accuracy, progress, checkpoints

The scan of the corpus, the start of the loader processes and validation are left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from _timing import write_json
from xvectors import Recipe, load_recipe, train
from xvectors.augment.specaugment import SpecAugment
from xvectors.features import Fbank
from xvectors.training import run
from xvectors.training.learner import Learner

NETWORK = ("forward", "backward", "optimizer")
STARTING = "starting"
"""The very first batch waits for the loader processes to start."""


class Stopwatch:
    """Seconds by what they were spent on, each in the innermost part alone; outside all parts nothing counts."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._clock, self._parts, self._since = clock, list[str](), 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._charge()
        self._parts.append(name)
        try:
            yield
        finally:
            self._charge()
            self._parts.pop()

    def within(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """`function`, its time counted as `name` where it is called inside a part."""

        def timed(*given: Any, **named: Any) -> Any:
            if not self._parts:
                return function(*given, **named)
            with self.part(name):
                return function(*given, **named)

        return timed

    def _charge(self) -> None:
        now = self._clock()
        if self._parts:
            self.spent[self._parts[-1]] += now - self._since
        self._since = now


def measure(corpus: str | Path, recipe: Recipe) -> tuple[int, dict[str, float]]:
    """Train, and return the number of steps and the seconds of each part."""
    watch, steps = Stopwatch(), 0
    batches_of, optimizers = run.batches_of, (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)

    def timed_batches(loader: Any) -> Iterator[Any]:
        nonlocal steps
        if loader.dataset._augmenter is None:
            yield from batches_of(loader)
            return
        batches = iter(batches_of(loader))
        while True:
            with watch.part("waiting" if steps else STARTING):
                batch = next(batches, None)
            if batch is None:
                return
            steps += 1
            with watch.part("other"):
                yield batch

    timed = [
        (Learner, "_forward", "forward"),
        (Fbank, "forward", "features"),
        (SpecAugment, "__call__", "SpecAugment"),
        (torch.autograd, "backward", "backward"),
        (nn.utils, "clip_grad_norm_", "optimizer"),
        *((optimizer, "step", "optimizer") for optimizer in optimizers),
    ]
    with ExitStack() as patched, tempfile.TemporaryDirectory() as folder:
        patched.enter_context(patch.object(run, "batches_of", timed_batches))
        for owner, name, part in timed:
            patched.enter_context(patch.object(owner, name, watch.within(getattr(owner, name), part)))
        train(corpus, Path(folder, "system"), recipe, device="cpu", calibrate=False)
    watch.spent.pop(STARTING, None)
    parts = (*NETWORK, "features", "SpecAugment", "waiting", "other")
    assert set(watch.spent) <= set(parts)
    return steps, {part: watch.spent[part] for part in parts}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("corpus", help="what `xvectors train` takes")
    options.add_argument("--recipe", default="resnet")
    options.add_argument("--minutes", type=float, default=1.0)
    options.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    options.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = options.parse_args()
    recipe = load_recipe(arguments.recipe, [*arguments.settings, f"training.minutes={arguments.minutes}"])
    steps, spent = measure(arguments.corpus, recipe)
    whole = sum(spent.values())
    spent = {"network": sum(spent[part] for part in NETWORK), **spent}
    for name, seconds in spent.items():
        indented = f"  {name}" if name in NETWORK else name
        print(f"{indented:<13} {1000 * seconds / steps:8.1f} ms a step  {seconds / whole:6.1%}")
    write_json(arguments.json, [{"steps": steps, **{name: seconds / steps for name, seconds in spent.items()}}])


if __name__ == "__main__":
    main()
