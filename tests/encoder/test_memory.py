"""Memory of a process that embeds recordings of ever new lengths."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xvectors.encoder import SpeakerEncoder
from xvectors.encoder.engines.torch import padded_length

RATE = 16_000


def test_padded_lengths_are_few_and_hardly_longer() -> None:
    lengths = np.arange(RATE, 8 * RATE, 7)
    padded = np.array([padded_length(int(length), RATE) for length in lengths])
    assert (padded >= lengths).all()
    assert (padded <= 1.05 * lengths).all()
    assert len(np.unique(padded)) == 3 * 20 + 1
    for seconds in (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0):  # what people cut costs nothing
        assert padded_length(round(seconds * RATE), RATE) == seconds * RATE
    assert [padded_length(samples, 8000) for samples in (1, 400, 8001)] == [1, 408, 8400]


def test_ever_new_lengths_bring_the_network_few_shapes(
    encoder: SpeakerEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shape leaves code and holes in memory behind: their number is what must not grow."""
    shapes, inner = set(), encoder.engine._folded.forward
    monkeypatch.setattr(
        encoder.engine._folded,
        "forward",
        lambda features, **settings: shapes.add(tuple(features.shape)) or inner(features, **settings),
    )
    rng = np.random.default_rng(0)
    for length in rng.integers(RATE, 2 * RATE, 60):
        encoder.encode(rng.standard_normal(length).astype(np.float32))
    assert len(shapes) <= 20


GROWING = """
import sys
import numpy as np
from xvectors import SpeakerEncoder

def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

encoder = SpeakerEncoder.from_pretrained(device="cpu", threads=1)
rng, calls, longest_s = np.random.default_rng(0), int(sys.argv[1]), 4
for call in range(calls):
    length = longest_s * 16000 if call == 0 else int(rng.uniform(1, longest_s) * 16000)
    encoder.encode((0.1 * rng.standard_normal(length)).astype(np.float32))
    if call == 9:
        before = resident_mb()
print(before, resident_mb())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not say how much memory is used")
def test_three_thousand_lengths_take_little_more_memory_than_ten() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", GROWING, "3000"], capture_output=True, text=True, timeout=900, check=True
    )
    before, after = map(float, ended.stdout.split())
    assert after < 1.3 * before, ended.stdout
