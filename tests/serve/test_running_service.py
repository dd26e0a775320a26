"""`xvectors serve` as a process: signals, killed workers, slow clients, addresses in use, missing packages."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from support.commands import run
from support.service import b64, running, wait_until_ready
from xvectors.gallery import SqliteStore

Voices = list[list[bytes]]


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists a process's children")


def test_it_serves_reloads_on_sighup_and_ends_on_sigterm_when_requests_are_answered(
    tmp_path: Path, voices: Voices
) -> None:
    with running(tmp_path) as (process, address, log):
        body = {"audio1": b64(voices[0][0]), "audio2": b64(voices[1][0])}
        before = httpx2.post(f"{address}/v1/voice/verify", json=body, timeout=60).json()
        assert before["model"] == "starter"

        process.send_signal(signal.SIGHUP)
        for _ in range(600):
            if "reloaded" in log.read_text():
                break
            time.sleep(0.05)
        after = httpx2.post(f"{address}/v1/voice/verify", json=body, timeout=60).json()
        assert after["llr"] == pytest.approx(before["llr"], abs=1e-4)

        with ThreadPoolExecutor(1) as pool, httpx2.Client(base_url=address, timeout=60) as client:
            asked = pool.submit(httpx2.post, f"{address}/v1/voice/verify", json=body, timeout=60)
            while "xvectors_requests_in_flight 2.0" not in client.get("/metrics").text:
                assert not asked.done()
            process.send_signal(signal.SIGTERM)
            assert asked.result().status_code == 200
        process.wait(60)
        text = log.read_text()
        assert "Traceback" not in text
        port = urlsplit(address).port
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"http://127.0.0.1:{port}/healthz")


@pytest.mark.slow
@on_linux
def test_a_killed_worker_loses_no_enrollment_that_was_acknowledged(tmp_path: Path, voices: Voices) -> None:
    with running(tmp_path, "--decoders", 2) as (process, address, _):
        stop = threading.Event()

        def kill() -> None:
            while not stop.wait(0.3):
                for pid in children_of(process.pid):
                    os.kill(pid, signal.SIGKILL)

        def enroll(number: int) -> tuple[str, int]:
            name = f"speaker {number}"
            body = {"name": name, "audio": b64(voices[number % 2][number % 3])}
            return name, httpx2.post(f"{address}/v1/voice/register", json=body, timeout=60).status_code

        killer = threading.Thread(target=kill)
        killer.start()
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(enroll, range(12)))
        stop.set()
        killer.join()
        assert {status for _, status in answers} <= {200, 422}
        assert enroll(12)[1] == 200, "it comes back"
        process.kill()  # and the service itself, without a chance to tidy up
        process.wait()
    acknowledged = {name for name, status in answers if status == 200} | {"speaker 12"}
    store = SqliteStore(tmp_path / "gallery.sqlite")
    assert {speaker.name for speaker in store.speakers(datetime.now(UTC))} >= acknowledged
    store.close()


@pytest.mark.slow
def test_a_client_that_sends_its_request_too_slowly_is_cut_off(tmp_path: Path) -> None:
    code = (
        "import xvectors.serve.running as r; r.HEAD_TIMEOUT_S = 0.5; import xvectors.serve.settings as s;"
        "from pathlib import Path; import logging; logging.basicConfig(level='INFO');"
        f"gallery = Path({str(tmp_path)!r}, 'g.sqlite');"
        "r.run('starter', s.Settings(port=0, gallery=gallery, body_timeout_s=0.5, decoders=1))"
    )
    log = tmp_path / "log"
    with log.open("w") as errors:
        process = subprocess.Popen([sys.executable, "-c", code], stderr=errors)
    try:
        host, port = urlsplit(wait_until_ready(process, log)).netloc.split(":")
        heads = {
            "no head": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
            "no body": b"POST /v1/voice/embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{",
        }
        for what, head in heads.items():
            with socket.create_connection((host, int(port)), timeout=30) as connection:
                connection.sendall(head)
                answer = b""
                while piece := connection.recv(4096):
                    answer += piece
                assert answer == b"" if what == "no head" else b" 408 " in answer.split(b"\r\n")[0]
    finally:
        process.kill()
        process.wait()


def test_an_address_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = run("serve", "--port", port, "--gallery", tmp_path / "g.sqlite", status=2).stderr
    assert f"cannot listen on 127.0.0.1, port {port}" in error
    assert "needs keys" in run("serve", "--host", "0.0.0.0", status=2).stderr
    missing = run(
        "serve", "--system", tmp_path / "none", "--gallery", tmp_path / "g.sqlite", "--port", 0, status=2
    ).stderr
    assert "none" in missing.splitlines()[-1]


def test_without_the_extra_the_command_names_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(fastapi=None, uvicorn=None, prometheus_client=None, httpx2=None);"
        "import xvectors.cli; sys.argv = ['xvectors', 'serve']; xvectors.cli.main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 2
    assert "pip install 'xvectors[serve]'" in ended.stderr
