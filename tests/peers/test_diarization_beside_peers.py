"""DER beside pyannote.metrics and spy-der, on random turns with overlap, collars and regions.

pyannote's collar is the total width of what is left out, ours and spy-der's is each side of it. spy-der maps speakers
before it leaves out collars, as md-eval does, so that its confusion may be greater, and counts no false alarms where
the reference is silent throughout. meeteval runs md-eval-22.pl, which its package does not contain.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from support.peers import run_peer
from xvectors.metrics import Scoring, SpeakerTurns, diarization_errors
from xvectors.metrics.diarization import SCORINGS

pytestmark = pytest.mark.peers

PANDAS = ("pyannote.metrics", "pyannote.core", "pyannote.database", "pandas")
PYANNOTE = """
import json, sys
from pathlib import Path
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate

def annotation(turns):
    made = Annotation()
    for at, (start, end, speaker) in enumerate(turns):
        made[Segment(start, end), at] = speaker
    return made

found = []
for case in json.loads(Path(sys.argv[1]).read_text()):
    regions = Timeline([Segment(*region) for region in case["regions"]])
    row = {}
    for name, (collar, skip) in json.loads(sys.argv[2]).items():
        metric = DiarizationErrorRate(collar=2 * collar, skip_overlap=skip)
        parts = metric(annotation(case["reference"]), annotation(case["hypothesis"]), uem=regions, detailed=True)
        row[name] = [parts[key] for key in ("total", "missed detection", "false alarm", "confusion")]
    found.append(row)
print(json.dumps(found))
"""
SPY_DER = """
import json, sys
from pathlib import Path
from spyder import DER

REGIONS = {False: "all", True: "nonoverlap"}
found = []
for case in json.loads(Path(sys.argv[1]).read_text()):
    sides = [[(who, start, end) for start, end, who in case[side]] for side in ("reference", "hypothesis")]
    row = {}
    for name, (collar, skip) in json.loads(sys.argv[2]).items():
        parts = DER(*sides, uem=[tuple(each) for each in case["regions"]], collar=collar, regions=REGIONS[skip])
        parts = parts["Overall"] if isinstance(parts, dict) else parts
        row[name] = [parts.duration, *(parts.duration * each for each in (parts.miss, parts.falarm, parts.conf))]
    found.append(row)
print(json.dumps(found))
"""
TABULATE = """
import sys
from unittest import mock

sys.modules["tabulate"] = mock.MagicMock()
"""


def draw(rng: np.random.Generator) -> dict[str, list[list[object]]]:
    """Turns of up to five speakers, who overlap others and not themselves, within and beyond one or two regions."""

    def side() -> list[list[object]]:
        turns: list[list[object]] = []
        for speaker in range(rng.integers(1, 6)):
            cuts = np.sort(rng.uniform(0, 60, 2 * rng.integers(1, 8)))
            turns += [[float(a), float(b), f"s{speaker}"] for a, b in cuts.reshape(-1, 2)]
        return turns

    cuts = np.sort(rng.uniform(0, 60, 2 * rng.integers(1, 3)))
    return {"reference": side(), "hypothesis": side(), "regions": cuts.reshape(-1, 2).tolist()}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(17)
    path = tmp_path_factory.mktemp("der") / "cases.json"
    path.write_text(json.dumps([draw(rng) for _ in range(200)]))
    return path


def ours(case: dict[str, list[list[object]]], scoring: Scoring) -> list[float]:
    reference, hypothesis = (
        SpeakerTurns.of(*([turn[at] for turn in case[side]] for at in range(3))) for side in ("reference", "hypothesis")
    )
    found = diarization_errors(reference, hypothesis, regions_s=case["regions"], scoring=scoring)
    return [found.speech_s, found.missed_s, found.false_alarm_s, found.confusion_s]


def test_der_is_that_of_pyannote_metrics(cases: Path) -> None:
    scorings = {**SCORINGS, "no overlap": Scoring(0.0, True)}
    printed = json.loads(run_peer(PANDAS, PYANNOTE, cases, json.dumps(scorings)).splitlines()[-1])
    for case, row in zip(json.loads(cases.read_text()), printed, strict=True):
        for name, expected in row.items():
            np.testing.assert_allclose(ours(case, scorings[name]), expected, atol=1e-6, err_msg=name)


def test_der_is_that_of_spy_der(cases: Path) -> None:
    printed = json.loads(run_peer("spy-der", SPY_DER, cases, json.dumps(SCORINGS), stand_ins=TABULATE).splitlines()[-1])
    compared = 0
    for case, row in zip(json.loads(cases.read_text()), printed, strict=True):
        if not row["full"][0]:
            continue
        compared += 1
        np.testing.assert_allclose(ours(case, SCORINGS["full"]), row["full"], atol=1e-6)
        for name in ("fair", "forgiving"):
            found = ours(case, SCORINGS[name])
            if row[name][0]:
                np.testing.assert_allclose(found[:3], row[name][:3], atol=1e-6, err_msg=name)
                assert found[3] <= row[name][3] + 1e-6
    assert compared > 190
