"""The guard before the application: ids of requests, limits, refusal of foreign web pages, the access log and metrics.

It is an ASGI middleware, so that bodies are limited while they arrive.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xvectors.serve.metrics import Metrics
from xvectors.serve.problems import Problem
from xvectors.serve.settings import LOOPBACK_NAMES, Settings

LOG = logging.getLogger("xvectors.serve.guarding.access")
REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
UNLIMITED = ("/healthz", "/readyz")
"""Answered even when the service is busy, and without a key."""
MAX_BUCKETS = 10_000
BURST_S = 2.0
REFUSED = 1008
"""WebSocket status of a refusal."""
HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


class RateLimit:
    """A token bucket for each caller; it holds what `BURST_S` seconds bring, and one token at least."""

    def __init__(self, per_s: float) -> None:
        self.per_s, self.size = per_s, max(1.0, BURST_S * per_s)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str, now: float) -> float:
        """Take a token; return 0.0, or the seconds until there is one."""
        tokens, at = self._buckets.pop(caller, (self.size, now))
        tokens = min(self.size, tokens + (now - at) * self.per_s)
        is_allowed = tokens >= 1.0
        self._buckets[caller] = (tokens - is_allowed, now)
        while len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return 0.0 if is_allowed else (1.0 - tokens) / self.per_s


class Guard:
    """See the module."""

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self._rate = None if settings.rate_per_s is None else RateLimit(settings.rate_per_s)
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        scope["request_id"] = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        if scope["type"] == "websocket":
            await self._streamed(scope, headers, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = MutableHeaders(scope=message)
                sent["x-request-id"] = scope["request_id"]
                for name, value in HEADERS.items():
                    sent.setdefault(name, value)
            await send(message)

        try:
            await self._limited(scope, headers, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            seconds = time.perf_counter() - started
            self.metrics.requests.labels(route, scope["method"], str(status)).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            # the route, not the path, which may hold a name
            LOG.info("%s %s %s %d %.0f ms", scope["request_id"], scope["method"], route, status, 1000 * seconds)

    async def _streamed(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Let a WebSocket through, or close it before it opens."""
        problem = self._why_foreign(scope, headers) or self._why_too_many(scope, headers)
        if problem is not None:
            await send({"type": "websocket.close", "code": REFUSED, "reason": problem.detail[:100]})
            return
        with self._counted():
            await self.app(scope, receive, send)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._in_flight += 1
        self.metrics.in_flight.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            self.metrics.in_flight.set(self._in_flight)

    async def _limited(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        if scope["path"] in UNLIMITED:
            await self.app(scope, receive, send)
            return
        problem = (
            self._why_foreign(scope, headers) or self._why_too_many(scope, headers) or self._why_too_large(headers)
        )
        if problem is not None:
            await problem.response(scope["request_id"])(scope, receive, send)
            return
        with self._counted():
            await self._run(scope, receive, send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def begin(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, self._bounded(receive), begin)
        except Exception as error:  # noqa: BLE001 - whatever failed, the client gets an answer
            # messages of errors may hold names, so that only their places are logged
            places = " < ".join(
                f"{at.filename}:{at.lineno}" for at in reversed(traceback.extract_tb(error.__traceback__))
            )
            LOG.error("%s failed: %s at %s", scope["request_id"], type(error).__name__, places)
            if not has_begun:
                problem = Problem("internal", "the service failed", "report the request id to the service's operator")
                await problem.response(scope["request_id"])(scope, receive, send)

    def _bounded(self, receive: Receive) -> Receive:
        """Limit the size of the body, and the time in which it arrives."""
        count, deadline, is_whole = 0, time.monotonic() + self.settings.body_timeout_s, False

        async def bounded() -> Message:
            nonlocal count, is_whole
            if is_whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError as error:
                self.metrics.refused.labels("time").inc()
                raise Problem(
                    "too-slow",
                    f"the request did not arrive within {self.settings.body_timeout_s:g} s",
                    "send a smaller recording, or over a faster line",
                    headers={"Connection": "close"},
                ) from error
            count += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if count > self.settings.max_body_bytes:
                raise self._too_large()
            return message

        return bounded

    def _why_foreign(self, scope: Scope, headers: Headers) -> Problem | None:
        """Refuse what a web page of another origin sends, and names of this machine that are not its own.

        Without this, a page that a user of this machine visits could enroll and forget speakers, and read answers where
        its name is made to lead to this machine (DNS rebinding).
        """
        host = headers.get("host", "")
        if self.settings.is_local and host.rsplit(":", 1)[0] not in LOOPBACK_NAMES and host not in LOOPBACK_NAMES:
            return self._refused("host", f"the service does not answer to the host {host[:60]!r}", "use localhost")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return self._refused("origin", "the request comes from a web page of another origin", "use a client")
        if origin is None and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return self._refused("origin", "the request comes from a web page of another origin", "use a client")
        return None

    def _refused(self, limit: str, detail: str, remedy: str) -> Problem:
        self.metrics.refused.labels(limit).inc()
        return Problem("forbidden", detail, remedy)

    def _why_too_many(self, scope: Scope, headers: Headers) -> Problem | None:
        if self._in_flight >= self.settings.max_requests:
            self.metrics.refused.labels("concurrency").inc()
            return Problem(
                "overloaded",
                f"{self._in_flight} requests are in progress",
                "try again in a second",
                headers={"Retry-After": "1"},
            )
        if self._rate is None:
            return None
        client = scope.get("client")
        wait_s = self._rate.wait_s(client[0] if client else "", time.monotonic())
        if not wait_s:
            return None
        self.metrics.refused.labels("rate").inc()
        return Problem(
            "too-many",
            f"more than {self._rate.per_s:g} requests a second",
            f"try again in {wait_s:.2g} s",
            headers={"Retry-After": str(max(1, round(wait_s)))},
        )

    def _why_too_large(self, headers: Headers) -> Problem | None:
        stated = headers.get("content-length", "0")
        is_large = stated.isascii() and stated.isdigit() and int(stated[:20]) > self.settings.max_body_bytes
        return self._too_large() if is_large else None

    def _too_large(self) -> Problem:
        self.metrics.refused.labels("size").inc()
        return Problem(
            "too-large",
            f"the request has more than {self.settings.max_body_bytes:,} bytes",
            "send a shorter recording, or compress it, as to FLAC or OPUS",
            headers={"Connection": "close"},
        )
