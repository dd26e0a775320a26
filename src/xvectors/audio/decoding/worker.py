"""The worker process of `untrusted.Decoder`: it reads requests from standard input and answers on standard output.

Messages are JSON and bytes, never pickles, so that a hijacked decoder can only send data back.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
from dataclasses import asdict
from typing import Any, BinaryIO, cast

import numpy as np

from xvectors.audio import io
from xvectors.audio.decoding.opening import Source
from xvectors.audio.sound import Samples
from xvectors.audio.speech import listen
from xvectors.errors import AudioError, XVectorsError

LENGTHS = struct.Struct("<IQ")
"""The lengths of the JSON and of the bytes behind it, which begin each message."""
MAX_JSON_BYTES = 1 << 20


class NamedBytes:
    """The bytes of a binary file, with a name for errors."""

    def __init__(self, content: bytes, name: str) -> None:
        self._content, self.name = content, name

    def read(self) -> bytes:
        return self._content


def send(file: BinaryIO, fields: dict[str, Any], content: bytes | memoryview = b"") -> None:
    head = json.dumps(fields).encode()
    file.write(LENGTHS.pack(len(head), len(content)))
    file.write(head)
    file.write(content)
    file.flush()


def receive(file: BinaryIO, most_bytes: int | None = None) -> tuple[dict[str, Any], bytearray] | None:
    """Return the next message; None if the other side is gone or sends anything else, or more than `most_bytes`."""
    lengths = _exactly(file, LENGTHS.size)
    if lengths is None:
        return None
    num_json, num_bytes = LENGTHS.unpack(lengths)
    if num_json > MAX_JSON_BYTES or (most_bytes is not None and num_bytes > most_bytes):
        return None
    head = _exactly(file, num_json)
    content = _exactly(file, num_bytes)
    if head is None or content is None:
        return None
    try:
        fields = json.loads(head)
    except ValueError:
        return None
    return (fields, content) if isinstance(fields, dict) else None


def _exactly(file: BinaryIO, count: int) -> bytearray | None:
    content = bytearray(count)
    view = memoryview(content)
    while len(view):
        got = file.readinto(view)  # type: ignore[attr-defined]
        if not got:
            return None
        view = view[got:]
    return content


def serve(memory_bytes: int, cpu_s: float) -> None:
    """Answer requests until standard input ends, or memory does. What libraries print goes to standard error."""
    # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ImportError):
        import av  # noqa: F401  # before memory is limited, and once
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _limit_memory(memory_bytes)
    send(answers, {"ready": True})
    try:
        while (message := receive(sys.stdin.buffer)) is not None:
            _allow_cpu(cpu_s)
            send(answers, *_answer(*message))
    except MemoryError:
        send(answers, {"out_of_memory": True})  # and end, because memory is fragmented


def _answer(fields: dict[str, Any], content: bytearray) -> tuple[dict[str, Any], bytes | memoryview]:
    source = fields["path"] if "path" in fields else cast(Source, NamedBytes(bytes(content), fields["name"]))
    content.clear()
    try:
        if fields["do"] == "read":
            samples, rate_hz = io.read(source, **fields["options"])
            return {"sample_rate_hz": rate_hz}, _bytes_of(samples)
        if fields["do"] == "listen":
            return _heard(source, fields.get("name", fields.get("path", "")), **fields["options"])
        found = io.probe(source) if fields["do"] == "probe" else io.canceled(source)
        return {"found": None if found is None else asdict(found)}, b""
    except XVectorsError as error:
        return {"error": type(error).__name__, "text": str(error)}, b""


def _heard(
    source: Source, name: str, *, max_duration_s: float | None, **options: Any
) -> tuple[dict[str, Any], memoryview]:
    if max_duration_s is not None and (duration_s := io.probe(source).duration_s) > max_duration_s:
        raise AudioError(f"{name} lasts {duration_s:.0f} s, but at most {max_duration_s:g} s are accepted; cut it")
    heard = listen(source, name, **options)
    answer = {
        "name": heard.name,
        "quality": asdict(heard.quality),
        "speech_s": heard.speech_s,
        "condition": heard.condition.tolist(),
    }
    return answer, _bytes_of(heard.samples)


def _bytes_of(samples: Samples) -> memoryview:
    return memoryview(np.ascontiguousarray(samples).view(np.uint8).data)


def _limit_memory(memory_bytes: int) -> None:
    """Limit the memory that this process reserves from now on. macOS and Windows do not enforce it."""
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/statm") as file:
        reserved = int(file.read().split()[0]) * resource.getpagesize()
    _set_soft(resource.RLIMIT_AS, reserved + memory_bytes)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _allow_cpu(cpu_s: float) -> None:
    """Allow some more processor time, in whole seconds; then the system ends this process (SIGXCPU)."""
    if sys.platform == "win32":
        return
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    _set_soft(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime + cpu_s) + 1)


def _set_soft(kind: int, wanted: int) -> None:
    """Set the soft limit, unless the hard limit is lower."""
    import resource

    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
