"""Commands that are killed at a chosen write. In: a command line and a number. Out: how the process ended.

A server imports everything once and forks for each command. In the fork, what is about to be written below a folder is
counted (Python's audit events, and the statements that SQLite is given), and before write number `kill_at` the process
sends itself SIGKILL.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import mmap
import os
import pkgutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

WRITING = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.chmod", "os.truncate", "os.symlink")


class Ended(NamedTuple):
    status: int
    """Of exit, negative for a signal."""
    writes: int
    output: str


class Commands:
    """The server. `home` stands for the user's home directory, `below` is where writes are counted."""

    def __init__(self, home: Path, below: Path) -> None:
        folders = {name: str(home) for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(below)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **folders, "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(self, *arguments: object, kill_at: int = 0) -> Ended:
        """Run a command; `kill_at`: the write, from 1, before which it is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([kill_at, *map(str, arguments)]) + "\n")
        self._process.stdin.flush()
        return Ended(*json.loads(self._process.stdout.readline()))


def _import_what_commands_import() -> None:
    """Once, not in each fork: commands import when they are called, for seconds together."""
    import torch

    import xvectors

    torch.set_num_threads(1)
    names = [module.name for module in pkgutil.walk_packages(xvectors.__path__, "xvectors.")]
    for name in (*names, "matplotlib.backends.backend_agg", "onnxscript", "pyarrow.parquet", "sklearn.manifold"):
        if not name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(name)


def _serve(below: str) -> None:
    _import_what_commands_import()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        kill_at, *arguments = json.loads(line)
        counter = mmap.mmap(-1, 8)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            for stream in (1, 2):
                os.dup2(writing, stream)
            os.close(writing)
            sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in (1, 2))  # noqa: SIM115
            _run(arguments, kill_at, counter, below)
        os.close(writing)
        with os.fdopen(reading, "rb") as output:
            said = output.read().decode(errors="replace")
        _, how = os.waitpid(child, 0)
        answers.write(json.dumps([os.waitstatus_to_exitcode(how), struct.unpack("q", counter[:])[0], said]) + "\n")


def _run(arguments: list[str], kill_at: int, counter: mmap.mmap, below: str) -> None:
    from xvectors.cli import main
    from xvectors.export import onnx_file
    from xvectors.gallery.sqlite import database

    me = os.getpid()

    def count() -> None:
        number = struct.unpack("q", counter[:])[0] + 1
        counter[:] = struct.pack("q", number)
        if number == kill_at:
            os.kill(me, signal.SIGKILL)

    def is_write(event: str, values: tuple[object, ...]) -> bool:
        if event == "open":
            path, mode, flags = values
            writes = any(letter in str(mode or "") for letter in "wax+") or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            return bool(writes) and isinstance(path, str | bytes) and os.fsdecode(path).startswith(below)
        if event in WRITING:
            path = values[0]
            return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(below)
        return False

    def hook(event: str, values: tuple[object, ...]) -> None:
        if os.getpid() == me and is_write(event, values):
            count()

    def traced(uri: str, connect=database._connection):
        connection = connect(uri)
        connection.set_trace_callback(lambda statement: None if statement.startswith(("SELECT", "PRAGMA")) else count())
        return connection

    def built_once(*given, build=onnx_file.build_onnx):
        """The graph that the first export has built, for all of them: building one takes seconds and writes nothing."""
        import onnx

        path = Path.home() / "graph.onnx"
        if not path.exists():
            onnx.save(build(*given), path)
        return onnx.load(path)

    database._connection = traced
    onnx_file.build_onnx = built_once
    sys.addaudithook(hook)
    sys.argv = ["xvectors", *arguments]
    try:
        main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1])
