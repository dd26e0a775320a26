"""Commands of the HTTP service: serve, keys add, keys list, keys remove."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from xvectors.cli.shared import RECOGNIZE, GalleryOption, Json, SystemOption, app, command
from xvectors.cli.terminal import print, print_json

KEYS = "Commands"

KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="Key file.")]

group = typer.Typer(help="Make, list and remove keys of `xvectors serve`.", no_args_is_help=True)


@command(
    RECOGNIZE,
    "xvectors serve",
    "xvectors serve --port 9000 --gallery team.sqlite",
    "xvectors serve --host 0.0.0.0 --keys keys.json",
)
def serve_command(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on. Other machines reach 0.0.0.0 or ::.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="Port to listen on; 0 for a free one.")] = 8000,
    system: SystemOption = "starter",
    gallery: GalleryOption = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keys that requests need (`xvectors keys add`). Needed where others reach the service."
        ),
    ] = None,
    prior: Annotated[
        float | None,
        typer.Option(metavar="P", help="Prior probability of requests that state none. By default the calibration's."),
    ] = None,
    audit: Annotated[
        bool,
        typer.Option(help="Append enrollments, deletions and decisions to a file beside the gallery, without names."),
    ] = True,
    max_mb: Annotated[float, typer.Option(metavar="MB", help="Largest request.")] = 20.0,
    max_seconds: Annotated[float, typer.Option(metavar="S", help="Longest recording.")] = 300.0,
    max_requests: Annotated[int, typer.Option(metavar="N", help="Most requests at the same time.")] = 64,
    rate: Annotated[float, typer.Option(metavar="N", help="Most requests a second from one address.")] = 100.0,
    decoders: Annotated[int, typer.Option(metavar="N", help="Number of processes that decode recordings.")] = 2,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Number of processor cores for the network. By default those without a decoder."
        ),
    ] = None,
) -> None:
    """Serve speaker recognition over HTTP.

    By default only this machine reaches the service, and needs no key. SIGTERM ends it when requests in progress are
    answered; SIGHUP loads the system again.
    """
    from xvectors.serve import Settings, run

    settings = Settings(
        host=host,
        port=port,
        gallery=gallery,
        keys=keys,
        audit=_trail(gallery) if audit else None,
        prior=prior,
        max_body_bytes=round(1e6 * max_mb),
        max_duration_s=max_seconds,
        max_requests=max_requests,
        rate_per_s=rate,
        decoders=decoders,
        threads=threads,
    )
    logging.getLogger("xvectors.serve").setLevel(logging.INFO)
    run(system, settings)


def _trail(gallery: str | None) -> Path:
    """Return the file of the audit trail: beside the gallery's, or in the user's data folder for one on a server."""
    from xvectors.gallery import default_gallery

    path = default_gallery() if gallery is None or "://" in gallery else Path(gallery)
    return path.with_name(f"{path.stem}.audit.jsonl")


app.add_typer(group, name="keys", rich_help_panel=RECOGNIZE)


@command(
    KEYS,
    "xvectors keys add keys.json --scope read",
    "xvectors keys add keys.json --scope read,enroll,forget --tenant acme",
    name="add",
    group=group,
)
def keys_add_command(
    file: KeyFile,
    scope: Annotated[
        str,
        typer.Option(
            metavar="SCOPES",
            help="What the key allows, separated by commas: read (answers and listings), enroll, forget, operate "
            "(metrics and reloads).",
        ),
    ] = "read",
    tenant: Annotated[
        str, typer.Option(metavar="NAME", help="Whose gallery the key opens; each tenant has one of its own.")
    ] = "default",
    expires: Annotated[
        str | None, typer.Option(metavar="DATE", help="Day (UTC, as in 2030-01-01) on which the key expires.")
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Your own note on the key.")] = "",
) -> None:
    """Make a key, and print it. The file keeps a hash of it only, so it cannot be shown again."""
    from datetime import UTC, datetime

    from xvectors.gallery import expiry
    from xvectors.serve.guarding.keys import add_key

    expires_at = None if expires is None else expiry(expires, datetime.now(UTC))
    scopes = [each.strip() for each in scope.split(",") if each.strip()]
    text, key = add_key(file, tenant=tenant, scopes=scopes, expires_at=expires_at, note=note)
    print(text)
    print(f"key {key.id} of the tenant {key.tenant}: {', '.join(key.scopes)}", file=sys.stderr)


@command(KEYS, "xvectors keys list keys.json", name="list", group=group)
def keys_list_command(file: KeyFile, as_json: Json = False) -> None:
    """List the keys, without their secrets."""
    from dataclasses import asdict

    from xvectors.serve.guarding.keys import read_keys

    keys = read_keys(file)
    if as_json:
        print_json([{name: value for name, value in asdict(key).items() if name != "sha256"} for key in keys])
        return
    for key in keys:
        until = f", expires {key.expires_at[:10]}" if key.expires_at else ""
        note = f", {key.note}" if key.note else ""
        print(f"{key.id}  {key.tenant}  {','.join(key.scopes)}  since {key.created_at[:10]}{until}{note}")


@command(KEYS, "xvectors keys remove keys.json 0f3a9c27b1de", name="remove", group=group)
def keys_remove_command(
    file: KeyFile, key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as `keys list` prints.")]
) -> None:
    """Remove a key. A running service refuses it from now on."""
    from xvectors.serve.guarding.keys import remove_key

    key = remove_key(file, key_id)
    print(f"key {key.id} of the tenant {key.tenant} is removed")
