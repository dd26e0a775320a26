"""Where a training run's time goes: the share of its steps' wall time in forward, backward and optimiser.

    python benchmarks/step_share.py CORPUS --recipe resnet --minutes 1

Trains as `xvectors train` does, loader process and all. `waiting` is for batches that are not there yet (reading,
decoding, augmentation), `features` are the filterbanks and their masks, `network` is the rest of the step. The scan of
the corpus and validation are left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from _timing import write_json
from xvectors import load_recipe, train
from xvectors.features import Fbank
from xvectors.training import loop
from xvectors.training.learner import Learner


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("corpus", help="what `xvectors train` takes")
    options.add_argument("--recipe", default="resnet")
    options.add_argument("--minutes", type=float, default=1.0)
    options.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    options.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = options.parse_args()
    spent = {"waiting": 0.0, "features": 0.0, "network": 0.0}
    step, features, batches_of = Learner.step, Fbank.forward, loop.batches_of
    steps, in_step = 0, False

    def timed_step(self: Learner, *given: Any) -> Any:
        nonlocal steps, in_step
        before, began, in_step = spent["features"], time.perf_counter(), True
        result = step(self, *given)
        in_step = False
        spent["network"] += time.perf_counter() - began - (spent["features"] - before)
        steps += 1
        return result

    def timed_features(self: Fbank, *given: Any) -> Any:
        began = time.perf_counter()
        result = features(self, *given)
        spent["features"] += (time.perf_counter() - began) * in_step
        return result

    def timed_batches(loader: Any) -> Any:
        batches = iter(batches_of(loader))
        training = loader.dataset._augmenter is not None
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            # the very first batch waits for the loader processes to start
            spent["waiting"] += (time.perf_counter() - began) * training * (steps > 0)
            yield batch

    Learner.step, Fbank.forward, loop.batches_of = timed_step, timed_features, timed_batches
    recipe = load_recipe(arguments.recipe, [*arguments.settings, f"training.minutes={arguments.minutes}"])
    with tempfile.TemporaryDirectory() as folder:
        train(arguments.corpus, Path(folder, "system"), recipe, calibrate=False, show_progress=False)
    whole = sum(spent.values())
    for name, seconds in spent.items():
        print(f"{name:<9} {1000 * seconds / steps:8.1f} ms a step  {seconds / whole:6.1%}")
    write_json(arguments.json, [{"steps": steps, **{name: seconds / steps for name, seconds in spent.items()}}])


if __name__ == "__main__":
    main()
