"""Labels: clear of each other, on few points, inside the frame; the drawings of the page checked by their markup."""

from __future__ import annotations

import itertools
import re

import numpy as np

from support.simulated import evaluation
from xvectors.report import drawings
from xvectors.report.labels import PLACES, free_place, moved
from xvectors.report.svg import LETTER, LINE

FRAME = (0.0, 0.0, 100.0, 100.0)
BOX = (40.0, 45.0, 60.0, 55.0)  # 20 wide, 10 high


def test_a_label_stays_where_nothing_is() -> None:
    assert free_place(BOX, FRAME, [], []) == (0.0, 0.0)


def test_a_label_steps_off_points_where_that_hides_fewer() -> None:
    assert free_place(BOX, FRAME, [], [(50, 50)]) == (0.0, 10.0)  # one point weighs more than half a step
    assert free_place(BOX, FRAME, [], [(50, 50), (50, 60)], room=0) == (0.0, -10.0)
    everywhere = [(x, y) for x in range(0, 100, 3) for y in range(0, 100, 3)]
    assert free_place(BOX, FRAME, [], everywhere) is None
    assert free_place(BOX, FRAME, [], everywhere, most_hidden=np.inf) is not None


def test_a_label_avoids_others_and_the_frames_edge() -> None:
    shift = free_place(BOX, FRAME, [BOX], [])
    assert shift == (0.0, 10.0)
    assert moved(BOX, shift) == (40.0, 55.0, 60.0, 65.0)
    assert free_place(BOX, (0.0, 0.0, 100.0, 56.0), [BOX], []) == (0.0, -10.0)
    assert free_place(BOX, (0.0, 44.0, 100.0, 56.0), [BOX], []) is None
    assert free_place(BOX, FRAME, [(0, 0, 100, 100)], []) is None
    assert PLACES[0] == (0.0, 0.0)


def labels(drawn: str, kind: str) -> list[tuple[float, float, float, float]]:
    found = re.findall(rf'<text class="{kind}" x="([-\d.]+)" y="([-\d.]+)" text-anchor="middle">([^<]*)<', drawn)
    half = [LETTER * len(text) / 2 for *_, text in found]
    return [
        (float(x) - w, float(y) - 4 - LINE / 2, float(x) + w, float(y) - 4 + LINE / 2)
        for (x, y, _), w in zip(found, half, strict=True)
    ]


def overlapping(boxes: list[tuple[float, float, float, float]]) -> int:
    return sum(
        a[0] < b[2] and b[0] < a[2] and a[1] < b[3] - 0.2 and b[1] < a[3] - 0.2
        for a, b in itertools.combinations(boxes, 2)
    )


def test_names_on_the_maps_overlap_neither_each_other_nor_most_points() -> None:
    measured = evaluation(speakers=30)
    names = list(measured.manifest.speakers)
    for drawn in re.findall(r"<svg viewBox=.*?</svg>", drawings.speaker_maps(measured))[:2]:
        boxes = labels(drawn, "name")
        assert 20 <= len(boxes) <= len(names)
        assert overlapping(boxes) == 0
        dots = np.array(re.findall(r'<circle class="dot s\d+" cx="([\d.]+)" cy="([\d.]+)"', drawn), dtype=float)
        assert len(dots)
        for x0, y0, x1, y1 in boxes:
            assert 0 <= x0 < x1 <= 960
            covered = (dots[:, 0] > x0) & (dots[:, 0] < x1) & (dots[:, 1] > y0) & (dots[:, 1] < y1)
            assert np.count_nonzero(covered) <= 6


def test_the_det_plots_labels_stand_clear_of_its_points() -> None:
    measured = evaluation(speakers=30)
    drawn = drawings.det_plot(measured)
    boxes = labels(drawn, "label")
    assert len(boxes) >= 2
    assert overlapping(boxes) == 0
    dots = np.array(re.findall(r'<circle class="dot point" cx="([\d.]+)" cy="([\d.]+)"', drawn), dtype=float)
    for x0, y0, x1, y1 in boxes:
        assert not ((dots[:, 0] > x0) & (dots[:, 0] < x1) & (dots[:, 1] > y0) & (dots[:, 1] < y1)).any()
