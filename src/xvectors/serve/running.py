"""Run the service with uvicorn, in this process: graceful end on SIGTERM, reload of the system on SIGHUP."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from xvectors.errors import ConfigError, XVectorsError
from xvectors.serve.app import create_app
from xvectors.serve.service import LOG, Service
from xvectors.serve.settings import Settings

HEAD_TIMEOUT_S = 10.0
"""Seconds in which the first line and the headers of a connection's first request must have arrived."""
MAX_HEAD_BYTES = 16_384
KEEP_ALIVE_S = 15


class _ImpatientProtocol(H11Protocol):
    """Closes connections that send no whole head of a request in time, as those of a Slowloris attack."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if getattr(self, "cycle", None) is None and not self.transport.is_closing():  # no request has begun
            self.transport.close()


def run(system: str, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then finish the requests in progress and return.

    Raises ConfigError where the address cannot be listened on, and the errors of `create_app` and of loading.
    """
    app = create_app(system, settings)
    service: Service = app.state.service
    # uvicorn would log a traceback where the system cannot be loaded; the error is raised below
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=_ImpatientProtocol,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(settings.shutdown_s),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        limit_concurrency=4 * settings.max_requests,
    )
    try:
        asyncio.run(_serve(uvicorn.Server(config), service))
    except SystemExit:  # how uvicorn ends where the application does not start
        if app.state.failure is None:
            raise
        raise app.state.failure from None


async def _serve(server: uvicorn.Server, service: Service) -> None:
    settings = service.settings
    listener = _bound(server.config)
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, _reload, service))
    host, port = listener.getsockname()[:2]
    LOG.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    if not settings.is_local:
        LOG.warning("keys and recordings cross the network in the clear: put TLS before the service (see its how-to)")
    try:
        await server.serve(sockets=[listener])
    finally:
        listener.close()


def _bound(config: uvicorn.Config) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host.strip("[]"), config.port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {config.host}, port {config.port}: {error.strerror}; give another --port or --host"
        ) from error
    return listener


def _reload(service: Service) -> None:
    try:
        service.reload()
    except XVectorsError as error:
        LOG.error("not reloaded, the system in use stays: %s", error)
