"""The connections of a gallery on a server: threads borrow one each, and those that were lost are made anew.

psycopg-pool would connect in threads of its own, and answer only that there is no connection. Here the borrower
connects, and gets the reason at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from xvectors.errors import UnavailableError

MAX_CONNECTIONS = 8
"""Most connections of a gallery that are open at a time."""
WAIT_S = 30.0
"""Seconds to wait until another thread gives back its connection."""

Connection = psycopg.Connection[tuple[Any, ...]]


class Pool:
    """Up to `size` connections, made by `connect` where all that are open are in use.

    A thread that borrows while it has one gets the same one.
    """

    def __init__(self, connect: Callable[[], Connection], *, location: str, size: int = MAX_CONNECTIONS) -> None:
        self._connect, self._location = connect, location
        self._free = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._mine = threading.local()
        self._epoch = 0

    @property
    def held(self) -> Connection | None:
        """The connection that this thread has borrowed."""
        return getattr(self._mine, "connection", None)

    @contextmanager
    def borrowed(self, *, checked: bool = False) -> Iterator[Connection]:
        """Lend a connection for the block; where `checked`, one that answered just now.

        Raises UnavailableError where none becomes free in time, and psycopg's error where the server does not answer.
        """
        if self.held is not None:
            yield self.held
            return
        if not self._free.acquire(timeout=WAIT_S):
            raise UnavailableError(
                f"{self._location}: all connections to the server were in use for {WAIT_S:g} s; try again later"
            )
        try:
            connection = self._answering() if checked else self._any()
            epoch = self._epoch
            self._mine.connection = connection
            try:
                yield connection
            finally:
                self._mine.connection = None
                self._give_back(connection, epoch)
        finally:
            self._free.release()

    def discard(self) -> None:
        """Close what is open: connections that nobody uses now, and others when they are given back."""
        with self._lock:
            self._epoch += 1
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _any(self) -> Connection:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if not connection.closed:
                    return connection
        return self._connect()

    def _answering(self) -> Connection:
        """Return a connection that has answered. Where one was lost, the idle ones are not trusted either."""
        connection = self._any()
        try:
            connection.execute("SELECT 1")
        except psycopg.OperationalError:
            connection.close()
            self.discard()
            return self._connect()
        return connection

    def _give_back(self, connection: Connection, epoch: int) -> None:
        with self._lock:
            if epoch == self._epoch and not connection.closed:
                self._idle.append(connection)
                return
        connection.close()
