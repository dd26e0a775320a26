"""Trial lists made from a corpus, or from saved embeddings. In: who speaks in which recording. Out: a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xvectors.corpus import open_corpus
from xvectors.embeddings import are_embeddings, load_embeddings
from xvectors.errors import ManifestError
from xvectors.trials import Trials, count_pairs, sample_trials, write_trials
from xvectors.trials.sampling import Relation

MOST_PAIRS = 50_000_000
"""All pairs, of which a list of some gigabytes is made."""


def make_trials(
    source: str | Path,
    out: str | Path,
    *,
    metadata: str | Path | None = None,
    speaker_level: int | None = None,
    per_speaker: int | None = None,
    nontarget_gender: Relation = "any",
    target_session: Relation = "any",
    seed: int = 0,
    form: str = "csv",
) -> Trials:
    """Write trials of all pairs of recordings, or of `per_speaker` target and as many non-target ones a speaker.

    `source` is a corpus, or embeddings that `xvectors embed` wrote, which know no sessions. The switches are those of
    `sample_trials`, the forms those of `write_trials`.

    Raises
    ------
    CheckpointError
        Missing or damaged embeddings.
    ManifestError
        A corpus that cannot be read, a column that a switch needs, no trials of a kind, more than 50 million pairs.
    ConfigError
        An unknown relation or form, `per_speaker` below 1.
    """
    names: Sequence[str]
    if are_embeddings(Path(source)):
        if target_session != "any":
            raise ManifestError(f"{source} does not say which recordings are of one session; name the corpus instead")
        arrays = load_embeddings(Path(source), "id", "speaker", "gender")
        names, speakers, genders, sessions = arrays["id"].tolist(), arrays["speaker"], arrays["gender"], None
    else:
        manifest = open_corpus(source, metadata=metadata, speaker_level=speaker_level)
        names, speakers, genders = list(manifest.id), np.asarray(manifest.speaker_index), manifest.gender
        sessions = manifest.session_index if manifest.sessions else None
    if per_speaker is None and (pairs := sum(count_pairs(speakers))) > MOST_PAIRS:
        raise ManifestError(
            f"{source}: {len(names):,} recordings make {pairs:,} pairs, more than {MOST_PAIRS:,}; give --per-speaker N"
        )
    trials = sample_trials(
        speakers,
        per_speaker=per_speaker,
        gender=genders,
        session=sessions,
        nontarget_gender=nontarget_gender,
        target_session=target_session,
        seed=seed,
    )
    write_trials(out, trials, names, form=form)
    return trials
