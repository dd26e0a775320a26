"""Damaged files of every kind: each is read, or refused with an XVectorsError, in bounded time and memory.

By hand, for an hour: XVECTORS_FUZZ_S=3600 python -m pytest tests/fuzz -m slow -s
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign import Reader, damaged, fuzz
from file_readers import make_readers
from mutations import MUTATIONS, mutate

from xvectors.errors import ManifestError

INPUTS = 16
SECONDS = float(os.environ.get("XVECTORS_FUZZ_S", "15"))


@pytest.fixture(autouse=True)
def _without_warnings() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> list[Reader]:
    return make_readers(tmp_path_factory.mktemp("fuzzed"))


def test_damaged_files(readers: list[Reader]) -> None:
    """The same inputs in every run."""
    outcomes = [fuzz(reader, inputs=INPUTS) for reader in readers]
    assert {fault: seeds for outcome in outcomes for fault, seeds in outcome.faults.items()} == {}
    for outcome in outcomes:
        assert outcome.tried == INPUTS
        assert outcome.refused >= INPUTS // 4, f"{outcome.reader}: what is damaged goes unnoticed"


FIRST_SEED_FOR_LONGER = 1_000_000
"""Where nobody asked for other inputs: a change must not fail by chance."""


@pytest.mark.slow
def test_damaged_files_for_longer(readers: list[Reader]) -> None:
    """Other inputs in every run by hand; the seeds of what failed are in the message, for `campaign.damaged`."""
    first = int(time.time()) * 1000 if "XVECTORS_FUZZ_S" in os.environ else FIRST_SEED_FOR_LONGER
    outcomes = [fuzz(reader, seconds=SECONDS / len(readers), first_seed=first) for reader in readers]
    for outcome in outcomes:
        print(f"{outcome.reader}: {outcome.tried} tried, {outcome.refused} refused")  # noqa: T201 - seen with -s
    print(f"{sum(outcome.tried for outcome in outcomes)} inputs")  # noqa: T201
    assert {fault: seeds for outcome in outcomes for fault, seeds in outcome.faults.items()} == {}


def test_what_a_campaign_takes_for_a_fault(tmp_path: Path) -> None:
    """Another error than ours, with the seed that brings it back; ours is a refusal."""
    path = tmp_path / "file"
    path.write_bytes(b"whole")

    def read() -> None:
        content = path.read_bytes()
        if len(content) < 5:
            raise KeyError("short")
        if content != b"whole":
            raise ManifestError("damaged")

    outcome = fuzz(Reader("file", path, read), inputs=200)
    ((fault, seeds),) = outcome.faults.items()
    assert "KeyError" in fault
    assert all(len(damaged("file", b"whole", seed)) < 5 for seed in seeds)
    assert outcome.refused > len(seeds) > 0
    assert path.read_bytes() == b"whole"


def test_mutations_are_seeded_and_change_something() -> None:
    data = bytes(range(256)) * 4
    for mutation in MUTATIONS:
        changed = [bytes(mutation(bytearray(data), random.Random(seed), [data])) for seed in range(20)]
        assert changed == [bytes(mutation(bytearray(data), random.Random(seed), [data])) for seed in range(20)]
        assert sum(each != data for each in changed) > 15
    assert len({mutate(data, random.Random(seed)) for seed in range(100)}) > 95
