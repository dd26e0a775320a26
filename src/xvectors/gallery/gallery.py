"""Enroll speakers, and verify and identify recordings against them, by their embeddings.

An answer needs a calibrated system. Against one speaker it uses the system's prior probability of a target trial.
Against N enrolled speakers each of them gets 1/N of that prior, so the evidence needed grows with N. In both cases an
answer needs a probability of at least `decision.MIN_PROBABILITY`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.audio import Channel
from xvectors.audio.condition import joined_conditions
from xvectors.audio.recording import Recording
from xvectors.backends.dot_products import Rows
from xvectors.errors import AudioError, ConfigError, GalleryError, ShapeError, UnknownSpeakerError
from xvectors.gallery.matching import add_answer, rank_matches, repeated_recordings
from xvectors.gallery.results import Doubt, EnrollmentResult, Identification, ImportResult, Match, ReEnrollmentResult
from xvectors.gallery.store import Store, Voiceprint, Voiceprints, VoiceprintSource
from xvectors.gallery.validation import check_conditions, check_embeddings, consent_note, speaker_name
from xvectors.metrics.detection_cost import bayes_threshold
from xvectors.verification.decision import (
    OTHER_SYSTEM_REMEDY,
    Encoder,
    Evidence,
    RecordingSummary,
    caveats_of_recordings,
    caveats_of_system,
    other_system_error,
    weigh,
    why_unusable,
)
from xvectors.verification.shift import caveats_of_condition
from xvectors.verification.speaker_models import EnrolledSpeaker, SpeakerModels, model_speakers
from xvectors.verification.verifier import Verifier, magnitudes_of


class Gallery:
    """The enrolled speakers of one system. Threads may share it, and processes may share its store.

    Parameters
    ----------
    store
        Where the speakers are kept.
    system
        Fingerprint of the system that makes the embeddings (`fingerprint_of`).
    verifier
        The system's back-end and calibration.
    now
        The clock.

    Examples
    --------
    >>> with open_gallery(system="exp/xv", create=True) as gallery:                            # doctest: +SKIP
    ...     gallery.enroll("alice", encoder.encode(["a1.wav", "a2.wav"]), [4.1, 3.0])
    ...     gallery.identify(encoder.encode("x.wav")[0], 2.5).speaker
    'alice'
    """

    def __init__(
        self,
        store: Store,
        *,
        system: str,
        verifier: Verifier,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store = store
        self.system = system
        self.verifier = verifier
        self.now = now
        self._shortlist = store.shortlist(system, verifier)

    def __repr__(self) -> str:
        calibrated = self.verifier.is_calibrated
        return f"Gallery({self.store!r}, system={self.system[:12]!r}, calibrated={calibrated})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.store.close()

    def enroll(
        self,
        name: str,
        embeddings: ArrayLike,
        duration_s: ArrayLike,
        *,
        condition: ArrayLike | None = None,
        audio: Sequence[bytes] | None = None,
        consent: str | None = None,
        expires_at: datetime | None = None,
    ) -> EnrollmentResult:
        """Add recordings to a speaker, new or known. Where one of them fails, none is added.

        Parameters
        ----------
        embeddings, duration_s
            [n, D] as the encoder gives them, and seconds [n].
        condition
            [n, 6], the recordings' `Heard.condition`, which some calibrations use; None where unknown.
        audio
            The bytes of the sound files, to be kept for `re_enroll`.
        consent, expires_at
            A note, and the time (with its time zone) from which these voiceprints no longer match.

        Raises
        ------
        ConfigError
            A name or note with control characters, an empty or too long name, an expiry in the past or without a time
            zone.
        ShapeError
            Embeddings that are not finite, all zeros or not [n, D]; durations that are not above 0; conditions
            that are not [n, 6] or are infinite.
        GalleryError, StorageError
            The store cannot be used, or written.
        """
        name, now = speaker_name(name), self.now()
        consent = None if consent is None else consent_note(consent)
        rows, seconds = check_embeddings(embeddings, duration_s)
        conditions = check_conditions(condition, len(rows))
        if audio is not None and len(audio) != len(rows):
            raise ShapeError(f"there are {len(audio)} sound files for {len(rows)} embeddings: give one for each")
        if expires_at is not None and (expires_at.tzinfo is None or expires_at <= now):
            raise ConfigError(f"expires_at is {expires_at}: give a future time with its time zone")
        # everything that can fail comes before the first write
        known = self._known(name, now)
        self._check_dimensions(name, known, rows)
        doubts = tuple(self._doubts(known, rows, seconds, conditions)) if self.verifier.is_calibrated else ()
        repeated = repeated_recordings(known, rows, seconds)
        before = self.store.add(
            name,
            [
                Voiceprint(
                    embedding=rows[at],
                    duration_s=float(seconds[at]),
                    system=self.system,
                    enrolled_at=now,
                    expires_at=expires_at,
                    consent=consent,
                    condition=None if condition is None else conditions[at],
                    audio=None if audio is None else audio[at],
                )
                for at in range(len(rows))
            ],
        )
        return EnrollmentResult(
            speaker=name,
            num_added=len(rows),
            num_before=before,
            checked=self.verifier.is_calibrated,
            doubts=doubts,
            repeated=repeated,
        )

    def speaker(self, name: str) -> EnrolledSpeaker:
        """Return an enrolled speaker, to be compared with recordings by `SpeakerEncoder.verify`.

        Raises
        ------
        UnknownSpeakerError
            The name is not enrolled.
        GalleryError
            All voiceprints of the name have expired, or are of other systems.
        """
        name, now = speaker_name(name, known=True), self.now()
        number = self.store.id_of(name)
        voiceprints = self.store.voiceprints_of([number], self.system, now)
        if not len(voiceprints.speaker):
            if self.store.names_of_others(self.system, now, [number]):
                raise other_system_error(name, self.system)
            raise GalleryError(f"all voiceprints of {name} have expired; enroll {name} again")
        return EnrolledSpeaker(
            name=name,
            num_voiceprints=len(voiceprints.speaker),
            duration_s=float(voiceprints.duration_s.sum()),
            system=self.system,
            model=self._models(voiceprints),
        )

    def verify(
        self,
        name: str,
        embedding: ArrayLike,
        duration_s: float,
        *,
        condition: ArrayLike | None = None,
        p_target: float | None = None,
    ) -> Match:
        """Compare a recording, its embedding [D] and its seconds of speech, with the speaker enrolled as `name`.

        `condition` [6] is the recording's `Heard.condition`, which some calibrations use; None where unknown.
        `p_target` is the prior probability that the recording is of this speaker, by default the system's. Raises as
        `speaker` does, ConfigError for a `p_target` outside (0, 1), and ShapeError as `enroll` does.
        """
        speaker = self.speaker(name)
        prior = self.verifier.p_target if p_target is None else p_target
        bayes_threshold(prior)
        rows, seconds = check_embeddings(np.asarray(embedding)[None], [duration_s])
        (measures,) = check_conditions(None if condition is None else np.asarray(condition)[None], 1)
        evidence = self._evidence(speaker.model, rows[0], seconds[0], measures, prior, num_enrolled=1)
        return rank_matches(evidence, [speaker.name], num_enrolled=1)[0]

    def identify(
        self,
        embedding: ArrayLike,
        duration_s: float,
        *,
        condition: ArrayLike | None = None,
        top: int = 3,
        p_target: float | None = None,
    ) -> Identification:
        """Identify the speaker of a recording, given its embedding [D] and its seconds of speech.

        The set is open: the speaker may be nobody enrolled. Probabilities are those of `open_set_posterior`. With one
        enrolled speaker, that is the one of `verify`. Among more than 200 speakers, those with the highest scores are
        compared by their LLRs.

        Parameters
        ----------
        condition
            [6], as in `verify`.
        top
            Number of matches to return.
        p_target
            Prior probability that the recording is of any enrolled speaker, shared equally among all of them; by
            default the system's prior of a target trial.

        Raises
        ------
        GalleryError
            The gallery is empty, or all speakers are enrolled with other systems.
        ConfigError
            `top` is below 1, or the prior outside (0, 1).
        ShapeError
            As in `enroll`.
        """
        if top < 1:
            raise ConfigError(f"top is {top}; ask for 1 or more")
        found = self.no_answer(*caveats_of_system(self.verifier), p_target=p_target)
        prior = found.p_target
        rows, seconds = check_embeddings(np.asarray(embedding)[None], [duration_s])
        (measures,) = check_conditions(None if condition is None else np.asarray(condition)[None], 1)
        now = self.now()
        near = self._shortlist.nearest(rows, top, now)
        if not near.num_enrolled:
            raise self._empty(near.left_out)
        names = self.store.names_of(near.ids.tolist())
        voiceprints = self.store.voiceprints_of(list(names), self.system, now)
        if not len(voiceprints.speaker):  # forgotten, or expired, since the names were read
            raise self._empty(near.left_out)
        models = self._models(voiceprints)
        evidence = self._evidence(models, rows[0], seconds[0], measures, prior, num_enrolled=near.num_enrolled)
        speakers = [names[int(number)] for number in models.speaker]
        matches = rank_matches(evidence, speakers, num_enrolled=near.num_enrolled)
        found = replace(
            found,
            speaker=matches[0].speaker if matches[0].same_speaker else None,
            matches=tuple(matches[:top]),
            num_enrolled=near.num_enrolled,
            left_out=near.left_out,
        )
        bounds = self.verifier.bounds
        return add_answer(found, evidence, matches, None if bounds is None else bounds[1])

    def identify_recording(
        self,
        encoder: Encoder,
        recording: Recording,
        *,
        top: int = 3,
        p_target: float | None = None,
        channel: Channel | None = None,
    ) -> Identification:
        """Find the enrolled speaker that a recording is of, if any; `encoder` is the system's `SpeakerEncoder`.

        The recording is heard and judged as by `SpeakerEncoder.verify`: with one enrolled speaker, the probability and
        the answer are the same. The other parameters and errors are those of `identify`, and AudioError for a
        recording that cannot be read.
        """
        heard = encoder.listen(recording, channel=channel)
        if reason := why_unusable(heard, self.verifier):
            found = self.no_answer(reason, p_target=p_target)
        else:
            (embedding,) = encoder.encode_heard([heard.samples])
            found = self.identify(embedding, heard.speech_s, condition=heard.condition, top=top, p_target=p_target)
            caveats = caveats_of_recordings([heard]) + caveats_of_condition(self.verifier, [heard])
            found = replace(found, reasons=(*found.reasons, *caveats))
        return replace(found, recording=RecordingSummary.from_heard(heard))

    def no_answer(self, *reasons: str, p_target: float | None = None) -> Identification:
        """Return the result for a recording that has not been compared with any speaker, for these reasons."""
        prior = self.verifier.p_target if p_target is None else p_target
        bayes_threshold(prior)
        return Identification(
            speaker=None,
            decided=False,
            most_likely=None,
            p_nobody=None,
            matches=(),
            num_enrolled=0,
            p_target=prior,
            left_out=(),
            reasons=reasons,
        )

    def add_all(self, source: VoiceprintSource, *, merge: bool = False) -> ImportResult:
        """Add all voiceprints of `source`, or none; see `import_gallery`."""
        now = self.now()
        enrolled = {speaker.name for speaker in self.store.speakers(now)}
        compared, doubts = set(), {}
        for name, group in itertools.groupby(source.voiceprints(), key=lambda entry: entry.speaker):
            rows = [entry.voiceprint for entry in group]
            known = self._known(name, now)
            present = {embedding.tobytes() for embedding in known.embeddings}
            new = [row for row in rows if row.system == self.system and row.embedding.tobytes() not in present]
            if not self.verifier.is_calibrated:
                continue
            if new:
                vectors, seconds = check_embeddings([row.embedding for row in new], [row.duration_s for row in new])
                self._check_dimensions(name, known, vectors)
                conditions = joined_conditions([row.condition for row in new])
                found = tuple(self._doubts(known, vectors, seconds, conditions))
                doubts.update({name: found} if found else {})
            if all(row.system == self.system for row in rows):
                compared.add(name)
        added, num_known = self.store.add_all(source, merge=merge)
        return ImportResult(
            num_added=sum(added.values()),
            num_known=num_known,
            merged=tuple(sorted(added.keys() & enrolled)),
            doubts=doubts,
            unchecked=tuple(sorted(added.keys() - compared)),
        )

    def re_enroll(
        self, encode: Callable[[bytes], tuple[NDArray[np.float32], float, NDArray[np.float32] | None]]
    ) -> ReEnrollmentResult:
        """Embed the kept recordings of other systems' voiceprints with this system, and replace the embeddings.

        Where it is interrupted, the next call resumes it.

        Parameters
        ----------
        encode
            Returns the embedding [D], the seconds of speech and the condition [6], None where unknown, of a sound
            file's bytes. Where it raises AudioError, the voiceprint is left unchanged and reported.
        """
        now = self.now()
        renewed: dict[str, int] = {}
        failed: list[str] = []
        for kept in self.store.kept_recordings(self.system, now):
            try:
                embedding, seconds, condition = encode(kept.audio)
                row, _ = check_embeddings(np.asarray(embedding)[None], [seconds])
                (measures,) = check_conditions(None if condition is None else np.asarray(condition)[None], 1)
            except (AudioError, ShapeError) as error:
                failed.append(f"{kept.speaker}: {error}")
                continue
            known = None if condition is None else measures
            if self.store.replace(kept.voiceprint, row[0], self.system, known):
                renewed[kept.speaker] = renewed.get(kept.speaker, 0) + 1
        left = tuple(self.store.names_of_others(self.system, now))
        return ReEnrollmentResult(renewed=renewed, failed=tuple(failed), without_audio=left)

    def _models(self, voiceprints: Voiceprints) -> SpeakerModels:
        return model_speakers(
            self.verifier,
            voiceprints.speaker,
            voiceprints.embeddings,
            voiceprints.duration_s,
            voiceprints.condition,
        )

    def _evidence(
        self,
        models: SpeakerModels,
        embedding: Rows,
        test_s: float,
        condition: NDArray[np.float32],
        p_target: float,
        *,
        num_enrolled: int,
    ) -> Evidence:
        """Compare a recording, its embedding [D] and its condition [6], with every model."""
        return weigh(
            self.verifier,
            models.scores(self.verifier, embedding),
            models.duration_s,
            test_s,
            p_target,
            num_enrolled,
            enroll_condition=models.condition,
            test_condition=condition,
            enroll_magnitude=models.magnitude,
            test_magnitude=float(magnitudes_of(embedding[None])[0]),
        )

    def _known(self, name: str, now: datetime) -> Voiceprints:
        """Return the voiceprints enrolled under a name; none for a new name."""
        try:
            ids = [self.store.id_of(name)]
        except UnknownSpeakerError:
            ids = []
        return self.store.voiceprints_of(ids, self.system, now)

    def _doubts(
        self, known: Voiceprints, rows: Rows, seconds: NDArray[np.float64], conditions: NDArray[np.float32]
    ) -> Iterator[Doubt]:
        """Compare each new recording with all others of the speaker, and yield those below the threshold."""
        for at in range(len(rows)):
            new = np.delete(rows, at, axis=0)
            others = np.concatenate([known.embeddings, new]) if len(known.speaker) else new
            if not len(others):
                return
            models = self._models(
                Voiceprints(
                    speaker=np.zeros(len(others), dtype=np.int64),
                    embeddings=others,
                    duration_s=np.concatenate([known.duration_s, np.delete(seconds, at)]),
                    condition=np.concatenate([known.condition, np.delete(conditions, at, axis=0)]),
                )
            )
            evidence = self._evidence(
                models, rows[at], seconds[at], conditions[at], self.verifier.p_target, num_enrolled=1
            )
            if evidence.llrs is None or evidence.posterior is None:
                return
            llr, threshold = float(evidence.llrs[0]), evidence.posterior.threshold
            if llr < threshold:
                yield Doubt(recording=at, llr=llr, threshold=threshold)

    def _check_dimensions(self, name: str, known: Voiceprints, rows: Rows) -> None:
        if len(known.speaker) and known.embeddings.shape[1] != rows.shape[1]:
            raise ShapeError(
                f"embeddings have {rows.shape[1]} dimensions, but those of {name} by the same system have "
                f"{known.embeddings.shape[1]}: use that system's encoder"
            )

    def _empty(self, left_out: tuple[str, ...]) -> GalleryError:
        if left_out:
            return GalleryError(
                f"all {len(left_out)} speakers in {self.store.location} were enrolled with other systems than this "
                f"one ({self.system[:12]}), and embeddings of two systems cannot be compared: {OTHER_SYSTEM_REMEDY}"
            )
        return GalleryError(
            f"{self.store.location} has no enrolled speakers, or all have expired; enroll one with "
            "`xvectors enroll NAME a.wav`"
        )
