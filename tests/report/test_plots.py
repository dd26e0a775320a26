"""What the plots draw, counted on the Figure, and the files they write."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from xvectors.errors import CheckpointError, ConfigError, ShapeError, StorageError
from xvectors.evaluation.curves import score_densities
from xvectors.report import score_histogram, speaker_map, training_curves
from xvectors.report.error_plots import score_figure
from xvectors.report.speaker_maps import speaker_figure
from xvectors.report.training_plots import training_figure

Row = dict[str, float | str | None]


def history(epochs: int) -> list[Row]:
    return [
        {
            "epoch": epoch,
            "train_loss": 5 / epoch,
            "train_accuracy": 1 - 1 / (epoch + 0.1),
            "val_loss": 6 / epoch,
            "val_accuracy": 0.5 - abs(epoch - 6) / 100,
        }
        for epoch in range(1, epochs + 1)
    ]


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert data[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def end_labels(axes: Axes) -> list[Annotation]:
    return [text for text in axes.texts if isinstance(text, Annotation)]


# Training curves


def test_curves_name_their_ends_the_kept_epoch_and_the_chance_level() -> None:
    figure = training_figure(history(10), num_speakers=50, kept_epoch=6)
    loss, accuracy = figure.axes
    assert [text.get_text() for text in end_labels(loss)] == ["train 0.500", "validation 0.600"]
    assert [text.get_text() for text in end_labels(accuracy)] == [
        "chance 2.00%",
        "validation 46.00%",
        "train 90.10%",
    ]
    assert loss.get_title(loc="right") == "kept epoch 6: 1.000"
    assert accuracy.get_title(loc="right") == "kept epoch 6: 50.00%"
    drawn = {str(line.get_label()): line for line in accuracy.get_lines()}
    np.testing.assert_allclose(drawn["validation"].get_ydata(), [row["val_accuracy"] for row in history(10)])


@pytest.mark.parametrize("kept", [None, 11])
def test_without_a_kept_epoch_none_is_marked(kept: int | None) -> None:
    figure = training_figure(history(10), kept_epoch=kept)
    assert figure.axes[1].get_title(loc="right") == ""
    assert [text.get_text() for text in end_labels(figure.axes[1])] == ["validation 46.00%", "train 90.10%"]


@pytest.mark.parametrize("epochs", [1, 2, 100])
def test_end_labels_never_overlap_and_stay_on_the_figure(epochs: int) -> None:
    rows = history(epochs)
    for row in rows:
        row["val_loss"] = row["train_loss"]
        row["train_accuracy"] = row["val_accuracy"] = 0.01
    figure = training_figure(rows, num_speakers=100)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in end_labels(axes)]
        assert len(boxes) == (2 if axes is figure.axes[0] else 3)
        for place, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:place])
            assert box.x0 > axes.bbox.x1
            assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("nothing", [None, "", math.nan, math.inf, "nan"])
def test_missing_values_are_skipped(nothing: float | str | None) -> None:
    rows = history(6)
    rows[2]["val_accuracy"] = rows[5]["val_accuracy"] = nothing
    accuracy = training_figure(rows, kept_epoch=5).axes[1]
    drawn = {str(line.get_label()): line for line in accuracy.get_lines()}
    np.testing.assert_array_equal(drawn["validation"].get_xdata(), [1, 2, 4, 5])
    assert accuracy.get_title(loc="right") == "kept epoch 5: 49.00%"


def test_training_without_validation_draws_one_curve_a_panel() -> None:
    figure = training_figure([{"epoch": 1, "train_loss": 2.0, "train_accuracy": 0.5}])
    assert [len(axes.get_lines()) for axes in figure.axes] == [1, 1]
    assert [axes.get_title(loc="right") for axes in figure.axes] == ["", ""]


def test_an_eer_gets_a_panel_of_its_own() -> None:
    rows: list[Row] = [{**row, "val_eer": 0.3 / float(row["epoch"] or 1)} for row in history(3)]
    figure = training_figure(rows, kept_epoch=3)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Loss", "Accuracy", "EER"]
    assert figure.axes[2].get_title(loc="right") == "kept epoch 3: 10.00%"
    assert figure.axes[2].get_lines()[0].get_label() == "held-out"
    assert [text.get_text() for text in figure.axes[2].texts] == ["held-out 10.00%"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the training history is empty: train for at least one epoch"),
        ([{"epoch": 1}, {"train_loss": 2.0}], "row 1 of the training history has no epoch"),
        (
            [{"epoch": 1, "train_loss": "low"}],
            "row 0 of the training history: train_loss is 'low', not a number",
        ),
    ],
)
def test_damaged_histories_are_refused(rows: list[Row], message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        training_figure(rows)
    assert str(caught.value) == message


# Speaker map


def test_a_map_of_few_speakers_names_them_in_the_legend() -> None:
    points = np.random.default_rng(0).normal(size=(9, 2))
    figure = speaker_figure(points, list("cccaaabbb"), [0, 0, 0, 1, 1, 1, -1, -1, 1])
    assert legend_texts(figure) == [
        *("female: 2 speakers", "male: 1 speaker", "gender unknown: 1 speaker"),
        *("a", "b", "c"),
    ]
    drawn = figure.axes[0].lines
    numbers = {marker: sum(len(line.get_xdata()) for line in drawn if line.get_marker() == marker) for marker in "os^"}
    assert numbers == {"o": 4, "s": 3, "^": 2}
    (male,) = (line for line in drawn if line.get_marker() == "s")
    np.testing.assert_allclose(np.transpose(male.get_data()), points[:3])
    assert len({line.get_markerfacecolor() for line in drawn}) == 3
    assert len(figure.axes[0].texts) == 0


def test_twenty_speakers_fit_in_the_legend_below_the_map() -> None:
    points = np.random.default_rng(0).normal(size=(40, 2))
    names = [f"a speaker with a long name, number {n % 20}" for n in range(40)]
    figure = speaker_figure(points, names, [0, 1] * 20)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert len(legend.get_texts()) == 22
    assert not box.overlaps(figure.axes[0].bbox)
    assert figure.bbox.x1 >= box.x1
    assert figure.bbox.y0 <= box.y0
    assert legend_texts(figure)[2:5] == [
        "a speaker w…e, number 0",
        "a speaker w…e, number 1",
        "a speaker w…e, number 2",
    ]


@pytest.mark.parametrize(("speakers", "at_least"), [(21, 21), (60, 60), (200, 160)])
def test_names_on_a_map_of_many_speakers_cover_neither_names_nor_points(speakers: int, at_least: int) -> None:
    rng = np.random.default_rng(0)
    side = math.ceil(math.sqrt(speakers))
    speaker = np.repeat(np.arange(speakers), 5)
    points = np.stack([speaker % side, speaker // side], axis=1) + rng.normal(0, 0.12, (len(speaker), 2))
    figure = speaker_figure(points, [f"id{10000 + s}" for s in speaker], speaker % 2)
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) >= at_least
    extents = np.array([box.extents for box in boxes])
    dots, radius = axes.transData.transform(points), axes.lines[0].get_markersize() / 2
    for place, (x0, y0, x1, y1) in enumerate(extents):
        others = np.delete(extents, place, axis=0)
        apart = (others[:, 2] <= x0) | (others[:, 0] >= x1) | (others[:, 3] <= y0) | (others[:, 1] >= y1)
        assert apart.all()
        assert np.linalg.norm(np.maximum([x0, y0] - dots, dots - [x1, y1]).clip(min=0), axis=1).min() > radius
        assert axes.bbox.x0 <= x0 <= x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= y0 <= y1 <= axes.bbox.y1
    assert legend_texts(figure) == [
        f"female: {speakers // 2} speakers",
        f"male: {(speakers + 1) // 2} speakers",
    ]
    note = axes.get_title(loc="right")
    assert note == ("" if len(boxes) == speakers else f"names of {len(boxes)} of {speakers} speakers fit")


def test_names_too_many_to_fit_are_left_out_and_counted() -> None:
    figure = speaker_figure(np.zeros((50, 2)), [f"s{n}" for n in range(50)], [1] * 50)
    written = len(figure.axes[0].texts)
    assert 1 <= written < 10
    assert figure.axes[0].get_title(loc="right") == f"names of {written} of 50 speakers fit"


def test_awkward_names_and_titles_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ["_hidden", "$x^2$ and $", "100% {sure}", "\\frac", "说话人", ""]
    figure = speaker_figure(np.eye(6, 2), names, [-1] * 6, title="$5 & $6")
    assert figure.axes[0].get_title(loc="left") == "$5 & $6"
    assert sorted(legend_texts(figure)[1:]) == sorted(["_hidden", "$x^2$ and $", "100% {sure}", "\\frac", "���", ""])
    assert png_size(speaker_map(np.eye(6, 2), names, [-1] * 6, tmp_path / "a.png", title="$5 & $6"))


def test_names_do_not_hide_crowds_of_points() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (4_000, 2))
    figure = speaker_figure(points, [f"speaker {n % 100}" for n in range(4_000)], [0] * 4_000)
    axes = figure.axes[0]
    pixels = axes.transData.transform(points)
    for text in axes.texts:
        box = text.get_window_extent()
        assert not ((pixels > box.min) & (pixels < box.max)).all(axis=1).any()
    assert axes.get_title(loc="right") == f"names of {len(axes.texts)} of 100 speakers fit"


def test_speakers_may_be_numbered() -> None:
    figure = speaker_figure(np.zeros((2, 2)), np.array([12, 7]), [0, 0])
    assert legend_texts(figure)[1:] == ["7", "12"]


def test_speakers_are_sorted_as_people_count() -> None:
    figure = speaker_figure(np.zeros((3, 2)), ["s10", "s2", "s1"], [0, 0, 0])
    assert legend_texts(figure)[1:] == ["s1", "s2", "s10"]


@pytest.mark.parametrize(
    ("points", "speakers", "genders", "message"),
    [
        (np.empty((0, 2)), [], [], "points have the shape [0, 2]: give [n, 2], at least one point"),
        (np.ones((1, 3)), ["a"], [0], "points have the shape [1, 3]: give [n, 2], at least one point"),
        (np.ones((2, 2)), ["a"], [0, 1], "2 points, 1 speakers and 2 genders: give one each"),
        (np.array([[0, 1], [np.nan, 0]]), ["a", "b"], [0, 1], "point 1 is not finite: leave it out"),
        (np.eye(2), ["a", "b"], [0, 2], "gender 1 is 2: give 0 (male), 1 (female) or -1 (unknown)"),
    ],
)
def test_unusable_maps_are_refused(points, speakers, genders, message) -> None:
    with pytest.raises(ShapeError) as caught:
        speaker_figure(points, speakers, genders)
    assert str(caught.value) == message


# Score histogram


def test_both_densities_and_the_threshold_are_drawn() -> None:
    densities = score_densities([1.0, 2.0], [-1.0, 0.0, 1.0], 0.5)
    figure = score_figure(densities, "EER", scale="LLR")
    assert figure.axes[0].get_xlabel() == "LLR"
    for patch, expected in zip(figure.axes[0].patches[::2], (densities.target, densities.nontarget), strict=True):
        density, edges, _ = patch.get_data()
        np.testing.assert_array_equal(density, expected)
        np.testing.assert_array_equal(edges, densities.edges)
    assert figure.axes[0].lines[0].get_xdata()[0] == 0.5
    assert legend_texts(figure)[:2] == ["2 target trials", "3 non-target trials"]
    assert legend_texts(figure)[2] == "EER"


# Files

WRITERS: dict[str, tuple[Callable[[Path], Path], tuple[int, int]]] = {
    "curves": (lambda path: training_curves(history(3), path), (1600, 640)),
    "map": (lambda path: speaker_map(np.eye(2), ["a", "b"], [0, 1], path, title="two"), (1120, 1138)),
    "scores": (lambda path: score_histogram([1, 2], [0, 1], 1.0, 0.5, path), (1040, 878)),
}


@pytest.mark.parametrize("plot", WRITERS)
def test_plots_are_png_files_of_a_known_size_in_folders_made_for_them(plot: str, tmp_path: Path) -> None:
    write, size = WRITERS[plot]
    path = tmp_path / "new" / "folder" / "plot.png"
    assert write(path) == path
    # matplotlib versions round the size of text differently
    assert png_size(path) == pytest.approx(size, abs=2)
    assert [entry.name for entry in path.parent.iterdir()] == ["plot.png"]


def test_the_suffix_names_the_format(tmp_path: Path) -> None:
    assert training_curves(history(3), tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert b"<svg" in training_curves(history(3), tmp_path / "a.svg").read_bytes()
    for name in ("a.jpg", "a"):
        with pytest.raises(ConfigError) as caught:
            training_curves(history(3), tmp_path / name)
        assert str(caught.value) == (
            f"{tmp_path / name}: plots are written as .png, .pdf or .svg; end the name with one of these"
        )


@pytest.mark.parametrize("plot", WRITERS)
def test_a_place_that_cannot_be_written_is_a_storage_error(plot: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"plot\.png: cannot be written"):
        WRITERS[plot][0](tmp_path / "file" / "plot.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(StorageError, match=r"folder\.png: cannot be written"):
        WRITERS[plot][0](tmp_path / "folder.png")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.png"]


def test_drawing_leaves_the_users_matplotlib_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    for name, (write, _) in WRITERS.items():
        write(tmp_path / f"{name}.png")
    assert dict(mpl.rcParams) == before


def test_the_package_is_imported_without_what_only_drawing_needs() -> None:
    code = "import sys, xvectors.report; sys.exit(bool({'torch', 'matplotlib', 'jinja2'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_drawing_needs_neither_torch_nor_pyplot() -> None:
    code = (
        "import sys; from xvectors.report import score_histogram, speaker_map, training_curves; "
        "sys.exit(bool({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
