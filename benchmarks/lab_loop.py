"""How long the exercise's training loop takes, and what `num_workers` takes off it.

    python benchmarks/lab_loop.py METADATA DATA [--batches 8] [--epochs 10] [--workers 2]

The loop is written by hand as the exercise has it: `load_all_data`, the x-vector at size 1, cross-entropy, Adam,
batches of 32 chunks of 5 s. It prints the processor time of the loop's own process on one thread, a batch: reading and
filterbanks, the step of the network, and what is left of reading where processes of the loader do it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator

import torch
from torch import nn, optim

from xvectors.dataset import load_all_data
from xvectors.models import XVector


def timed(batches: Iterable[tuple[torch.Tensor, ...]], limit: int) -> Iterator[tuple[float, tuple[torch.Tensor, ...]]]:
    """The batches after a first one, each with the seconds of processor time that this process spent to get it."""
    source = iter(batches)
    next(source)
    for _ in range(limit):
        started = time.process_time()
        batch = next(source, None)
        if batch is None:
            return
        yield time.process_time() - started, batch


def measure(metadata: str, data: str, num_batches: int, workers: int) -> tuple[int, float, float, float]:
    """Batches of an epoch; seconds a batch to read, to step, and to read with `workers` processes."""
    _, _, train = load_all_data(metadata, data, batch_size=32)
    model = XVector(size=1, depth=1, num_speakers=len(train.dataset.speakers), embedding_dim=512, input_dim=24)
    criterion, optimizer = nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-5)
    reading = stepping = 0.0
    count = 0
    for seconds, (melspec, spk_id, _, _) in timed(train, num_batches):
        started = time.process_time()
        optimizer.zero_grad()
        criterion(model(melspec), spk_id).backward()
        optimizer.step()
        stepping += time.process_time() - started
        reading += seconds
        count += 1
    _, _, beside = load_all_data(metadata, data, batch_size=32, num_workers=workers)
    left = [seconds for seconds, _ in timed(beside, num_batches)]
    return len(train), reading / count, stepping / count, sum(left) / len(left)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("metadata")
    options.add_argument("data")
    options.add_argument("--batches", type=int, default=8)
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--workers", type=int, default=2)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    batches, reading, step, left = measure(arguments.metadata, arguments.data, arguments.batches, arguments.workers)
    total = batches * arguments.epochs / 60
    print(f"read {1e3 * reading:.0f} ms, step {1e3 * step:.0f} ms, {1e3 * left:.0f} ms of reading left with workers")
    print(
        f"{arguments.epochs} epochs of {batches} batches: {total * (reading + step):.1f} minutes of one core, of which "
        f"{total * (reading - left):.1f} are the workers' with num_workers={arguments.workers}"
    )


if __name__ == "__main__":
    main()
