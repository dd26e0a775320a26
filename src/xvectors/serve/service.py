"""What the application serves: a system, the tenants' galleries, worker processes, the audit trail and metrics.

Methods block, and are called in threads. Each asks `verification.decision` or the gallery for its answer.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Samples
from xvectors.audio.decoding.untrusted import Decoder
from xvectors.audio.speech import Heard
from xvectors.diarization.streaming import StreamingDiarizer
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import AudioError, ConfigError, GalleryError, TooShortError, XVectorsError
from xvectors.gallery import EnrollmentResult, Gallery, Identification, Speaker, consent_note, expiry, speaker_name
from xvectors.serve.answers import SpeakerAnswer, verdict_of, verdict_on
from xvectors.serve.encoder import HeardEncoder, ServedEncoder, load_system
from xvectors.serve.galleries import Galleries
from xvectors.serve.guarding.audit import AuditTrail
from xvectors.serve.guarding.keys import KeyRing
from xvectors.serve.jobs import Job, Jobs
from xvectors.serve.metrics import Metrics
from xvectors.serve.settings import Settings
from xvectors.serve.voice_map import VoiceMap, map_voices
from xvectors.verification.decision import Decision, RecordingSummary, verify, why_unusable

LOG = logging.getLogger("xvectors.serve")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who makes a request: the tenant whose gallery it opens, the key's id, and the id of the request."""

    tenant: str
    key_id: str | None
    request_id: str


class Service:
    """See the module. `start` loads the system, `close` ends what `start` began.

    Parameters
    ----------
    system
        Name of a system, or a loaded one, which cannot be reloaded.
    settings
        See `Settings`.
    """

    def __init__(self, system: str | SpeakerEncoder, settings: Settings) -> None:
        self.system, self.settings = system, settings
        self.metrics = Metrics()
        self.keys = None if settings.keys is None else KeyRing(settings.keys)
        self.audit = None if settings.audit is None else AuditTrail(settings.audit)
        self._reloading = threading.Lock()

    def start(self) -> None:
        """Load the system, open the default gallery and start the processes that decode."""
        settings = self.settings
        self.decoder = Decoder(
            settings.decoders,
            wall_s=settings.decode_timeout_s,
            cpu_s=settings.decode_timeout_s,
            memory_bytes=settings.decode_memory_bytes,
        )
        self.encoder = self._load()
        self.galleries = Galleries(settings.gallery, system=self.encoder.fingerprint, verifier=self.encoder.verifier)
        if self.keys is None:
            self.galleries.of("default")
        self.jobs = Jobs(self.decoder, max_duration_s=settings.max_diarized_s)
        self.metrics.serves(self.encoder.fingerprint)

    def close(self) -> None:
        """Finish what is in progress, and end."""
        self.jobs.close()
        self.encoder.close()
        self.decoder.close()
        self.galleries.close()
        if self.audit is not None:
            self.audit.close()

    @property
    def model(self) -> str:
        """Name of the system in answers: without the folders of its path."""
        name = self.system if isinstance(self.system, str) else self.system.engine.name
        return name.rstrip("/").rpartition("/")[2] or name

    @property
    def prior(self) -> float:
        """Prior probability of requests that state none."""
        return self.encoder.verifier.p_target if self.settings.prior is None else self.settings.prior

    def reload(self) -> str:
        """Load the system again, from where it was loaded, and return its fingerprint.

        Requests in progress end with the system that they began with. Where the system cannot be loaded, the one in use
        stays. Raises ConfigError for a system that was handed over loaded, and the errors of loading.
        """
        if not isinstance(self.system, str):
            raise ConfigError("this system was not loaded by its name, so it cannot be reloaded; restart the service")
        with self._reloading:
            try:
                encoder = self._load()
            except XVectorsError:
                self.metrics.reloads.labels("failed").inc()
                raise
            before, self.encoder = self.encoder, encoder
            self.galleries.serve(system=encoder.fingerprint, verifier=encoder.verifier)
            before.close()
        self.metrics.reloads.labels("done").inc()
        self.metrics.serves(encoder.fingerprint)
        LOG.info("reloaded: system %s", encoder.fingerprint[:12])
        return encoder.fingerprint

    def verify(
        self, caller: Caller, first: bytes, second: bytes | None, speaker: str | None, prior: float | None
    ) -> Decision:
        """Compare two recordings, or the first one with an enrolled speaker."""
        encoder, p_target = self.encoder, self.prior if prior is None else prior
        if speaker is None:
            assert second is not None
            decision = verify(encoder, first, second, p_target=p_target)
        else:
            with self._without_path(self.galleries.of(caller.tenant)) as gallery:
                decision = verify(encoder, gallery.speaker(speaker), first, p_target=p_target)
        verdict = verdict_of(decision)
        self._decided(caller, "verify", verdict, decision.llr, p_target, decision.speaker)
        return decision

    def identify(self, caller: Caller, recording: bytes, top: int, prior: float | None) -> Identification:
        """Ask the caller's gallery whose recording it is."""
        p_target = self.prior if prior is None else prior
        with self._without_path(self.galleries.of(caller.tenant)) as gallery:
            found = gallery.identify_recording(self.encoder, recording, top=top, p_target=p_target)
        llr = found.matches[0].llr if found.matches else None
        self._decided(caller, "identify", verdict_on(found), llr, p_target, found.speaker)
        return found

    def embed(self, recordings: Sequence[bytes]) -> tuple[NDArray[np.float32], list[Heard]]:
        """Embed recordings. Raises TooShortError for one that cannot be compared."""
        encoder = self.encoder
        names = ["the recording"] if len(recordings) == 1 else [f"recording {at}" for at in range(len(recordings))]
        heard = [encoder.listen(each, name=name) for each, name in zip(recordings, names, strict=True)]
        for each in heard:
            if reason := why_unusable(each, encoder.verifier):
                raise TooShortError(f"{reason}; send a recording with more speech")
        embeddings = encoder.encode_heard([each.samples for each in heard])
        if not np.isfinite(embeddings).all():
            raise AudioError("an embedding is not finite; check the samples")
        return embeddings, heard

    def register(
        self, caller: Caller, name: str, recordings: Sequence[bytes], consent: str | None, expires: str | None
    ) -> tuple[EnrollmentResult, list[Heard], SpeakerAnswer]:
        """Enroll recordings, all or none of them."""
        name = speaker_name(name)
        note = None if consent is None else consent_note(consent)
        expires_at = None if expires is None else expiry(expires, datetime.now(UTC))
        with self._without_path(self.galleries.of(caller.tenant)) as gallery:
            system = gallery.system
            embeddings, heard = self.embed(recordings)
            if self.encoder.fingerprint != system:
                raise GalleryError("the service's system was exchanged during the request; send it again")
            result = gallery.enroll(
                name,
                embeddings,
                [each.speech_s for each in heard],
                condition=[each.condition for each in heard],
                consent=note,
                expires_at=expires_at,
            )
            self._audit(caller, "enroll", name, voiceprints=result.num_added, doubts=len(result.doubts))
            return result, heard, self.speaker(caller, name)

    def forget(self, caller: Caller, name: str, *, last: bool = False) -> int:
        """Remove a speaker, or only the last enrollment; return the number of voiceprints."""
        name = speaker_name(name, known=True)
        with self._without_path(self.galleries.of(caller.tenant)) as gallery:
            removed = gallery.store.forget(name, last=last)
        self._audit(caller, "forget", name, voiceprints=removed)
        return removed

    def analyze(self, recording: bytes) -> tuple[Heard, str]:
        """Listen to a recording; return it and why it cannot be compared, or an empty string."""
        encoder = self.encoder
        heard = encoder.listen(recording, name="the recording")
        return heard, why_unusable(heard, encoder.verifier)

    def diarize(self, caller: Caller, recording: bytes, speakers: str | None) -> Job | None:
        """Queue a diarization, with names from the caller's gallery; None where the caller has too many jobs."""
        return self.jobs.add(caller.tenant, recording, self.encoder.encoder, self._known(caller), speakers)

    def stream_diarizer(self, caller: Caller, sample_rate_hz: int) -> StreamingDiarizer:
        """Return what diarizes sound as it comes, with names from the caller's gallery."""
        if not self.encoder.verifier.is_calibrated:
            raise ConfigError("the system is not calibrated, which diarization needs; run `xvectors calibrate` on it")
        return StreamingDiarizer(self.encoder.encoder, gallery=self._known(caller), sample_rate_hz=sample_rate_hz)

    def judge_stream(
        self, caller: Caller, samples: Samples, sample_rate_hz: int, speaker: str | None, prior: float | None
    ) -> dict[str, Any]:
        """Verify or identify what has been heard so far; `note_stream` counts the last answer."""
        encoder, p_target = self.encoder, self.prior if prior is None else prior
        heard = HeardEncoder(encoder, sample_rate_hz)
        with self._without_path(self.galleries.of(caller.tenant)) as gallery:
            if speaker is not None:
                decision = verify(heard, gallery.speaker(speaker), samples, p_target=p_target)
                verdict, llr, name = verdict_of(decision), decision.llr, decision.speaker
                probability, reasons = decision.probability, decision.reasons
                threshold: float | None = decision.threshold
                summary: RecordingSummary | None = decision.recordings[0]
            else:
                found = gallery.identify_recording(heard, samples, top=1, p_target=p_target)
                best = found.matches[0] if found.matches else None
                verdict, llr, name = verdict_on(found), None if best is None else best.llr, found.speaker
                probability = found.p_nobody if verdict == "reject" else None if best is None else best.probability
                reasons, threshold = found.reasons, None if best is None else best.threshold
                summary = found.recording
        return {
            "decision": verdict,
            "speaker": name,
            "llr": llr,
            "prior": p_target,
            "probability": probability,
            "threshold": threshold,
            "reasons": list(reasons),
            "speech_s": 0.0 if summary is None else summary.quality.speech_s,
            "notes": [] if summary is None else list(summary.quality.notes),
            "model": self.model,
            "model_fingerprint": encoder.fingerprint,
            "request_id": caller.request_id,
        }

    def note_stream(self, caller: Caller, answer: dict[str, Any]) -> None:
        """Count the last answer of a stream, and put it into the audit trail."""
        self._decided(caller, "stream", answer["decision"], answer["llr"], answer["prior"], answer["speaker"])

    def speakers(self, caller: Caller, *, after: str, limit: int) -> tuple[list[SpeakerAnswer], bool]:
        """Return a page of the enrolled speakers whose names follow `after`, and whether more follow."""
        with self._without_path(self.galleries.of(caller.tenant)) as gallery:
            # names have no zero characters, which PostgreSQL does not take
            after = after.partition("\0")[0]
            rest = gallery.store.speakers(gallery.now(), after=after, limit=limit + 1)
            return [self._described(gallery, each) for each in rest[:limit]], len(rest) > limit

    def speaker(self, caller: Caller, name: str) -> SpeakerAnswer:
        """Return one enrolled speaker. Raises UnknownSpeakerError."""
        name = speaker_name(name, known=True)
        with self._without_path(self.galleries.of(caller.tenant)) as gallery:
            return self._described(gallery, gallery.store.speaker(name, gallery.now()))

    def voice_map(self, caller: Caller) -> VoiceMap:
        """Lay out the caller's enrolled speakers in the plane."""
        with self._without_path(self.galleries.of(caller.tenant)) as gallery:
            return map_voices(gallery)

    def is_ready(self) -> bool:
        """Whether requests would be answered: batches are embedded, and the gallery can be read."""
        if not self.encoder.batcher.is_alive:
            return False
        if self.keys is None:
            self.galleries.of("default").store.state(datetime.now(UTC))
        return True

    def _load(self) -> ServedEncoder:
        settings = self.settings
        system = self.system
        encoder = load_system(system, threads=settings.network_threads) if isinstance(system, str) else system
        return ServedEncoder(
            encoder,
            self.decoder,
            max_duration_s=settings.max_duration_s,
            batch_size=settings.batch_size,
            batch_wait_s=settings.batch_wait_s,
            metrics=self.metrics,
        )

    def _known(self, caller: Caller) -> Gallery | None:
        """Return the caller's gallery, or None where nobody is enrolled with the system."""
        gallery = self.galleries.of(caller.tenant)
        return gallery if len(gallery.store.speaker_ids(gallery.system, gallery.now())) else None

    def _described(self, gallery: Gallery, speaker: Speaker) -> SpeakerAnswer:
        is_of_system = gallery.system in speaker.systems
        speech_s = speaker.duration_s
        if not is_of_system:
            speech_s = 0.0
        elif speaker.num_expired or len(speaker.systems) > 1:  # the sum has more than what matches
            speech_s = gallery.speaker(speaker.name).duration_s
        needed_s = max(0.0, self.settings.enrollment_speech_s - speech_s)
        if not speaker.num_voiceprints:
            status = "expired"
        elif not is_of_system:
            status = "other_system"
        else:
            status = "enrolling" if needed_s else "enrolled"
        return SpeakerAnswer(
            id=speaker.name,
            name=speaker.name,
            status=status,  # type: ignore[arg-type]
            num_voiceprints=speaker.num_voiceprints,
            num_expired=speaker.num_expired,
            speech_s=speech_s,
            speech_needed_s=needed_s,
            consent=list(speaker.consent),
            enrolled_at=speaker.enrolled_at.isoformat(),
            expires_at=None if speaker.expires_at is None else speaker.expires_at.isoformat(),
        )

    def _decided(
        self, caller: Caller, endpoint: str, verdict: str, llr: float | None, prior: float, speaker: str | None
    ) -> None:
        known = None if llr is None or not math.isfinite(llr) else llr
        self.metrics.decided(endpoint, verdict, known)
        self._audit(caller, endpoint, speaker, decision=verdict, llr=known, prior=prior)

    def _audit(self, caller: Caller, event: str, speaker: str | None, **fields: object) -> None:
        if self.audit is not None:
            self.audit.add(
                event,
                request=caller.request_id,
                tenant=caller.tenant,
                key=caller.key_id,
                speaker=None if speaker is None else self.audit.speaker(speaker),
                system=self.encoder.fingerprint[:12],
                **fields,
            )

    @contextmanager
    def _without_path(self, gallery: Gallery) -> Iterator[Gallery]:
        """Keep the place of the gallery out of errors that clients see."""
        try:
            yield gallery
        except GalleryError as error:
            text = str(error).replace(f"{gallery.store.location}: ", "").replace(gallery.store.location, "the gallery")
            raise type(error)(text) from error
