"""scores.csv and the tables of metrics.json."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from xvectors.evaluation.measures import Measure
from xvectors.metrics import ROC, Interval, operating_points
from xvectors.report.outputs import measure_to_dict, point_to_dict
from xvectors.trials import Trials
from xvectors.trials.score_files import write_scores


def test_scores_read_back_as_the_same_numbers(tmp_path: Path) -> None:
    trials = Trials(enroll=np.array([0, 1], np.int32), test=np.array([2, 2], np.int32), target=np.array([True, False]))
    scores = np.array([1 / 3, -0.1], dtype=np.float32)
    write_scores(tmp_path / "scores.csv", ["a,b", "c", "d"], trials, scores, np.array([4.5, -math.pi]))
    assert (tmp_path / "scores.csv").read_text() == (
        'enroll,test,target,score,llr\n"a,b",d,1,0.333333343,4.5\nc,d,0,-0.100000001,-3.14159\n'
    )
    assert np.float32("0.333333343") == scores[0]
    write_scores(tmp_path / "scores.csv", ["a", "b", "c"], trials, scores)
    assert (tmp_path / "scores.csv").read_text().splitlines()[0] == "enroll,test,target,score"


def test_tables_are_json_without_infinities() -> None:
    interval = Interval(value=0.1, low=0.05, high=math.inf, confidence=0.95, num_speakers=7)
    table = measure_to_dict(Measure(name="EER", value=0.1, unit="share", interval=interval))
    assert table == {
        "name": "EER",
        "value": 0.1,
        "unit": "share",
        "interval": {"low": 0.05, "high": None, "confidence": 0.95, "num_speakers": 7},
    }
    points = [point_to_dict(point) for point in operating_points(ROC.from_scores([3.0, 2.0], [1.0, 2.5]))]
    assert json.loads(json.dumps(points, allow_nan=False)) == points
    assert points[1]["threshold"] is None
    assert points[1]["note"].startswith("FAR 1 % needs 3,000 non-target trials")
