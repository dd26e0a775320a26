"""The HTTP service in tests: recordings as they are sent, and a server of its own."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import soundfile

RATE = 16_000
ADDRESS = "http://localhost:8000"


def wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV")
    return file.getvalue()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@contextlib.contextmanager
def running(folder: Path, *options: object) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """Run `xvectors serve` on a free port; yields the process, its address, and the file of its log."""
    log = folder / "serve.log"
    command = [sys.executable, "-m", "xvectors", "serve", "--port", "0", "--gallery", folder / "gallery.sqlite"]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [str(word) for word in (*command, "--decoders", 1, "--threads", 1, *options)],
            stderr=errors,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    try:
        yield process, wait_until_ready(process, log), log
    finally:
        process.kill()
        process.wait()


def wait_until_ready(process: subprocess.Popen[Any], log: Path) -> str:
    """Wait until the log names the address and a request is answered."""
    for _ in range(1200):
        found = re.search(r"listening on (\S+)", log.read_text())
        if found:
            with contextlib.suppress(httpx2.TransportError):
                httpx2.get(f"{found[1]}/readyz", timeout=60.0).raise_for_status()
                return found[1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())
