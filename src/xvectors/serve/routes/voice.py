"""Endpoints under /v1/voice, in LocalAI's form: verify, embed, register, identify, forget, analyze."""

from __future__ import annotations

import time
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response

from xvectors.serve.answers import (
    AnalyzeAnswer,
    DoubtAnswer,
    EmbedAnswer,
    IdentifyAnswer,
    MatchAnswer,
    RecordingReport,
    RegisterAnswer,
    VerifyAnswer,
    verdict_of,
    verdict_on,
)
from xvectors.serve.guarding.access import Enroller, Forgetter, Reader, Served
from xvectors.serve.problems import Problem, request_id_of, responses
from xvectors.serve.requests import (
    AnalyzeBody,
    Body,
    EmbedBody,
    ForgetBody,
    IdentifyBody,
    RegisterBody,
    VerifyBody,
    read_body,
    request_body,
)
from xvectors.serve.service import Service
from xvectors.serve.threads import in_thread
from xvectors.verification.decision import RecordingSummary

router = APIRouter(prefix="/v1/voice", tags=["voice"])
B = TypeVar("B", bound=Body)
PROBLEMS = ("bad-request", "too-slow", "too-large", "unsupported-type", "invalid")


@router.post(
    "/verify", responses=responses(*PROBLEMS, "unknown-speaker", "gallery"), openapi_extra=request_body(VerifyBody)
)
async def verify(request: Request, service: Served, caller: Reader) -> VerifyAnswer:
    """Decide whether two recordings, or a recording and an enrolled speaker, are of the same speaker."""
    started = time.perf_counter()
    body = await _body(request, service, VerifyBody)
    if (body.audio2 is None) == (body.speaker is None):
        raise Problem("invalid", "the request compares nothing", "give audio2, or the name of a speaker, not both")
    decision = await in_thread(request, service.verify, caller, body.audio1, body.audio2, body.speaker, body.prior)
    return VerifyAnswer(
        **_common(request, service, started),
        decision=verdict_of(decision),
        verified=decision.same_speaker is True,
        llr=decision.llr,
        prior=decision.p_target,
        probability=decision.probability,
        confidence=decision.probability,
        threshold=decision.threshold,
        score=decision.score,
        reasons=list(decision.reasons),
        speech_s=decision.recordings[-1].quality.speech_s,
        speaker=decision.speaker,
        recordings=[RecordingReport.of(each) for each in decision.recordings],
    )


@router.post("/identify", responses=responses(*PROBLEMS, "gallery"), openapi_extra=request_body(IdentifyBody))
async def identify(request: Request, service: Served, caller: Reader) -> IdentifyAnswer:
    """Find the enrolled speaker that a recording is of, if any."""
    started = time.perf_counter()
    body = await _body(request, service, IdentifyBody)
    found = await in_thread(request, service.identify, caller, body.audio, body.top_k, body.prior)
    best = found.matches[0] if found.matches else None
    p_best = None if best is None else best.probability
    return IdentifyAnswer(
        **_common(request, service, started),
        decision=verdict_on(found),
        llr=None if best is None else best.llr,
        prior=found.p_target,
        probability=found.p_nobody if found.decided and found.speaker is None else p_best,
        threshold=None if best is None else best.threshold,
        reasons=list(found.reasons),
        speech_s=0.0 if found.recording is None else found.recording.quality.speech_s,
        speaker=found.speaker,
        most_likely=found.most_likely,
        p_nobody=found.p_nobody,
        matches=[
            MatchAnswer(
                id=match.speaker,
                name=match.speaker,
                match=match.speaker == found.speaker,
                score=match.score,
                llr=match.llr,
                probability=match.probability,
                confidence=match.probability,
            )
            for match in found.matches
        ],
        num_enrolled=found.num_enrolled,
        num_left_out=len(found.left_out),
        recording=None if found.recording is None else RecordingReport.of(found.recording),
    )


@router.post("/embed", responses=responses(*PROBLEMS), openapi_extra=request_body(EmbedBody))
async def embed(request: Request, service: Served, caller: Reader) -> EmbedAnswer:
    """Embed the speech of a recording."""
    started = time.perf_counter()
    body = await _body(request, service, EmbedBody)
    embeddings, heard = await in_thread(request, service.embed, [body.audio])
    return EmbedAnswer(
        **_common(request, service, started),
        embedding=embeddings[0].tolist(),
        dim=embeddings.shape[1],
        speech_s=heard[0].speech_s,
        recording=RecordingReport.of(RecordingSummary.from_heard(heard[0])),
    )


@router.post(
    "/register", responses=responses(*PROBLEMS, "gallery", "storage"), openapi_extra=request_body(RegisterBody)
)
async def register(request: Request, service: Served, caller: Enroller) -> RegisterAnswer:
    """Enroll recordings of a speaker, new or known. Where one of them cannot be used, none is enrolled."""
    started = time.perf_counter()
    body = await _body(request, service, RegisterBody)
    result, heard, speaker = await in_thread(
        request, service.register, caller, body.name, body.audio, body.consent, body.expires
    )
    return RegisterAnswer(
        **_common(request, service, started),
        id=result.speaker,
        name=result.speaker,
        num_added=result.num_added,
        num_before=result.num_before,
        speech_s=sum(each.speech_s for each in heard),
        checked=result.checked,
        doubts=[DoubtAnswer.of(doubt) for doubt in result.doubts],
        repeated=list(result.repeated),
        speaker=speaker,
        recordings=[RecordingReport.of(RecordingSummary.from_heard(each)) for each in heard],
    )


@router.post(
    "/forget",
    status_code=204,
    responses=responses(*PROBLEMS, "unknown-speaker", "storage"),
    openapi_extra=request_body(ForgetBody),
)
async def forget(request: Request, service: Served, caller: Forgetter) -> Response:
    """Remove a speaker and every trace of the voiceprints."""
    body = await _body(request, service, ForgetBody)
    await in_thread(request, service.forget, caller, body.id)
    return Response(status_code=204)


@router.post("/analyze", responses=responses(*PROBLEMS), openapi_extra=request_body(AnalyzeBody))
async def analyze(request: Request, service: Served, caller: Reader) -> AnalyzeAnswer:
    """Measure the quality of a recording, and say whether it can be compared."""
    started = time.perf_counter()
    body = await _body(request, service, AnalyzeBody)
    heard, reason = await in_thread(request, service.analyze, body.audio)
    return AnalyzeAnswer(
        **_common(request, service, started),
        usable=not reason,
        reasons=[reason] if reason else [],
        speech_s=heard.speech_s,
        recording=RecordingReport.of(RecordingSummary.from_heard(heard)),
    )


async def _body(request: Request, service: Service, kind: type[B]) -> B:
    body = await read_body(request, kind)
    if body.model is not None and body.model not in (service.model, service.encoder.fingerprint):
        raise Problem(
            "invalid", f"the system {body.model[:60]!r} is not served", f"leave model out, or give {service.model!r}"
        )
    return body


def _common(request: Request, service: Service, started: float) -> dict[str, Any]:
    return {
        "request_id": request_id_of(request),
        "model": service.model,
        "model_fingerprint": service.encoder.fingerprint,
        "processing_time_ms": round(1000 * (time.perf_counter() - started), 1),
    }
