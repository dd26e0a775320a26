"""LLRs of other speakers under made shifts: without regard to the condition, with it, and with the shift left out.

    python benchmarks/shifts.py exp/campplus --learn exp/known/learn.csv --measure exp/known/measure.csv

The lists are those of tools/make_known_calibrations.py, and SYSTEM is calibrated on the first, with conditions. Trials
of the second are between recordings as they are, between copies under one shift (both), and between originals and
copies (one). `left out` is a calibration for conditions that was learned without the shift and those like it: a
telephone without any telephone, a raised voice without moods. Wrong is the share of the answers (probability at least
80 %) to trials of the same speaker, and of different speakers, that are wrong.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _timing import Row, write_json
from xvectors import SpeakerEncoder, open_corpus
from xvectors.corpus import scan
from xvectors.metrics import ROC
from xvectors.training.calibrate import embed_with_crops
from xvectors.training.shifted import embed_shifted
from xvectors.trials import Trials
from xvectors.verification import Basis, Verifier
from xvectors.verification.calibration_set import Shifted, shift_trials
from xvectors.verification.conditions import learn_condition
from xvectors.verification.decision import MIN_PROBABILITY

ALIKE = (("landline", "mobile", "calls"), ("raised voice", "moods"))


def heard(encoder: SpeakerEncoder, list_: Path) -> tuple[Basis, Shifted]:
    """The recordings of a list as they are, and copies of some of them; kept beside the list."""
    path = list_.with_name(f"{list_.stem}-shifted-{encoder.fingerprint[:12]}.npz")
    if not path.is_file():
        shortest_s = encoder.fbank.samples_for(encoder.model.context_frames) / encoder.sample_rate_hz
        manifest = scan(open_corpus(list_)).manifest
        basis = embed_with_crops(encoder, manifest, shortest_s)
        whole = basis.take(basis.whole)
        shifted = embed_shifted(encoder, manifest, whole, progress=True)
        assert shifted is not None, f"{list_} has too few speakers"
        copies = {f"copy_{key}": value for key, value in shifted.basis.arrays().items()}
        np.savez(path, shift=shifted.shift, **whole.arrays(), **copies)
    with np.load(path) as arrays:
        own = {key: arrays[key] for key in arrays.files if key != "shift" and not key.startswith("copy_")}
        copied = {key.removeprefix("copy_"): arrays[key] for key in arrays.files if key.startswith("copy_")}
        return Basis(**own), Shifted(basis=Basis(**copied), shift=arrays["shift"])


def figures(llrs: NDArray[np.float64], target: NDArray[np.bool_]) -> Row:
    roc = ROC.from_scores(llrs[target], llrs[~target])
    margin = np.log(MIN_PROBABILITY / (1 - MIN_PROBABILITY))
    answered = np.abs(llrs) >= margin
    wrong = [
        float((answered & kind & ((llrs > 0) != said)).sum() / max(1, (answered & kind).sum()))
        for kind, said in ((target, True), (~target, False))
    ]
    return {
        "eer": roc.eer().eer,
        "cllr": roc.cllr(),
        "min_cllr": roc.min_cllr(),
        "answered": float(np.mean([answered[target].mean(), answered[~target].mean()])),
        "wrong_same": wrong[0],
        "wrong_different": wrong[1],
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("system")
    options.add_argument("--learn", type=Path, required=True, help="the list that the system was calibrated on")
    options.add_argument("--measure", type=Path, required=True, help="a list of other speakers")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    encoder = SpeakerEncoder.from_pretrained(arguments.system)
    assert encoder.verifier.condition is not None, f"{arguments.system} is calibrated without conditions"
    unaware = replace(encoder.verifier, condition=None, bounds=None)
    learned, test = heard(encoder, arguments.learn), heard(encoder, arguments.measure)
    left_out: dict[tuple[str, ...], Verifier] = {}
    rows: list[Row] = []
    header = ("EER", "Cllr", "at best", "answered", "wrong: same", "different")
    print(f"{'':<34} {'LLRs':<10}" + "".join(f"{name:>13}" for name in header))
    groups = list(shift_trials(*test, np.random.default_rng(0)))
    for shift, paired in dict.fromkeys((group.shift, group.paired) for group in groups):
        same = next((kinds for kinds in ALIKE if shift in kinds), (shift,))
        if same not in left_out:
            others = learned[1].take(~np.isin(learned[1].shift, same))
            fitted, _ = learn_condition(unaware, learned[0], others)
            left_out[same] = replace(unaware, condition=fitted, bounds=encoder.verifier.bounds)
        contenders = {"unaware": unaware, "aware": encoder.verifier, "left out": left_out[same]}
        alike = [group for group in groups if (group.shift, group.paired) == (shift, paired)]
        trials = Trials(
            enroll=np.concatenate([one.enroll for one in alike]),
            test=np.concatenate([one.test for one in alike]),
            target=np.concatenate([one.target for one in alike]),
        )
        own, copied = test[0], test[1].basis
        assert own.condition is not None
        assert copied.condition is not None
        embeddings = np.concatenate([own.embeddings, copied.embeddings])
        seconds = np.concatenate([own.duration_s, copied.duration_s])
        measures = np.concatenate([own.condition, copied.condition])
        scores = unaware.score(embeddings, trials)
        for name, verifier in contenders.items():
            row = {"shift": shift, "paired": paired, "llrs": name}
            row |= figures(verifier.trial_llrs(scores, trials, embeddings, seconds, measures), trials.target)
            rows.append(row)
            print(
                f"{shift + ', ' + paired:<34} {name:<10}{row['eer']:>13.1%}{row['cllr']:>13.2f}{row['min_cllr']:>13.2f}"
                f"{row['answered']:>13.0%}{row['wrong_same']:>13.1%}{row['wrong_different']:>13.1%}",
                flush=True,
            )
    write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
