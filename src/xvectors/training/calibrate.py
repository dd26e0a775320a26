"""Calibrate a trained system: write backend.npz and calibration.toml to its directory.

The back-end is fitted on training speakers, and selected and calibrated on other speakers, with whole recordings and
crops.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.backends import PLDA, Backend, make_backend
from xvectors.backends.adaptation import ADAPT_BY, check_adaptation
from xvectors.corpus import TEST, TRAIN, VAL, Manifest, open_corpus, scan
from xvectors.encoder import SpeakerEncoder
from xvectors.encoder.results import known_durations
from xvectors.errors import CheckpointError, ConfigError, ManifestError
from xvectors.files import exclusive
from xvectors.metrics import bayes_threshold
from xvectors.system import SystemFolder, find_system
from xvectors.system.hub import is_on_hub
from xvectors.text import agree, count, first_few
from xvectors.training.cohort import Cohort, check_cohort_used
from xvectors.training.shifted import embed_shifted
from xvectors.training.unlabeled import open_unlabeled
from xvectors.trials import sample_recordings
from xvectors.verification import CROP_DURATIONS_S, Basis, Verifier, learn_verifier, save_verifier, verifier_of
from xvectors.verification.calibration_set import Shifted
from xvectors.verification.conditions import with_condition
from xvectors.verification.decision import MIN_SPEECH_S
from xvectors.verification.label_check import find_two_voices
from xvectors.verification.learning import FEW_SPEAKERS, few_speakers_warning
from xvectors.verification.new_domain import Adaptation
from xvectors.verification.own_speakers import learn_from_own
from xvectors.verification.verifier import IMPORTED, P_TARGET

logger = logging.getLogger(__name__)

MIN_SPEAKERS = 3
"""Least number of held-out speakers with two recordings; two speakers would give one pair of voices."""
MAX_TWO_VOICES = 0.2
"""Largest share of speakers to leave out because two people seem to share their label."""


def calibrate(
    folder: str | Path,
    *,
    data: str | Path | None = None,
    metadata: str | Path | None = None,
    speaker_level: int | None = None,
    backend: str | None = None,
    cohort: str | Path | None = None,
    adapt_to: str | Path | None = None,
    adapt_by: str = ADAPT_BY,
    p_target: float = P_TARGET,
    device: str = "auto",
    seed: int = 0,
    progress: bool = False,
) -> Verifier:
    """Select the back-end of a system, or use the one named, calibrate it, and write both to the system directory.

    Without `data`, the calibration set are the speakers held out from training or, if these are fewer than 3, the
    validation recordings of training speakers, with a warning, because scores of known voices are too good. With `data`
    it is that corpus (see `open_corpus` for `metadata` and `speaker_level`); where the training corpus is not at hand,
    as for imported models, half of its speakers also fit the back-ends and are the cohort (see `learn_from_own`).
    The PLDA that came with an imported model is kept, unless another back-end is named, and is calibrated on all
    speakers; a mean that came with one is kept only with the name "imported".
    Labels that two people seem to share are left out, with a warning. Where a manifest has the column `domain`, such as
    the corpus that a recording is from, trials are between recordings of one domain. `p_target` is the prior at which
    the calibration is fitted and the system decides.

    Parameters
    ----------
    cohort
        Embeddings of impostors by this system, as `save_embeddings` writes them, for score normalization by the mean
        of each speaker. Default: the training speakers.
    adapt_to, adapt_by
        Unlabeled recordings of the domain that the system is used in: a folder, a manifest (which needs no speakers),
        or embeddings by this system. Every back-end and its calibration are adapted to them (see
        `verification.new_domain`), and PLDA also by "coral_plus", "coral" or "kaldi" if they are more than it has
        dimensions. What has changed is in `basis["adapted_to"]`.

    Raises
    ------
    CheckpointError
        If `folder` is not a system, or a file does not hold embeddings of it.
    ManifestError, ShapeError
        For too few speakers or recordings, scores that do not separate speakers, and a cohort without speaker names.
    ConfigError
        For an unknown `backend` or method, a back-end that does not use the cohort, and a prior outside (0, 1).
    """
    paths = find_system(Path(folder))
    if paths.path != Path(folder):
        owner = "hub's cache" if is_on_hub(folder) else "package"
        raise CheckpointError(f"the {folder} system belongs to the {owner}; copy its folder and calibrate the copy")
    # check the options now, not after minutes
    check_adaptation(adapt_by)
    imported = _imported_backend(paths, backend)
    if imported is not None or backend is not None:
        check_cohort_used(backend or IMPORTED, imported or make_backend(str(backend)), cohort)
    bayes_threshold(p_target)
    encoder = SpeakerEncoder.from_pretrained(folder, device=device)
    with exclusive(paths.lock, of=str(paths.path)):
        shortest_s = encoder.fbank.samples_for(encoder.model.context_frames) / encoder.sample_rate_hz
        given = Cohort.read(cohort, encoder.embedding_dim)
        unlabeled = None if adapt_to is None else open_unlabeled(adapt_to, encoder, progress=progress)
        if data is None:
            manifest, held_out = _held_out(paths, encoder)
            source = "held-out speakers" if held_out else "validation recordings of trained speakers"
        else:
            manifest = scan(
                open_corpus(data, metadata=metadata, speaker_level=speaker_level),
                min_duration_s=shortest_s,
                max_rejected=encoder.recipe.data.max_rejected,
                progress=progress,
            ).manifest
            known = sorted(set(manifest.speakers) & set(encoder.speakers))
            held_out, source = not known, f"speakers of {data}"
            if known:
                logger.warning(
                    "%d of the %s of %s %s trained on (%s): if they are the same people, the LLRs of others will be "
                    "too confident",
                    len(known),
                    count(len(manifest.speakers), "speaker"),
                    data,
                    agree(len(known), "bears a name that was", "bear names that were"),
                    first_few(known),
                )
        if not held_out and backend != "cosine" and (backend is not None or given.facts):
            named = f"back-end {backend}" if backend is not None else "a back-end to normalize"
            raise ManifestError(
                f"{named} would be fitted on the speakers that it is calibrated on, whom the network knows; "
                "hold others out with data.held_out_prop, or name a corpus of other speakers with --data"
            )
        basis = embed_with_crops(encoder, manifest, shortest_s, seed=seed, progress=progress)
        basis, two_voices = _of_one_voice_each(basis, manifest, seed)
        shifted = embed_shifted(encoder, manifest, basis, seed=seed, progress=progress)
        # training speakers cannot judge a back-end fitted on them
        training = training_embeddings(paths, encoder, seed=seed, progress=progress) if held_out else None
        adaptation, plain = None, None
        if unlabeled is not None:
            plain = _learn(
                basis, shifted, training, copy.deepcopy(imported), backend, given.complete, held_out, p_target, seed
            )
            adaptation = Adaptation.to(unlabeled.new, basis, by=adapt_by, keep_cohort=cohort is not None)
            if shifted is not None:
                shifted = replace(shifted, basis=adaptation.moved(shifted.basis, like=basis))
            basis = adaptation.moved(basis)
            training = None if training is None else adaptation.moved_training(training)
            if imported is not None:
                adaptation.recenter(imported)
        learned = _learn(basis, shifted, training, imported, backend, given.then(adaptation), held_out, p_target, seed)
        check_cohort_used(learned.name, learned.backend, cohort)
        if cohort is not None:
            learned.backend.warn_of_overlap(manifest.speakers, "calibration")
            learned.backend.warn_of_overlap(_test_speakers(paths))
        longest_s = float(known_durations(manifest).max())
        crops = [length for length in CROP_DURATIONS_S if shortest_s <= length < longest_s]
        facts = {**learned.basis, "source": source, "held_out": held_out, "crop_durations_s": crops, **given.facts}
        facts["num_across_sessions"] = basis.num_across_sessions
        if basis.domain is not None:
            facts["domains"] = np.unique(basis.domain).tolist()
        if adaptation is not None and plain is not None and unlabeled is not None:
            typical_s = float(np.median(basis.duration_s[basis.whole]))
            facts["adapted_to"] = {
                "file": Path(str(adapt_to)).name,
                "num_listed": unlabeled.num_listed,
                **adaptation.record(plain, learned, typical_s),
            }
        if two_voices:
            facts["left_out_as_two_voices"] = two_voices
        verifier = with_condition(replace(learned, basis=facts), basis, shifted, seed=seed)
        num_speakers = int(facts["num_speakers"])
        if held_out and num_speakers < FEW_SPEAKERS:
            logger.warning("%s", few_speakers_warning(num_speakers))
        save_verifier(verifier, backend=paths.backend, calibration=paths.calibration, fingerprint=encoder.fingerprint)
        return verifier


def _learn(
    basis: Basis,
    shifted: Shifted | None,
    training: tuple[NDArray[np.float32], NDArray[np.str_]] | None,
    imported: Backend | None,
    backend: str | None,
    complete: Callable[[Backend], object],
    held_out: bool,
    p_target: float,
    seed: int,
) -> Verifier:
    if imported is not None:
        return learn_verifier(basis, fitted=imported, complete=complete, p_target=p_target, seed=seed)
    if training is None and held_out:
        # an imported system, or one without its corpus: these speakers fit the back-end too
        return learn_from_own(
            basis, shifted=shifted, backend_name=backend, complete=complete, p_target=p_target, seed=seed
        )
    return learn_verifier(
        basis, training, shifted=shifted, backend_name=backend, complete=complete, p_target=p_target, seed=seed
    )


def _imported_backend(paths: SystemFolder, backend: str | None) -> Backend | None:
    """Return the back-end that came with an imported model, unless it has none, or another is named or better.

    A mean alone is better learned from the recordings at hand, so it is only kept if it is named.
    """
    if backend not in (None, IMPORTED):
        return None
    try:
        verifier = verifier_of(paths)
    except CheckpointError:
        if backend == IMPORTED:
            raise
        return None  # a damaged or stale calibration is learned again
    if verifier.name == IMPORTED:
        return verifier.backend if backend == IMPORTED or isinstance(verifier.backend.scorer, PLDA) else None
    if backend == IMPORTED:
        raise ConfigError(f"{paths.path} has no back-end that came with an imported model; leave --backend out")
    return None


def _test_speakers(paths: SystemFolder) -> list[str]:
    """Return the test speakers of the corpus of the system; empty if it is not available."""
    if not paths.corpus.is_file():
        return []
    corpus = Manifest.read_csv(paths.corpus)
    return list(corpus.take(np.flatnonzero(corpus.split == TEST)).speakers)


def _of_one_voice_each(basis: Basis, manifest: Manifest, seed: int) -> tuple[Basis, list[str]]:
    """Drop the labels that two people seem to share, and return the rest and these labels.

    One such label among ten makes all LLRs too weak. If there are many, differing devices or rooms are more likely,
    which are part of the domain; then none are dropped.
    """
    whole = np.flatnonzero(basis.whole)
    found = find_two_voices(basis.embeddings[whole], basis.speakers[whole], seed=seed)
    if not found:
        return basis, []
    names = [manifest.id[row] for row in basis.recording[whole].tolist()]
    num_speakers = len(np.unique(basis.speakers))
    if len(found) > MAX_TWO_VOICES * num_speakers or num_speakers - len(found) < MIN_SPEAKERS:
        logger.warning(
            "%d of the %s to calibrate on %s, perhaps for two devices or rooms, and %s kept; the clearest: %s",
            len(found),
            count(num_speakers, "speaker"),
            agree(len(found), "sounds like two people", "sound like two people each"),
            agree(len(found), "is", "are"),
            found[0].sentence(names),
        )
        return basis, []
    for one in found:
        logger.warning("left out of the calibration: %s; listen, and correct the labels", one.sentence(names))
    speakers = sorted(one.speaker for one in found)
    return basis.take(~np.isin(basis.speakers, speakers)), speakers


def _held_out(paths: SystemFolder, encoder: SpeakerEncoder) -> tuple[Manifest, bool]:
    """Return recordings of held-out speakers and True, or validation recordings of training speakers and False."""
    if not paths.corpus.is_file():
        raise ManifestError(f"{paths.path} came without its corpus; name one to calibrate on with --data")
    corpus = Manifest.read_csv(paths.corpus)
    trained = np.isin(np.array(corpus.speakers), encoder.speakers)[corpus.speaker_index]
    validation = corpus.split == VAL
    rows = np.flatnonzero(validation & ~trained)
    repeated = int(np.count_nonzero(np.bincount(corpus.speaker_index[rows]) >= 2)) if len(rows) else 0
    if repeated >= MIN_SPEAKERS:
        return corpus.take(rows), True
    rows = np.flatnonzero(validation & trained)
    if not len(rows):
        raise ManifestError(
            f"{paths.corpus} holds out {count(repeated, 'speaker')} with two recordings, and keeps no recordings for "
            "validation; hold out speakers with data.held_out_prop, or name a corpus with --data"
        )
    logger.warning(
        "calibrating on validation recordings of trained speakers, because training held out %s with two "
        "recordings and at least %d are needed: the LLRs of other speakers will be too confident; hold out more with "
        "data.held_out_prop, or name a corpus of other speakers with `xvectors calibrate --data`",
        count(repeated, "speaker"),
        MIN_SPEAKERS,
    )
    return corpus.take(rows), False


def training_embeddings(
    paths: SystemFolder, encoder: SpeakerEncoder, *, seed: int = 0, progress: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.str_]] | None:
    """Embed some training recordings of each speaker. Returns embeddings and speakers; None if not available."""
    if not paths.corpus.is_file():
        return None
    corpus = Manifest.read_csv(paths.corpus)
    trained = corpus.take(np.flatnonzero(corpus.split == TRAIN))
    some = trained.take(sample_recordings(trained.speaker_index, seed=seed))
    embedded = encoder.encode_manifest(some, progress=progress)
    if embedded.failures:
        logger.warning(
            "%d of %d training recordings for fitting back-ends cannot be used any more, such as %s",
            len(embedded.failures),
            len(some),
            embedded.failures[0][1],
        )
    if not len(embedded.rows):
        return None
    return embedded.embeddings, np.array(some.speakers, dtype=np.str_)[some.speaker_index[embedded.rows]]


def embed_with_crops(
    encoder: SpeakerEncoder, manifest: Manifest, shortest_s: float, *, seed: int = 0, progress: bool = False
) -> Basis:
    """Embed every recording whole and, if it is longer, crops of `CROP_DURATIONS_S` at positions drawn by `seed`.

    The preprocessing is that of `verify`: durations count speech, and recordings with too little of it are left out.
    There are no crops shorter than `shortest_s`, the context of the network. Recordings that cannot be embedded are
    left out, with a warning.
    """
    manifest = manifest.with_columns(duration_s=known_durations(manifest))
    rng = np.random.default_rng(seed)
    rows, starts, lengths = [np.arange(len(manifest))], [manifest.start_s], [manifest.duration_s]
    for length in CROP_DURATIONS_S:
        # drawn for every row, so that positions do not depend on the lengths of other recordings
        places = rng.random(len(manifest))
        room = manifest.duration_s - length
        longer = np.flatnonzero((room > 0) & (length >= shortest_s))
        rows.append(longer)
        starts.append(manifest.start_s[longer] + places[longer] * room[longer])
        lengths.append(np.full(len(longer), length))
    of_row, duration_s = np.concatenate(rows), np.concatenate(lengths)
    segments = manifest.take(of_row).with_columns(start_s=np.concatenate(starts), duration_s=duration_s)
    embedded = encoder.encode_manifest(segments, progress=progress)
    for _, reason in embedded.failures:
        logger.warning("left out: %s", reason)
    if not len(embedded.rows):
        raise ManifestError("none of the recordings to calibrate on could be embedded; see the warnings above")
    enough = embedded.speech_s >= MIN_SPEECH_S
    whole = embedded.rows < len(manifest)
    if not (whole & enough).any():
        raise ManifestError("no speech was found in the recordings to calibrate on; give recordings of speech")
    if unheard := int(np.count_nonzero(whole & ~enough)):
        logger.warning(
            "left out: %d of %s %s less than %.1f s of speech",
            unheard,
            count(int(np.count_nonzero(whole)), "recording"),
            agree(unheard, "holds", "hold"),
            MIN_SPEECH_S,
        )
    names = np.array(manifest.speakers, dtype=np.str_)
    at = embedded.rows[enough]
    domain = manifest.extra.get("domain")
    session = np.array([*manifest.sessions, ""], dtype=np.str_)[manifest.session_index]  # -1, unknown, is the last
    return Basis(
        embeddings=embedded.embeddings[enough],
        speakers=names[manifest.speaker_index[of_row[at]]],
        recording=of_row[at],
        duration_s=embedded.speech_s[enough],
        whole=whole[enough],
        domain=None if domain is None else np.array([domain[row] for row in of_row[at].tolist()], dtype=np.str_),
        session=session[of_row[at]] if manifest.sessions else None,
        condition=embedded.condition[enough],
    )
