"""Who is it? In: embeddings of recordings, and a store of enrolled speakers. Out: who is enrolled, and decisions.

A decision needs a calibrated system. Against one name it is made at the system's prior of a target trial; against all N
enrolled speakers each of them gets the Nth part of that prior, so that the evidence needed grows with N. Either way it
is made where one answer has a probability of `decisions.CERTAIN`.
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
from scipy.special import logit

from xvectors.backends.products import Rows
from xvectors.errors import AudioError, ConfigError, GalleryError, ShapeError, UnknownSpeakerError
from xvectors.gallery.checks import checked
from xvectors.gallery.memory import MakeSearch, Memory
from xvectors.gallery.models import models_of
from xvectors.gallery.names import consent_note, speaker_name
from xvectors.gallery.records import Block, Carrier, Store, Voiceprint
from xvectors.gallery.results import Doubt, Enrolled, Enrollment, Found, Imported, Match, ReEnrollment
from xvectors.gallery.search import ExactSearch
from xvectors.metrics import bayes_threshold, open_set_posterior
from xvectors.verification import Verifier
from xvectors.verification.decision import CERTAIN, is_certain, of_prior, of_verifier

SAME_EMBEDDING = 1e-3
"""Relative to its length: how far apart the embeddings of one recording may be; batches and devices differ a little."""
SAME_S = 0.001

REMEDY = "enroll again with this one; `xvectors re-enroll` does so where the recordings were kept (--keep-audio)"


class Gallery:
    """Enrolled speakers of one system. Threads may share it, and other processes the store.

    Args:
        store: where the speakers are.
        system: the fingerprint of the system that makes the embeddings (`fingerprint_of`).
        verifier: the system's.
        make_search: a `Search` of rows that come in blocks, and their number.
        now: the clock.

    An example:

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
        make_search: MakeSearch = ExactSearch,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store = store
        self.system = system
        self.verifier = verifier
        self.now = now
        self._memory = Memory(store, system, verifier, make_search)

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
        audio: Sequence[bytes] | None = None,
        consent: str | None = None,
        expires_at: datetime | None = None,
    ) -> Enrollment:
        """Add recordings to a name, new or known; all of them or, where something fails, none.

        Parameters
        ----------
        embeddings, duration_s
            [n, D] as the encoder gives them, and the seconds [n] of each.
        audio
            The sound files' bytes, to be kept for `re_enroll`.
        consent, expires_at
            A note, and the aware time from which these voiceprints match no more.

        Raises
        ------
        ConfigError
            A name or note with control characters, a name that is empty or too long, an expiry that is past or has no
            time zone.
        ShapeError
            Embeddings that are not finite, all zeros or not [n, D]; durations that are not above 0.
        GalleryError, StorageError
            The store cannot be used, or written.
        """
        name, now = speaker_name(name), self.now()
        consent = None if consent is None else consent_note(consent)
        rows, seconds = checked(embeddings, duration_s)
        if audio is not None and len(audio) != len(rows):
            raise ShapeError(f"{len(audio)} sound files for {len(rows)} embeddings: give one a recording")
        if expires_at is not None and (expires_at.tzinfo is None or expires_at <= now):
            raise ConfigError(f"expires_at is {expires_at}: give a time to come, with its time zone")
        # all that may fail comes before anything is written
        known = self._known(name, now)
        self._check_dimensions(name, known, rows)
        doubts = tuple(self._doubts(name, known, rows, seconds)) if self.verifier.is_calibrated else ()
        repeated = _repeated(known, rows, seconds)
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
                    audio=None if audio is None else audio[at],
                )
                for at in range(len(rows))
            ],
        )
        return Enrollment(
            speaker=name,
            num_added=len(rows),
            num_before=before,
            checked=self.verifier.is_calibrated,
            doubts=doubts,
            repeated=repeated,
        )

    def enrolled(self, name: str) -> Enrolled:
        """What is enrolled under a name and can be compared with this system's embeddings.

        Raises
        ------
        UnknownSpeakerError
            Nobody of that name is enrolled.
        GalleryError
            The name's voiceprints have all expired, or are of other systems.
        """
        name = speaker_name(name, known=True)
        block = self._block(name)
        return Enrolled(speaker=name, num_voiceprints=len(block.speaker), duration_s=float(block.duration_s.sum()))

    def verify_as(self, name: str, embedding: ArrayLike, duration_s: float, *, p_target: float | None = None) -> Match:
        """Is a recording, its embedding [D] and seconds, of the speaker enrolled as `name`?

        `p_target`: the probability of that beforehand; by default the system's. Errors are those of `enrolled`,
        ShapeError as `enroll`, and ConfigError for a `p_target` outside (0, 1).
        """
        name = speaker_name(name, known=True)
        block = self._block(name)
        rows, seconds = checked(np.asarray(embedding)[None], [duration_s])
        prior = self.verifier.p_target if p_target is None else p_target
        return self._matches(block, {int(block.speaker[0]): name}, rows, seconds, prior, num_enrolled=1)[0][0]

    def identify(
        self, embedding: ArrayLike, duration_s: float, *, top: int = 3, p_target: float | None = None
    ) -> Found:
        """Which enrolled speaker is it, if any? Of a recording, its embedding [D] and seconds.

        `p_target`: the prior of its being any enrolled speaker, shared equally among all of them; the system's prior
        of a target trial if not given. Probabilities are those of `open_set_posterior`: with one enrolled speaker, that
        of `verify_as`. Among more than 200 speakers, those with the highest scores are compared by their LLRs.

        Raises
        ------
        GalleryError
            Nobody is enrolled, or everybody with other systems.
        ConfigError
            `top` below 1, a prior outside (0, 1).
        ShapeError
            As `enroll`.
        """
        if top < 1:
            raise ConfigError(f"top is {top}; ask for 1 or more")
        prior = self.verifier.p_target if p_target is None else p_target
        bayes_threshold(prior)
        rows, seconds = checked(np.asarray(embedding)[None], [duration_s])
        now = self.now()
        near = self._memory.near(rows, top, now)
        if not near.num_enrolled:
            raise self._nobody_to_compare(near.left_out)
        names = self.store.names_of(near.ids.tolist())
        block = self.store.block_of(list(names), self.system, now)
        if not len(block.speaker):  # forgotten, or expired, since the names were read
            raise self._nobody_to_compare(near.left_out)
        matches, p_nobody = self._matches(block, names, rows, seconds, prior, num_enrolled=near.num_enrolled)
        best = matches[0]
        found = Found(
            speaker=best.speaker if best.same_speaker else None,
            decided=False,
            most_likely=None,
            p_nobody=None,
            matches=tuple(matches[:top]),
            num_enrolled=near.num_enrolled,
            p_target=prior,
            left_out=near.left_out,
            reasons=tuple(of_verifier(self.verifier)),
        )
        if p_nobody is None or best.probability is None:
            return found
        if best.same_speaker:
            before, after = prior / near.num_enrolled, best.probability
        else:
            before, after = 1 - prior, p_nobody
        decided = is_certain(after, 1 - after) is True
        reasons = of_prior(float(logit(after) - logit(before)), prior) if decided else [_why(matches, p_nobody)]
        return replace(
            found,
            decided=decided,
            most_likely=best.speaker if best.probability > p_nobody else None,
            p_nobody=p_nobody,
            reasons=(*reasons, *found.reasons),
        )

    def undecided(self, reason: str, *, p_target: float | None = None) -> Found:
        """The answer on a recording that cannot be compared with anybody, for this reason."""
        prior = self.verifier.p_target if p_target is None else p_target
        bayes_threshold(prior)
        return Found(
            speaker=None,
            decided=False,
            most_likely=None,
            p_nobody=None,
            matches=(),
            num_enrolled=0,
            p_target=prior,
            left_out=(),
            reasons=(reason,),
        )

    def absorb(self, source: Carrier, *, merge: bool = False) -> Imported:
        """Add all voiceprints that `source` carries, or none; see `import_gallery`."""
        now = self.now()
        enrolled = {speaker.name for speaker in self.store.speakers(now)}
        compared, doubts = set(), {}
        for name, group in itertools.groupby(source.carried(), key=lambda carried: carried.name):
            rows = [carried.voiceprint for carried in group]
            known = self._known(name, now)
            there = {embedding.tobytes() for embedding in known.embeddings}
            new = [row for row in rows if row.system == self.system and row.embedding.tobytes() not in there]
            if not self.verifier.is_calibrated:
                continue
            if new:
                vectors, seconds = checked([row.embedding for row in new], [row.duration_s for row in new])
                self._check_dimensions(name, known, vectors)
                found = tuple(self._doubts(name, known, vectors, seconds))
                doubts.update({name: found} if found else {})
            if all(row.system == self.system for row in rows):
                compared.add(name)
        added, num_known = self.store.absorb(source, merge=merge)
        return Imported(
            num_added=sum(added.values()),
            num_known=num_known,
            merged=tuple(sorted(added.keys() & enrolled)),
            doubts=doubts,
            unchecked=tuple(sorted(added.keys() - compared)),
        )

    def re_enroll(self, encode: Callable[[bytes], tuple[NDArray[np.float32], float]]) -> ReEnrollment:
        """Embed the kept recordings of other systems' voiceprints with this system, and replace the embeddings.

        `encode` gives the embedding [D] of a sound file's bytes, and may raise AudioError; such a recording is left as
        it is and reported. Interrupted, it goes on where it stopped.
        """
        now = self.now()
        renewed: dict[str, int] = {}
        failed: list[str] = []
        for kept in self.store.kept(self.system, now):
            try:
                embedding, seconds = encode(kept.audio)
                row, _ = checked(np.asarray(embedding)[None], [seconds])
            except (AudioError, ShapeError) as error:
                failed.append(f"{kept.speaker}: {error}")
                continue
            if self.store.replace(kept.voiceprint, row[0], self.system):
                renewed[kept.speaker] = renewed.get(kept.speaker, 0) + 1
        return ReEnrollment(renewed=renewed, failed=tuple(failed), without_audio=self._left_out(now))

    def _matches(
        self,
        block: Block,
        names: dict[int, str],
        rows: Rows,
        seconds: NDArray[np.float64],
        p_target: float,
        *,
        num_enrolled: int,
    ) -> tuple[list[Match], float | None]:
        """One recording [1, D] against every speaker of a block, the best first, and the probability of nobody."""
        models = models_of(self.verifier, block)
        scores = self.verifier.backend.score_matrix(models.enrolled, rows)[:, 0]
        speakers = [names[int(number)] for number in models.ids]
        if not self.verifier.is_calibrated:
            return [
                Match(
                    speaker=speakers[at],
                    score=float(scores[at]),
                    llr=None,
                    probability=None,
                    threshold=None,
                    same_speaker=None,
                )
                for at in np.argsort(-scores, kind="stable")
            ], None
        llrs = self.verifier.llrs(scores, models.duration_s, np.full(len(scores), seconds[0]))
        posterior = open_set_posterior(llrs, p_target, num_enrolled)
        # with one speaker somebody else is nobody enrolled, exactly; with several the rounding of 1 - p decides nothing
        otherwise = [posterior.nobody] if num_enrolled == 1 else 1 - posterior.enrolled
        return [
            Match(
                speaker=speakers[at],
                score=float(scores[at]),
                llr=float(llrs[at]),
                probability=float(posterior.enrolled[at]),
                threshold=posterior.threshold,
                same_speaker=is_certain(float(posterior.enrolled[at]), float(otherwise[at])),
            )
            for at in np.argsort(-llrs, kind="stable")
        ], posterior.nobody

    def _block(self, name: str) -> Block:
        """What is enrolled under a name with this system and has not expired; something, or GalleryError."""
        now = self.now()
        block = self.store.block_of([self.store.id_of(name)], self.system, now)
        if not len(block.speaker):
            raise self._nothing_to_compare(name, now)
        return block

    def _known(self, name: str, now: datetime) -> Block:
        """What is enrolled under a name; an empty block for a new one."""
        try:
            return self.store.block_of([self.store.id_of(name)], self.system, now)
        except UnknownSpeakerError:
            return self.store.block_of([], self.system, now)

    def _doubts(self, name: str, known: Block, rows: Rows, seconds: NDArray[np.float64]) -> Iterator[Doubt]:
        """New recordings that are below the threshold of one trial against all the name's others, old and new."""
        for at in range(len(rows)):
            new = np.delete(rows, at, axis=0)
            others = np.concatenate([known.embeddings, new]) if len(known.speaker) else new
            if not len(others):
                return
            block = Block(
                speaker=np.zeros(len(others), dtype=np.int64),
                embeddings=others,
                duration_s=np.concatenate([known.duration_s, np.delete(seconds, at)]),
            )
            new_one, its_s = rows[at : at + 1], seconds[at : at + 1]
            (match,), _ = self._matches(block, {0: name}, new_one, its_s, self.verifier.p_target, num_enrolled=1)
            if match.llr is not None and match.threshold is not None and match.llr < match.threshold:
                yield Doubt(recording=at, llr=match.llr, threshold=match.threshold)

    def _check_dimensions(self, name: str, known: Block, rows: Rows) -> None:
        if len(known.speaker) and known.embeddings.shape[1] != rows.shape[1]:
            raise ShapeError(
                f"embeddings of {rows.shape[1]} dimensions, but {name} has some of {known.embeddings.shape[1]} with "
                "the same system: use its own encoder"
            )

    def _left_out(self, now: datetime) -> tuple[str, ...]:
        return tuple(self.store.names_of_others(self.system, now))

    def _nothing_to_compare(self, name: str, now: datetime) -> GalleryError:
        if name in self._left_out(now):
            return GalleryError(
                f"{name} was enrolled with another system than this one ({self.system[:12]}), and embeddings of two "
                f"systems are never compared: {REMEDY}"
            )
        return GalleryError(f"all voiceprints of {name} have expired; enroll {name} again")

    def _nobody_to_compare(self, left_out: tuple[str, ...]) -> GalleryError:
        if left_out:
            return GalleryError(
                f"all {len(left_out)} speakers in {self.store.location} were enrolled with other systems than "
                f"this one ({self.system[:12]}), and embeddings of two systems are never compared: {REMEDY}"
            )
        return GalleryError(
            f"nobody is enrolled in {self.store.location}, or all have expired; `xvectors enroll NAME a.wav` enrolls"
        )


def _why(matches: Sequence[Match], p_nobody: float) -> str:
    """Why it cannot be told who it is, by all matches and the probability of nobody enrolled."""
    if is_certain(1 - p_nobody, p_nobody) and len(matches) > 1:
        return f"somebody enrolled, but {matches[0].speaker} and {matches[1].speaker} are too much alike here"
    return f"no answer has a probability of {CERTAIN:.0%}"


def _repeated(known: Block, rows: Rows, seconds: NDArray[np.float64]) -> tuple[int, ...]:
    """New recordings whose embedding and seconds are those of one before, known or new."""
    vectors, lengths = [*known.embeddings], [*known.duration_s]
    repeated = []
    for at, (row, length) in enumerate(zip(rows, seconds, strict=True)):
        slack = SAME_EMBEDDING * np.linalg.norm(row)
        if any(
            abs(length - other_s) < SAME_S and np.linalg.norm(row - other) < slack
            for other, other_s in zip(vectors, lengths, strict=True)
        ):
            repeated.append(at)
        vectors.append(row)
        lengths.append(length)
    return tuple(repeated)
