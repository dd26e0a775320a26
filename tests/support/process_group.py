"""Processes that train together, as torchrun starts them on one machine. In: their commands. Out: how they ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).resolve().parents[2] / "src"
LONGEST_S = 240


class Ended(NamedTuple):
    status: int
    stdout: str
    stderr: str


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start(num_ranks: int, *arguments: object) -> list[subprocess.Popen[str]]:
    """Start `python ARGUMENTS` so many times with the environment that torchrun would give each process.

    Without torchrun itself, which takes seconds to start and ends all processes with the first one that fails.
    """
    shared = {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(SOURCES), str(SOURCES.parent / "tests")]),
    }
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_ranks)
    ]


def finish(processes: list[subprocess.Popen[str]]) -> list[Ended]:
    """Wait for the processes, and kill them if that takes too long."""
    ended = []
    try:
        for process in processes:
            stdout, stderr = process.communicate(timeout=LONGEST_S)
            ended.append(Ended(process.returncode, stdout, stderr))
    finally:
        for process in processes:
            process.kill()
    return ended


def run(num_ranks: int, *arguments: object) -> list[Ended]:
    """Start the processes and wait for them; all must end with status 0."""
    ended = finish(start(num_ranks, *arguments))
    assert all(one.status == 0 for one in ended), "\n".join(one.stderr for one in ended)
    return ended
