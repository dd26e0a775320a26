"""Several processes at one gallery file: nothing enrolled is lost, whoever is killed."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from xvectors.gallery import SqliteStore

WRITER = """
import sys, time
import numpy as np
from datetime import UTC, datetime
from xvectors.gallery import SqliteStore, Voiceprint
path, name, until = sys.argv[1], sys.argv[2], time.monotonic() + float(sys.argv[3])
number = 0
while time.monotonic() < until:
    # opened anew for some of them, as commands do: the last one to close a gallery tidies its log away
    with SqliteStore(path, create=True) as store:
        for _ in range(20):
            one = Voiceprint(embedding=np.full(64, number + 1, np.float32), duration_s=1.0, system="a" * 64,
                             enrolled_at=datetime.now(UTC))
            store.add(name if number % 2 else "everybody", [one])
            print(name if number % 2 else "everybody", flush=True)
            number += 1
"""
READER = """
import sys, time
from datetime import UTC, datetime
from xvectors.gallery import SqliteStore
path, until = sys.argv[1], time.monotonic() + float(sys.argv[2])
seen = reads = 0
while time.monotonic() < until:
    with SqliteStore(path) as store:
        for _ in range(20):
            count = sum(len(block.speaker) for block in store.blocks("a" * 64, datetime.now(UTC)))
            assert count >= seen, (count, seen)
            seen, reads = count, reads + 1
print(reads)
"""


FORGETTER = """
import sys, time
import numpy as np
from datetime import UTC, datetime
from xvectors.errors import GalleryError
from xvectors.gallery import SqliteStore, Voiceprint
path, until = sys.argv[1], time.monotonic() + float(sys.argv[2])
one = Voiceprint(embedding=np.ones(64, np.float32), duration_s=1.0, system="b" * 64, enrolled_at=datetime.now(UTC))
with SqliteStore(path) as store:
    while time.monotonic() < until:
        store.add("fleeting", [one])
        try:
            assert store.forget("fleeting") == 1
        except GalleryError as error:  # for half a minute there was always somebody reading
            assert "fleeting is forgotten, but traces may remain" in str(error)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def counts(path: Path) -> dict[str, int]:
    with SqliteStore(path) as store:
        return {speaker.name: speaker.num_voiceprints for speaker in store.speakers(datetime.now(UTC))}


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize(("each", "seconds"), [(3, 3), pytest.param(8, 20, marks=pytest.mark.slow)])
def test_concurrent_writers_and_readers_lose_nothing(tmp_path: Path, each: int, seconds: int) -> None:
    """Some processes write and as many read, one forgets; they also race to make the file."""
    path = tmp_path / "gallery.sqlite"
    writers = [start(WRITER, path, f"writer {number}", seconds) for number in range(each)]
    while not path.exists():
        assert any(writer.poll() is None for writer in writers)
        time.sleep(0.01)
    readers = [start(READER, path, seconds) for _ in range(each)]
    forgetter = start(FORGETTER, path, seconds)
    said: dict[str, int] = {}
    for writer in writers:
        output, errors = writer.communicate()
        assert writer.returncode == 0, errors
        for name in output.splitlines():
            said[name] = said.get(name, 0) + 1
    for reader in readers:
        output, errors = reader.communicate()
        assert reader.returncode == 0, errors
        assert int(output) >= 20
    _, errors = forgetter.communicate()
    assert forgetter.returncode == 0, errors
    assert counts(path) == said
    assert len(said) == each + 1
    assert is_sound(path)
    with SqliteStore(path) as store:
        store.purge(datetime.now(UTC))
    assert b"fleeting" not in path.read_bytes()


def test_killed_while_enrolling(tmp_path: Path) -> None:
    """Whatever a process had said was enrolled is there, at most one more, and the next process goes on."""
    path = tmp_path / "gallery.sqlite"
    rng = random.Random(0)
    said: dict[str, int] = {}
    for number in range(5):
        writer = start(WRITER, path, f"writer {number}", 60)
        assert writer.stdout is not None
        for _ in range(rng.randrange(1, 60)):
            name = writer.stdout.readline().strip()
            said[name] = said.get(name, 0) + 1
        time.sleep(rng.random() * 0.02)
        writer.send_signal(signal.SIGKILL)
        # not communicate, which overlooks what readline has read ahead
        for name in writer.stdout.read().splitlines():
            said[name] = said.get(name, 0) + 1
        writer.communicate()
        there = counts(path)
        assert all(there.get(name, 0) >= count for name, count in said.items())
        assert sum(there.values()) <= sum(said.values()) + 1
        assert is_sound(path)
        said = there
    assert sum(said.values()) > 30


def test_killed_while_making_the_gallery(tmp_path: Path) -> None:
    """What is left is no gallery, or a whole one."""
    script = "import sys; from xvectors.gallery import SqliteStore; print('go', flush=True)\n" + (
        "SqliteStore(sys.argv[1], create=True)"
    )
    for number in range(8):
        path = tmp_path / str(number) / "gallery.sqlite"
        maker = start(script, path)
        assert maker.stdout is not None
        maker.stdout.readline()
        time.sleep(0.002 * number)
        maker.send_signal(signal.SIGKILL)
        maker.communicate()
        with SqliteStore(path, create=True) as store:
            assert store.speakers(datetime.now(UTC)) == []
