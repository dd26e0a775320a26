"""Damaged recordings and requests for a running service. In: a client of it. Out: what it should not have answered.

`python tests/fuzz/uploads.py NUMBER --seed N` sends so many to a service of its own, and says what it found.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import mutations
from sound_files import damaged, sound_files
from starlette.testclient import TestClient

RECORDING = {200, 422}
"""Statuses for a damaged recording."""
REQUEST = {200, 400, 413, 415, 422}
"""Statuses where the request around it is damaged too."""
DECODE_BYTES = 200_000_000
"""What the service allows one recording; the process that decodes has 50 MB before."""


@dataclass
class Outcome:
    """Answers by status, seeds with an answer that is none of those expected, and what memory grew to."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: dict[str, list[int]] = field(default_factory=dict)
    grown_bytes: int = 0
    worker_bytes: int = 0


def upload(client: TestClient, files: dict[str, bytes], seed: int) -> tuple[int, str]:
    """Send the recording of a seed; return the status, and what is wrong with the answer or an empty text."""
    rng = random.Random(seed)
    name = rng.choice(sorted(files))
    content = damaged(files[name], rng, list(files.values()))
    path = f"/v1/voice/{rng.choice(('analyze', 'analyze', 'analyze', 'embed'))}"
    expected = RECORDING
    if rng.random() < 0.5:
        body, kind = json.dumps({"audio": base64.b64encode(content).decode()}).encode(), "application/json"
    else:
        head = f'--xx\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        body, kind = head + content + b"\r\n--xx--\r\n", "multipart/form-data; boundary=xx"
    if rng.random() < 0.2:
        body, expected = mutations.mutate(body, rng), REQUEST
    answer = client.post(path, content=body, headers={"content-type": kind})
    where = f"{path} {kind} {name}"
    if answer.status_code not in expected:
        return answer.status_code, f"{answer.status_code} of {where}: {answer.text[:200]}"
    if answer.status_code != 200 and not answer.json()["remedy"]:
        return answer.status_code, f"no remedy of {where}"
    return answer.status_code, ""


def fuzz_uploads(client: TestClient, first: int, number: int) -> Outcome:
    """Send the recordings of these seeds, after some that let the service take what memory it keeps."""
    files, outcome = sound_files(), Outcome()
    for content in files.values():
        assert client.post("/v1/voice/analyze", files={"file": content}).status_code == 200
    before = resident_bytes("self")
    for seed in range(first, first + number):
        status, fault = upload(client, files, seed)
        outcome.statuses[status] += 1
        if fault:
            outcome.faults.setdefault(fault, []).append(seed)
        if seed % 50 == 0:
            outcome.worker_bytes = max(outcome.worker_bytes, *map(resident_bytes, children()))
    outcome.grown_bytes = resident_bytes("self") - before
    outcome.worker_bytes = max(outcome.worker_bytes, *map(resident_bytes, children()))
    return outcome


def resident_bytes(pid: str) -> int:
    """The memory that a process has now; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def children() -> list[str]:
    """The processes that this one has started, and "none", which has no memory."""
    found = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return [*(pid for pids in found for pid in pids), "none"]


def main() -> None:
    from xvectors.serve import Settings, create_app

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            gallery=Path(folder, "gallery.sqlite"), decoders=1, rate_per_s=None, decode_memory_bytes=DECODE_BYTES
        )
        with TestClient(create_app(settings=settings), base_url="http://localhost:8000") as client:
            outcome = fuzz_uploads(client, options.seed, options.number)
    sys.stdout.write(
        f"{dict(outcome.statuses)}, grown by {outcome.grown_bytes / 1e6:.0f} MB, "
        f"decoder {outcome.worker_bytes / 1e6:.0f} MB, {sum(map(len, outcome.faults.values()))} faults\n"
    )
    for fault, seeds in outcome.faults.items():
        sys.stdout.write(f"{len(seeds):5d}  {fault}  {seeds[:6]}\n")


if __name__ == "__main__":
    main()
