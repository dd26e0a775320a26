"""Errors as `application/problem+json` (RFC 9457), each with the remedy."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from xvectors.errors import (
    AudioError,
    BusyError,
    ConfigError,
    GalleryError,
    StorageError,
    UnavailableError,
    UnknownSpeakerError,
    XVectorsError,
)

LOG = logging.getLogger("xvectors.serve")

MEDIA_TYPE = "application/problem+json"

KINDS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be read"),
    "no-key": (401, "A key is needed"),
    "forbidden": (403, "This is not allowed"),
    "not-found": (404, "There is no such resource"),
    "unknown-speaker": (404, "No speaker of that name is enrolled"),
    "method-not-allowed": (405, "The resource has no such method"),
    "too-slow": (408, "The request did not arrive in time"),
    "gallery": (409, "The gallery cannot be used in this way"),
    "too-large": (413, "The request is too large"),
    "unsupported-type": (415, "The content type cannot be read"),
    "recording": (422, "A recording cannot be used"),
    "invalid": (422, "A value of the request is invalid"),
    "too-many": (429, "There are too many requests"),
    "internal": (500, "The service failed"),
    "overloaded": (503, "The service is busy"),
    "storage": (503, "The gallery cannot be written"),
    "unavailable": (503, "The gallery cannot be reached"),
}
"""Status and title of each kind of problem, by the last part of its `type`."""


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(description="Name of the field, with dots between levels.")
    detail: str


class ProblemAnswer(BaseModel):
    """A problem of RFC 9457."""

    type: str = Field(description="Kind of the problem: a reference that stays the same.")
    title: str
    status: int
    detail: str = Field(description="What is wrong with this request.")
    remedy: str = Field(description="What to do about it.")
    request_id: str
    errors: list[FieldProblem] = Field(default_factory=list, description="Which fields are wrong.")


class Problem(Exception):
    """An error that ends a request; `kind` is a key of `KINDS`."""

    def __init__(
        self,
        kind: str,
        detail: str,
        remedy: str,
        *,
        errors: list[FieldProblem] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.remedy = kind, detail, remedy
        self.errors, self.headers = errors or [], headers or {}

    def response(self, request_id: str) -> JSONResponse:
        status, title = KINDS[self.kind]
        answer = ProblemAnswer(
            type=f"/problems/{self.kind}",
            title=title,
            status=status,
            detail=self.detail,
            remedy=self.remedy,
            request_id=request_id,
            errors=self.errors,
        )
        return JSONResponse(answer.model_dump(), status_code=status, media_type=MEDIA_TYPE, headers=self.headers)


def problem_of(error: XVectorsError) -> Problem:
    """Return the problem that an error of the package is, its message split into detail and remedy."""
    detail, _, remedy = str(error).partition("; ")
    if isinstance(error, AudioError):
        return Problem("recording", detail, remedy or "give another recording")
    if isinstance(error, UnknownSpeakerError):
        return Problem("unknown-speaker", detail, "register the speaker first, or correct the name")
    if isinstance(error, UnavailableError):  # its message names the server
        remedy = "try again later; a change that was not confirmed may have been made: look before repeating it"
        return Problem("unavailable", "the gallery's server does not answer", remedy, headers={"Retry-After": "5"})
    if isinstance(error, GalleryError):
        return Problem("gallery", detail, remedy or "register the speaker again")
    if isinstance(error, ConfigError):
        return Problem("invalid", detail, remedy or "correct the value")
    if isinstance(error, BusyError):
        return Problem("overloaded", detail, remedy or "try again", headers={"Retry-After": "1"})
    if isinstance(error, StorageError):
        return Problem("storage", detail, remedy or "try again later", headers={"Retry-After": "10"})
    return Problem("internal", "the service failed", "report the request id to the service's operator")


def responses(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Describe problems for OpenAPI: those of the given kinds, and those that every endpoint may answer."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in (*kinds, "no-key", "forbidden", "too-many", "internal", "overloaded"):
        status, title = KINDS[kind]
        found[status] = {"description": title, "model": ProblemAnswer, "content": {MEDIA_TYPE: {}}}
    return found


def request_id_of(request: Request) -> str:
    """Return the id of a request, which the guard gave it."""
    return str(request.scope.get("request_id", ""))


def add_handlers(app: FastAPI) -> None:
    """Answer every error by a problem."""

    async def on_problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return error.response(request_id_of(request))

    async def on_known(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, XVectorsError)
        if isinstance(error, UnavailableError):
            LOG.error("%s %s", request_id_of(request), error)
        return problem_of(error).response(request_id_of(request))

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "bad-request")
        remedy = "see /openapi.json for what the service answers"
        problem = Problem(kind, str(error.detail), remedy, headers=dict(error.headers or {}))
        return problem.response(request_id_of(request))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(XVectorsError, on_known)
    app.add_exception_handler(HTTPException, on_http)
