"""The application: endpoints, guard and problems around one `Service`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from xvectors import __version__
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import XVectorsError
from xvectors.serve.guarding.limits import Guard
from xvectors.serve.problems import FieldProblem, Problem, add_handlers, request_id_of
from xvectors.serve.routes import diarize, operations, page, speakers, stream, voice
from xvectors.serve.service import LOG, Service
from xvectors.serve.settings import Settings
from xvectors.system.folder import STARTER

PURGE_S = 3600.0
"""Time between two removals of expired voiceprints."""


def create_app(system: str | SpeakerEncoder = STARTER, settings: Settings | None = None) -> FastAPI:
    """Make the ASGI application of the service.

    Parameters
    ----------
    system
        A system directory, an exported .onnx file, `"starter"` or `"hf://owner/name"`; or a loaded system.
    settings
        Gallery, keys and limits. Whoever runs the application elsewhere than `settings.host` says has to protect it.

    Raises
    ------
    ConfigError
        The key file is missing or damaged.
    StorageError
        The audit trail cannot be written.

    The system is loaded when the application starts (ASGI's lifespan), which raises CheckpointError.
    """
    service = Service(system, settings or Settings())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ThreadPoolExecutor(service.settings.max_requests + 4, thread_name_prefix="xvectors-request") as executor:
            app.state.executor = executor
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(executor, service.start)
            except XVectorsError as error:
                app.state.failure = error  # the server does not pass it on
                raise
            purging = asyncio.create_task(_purge(service, executor))
            try:
                yield
            finally:
                purging.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await purging
                await loop.run_in_executor(executor, service.close)

    app = FastAPI(
        title="xvectors",
        version=__version__,
        description="Speaker recognition: verify and identify speakers, and keep their voiceprints.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from the network
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service, app.state.failure = service, None
    app.add_middleware(Guard, settings=service.settings, metrics=service.metrics)
    add_handlers(app)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    for module in (voice, speakers, diarize, stream, operations, page):
        app.include_router(module.router)
    return app


async def _purge(service: Service, executor: ThreadPoolExecutor) -> None:
    """Remove expired voiceprints every hour. Where that fails, the next hour's turn does it."""
    while True:
        await asyncio.sleep(PURGE_S)
        try:
            removed = await asyncio.get_running_loop().run_in_executor(executor, service.galleries.purge)
        except XVectorsError as error:
            LOG.error("expired voiceprints are not removed yet: %s", error)
            continue
        if removed:
            LOG.info("removed %d expired voiceprints", removed)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer parameters of the wrong type or size."""
    assert isinstance(error, RequestValidationError)
    found = [FieldProblem(field=".".join(map(str, row["loc"])), detail=row["msg"]) for row in error.errors()]
    detail = f"{found[0].field}: {found[0].detail}"
    problem = Problem("invalid", detail, "correct the fields in errors; /openapi.json describes them", errors=found)
    return problem.response(request_id_of(request))
