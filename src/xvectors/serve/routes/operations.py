"""Endpoints for operators: health, readiness, metrics, reload, and the kinds of problems."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from xvectors.serve.guarding.access import Operator, Served
from xvectors.serve.metrics import CONTENT_TYPE
from xvectors.serve.problems import KINDS, Problem, responses
from xvectors.serve.threads import in_thread

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The state of the service."""

    status: Literal["ok"] = "ok"


class Reloaded(BaseModel):
    """The system that is served now."""

    model: str
    model_fingerprint: str


class KindOfProblem(BaseModel):
    """What a problem's `type` means."""

    type: str
    title: str
    status: int


@router.get("/healthz")
async def healthz() -> Health:
    """Say that the process answers."""
    return Health()


@router.get("/readyz", responses=responses())
async def readyz(request: Request, service: Served) -> Health:
    """Say that recordings would be answered: the system is loaded, and the gallery can be read."""
    if not await in_thread(request, service.is_ready):
        raise Problem("overloaded", "the service cannot embed recordings", "restart it")
    return Health()


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **responses()})
async def metrics(service: Served, caller: Operator) -> Response:
    """Return the metrics in Prometheus' text format."""
    service.metrics.waiting.set(service.encoder.batcher.num_waiting)
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


@router.post("/v1/reload", responses=responses("invalid"))
async def reload(request: Request, service: Served, caller: Operator) -> Reloaded:
    """Load the system again from where it was loaded; requests in progress are not disturbed."""
    fingerprint = await in_thread(request, service.reload)
    return Reloaded(model=service.model, model_fingerprint=fingerprint)


@router.get("/problems/{kind}", responses=responses("not-found"))
async def problem(kind: str) -> KindOfProblem:
    """Explain the `type` of a problem."""
    if kind not in KINDS:
        raise Problem("not-found", "there is no such kind of problem", f"kinds are {', '.join(KINDS)}")
    status, title = KINDS[kind]
    return KindOfProblem(type=f"/problems/{kind}", title=title, status=status)
