"""Cost of a calibrated trial: scores alone, and LLRs that know durations, lengths of embeddings and conditions.

    python benchmarks/llr_cost.py [SYSTEM] [--trials 10000000] [--rounds 3] [--json FILE]

Random embeddings, durations and conditions of 5,000 recordings; the trials are made beforehand. The variants are
interleaved in each round; a ratio above 1 is that much faster than LLRs that know only the durations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from _timing import compare, parser, write_json
from xvectors.audio.condition import CONDITION_NAMES
from xvectors.backends import AffineCalibration
from xvectors.system import find_system
from xvectors.trials import Trials
from xvectors.verification import Verifier, verifier_of
from xvectors.verification.verifier import QUALITY_NAMES

RECORDINGS = 5_000


def by_durations(verifier: Verifier) -> Verifier:
    """The system as it would be without conditions and lengths of embeddings."""
    kept = verifier.calibration
    assert kept is not None, "the system is not calibrated"
    number = len(QUALITY_NAMES)
    few = AffineCalibration.from_dict({
        key: value[:number] if isinstance(value, list) and len(value) > number else value
        for key, value in kept.to_dict().items()
    })  # fmt: skip
    return replace(verifier, calibration=few, condition=None)


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("system", nargs="?", default="starter")
    options.add_argument("--trials", type=int, default=10_000_000)
    arguments = options.parse_args()
    verifier = verifier_of(find_system(arguments.system))
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((RECORDINGS, 128 if arguments.system == "starter" else 192), dtype=np.float32)
    duration_s = rng.uniform(1.0, 10.0, RECORDINGS)
    assert verifier.condition is not None, "the system knows no conditions"
    low, high = verifier.condition.low_, verifier.condition.high_
    condition = rng.uniform(low, high, (RECORDINGS, len(CONDITION_NAMES))).astype(np.float32)
    enroll, test = rng.integers(0, RECORDINGS, (2, arguments.trials), dtype=np.int32)
    trials = Trials(enroll=enroll, test=test, target=np.zeros(arguments.trials, dtype=np.bool_))

    def llrs(system: Verifier) -> Callable[[], object]:
        return lambda: system.trial_llrs(system.score(embeddings, trials), trials, embeddings, duration_s, condition)

    variants = {
        "scores alone": lambda: verifier.score(embeddings, trials),
        "LLRs by durations": llrs(by_durations(verifier)),
        "LLRs by durations, lengths": llrs(replace(verifier, condition=None)),
        "LLRs by all of them": llrs(verifier),
    }
    rows = compare(f"{arguments.trials:,} trials", variants, "LLRs by durations", arguments.rounds)
    write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
