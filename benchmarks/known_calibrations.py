"""The calibrations that the package ships, on speakers whom they were not learned from.

    python benchmarks/known_calibrations.py exp/known/measure.csv --systems exp/campplus exp/resemblyzer starter

The list is one of tools/make_known_calibrations.py. Trials are all pairs of recordings within a domain, for each of
them and for all together. Embeddings are kept beside the list, in a file named by the system's fingerprint. With
--identify DOMAIN, every second speaker of it is enrolled from three recordings; the other recordings of these, and all
of the others, are identified.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from _timing import Row, write_json
from xvectors import SpeakerEncoder, open_corpus
from xvectors.corpus import scan
from xvectors.gallery import open_gallery
from xvectors.metrics import ROC
from xvectors.training.calibrate import embed_with_crops
from xvectors.verification import Basis
from xvectors.verification.calibration_set import all_trials, some_recordings

P_TARGET = 0.01
ENROLLED = 3
"""Recordings that a speaker is enrolled from."""


def embedded(encoder: SpeakerEncoder, list_: Path) -> Basis:
    """Recordings of the list and crops of them, from an earlier run if there was one."""
    path = list_.with_name(f"{list_.stem}-{encoder.fingerprint[:12]}.npz")
    if not path.is_file():
        shortest_s = encoder.fbank.samples_for(encoder.model.context_frames) / encoder.sample_rate_hz
        basis = embed_with_crops(encoder, scan(open_corpus(list_)).manifest, shortest_s)
        assert basis.domain is not None, f"{list_} has no column `domain`"
        np.savez(path, **basis.arrays())
    with np.load(path) as arrays:
        return Basis(**arrays)


def measure(encoder: SpeakerEncoder, basis: Basis) -> Row:
    verifier, trials = encoder.verifier, all_trials(basis)
    scores = verifier.score(basis.embeddings, trials)
    llrs = verifier.trial_llrs(scores, trials, basis.embeddings, basis.duration_s, basis.condition)
    roc = ROC.from_scores(llrs[trials.target], llrs[~trials.target])
    false_rejections, false_acceptances = roc.rates_at(verifier.threshold)
    return {
        "num_speakers": len(np.unique(basis.speakers)),
        "num_target": trials.num_target,
        "num_nontarget": trials.num_nontarget,
        "eer": roc.eer().eer,
        "min_dcf": roc.min_dcf(P_TARGET).min_dcf,
        "actual_dcf": roc.actual_dcf(P_TARGET),
        "cllr": roc.cllr(),
        "min_cllr": roc.min_cllr(),
        "false_rejections": false_rejections,
        "false_acceptances": false_acceptances,
    }


def identify(encoder: SpeakerEncoder, whole: Basis) -> str:
    """Say how often recordings of enrolled speakers and of strangers are given a name."""
    speakers = np.unique(whole.speakers)
    enrolled = speakers[::2]
    first = np.zeros(len(whole.speakers), dtype=bool)
    counts = {"right": 0, "wrong": 0, "none": 0, "strangers named": 0}
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_gallery(Path(scratch, "gallery.sqlite"), system=encoder, create=True) as gallery,
    ):
        for speaker in enrolled.tolist():
            rows = np.flatnonzero(whole.speakers == speaker)[:ENROLLED]
            first[rows] = True
            gallery.enroll(speaker, whole.embeddings[rows], whole.duration_s[rows].tolist())
        for row in np.flatnonzero(~first).tolist():
            named = gallery.identify(whole.embeddings[row], float(whole.duration_s[row])).speaker
            if whole.speakers[row] not in enrolled:
                counts["strangers named"] += named is not None
            else:
                counts["none" if named is None else "right" if named == whole.speakers[row] else "wrong"] += 1
    num_strangers = int(np.count_nonzero(~np.isin(whole.speakers, enrolled)))
    known = counts["right"] + counts["wrong"] + counts["none"]
    return (
        f"{len(enrolled)} enrolled, {known} recordings of them: {counts['right']} right, {counts['wrong']} wrong, "
        f"{counts['none']} without a name; {counts['strangers named']} of {num_strangers} of strangers named"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("list", type=Path, help="a manifest with the column `domain`")
    options.add_argument("--systems", nargs="+", required=True, metavar="DIR", help="system directories, or starter")
    options.add_argument("--identify", metavar="DOMAIN", help="enroll and identify speakers of this domain too")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    rows: list[Row] = []
    columns = ("eer", "min_dcf", "actual_dcf", "cllr", "min_cllr", "false_rejections", "false_acceptances")
    print(f"{'system':18}{'trials':34}", *(f"{name:>18}" for name in columns))
    for system in arguments.systems:
        encoder = SpeakerEncoder.from_pretrained(system)
        basis = embedded(encoder, arguments.list)
        assert basis.domain is not None
        whole = basis.take(basis.whole)
        parts = {"all, whole": whole, "all, crops too": some_recordings(basis, 0)}
        parts |= {name: whole.take(whole.domain == name) for name in np.unique(basis.domain).tolist()}
        for name, part in parts.items():
            rows.append({"system": system, "trials": name} | measure(encoder, part))
            print(f"{Path(system).name:18}{name:34}", *(f"{rows[-1][column]:18.4f}" for column in columns), flush=True)
        if arguments.identify is not None:
            print(
                f"{Path(system).name:18}{identify(encoder, whole.take(whole.domain == arguments.identify))}", flush=True
            )
    write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
