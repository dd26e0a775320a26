"""Keys: hashed in their file, limited to scopes, bound to a tenant, and refused once removed or expired."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from support.commands import run
from support.service import b64
from xvectors.errors import ConfigError
from xvectors.serve import Settings, create_app
from xvectors.serve.galleries import Galleries
from xvectors.serve.guarding.keys import KeyRing, add_key, read_keys, remove_key
from xvectors.verification import cosine_verifier

Voices = list[list[bytes]]
Serve = Callable[..., TestClient]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_key_file_holds_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    text, key = add_key(path, scopes=["read", "enroll"], tenant="acme")
    assert path.stat().st_mode & 0o077 == 0
    assert text.split("_", 2)[2] not in path.read_text()
    ring, now = KeyRing(path), datetime.now(UTC)
    assert ring.find(text, now) == key
    assert key.scopes == ("read", "enroll")
    for wrong in (
        text[:-1] + ("A" if text[-1] != "A" else "B"),
        text + "A",
        "xv__",
        "",
        text.replace(key.id, "0" * 12),
    ):
        assert ring.find(wrong, now) is None
    remove_key(path, key.id)
    assert ring.find(text, now) is None, "the file is read again"
    with pytest.raises(ConfigError, match="there is no key"):
        remove_key(path, key.id)


def test_a_key_expires(tmp_path: Path) -> None:
    path, now = tmp_path / "keys.json", datetime.now(UTC)
    text, _ = add_key(path, expires_at=now + timedelta(hours=1))
    ring = KeyRing(path)
    assert ring.find(text, now) is not None
    assert ring.find(text, now + timedelta(hours=2)) is None


@pytest.mark.parametrize("tenant", ["../x", "A", "", "a/b", "a.b", "-a", "a-b", "a" * 41])
def test_tenants_are_safe_in_the_name_of_a_file(tenant: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tenant"):
        add_key(tmp_path / "keys.json", tenant=tenant)


@pytest.mark.parametrize("content", ["", "[]", '{"keys": [{}]}', '{"keys": [1]}', '{"keys": 1}'])
def test_a_damaged_key_file_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"keys\.json: the key file is damaged"):
        create_app(settings=Settings(keys=path))


def test_each_tenant_has_a_place_of_its_own(tmp_path: Path) -> None:
    verifier = cosine_verifier()
    files = Galleries(tmp_path / "team.sqlite", system="a", verifier=verifier)
    assert files.location_of("default") == tmp_path / "team.sqlite"
    assert files.location_of("acme") == tmp_path / "team.acme.sqlite"
    url = "postgresql://me@host/db?sslmode=require"
    server = Galleries(url, system="a", verifier=verifier)
    assert server.location_of("default") == url
    assert server.location_of("acme") == f"{url}&schema=xvectors_acme"
    assert Galleries(f"{url}&schema=s", system="a", verifier=verifier).location_of("acme") == f"{url}&schema=s_acme"


def test_elsewhere_than_on_this_machine_keys_are_needed(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org"):
        with pytest.raises(ConfigError, match="needs keys"):
            Settings(host=host)
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        assert Settings(host=host).is_local
    assert not Settings(host="0.0.0.0", keys=tmp_path / "keys.json").is_local


def test_the_commands_make_list_and_remove_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made = run(
        "keys", "add", path, "--scope", "read,enroll", "--tenant", "acme", "--note", "door", "--expires", "2999-01-01"
    )
    key = made.stdout.strip()
    (entry,) = read_keys(path)
    assert key.startswith(f"xv_{entry.id}_")
    listed = run("keys", "list", path).stdout
    assert f"{entry.id}  acme  read,enroll" in listed
    assert "expires 2999-01-01, door" in listed
    assert "sha256" not in json.loads(run("keys", "list", path, "--json").stdout)[0]
    assert "unknown scope all" in run("keys", "add", path, "--scope", "all", status=2).stderr
    run("keys", "remove", path, entry.id)
    assert run("keys", "list", path).stdout == ""


def test_scopes_and_tenants(serve: Serve, voices: Voices, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    everything = ["read", "enroll", "forget"]
    acme, _ = add_key(path, scopes=everything, tenant="acme")
    other, _ = add_key(path, scopes=everything, tenant="other")
    reader, _ = add_key(path, scopes=["read"], tenant="acme")
    operator, _ = add_key(path, scopes=["operate"])
    client = serve(keys=path)

    for path_, method in (("/v1/speakers", "GET"), ("/metrics", "GET"), ("/v1/reload", "POST")):
        answer = client.request(method, path_)
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/no-key")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/speakers", headers=bearer("xv_000000000000_" + "a" * 43)).status_code == 401
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200

    body = {"name": "ann", "audio": b64(voices[0][0])}
    assert client.post("/v1/voice/register", json=body, headers=bearer(reader)).status_code == 403
    assert client.post("/v1/voice/register", json=body, headers=bearer(acme)).status_code == 200
    assert client.get("/v1/speakers/ann", headers=bearer(reader)).status_code == 200
    assert client.delete("/v1/speakers/ann", headers=bearer(reader)).status_code == 403

    # no way from one tenant to another
    assert client.get("/v1/speakers", headers=bearer(other)).json()["speakers"] == []
    assert client.get("/v1/speakers/ann", headers=bearer(other)).status_code == 404
    assert client.delete("/v1/speakers/ann", headers=bearer(other)).status_code == 404
    compared = {"audio1": b64(voices[0][1]), "speaker": "ann"}
    assert client.post("/v1/voice/verify", json=compared, headers=bearer(other)).status_code == 404
    assert client.post("/v1/voice/verify", json=compared, headers=bearer(reader)).status_code == 200

    assert "xvectors_decisions_total" in client.get("/metrics", headers=bearer(operator)).text
    assert client.get("/metrics", headers=bearer(acme)).status_code == 403
    assert {each.name for each in tmp_path.glob("*.sqlite")} == {"gallery.acme.sqlite", "gallery.other.sqlite"}
    with sqlite3.connect(tmp_path / "gallery.other.sqlite") as database:
        assert database.execute("SELECT count(*) FROM voiceprints").fetchone() == (0,)
    database.close()

    remove_key(path, acme.split("_")[1])
    assert client.get("/v1/speakers", headers=bearer(acme)).status_code == 401
