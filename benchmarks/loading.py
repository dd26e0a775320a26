"""What a batch of training chunks costs the processes that read it, with the recordings kept decoded and without.

    python benchmarks/loading.py CORPUS [--recipe resnet] [--batches 25] [--rounds 2]

Milliseconds of processor time a batch, reading, augmentation and collation, in one process on one thread. Both read
an epoch before they are timed, in which `kept` decodes every recording; the rounds take turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from xvectors import Recipe, load_recipe
from xvectors.training import prepare_corpus
from xvectors.training.data.loaders import Loaders

KINDS = {"kept": 1 << 20, "read anew": 0}
"""training.decoded_mb: more than any corpus, and none."""


def measure(corpus: str | Path, recipes: dict[str, Recipe], batches: int, rounds: int) -> Iterator[tuple[str, float]]:
    """Kind and milliseconds of processor time a batch, kind after kind in every round."""
    loaders: dict[str, Loaders] = {}
    for kind, recipe in recipes.items():
        prepared, _ = prepare_corpus(corpus, recipe, min_samples=1)
        loaders[kind] = Loaders(recipe, prepared, torch.device("cpu"))
        for _ in loaders[kind].train:  # an epoch comes by every recording
            pass
    for _ in range(rounds):
        for kind in recipes:
            started = time.process_time()
            read = sum(1 for _ in islice(loaders[kind].train, batches))
            yield kind, 1e3 * (time.process_time() - started) / read


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("corpus", help="what `xvectors train` takes")
    options.add_argument("--recipe", default="resnet")
    options.add_argument("--batches", type=int, default=25)
    options.add_argument("--rounds", type=int, default=2)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    recipes = {
        kind: load_recipe(arguments.recipe, ["training.workers=0", f"training.decoded_mb={most}"])
        for kind, most in KINDS.items()
    }
    for kind, cost_ms in measure(arguments.corpus, recipes, arguments.batches, arguments.rounds):
        print(f"{kind:<10} {cost_ms:>6.1f} ms", flush=True)


if __name__ == "__main__":
    main()
