"""Learn back-end and calibration of a published model that the package ships them for.

`python tools/make_known_calibrations.py campplus_cn_en_common.pt --data shared/data` divides the speakers of five
corpora by a hash of their names: two thirds may be learned from, and the others are measure.csv, on whom the result is
measured (docs/explanation/results.md has the commands). Of the first, learn.csv has equally many of each corpus, as far
as there are. The model is imported and calibrated on learn.csv as `xvectors calibrate --data` does it, with trials
within a corpus only. The result is written without names of speakers to src/xvectors/system/importers/known, beside the
card.toml of the model's file, which is written by hand.

With --transfer nothing is shipped: each back-end is learned without one of the corpora and measured on that one, with
learn.csv alone. The shipped ones have the least mean Cllr there: cosine for CAM++, cosine_centered for Resemblyzer.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from xvectors import SpeakerEncoder, open_corpus
from xvectors.audio import probe
from xvectors.config import parse_toml
from xvectors.corpus import scan
from xvectors.files import digest
from xvectors.metrics import ROC
from xvectors.system import SystemFolder
from xvectors.system.importers import import_model
from xvectors.system.importers.known import DIGITS, KNOWN, bound_to
from xvectors.training.calibrate import calibrate, embed_with_crops
from xvectors.verification import Basis, Verifier, save_verifier
from xvectors.verification.calibration_set import all_trials, some_recordings
from xvectors.verification.fingerprint import embedding_settings
from xvectors.verification.learning import CANDIDATES
from xvectors.verification.own_speakers import learn_from_own

CORPORA = ("speechocean762", "librispeech-dev-clean", "alphanumeric-accents", "arabic-speech-commands", "dspspeech20")
"""Corpora of DATA that may be learned from, for any use."""
LEARNED, MEASURED = 5, 10
"""The largest number of recordings of a speaker in the two lists."""
SPEAKERS = 24
"""The largest number of speakers of a corpus in learn.csv, so that none outweighs the others."""
COLUMNS = ("id", "path", "speaker", "domain", "gender", "session", "duration_s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="the published file")
    parser.add_argument("--data", type=Path, required=True, help="folder with the corpora")
    parser.add_argument("--work", type=Path, default=Path("exp/known"), help="where to put the lists and the system")
    parser.add_argument("-o", "--output", type=Path, default=KNOWN, help="where the calibrations lie")
    parser.add_argument("--backend", default="cosine", choices=("cosine", "cosine_centered"))
    parser.add_argument("--transfer", action="store_true", help="compare the back-ends on corpora left out")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    learn = write_lists(arguments.data, arguments.work)
    sha256 = digest(arguments.model)
    system = SystemFolder(arguments.work / sha256[:12])
    if not system.description.is_file():
        import_model(arguments.model, system.path)
    if arguments.transfer:
        transfer(system, learn)
        return
    verifier = calibrate(system.path, data=learn, backend=arguments.backend, progress=True)
    ship(verifier, system, sha256, arguments.output / sha256[:DIGITS])


def write_lists(data: Path, work: Path) -> Path:
    """Write learn.csv, measure.csv, its trials within a corpus, and a measure-CORPUS.csv for each; return the first."""
    learned, measured = [], []
    for name in CORPORA:
        corpus = open_corpus(data / name)
        rows = defaultdict(list)
        for index in range(len(corpus)):
            row = corpus.row(index)
            rows[row.speaker].append({
                "id": f"{name}/{row.speaker}/{row.path.stem}",
                "path": row.path.resolve(),
                "speaker": f"{name}/{row.speaker}",
                "domain": name,
                "gender": {0: "m", 1: "f"}.get(row.gender, ""),
                "session": row.session or "",
                "duration_s": f"{probe(row.path).duration_s:.3f}",
            })  # fmt: skip
        by_hash = sorted(rows, key=lambda speaker: hash_of(f"{name}/{speaker}"))
        drawn = {
            speaker: sorted(rows[speaker], key=lambda row: hash_of(f"{name}/{Path(row['path']).name}"))
            for speaker in by_hash
        }
        may_learn = [speaker for speaker in by_hash if hash_of(f"{name}/{speaker}") % 3]
        learned += [row for speaker in may_learn[:SPEAKERS] for row in drawn[speaker][:LEARNED]]
        others = sorted(set(by_hash) - set(may_learn))
        measured += [row for speaker in others for row in drawn[speaker][:MEASURED]]
    lists = {"learn": learned, "measure": measured}
    lists |= {f"measure-{name}": [row for row in measured if row["domain"] == name] for name in CORPORA}
    for name, rows_of_list in lists.items():
        with (work / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows_of_list)
        speakers = len({row["speaker"] for row in rows_of_list})
        print(f"{name}.csv: {speakers} speakers, {len(rows_of_list)} recordings")
    with (work / "measure-trials.csv").open("w", encoding="utf-8") as file:
        file.write("enroll,test,target\n")
        for left, right in itertools.combinations(measured, 2):
            if left["domain"] == right["domain"]:
                file.write(f"{left['id']},{right['id']},{int(left['speaker'] == right['speaker'])}\n")
    return work / "learn.csv"


def hash_of(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16)


def ship(verifier: Verifier, system: SystemFolder, sha256: str, folder: Path) -> None:
    """Write back-end and calibration without the names of speakers and files."""
    assert verifier.backend.normalizer is None, "the speakers of a cohort have names"
    facts = {**verifier.basis, "source": f"speakers of {', '.join(CORPORA)}"}
    facts["num_fitted_speakers"] = len(facts.pop("fitted_speakers"))
    for key in ("speakers", "left_out_as_two_voices"):
        facts.pop(key, None)
    nameless, shipped = replace(verifier, basis=facts), SystemFolder(folder)
    table = parse_toml(system.description.read_text(encoding="utf-8"), str(system.description))
    bound = bound_to(embedding_settings(table, str(system.description)), sha256)
    save_verifier(nameless, backend=shipped.backend, calibration=shipped.calibration, fingerprint=bound)
    size = sum(path.stat().st_size for path in (shipped.backend, shipped.calibration))
    print(f"{folder}: {verifier.name}, {size / 1e3:.0f} KB")


def transfer(system: SystemFolder, learn: Path) -> None:
    """Print EER, Cllr and its minimum on each corpus, by back-ends that were learned on the four others."""
    encoder = SpeakerEncoder.from_pretrained(system.path)
    basis = cached(system, encoder, learn)
    print(f"{'left out':24}{'back-end':18}{'EER':>8}{'Cllr':>8}{'minCllr':>9}   whole recordings: EER, Cllr, minCllr")
    for name in CORPORA:
        assert basis.domain is not None
        others, left_out = basis.take(basis.domain != name), basis.take(basis.domain == name)
        for backend in CANDIDATES:
            verifier = learn_from_own(others, backend_name=backend)
            line = f"{name:24}{backend:18}"
            for tested in (some_recordings(left_out, 0), left_out.take(left_out.whole)):
                trials = all_trials(tested)
                scores = verifier.score(tested.embeddings, trials)
                llrs = verifier.trial_llrs(scores, trials, tested.embeddings, tested.duration_s, tested.condition)
                roc = ROC.from_scores(llrs[trials.target], llrs[~trials.target])
                line += f"{100 * roc.eer().eer:7.2f}%{roc.cllr():8.3f}{roc.min_cllr():9.3f}   "
            print(line, flush=True)


def cached(system: SystemFolder, encoder: SpeakerEncoder, learn: Path) -> Basis:
    """The embeddings of learn.csv, whole and cropped, from a file beside the system if they were computed before."""
    path = system.path / "learn.npz"
    if not path.is_file():
        manifest = scan(open_corpus(learn)).manifest
        shortest_s = encoder.fbank.samples_for(encoder.model.context_frames) / encoder.sample_rate_hz
        basis = embed_with_crops(encoder, manifest, shortest_s, progress=True)
        np.savez(path, **basis.arrays())
    with np.load(path) as arrays:
        return Basis(**arrays)


if __name__ == "__main__":
    main()
