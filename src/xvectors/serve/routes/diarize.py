"""Endpoints under /v1/diarize: who spoke when in a recording, as jobs to come back for."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from xvectors.serve.guarding.access import Reader, Served
from xvectors.serve.jobs import Job
from xvectors.serve.problems import Problem, problem_of, responses
from xvectors.serve.requests import DiarizeBody, read_body, request_body
from xvectors.serve.threads import in_thread

router = APIRouter(prefix="/v1/diarize", tags=["diarize"])


class TurnAnswer(BaseModel):
    """One stretch of speech of one speaker."""

    start_s: float
    end_s: float
    speaker: str = Field(description="Label within the recording, such as `speaker_1`.")
    name: str | None = Field(description="Name of the enrolled speaker, where the gallery knows the voice.")


class DiarizationAnswer(BaseModel):
    """Who spoke when."""

    turns: list[TurnAnswer]
    speech_s: dict[str, float] = Field(description="Seconds of speech by label.")
    speakers: dict[str, Any] = Field(description="The gallery's answer by label.")
    two_voices: dict[str, float] = Field(description="Labels that sound like two voices, with the LLR of their halves.")
    reasons: list[str]


class JobAnswer(BaseModel):
    """A diarization in progress, or its result."""

    id: str
    stage: Literal["queued", "decoding", "diarizing", "done", "failed"]
    progress: float = Field(description="From 0 to 1.")
    result: DiarizationAnswer | None
    error: str | None
    expires_at: str | None = Field(description="When the result is forgotten.")

    @classmethod
    def of(cls, job: Job) -> JobAnswer:
        found, error = job.result, None
        if job.error is not None:
            problem = problem_of(job.error)
            error = f"{problem.detail}; {problem.remedy}"
        elif job.stage == "failed":
            error = "the service failed"
        return cls(
            id=job.id,
            stage=job.stage,
            progress=job.progress,
            result=None if found is None else _answer(found),
            error=error,
            expires_at=None if job.expires_at is None else job.expires_at.isoformat(timespec="seconds"),
        )


@router.post(
    "",
    status_code=202,
    responses=responses("bad-request", "too-slow", "too-large", "unsupported-type", "invalid", "too-many"),
    openapi_extra=request_body(DiarizeBody),
)
async def diarize(request: Request, response: Response, service: Served, caller: Reader) -> JobAnswer:
    """Begin to find out who spoke when, and who of the enrolled speakers it is; `Location` names the job."""
    body = await read_body(request, DiarizeBody)
    job = await in_thread(request, service.diarize, caller, body.audio, body.speakers)
    if job is None:
        raise Problem("too-many", "you have too many jobs", "delete some of them", headers={"Retry-After": "60"})
    response.headers["location"] = f"{router.prefix}/{job.id}"
    return JobAnswer.of(job)


@router.get("/{job_id}", responses=responses("not-found"))
async def job(service: Served, caller: Reader, job_id: str) -> JobAnswer:
    """Return how far a job is, and its result."""
    found = service.jobs.find(caller.tenant, job_id)
    if found is None:
        raise _missing()
    return JobAnswer.of(found)


@router.delete("/{job_id}", status_code=204, responses=responses("not-found"))
async def remove(service: Served, caller: Reader, job_id: str) -> Response:
    """Stop a job, and forget its result."""
    if not service.jobs.remove(caller.tenant, job_id):
        raise _missing()
    return Response(status_code=204)


def _missing() -> Problem:
    return Problem("not-found", "there is no such job", "results are kept for an hour; begin another one")


def _answer(found: dict[str, Any]) -> DiarizationAnswer:
    turns = [
        TurnAnswer(start_s=turn["start_s"], end_s=turn["end_s"], speaker=turn["speaker"], name=turn.get("name"))
        for turn in found["turns"]
    ]
    return DiarizationAnswer(
        turns=turns, **{name: found[name] for name in ("speech_s", "speakers", "two_voices", "reasons")}
    )
