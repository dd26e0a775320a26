"""Endpoints under /v1/speakers, who is enrolled, with what, and until when; and /v1/map, who sounds alike."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request

from xvectors.serve.answers import ForgottenAnswer, MapAnswer, PointAnswer, SpeakerAnswer, SpeakersAnswer
from xvectors.serve.guarding.access import Forgetter, Reader, Served
from xvectors.serve.problems import responses
from xvectors.serve.threads import in_thread

router = APIRouter(prefix="/v1", tags=["speakers"])


@router.get("/map", responses=responses("gallery"))
async def voice_map(request: Request, service: Served, caller: Reader) -> MapAnswer:
    """Lay out the enrolled speakers in the plane."""
    found = await in_thread(request, service.voice_map, caller)
    return MapAnswer(
        points=[PointAnswer(**asdict(point)) for point in found.points],
        num_speakers=found.num_speakers,
        shown_share=found.shown_share,
    )


@router.get("/speakers", responses=responses("invalid", "gallery"))
async def speakers(
    request: Request,
    service: Served,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=1000, description="Number of speakers of a page.")] = 100,
    after: Annotated[str, Query(max_length=1000, description="Name after which the page begins.")] = "",
) -> SpeakersAnswer:
    """List the enrolled speakers by name."""
    found, has_more = await in_thread(request, service.speakers, caller, after=after, limit=limit)
    return SpeakersAnswer(speakers=found, next=found[-1].name if has_more else None)


@router.get("/speakers/{name:path}", responses=responses("unknown-speaker", "invalid", "gallery"))
async def speaker(request: Request, service: Served, caller: Reader, name: str) -> SpeakerAnswer:
    """Describe one enrolled speaker."""
    return await in_thread(request, service.speaker, caller, name)


@router.delete("/speakers/{name:path}", responses=responses("unknown-speaker", "invalid", "storage"))
async def forget(
    request: Request,
    service: Served,
    caller: Forgetter,
    name: str,
    last: Annotated[bool, Query(description="Remove only the recordings of the last enrollment.")] = False,
) -> ForgottenAnswer:
    """Remove a speaker and every trace of the voiceprints."""
    return ForgottenAnswer(removed=await in_thread(request, service.forget, caller, name, last=last))
