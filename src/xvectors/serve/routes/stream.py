"""WebSocket /v1/stream: verify or identify while one speaks, until there is an answer; or diarize as long as it lasts.

To verify or identify, the whole recording so far is judged after each second of sound, as by /v1/voice/verify or
/identify. That is a sequential test on the likelihood ratio: under either hypothesis the ratio exceeds A at any time
with a probability of at most 1/A (Wald, "Sequential Tests of Statistical Hypotheses", 1945), so looking often costs no
error rate where LLRs are calibrated.
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xvectors.audio import Samples
from xvectors.diarization import Turn
from xvectors.diarization.streaming import StreamingDiarizer
from xvectors.errors import XVectorsError
from xvectors.serve.guarding.access import caller_of
from xvectors.serve.problems import Problem, problem_of
from xvectors.serve.requests import Name, Prior
from xvectors.serve.service import Caller, Service
from xvectors.serve.threads import in_thread

router = APIRouter(tags=["stream"])

STEP_S = 1.0
START_TIMEOUT_S, SILENCE_TIMEOUT_S = 10.0, 30.0
"""Seconds to wait for the first message, and for each further one."""
REFUSED, TOO_LONG = 1008, 1009


class Start(BaseModel):
    """The first message of a client."""

    model_config = ConfigDict(extra="forbid")

    sample_rate_hz: Annotated[int, Field(ge=8000, le=48_000)] = 16_000
    speaker: Name | None = Field(default=None, description="The claimed speaker; null to identify.")
    prior: Prior = None
    diarize: bool = Field(default=False, description="Say who spoke when, rather than who it is.")
    key: str | None = Field(default=None, description="A key, where the handshake could not carry one.")


@router.websocket("/v1/stream")
async def stream(socket: WebSocket) -> None:
    """Take a `Start` as text and then 16-bit PCM (mono, little-endian) as bytes; send an answer for each second."""
    service: Service = socket.app.state.service
    await socket.accept()
    try:
        start = await _start(socket)
        caller = _caller(socket, service, start)
        await (_diarize if start.diarize else _listen)(socket, service, caller, start)
    except Problem as problem:
        await _refuse(socket, problem)
    except XVectorsError as error:
        await _refuse(socket, problem_of(error))
    except TimeoutError:
        await socket.close(REFUSED, "nothing was sent in time")
    except WebSocketDisconnect:
        return


async def _start(socket: WebSocket) -> Start:
    message = await asyncio.wait_for(socket.receive(), START_TIMEOUT_S)
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    try:
        start = Start.model_validate_json(message.get("text") or "")
    except ValidationError as error:
        row = error.errors(include_url=False, include_context=False, include_input=False)[0]
        detail = f"{'.'.join(map(str, row['loc'])) or 'start'}: {row['msg']}"
        raise Problem("invalid", detail, 'begin with a text such as {"sample_rate_hz": 16000}') from error
    if start.diarize and (start.speaker is not None or start.prior is not None):
        raise Problem("invalid", "diarize: it goes with neither speaker nor prior", "leave these out")
    return start


def _caller(socket: WebSocket, service: Service, start: Start) -> Caller:
    scheme, _, text = socket.headers.get("authorization", "").partition(" ")
    key = text if scheme.lower() == "bearer" else start.key
    given = None if key is None else HTTPAuthorizationCredentials(scheme="Bearer", credentials=key)
    return caller_of(service, given, "read", str(socket.scope["request_id"]))


async def _listen(socket: WebSocket, service: Service, caller: Caller, start: Start) -> None:
    sound, judged_s, max_s = bytearray(), 0.0, service.settings.max_stream_s
    while True:
        message = await asyncio.wait_for(socket.receive(), SILENCE_TIMEOUT_S)
        if message["type"] == "websocket.disconnect":
            return
        sound += message.get("bytes") or b""
        is_end = message.get("text") is not None
        heard_s = len(sound) / 2 / start.sample_rate_hz
        if heard_s > max_s + STEP_S:
            raise Problem("too-large", f"more than {max_s:g} s were sent", "stop after the answer")
        if heard_s - judged_s < STEP_S and not is_end:
            continue
        judged_s = heard_s
        samples = _samples(sound[: len(sound) // 2 * 2])
        answer = await in_thread(
            socket, service.judge_stream, caller, samples, start.sample_rate_hz, start.speaker, start.prior
        )
        is_final = answer["decision"] != "cannot_tell" or is_end or heard_s >= max_s
        if not is_final:
            answer["decision"] = "go_on"
        await socket.send_text(json.dumps({**answer, "heard_s": round(heard_s, 3), "final": is_final}))
        if is_final:
            await in_thread(socket, service.note_stream, caller, answer)
            await socket.close()
            return


async def _diarize(socket: WebSocket, service: Service, caller: Caller, start: Start) -> None:
    stream = await in_thread(socket, service.stream_diarizer, caller, start.sample_rate_hz)
    sound, heard_s, max_s = bytearray(), 0.0, service.settings.max_diarized_s
    while True:
        message = await asyncio.wait_for(socket.receive(), SILENCE_TIMEOUT_S)
        if message["type"] == "websocket.disconnect":
            return
        sound += message.get("bytes") or b""
        size, is_end = len(sound) // 2 * 2, message.get("text") is not None
        if size < 2 * start.sample_rate_hz * STEP_S and not is_end:
            continue
        samples = _samples(sound[:size])
        del sound[:size]
        heard_s += len(samples) / start.sample_rate_hz
        is_final = is_end or heard_s >= max_s
        turns = await in_thread(socket, _heard, stream, samples, is_final)
        answer = {
            "turns": [
                {"start_s": turn.start_s, "end_s": turn.end_s, "speaker": turn.speaker, "name": turn.name}
                for turn in turns
            ],
            "joined": dict(stream.joined),
            "heard_s": round(heard_s, 3),
            "final": is_final,
            "model": service.model,
            "model_fingerprint": service.encoder.fingerprint,
            "request_id": caller.request_id,
        }
        await socket.send_text(json.dumps(answer))
        if is_final:
            await socket.close()
            return


def _heard(stream: StreamingDiarizer, samples: Samples, is_final: bool) -> list[Turn]:
    turns = stream.feed(samples)
    return turns + stream.finish() if is_final else turns


def _samples(sound: bytes | bytearray) -> Samples:
    return np.frombuffer(bytes(sound), dtype="<i2").astype(np.float32) / np.float32(32768)


async def _refuse(socket: WebSocket, problem: Problem) -> None:
    content: dict[str, Any] = json.loads(bytes(problem.response(str(socket.scope["request_id"])).body))
    await socket.send_text(json.dumps(content))
    await socket.close(REFUSED)
