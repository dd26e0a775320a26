"""Requests a second and latencies of `xvectors serve`, beside the same encoder in a plain FastAPI handler.

    python benchmarks/service.py --clients 1 8 32 --seconds 20 --json service.json

Each client sends recordings of 3 s (synthetic voices, extra `synth`) to be embedded, one after the other over one
connection, from this machine. Contenders, in turns:

served          `xvectors serve`: processes that listen, batches, the starter from its model.onnx
plain           a handler `async def` that calls `SpeakerEncoder.listen` and `encode_heard` of the starter with torch
plain-onnx      the same with onnxruntime, as `served`

Other programs on the machine change all figures; their order less.
"""

from __future__ import annotations

import argparse
import http.client
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from _timing import Row, write_json
from xvectors.corpus.synth.espeak import Espeak
from xvectors.corpus.synth.generate import make, plan

RATE, DURATION_S = 16_000, 3.0
CONTENDERS = ("served", "plain", "plain-onnx")
BOUNDARY = "recording"
PLAIN = """
import sys
import uvicorn
from fastapi import FastAPI, UploadFile
from xvectors import SpeakerEncoder
from xvectors.encoder.engines.onnx import OnnxEngine
from xvectors.system.folder import starter_folder

engine, port = sys.argv[1], int(sys.argv[2])
if engine == "onnx":
    encoder = SpeakerEncoder(OnnxEngine.beside(starter_folder(), device="cpu"))
else:
    encoder = SpeakerEncoder.from_pretrained(device="cpu")
app = FastAPI()

@app.post("/v1/voice/embed")
async def embed(file: UploadFile):
    heard = encoder.listen(await file.read())
    return {"embedding": encoder.encode_heard([heard.samples])[0].tolist(), "speech_s": heard.speech_s}

@app.get("/readyz")
def ready():
    return {}

uvicorn.run(app, port=port, log_level="warning", access_log=False)
"""


def recordings(count: int) -> list[bytes]:
    """Synthetic voices (espeak-ng), repeated and cut to 3 s: WAV files."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        engine = Espeak(Path(scratch))
        for speaker in range(count):
            samples = sum(make(engine, 0, speaker, plan(0, speaker, 0))[1:])
            file = io.BytesIO()
            soundfile.write(file, np.resize(samples, round(DURATION_S * RATE)), RATE, format="WAV", subtype="PCM_16")
            found.append(file.getvalue())
    return found


def form(content: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextmanager
def started(name: str, port: int, folder: Path, options: list[str]) -> Iterator[tuple[str, int]]:
    """Run a contender; yields its host and port."""
    if name == "served":
        command = [sys.executable, "-m", "xvectors", "serve", "--port", str(port), "--rate", "1e6", "--no-audit"]
        command += ["--gallery", str(folder / "gallery.sqlite"), "--max-requests", "64", *options]
    else:
        command = [sys.executable, "-c", PLAIN, "onnx" if name == "plain-onnx" else "torch", str(port)]
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        wait_until_ready(process, port, folder / f"{name}.log")
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    while True:
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()


def load(address: tuple[str, int], num_clients: int, seconds: float, bodies: list[bytes]) -> Row:
    """Send requests from `num_clients` clients for some seconds."""
    latencies, failures, lock = list[float](), 0, threading.Lock()
    begin = threading.Barrier(num_clients + 1)

    def client(number: int) -> None:
        nonlocal failures
        connection = http.client.HTTPConnection(*address, timeout=120)
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        begin.wait()
        end, at = time.perf_counter() + seconds, number
        while (start := time.perf_counter()) < end:
            connection.request("POST", "/v1/voice/embed", bodies[at % len(bodies)], headers)
            answer = connection.getresponse()
            answer.read()
            with lock:
                latencies.append(time.perf_counter() - start)
                failures += answer.status != 200
            at += num_clients
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(num_clients)]
    for thread in threads:
        thread.start()
    begin.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - start
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99])
    return {
        "requests_per_s": len(latencies) / taken,
        "p50_ms": 1000 * p50,
        "p95_ms": 1000 * p95,
        "p99_ms": 1000 * p99,
        "requests": len(latencies),
        "failures": failures,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options.add_argument("--clients", nargs="+", type=int, default=[1, 8, 32])
    options.add_argument("--seconds", type=float, default=20.0, help="seconds of each load (default: %(default)s)")
    options.add_argument("--rounds", type=int, default=1, help="rounds, contenders in turns (default: %(default)s)")
    options.add_argument("--port", type=int, default=8123, help="first of the ports (default: %(default)s)")
    options.add_argument("--serve", default="", help="further options of `xvectors serve`, as '--threads 1'")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    chosen = options.parse_args()
    bodies = [form(content) for content in recordings(16)]
    rows: list[Row] = []
    print(f"{len(os.sched_getaffinity(0))} cores, recordings of {DURATION_S:g} s")
    print(
        f"{'contender':<12} {'clients':>7} {'requests/s':>10} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'failed':>6}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(chosen.rounds):
            for number, name in enumerate(chosen.contenders):
                with started(name, chosen.port + number, Path(scratch), chosen.serve.split()) as address:
                    load(address, 2, 2.0, bodies)  # warm
                    for num_clients in chosen.clients:
                        row = {
                            "name": name,
                            "clients": num_clients,
                            **load(address, num_clients, chosen.seconds, bodies),
                        }
                        rows.append(row)
                        print(
                            f"{name:<12} {num_clients:>7} {row['requests_per_s']:>10.1f} {row['p50_ms']:>8.0f} "
                            f"{row['p95_ms']:>8.0f} {row['p99_ms']:>8.0f} {row['failures']:>6}",
                            flush=True,
                        )
    write_json(chosen.json, rows)


if __name__ == "__main__":
    main()
