"""Damaged recordings and requests sent to the service are answered or refused; it neither fails nor grows."""

from __future__ import annotations

from pathlib import Path

from starlette.testclient import TestClient
from uploads import DECODE_BYTES, fuzz_uploads

from xvectors.serve import Settings, create_app

NUMBER = 60


def test_damaged_uploads_are_answered_or_refused(tmp_path: Path) -> None:
    settings = Settings(
        gallery=tmp_path / "gallery.sqlite", decoders=1, rate_per_s=None, decode_memory_bytes=DECODE_BYTES
    )
    app = create_app(settings=settings)
    with TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=False) as client:
        outcome = fuzz_uploads(client, 0, NUMBER)
        assert client.get("/readyz").status_code == 200
    faults = "\n".join(f"{fault}: seeds {seeds[:9]}" for fault, seeds in outcome.faults.items())
    assert not outcome.faults, faults
    assert outcome.statuses.total() == NUMBER
    assert min(outcome.statuses[200], outcome.statuses[422]) > 6  # the damage is felt, and does not stop at once
    assert outcome.grown_bytes < 100_000_000
    assert outcome.worker_bytes < DECODE_BYTES + 200_000_000
