"""Decode untrusted recordings in worker processes with limits on time and memory.

Decoders are C code that hostile bytes may crash or keep busy forever. Here only the worker process dies, and the caller
gets an AudioError. This is not a sandbox: a hijacked decoder can do whatever the user can.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import fields
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import numpy as np

from xvectors import errors
from xvectors.audio.channels import Canceled, Channel
from xvectors.audio.decoding.opening import Source
from xvectors.audio.decoding.worker import receive, send
from xvectors.audio.quality import Quality
from xvectors.audio.sound import AudioInfo, Samples
from xvectors.audio.speech import Heard
from xvectors.errors import AudioError, ConfigError

START_S = 60.0
"""Time limit for starting a process on a busy machine; 0.2 s is usual."""
_CODE = (
    "import sys, json; path, memory_bytes, cpu_s = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from xvectors.audio.decoding.worker import serve; serve(memory_bytes, cpu_s)"
)


class Decoder:
    """Decode like `xvectors.audio`, in limited worker processes that are replaced when they fail.

    Parameters
    ----------
    num_workers
        Number of recordings decoded at once; further callers wait. A process takes 50 MB, and 0.2 s to start.
    wall_s, cpu_s
        Limits per recording on seconds and on seconds of processor time.
    memory_bytes
        Limit per recording on memory: its bytes, unless it is a file, and twice the decoded samples.

    An AudioError names the exceeded limit. Linux enforces all three limits, macOS those on time, Windows only `wall_s`.
    The decoder is thread-safe, but cannot be used in a forked process. `close`, the end of a `with` block, and the end
    of this process end the worker processes.
    """

    def __init__(
        self, num_workers: int = 1, *, wall_s: float = 30.0, cpu_s: float = 10.0, memory_bytes: int = 1_000_000_000
    ) -> None:
        if num_workers < 1 or wall_s <= 0 or cpu_s <= 0 or memory_bytes <= 0:
            raise ConfigError("num_workers must be at least 1; wall_s, cpu_s and memory_bytes must be positive")
        self._wall_s, self._cpu_s, self._memory_bytes = wall_s, cpu_s, memory_bytes
        self._pid = os.getpid()
        self._closed, self._closing = False, threading.Lock()
        # a place for each worker; None where one has yet to start
        self._places: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(num_workers):
            self._places.put(None)
        self._num_workers = num_workers

    def read(
        self,
        source: Source,
        *,
        sample_rate_hz: int | None = None,
        start_s: float = 0.0,
        duration_s: float | None = None,
        channel: Channel = "mix",
    ) -> tuple[Samples, int]:
        """Read like `audio.read`: float32 [samples] and the rate. Exceeded limits raise AudioError too."""
        options = {
            "sample_rate_hz": None if sample_rate_hz is None else int(sample_rate_hz),
            "start_s": float(start_s),
            "duration_s": None if duration_s is None else float(duration_s),
            "channel": channel if isinstance(channel, str) else int(channel),
        }
        answer, content = self._ask("read", source, options)
        return np.frombuffer(content, dtype=np.float32), int(answer["sample_rate_hz"])

    def listen(
        self,
        source: Source,
        name: str = "recording",
        *,
        sample_rate_hz: int,
        channel: Channel = "mix",
        max_duration_s: float | None = None,
    ) -> Heard:
        """Find the speech of a recording like `audio.speech.listen`, which takes most of the time, in the process too.

        `name` names a recording without a path in messages. A recording longer than `max_duration_s`, and exceeded
        limits, raise AudioError too.
        """
        options = {
            "sample_rate_hz": int(sample_rate_hz),
            "channel": channel if isinstance(channel, str) else int(channel),
            "max_duration_s": max_duration_s,
        }
        answer, content = self._ask("listen", source, options, name)
        quality = answer["quality"]
        return Heard(
            name=os.fspath(source) if isinstance(source, str | os.PathLike) else str(answer["name"]),
            quality=Quality(**quality | {"remarks": tuple(quality["remarks"])}),
            speech_s=float(answer["speech_s"]),
            samples=np.frombuffer(content, dtype=np.float32),
            condition=np.asarray(answer["condition"], dtype=np.float32),
        )

    def probe(self, source: Source) -> AudioInfo:
        """Probe like `audio.probe`. Exceeded limits raise AudioError too."""
        found = self._ask("probe", source, {})[0]["found"]
        return AudioInfo(
            **{field.name: found[field.name] for field in fields(AudioInfo)} | {"notes": tuple(found["notes"])}
        )

    def canceled(self, source: Source) -> Canceled | None:
        """Answer like `audio.canceled`. Exceeded limits raise AudioError too."""
        found = self._ask("canceled", source, {})[0]["found"]
        return None if found is None else Canceled(**found)

    def close(self) -> None:
        """End the worker processes after the work in progress. The decoder cannot be used afterwards."""
        self._closed = True
        if self._pid != os.getpid():
            return
        with self._closing:
            for worker in [self._places.get() for _ in range(self._num_workers)]:
                if worker is not None:
                    worker.end()
                self._places.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ask(
        self, what: str, source: Source, options: dict[str, Any], called: str | None = None
    ) -> tuple[dict[str, Any], bytearray]:
        request, content, name = _request(source, called)
        if self._pid != os.getpid():
            raise AudioError("this Decoder belongs to the process that was forked; make one in each process")
        if len(content) > self._memory_bytes:
            raise AudioError(f"{name}: {self._reason('memory')}")
        place = self._places.get()
        try:
            if self._closed:
                raise AudioError("this Decoder is closed; make another one")
            worker = place if place is not None and place.is_alive else _Worker(self._memory_bytes, self._cpu_s)
            place = None  # unless it answers, it is replaced
            answer = worker.ask(request | {"do": what, "options": options}, content, self._wall_s, self._memory_bytes)
            if isinstance(answer, str):
                raise AudioError(f"{name}: {self._reason(answer)}")
            if "out_of_memory" in answer[0]:
                worker.end()
                raise AudioError(f"{name}: {self._reason('memory')}")
            place = worker
        finally:
            self._places.put(place)
        fields_, samples = answer
        if "error" in fields_:
            kind = getattr(errors, str(fields_["error"]), None)
            is_ours = isinstance(kind, type) and issubclass(kind, errors.XVectorsError)
            text = str(fields_["text"])
            if "path" in request and text.startswith(request["path"]):
                text = name + text[len(request["path"]) :]
            raise (cast(type[errors.XVectorsError], kind) if is_ours else AudioError)(text)
        return fields_, samples

    def _reason(self, found: str) -> str:
        if found == "memory":
            return f"needs more than {self._memory_bytes / 1e9:g} GB to decode; cut it, or allow more (memory_bytes)"
        if found == "wall":
            return f"took more than {self._wall_s:g} s to decode; cut it, or allow more (wall_s)"
        if found == "cpu":
            return f"took more than {self._cpu_s:g} s of processor time to decode; cut it, or allow more (cpu_s)"
        if found == "SIGKILL":
            return "its decoder was killed, perhaps because the machine ran out of memory; try again"
        return f"its decoder ended ({found}); the file is damaged or hostile"


class _Worker:
    """A decoding process and its pipes."""

    def __init__(self, memory_bytes: int, cpu_s: float) -> None:
        # the working folder is no place to import from, unless it is for the caller
        command = [sys.executable, "-P", "-c", _CODE, json.dumps([sys.path, memory_bytes, cpu_s])]
        # threads of linear algebra reserve memory, and nothing here needs them
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._end = weakref.finalize(self, _end, self._process, os.getpid())
        with self._within(START_S):
            hello = receive(self._answers)
        if hello is None:
            self.end()
            raise AudioError(
                f"the process that decodes does not start (exit status {self._process.returncode}); "
                "what it says is on standard error"
            )

    def ask(
        self, request: dict[str, Any], content: bytes, wall_s: float, most_bytes: int
    ) -> tuple[dict[str, Any], bytearray] | str:
        """Return the answer, or the reason for its absence: "wall", "cpu", or how the process ended."""
        answer, overran = None, threading.Event()
        try:
            with self._within(wall_s) as overran:
                with contextlib.suppress(OSError):  # a broken pipe; why may be in the answer
                    send(cast(BinaryIO, self._process.stdin), request, content)
                answer = receive(self._answers, most_bytes)
            if overran.is_set():
                return "wall"
            return self._how_it_ended() if answer is None else answer
        finally:
            if answer is None or overran.is_set():
                self.end()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._end()

    @property
    def _answers(self) -> BinaryIO:
        return cast(BinaryIO, self._process.stdout)

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[threading.Event]:
        """Kill the process after `seconds`. The yielded event is set if that happened."""
        overran, lock, is_over = threading.Event(), threading.Lock(), False

        def kill() -> None:
            with lock:
                if not is_over:
                    overran.set()
                    self._process.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield overran
        finally:
            timer.cancel()
            with lock:
                is_over = True

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return "its answer makes no sense"
        if status >= 0:
            return f"exit status {status}"
        if status == -getattr(signal, "SIGXCPU", 0):
            return "cpu"
        return signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"


def _request(source: Source, called: str | None) -> tuple[dict[str, str], bytes, str]:
    """Return the request, the bytes to send with it, and the recording's name for errors: `called`, if it has none."""
    if isinstance(source, bytes):
        name = called or "<bytes>"
        return {"name": name}, source, name
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        is_address = "://" in name
        return {"path": name if is_address else os.path.abspath(name)}, b"", name
    name = str(getattr(source, "name", called or "<file object>"))
    return {"name": name}, source.read(), name


def _end(process: subprocess.Popen[bytes], pid: int) -> None:
    """Kill the worker, unless this process is a fork of its owner."""
    if os.getpid() != pid:
        return
    process.kill()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # a broken pipe, where something is left to be flushed
            cast(BinaryIO, pipe).close()
    process.wait()
