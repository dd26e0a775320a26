"""Run what blocks in the application's own threads, of which there is one for each request that is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

from starlette.requests import HTTPConnection

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(connection: HTTPConnection, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Call the function in a thread, and return what it returns."""
    executor: Executor = connection.app.state.executor
    return await asyncio.get_running_loop().run_in_executor(executor, lambda: function(*arguments, **options))
