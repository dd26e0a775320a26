"""The page: what it says, that it stays one file, and that no name or path becomes markup."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.special import ndtri

from support.simulated import evaluation, with_shift
from xvectors.evaluation import Evaluation
from xvectors.evaluation.leakage import Leakage, SharedRecording, SuspectPair
from xvectors.evaluation.shift import risk_coverage
from xvectors.evaluation.slices import Slice, SliceMeasure, Slices
from xvectors.metrics import ROC
from xvectors.report.coverage_plot import coverage_figure, coverage_tips
from xvectors.report.error_plots import MarkedPoint, det_figure
from xvectors.report.formats import error_rate, percentage_points, seconds
from xvectors.report.page import render_page, write_page
from xvectors.report.pictures import draw_pictures
from xvectors.report.style import NUM_LOOKS, marker_look
from xvectors.report.views import view_data, view_points
from xvectors.verification.label_check import TwoVoices

VOID = {"meta", "br", "img", "input"}
HISTORY = tuple(
    {"epoch": epoch, "train_loss": 3 / epoch, "train_accuracy": 0.3 * epoch, "val_loss": 4 / epoch, "val_accuracy": 0.2}
    for epoch in (1, 2, 3)
)
PARTS = r'<section id="([a-z-]+)">'


class Tree(HTMLParser):
    """Checks that elements nest, and keeps tags, addresses and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [
            value or "" for name, value in attrs if name in ("href", "src", "action", "data", "xlink:href")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    @classmethod
    def of(cls, text: str) -> Tree:
        tree = cls()
        tree.feed(text)
        tree.close()
        assert tree.open == []
        return tree


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "index.html"
    measured = evaluation(
        mapped=True, history=HISTORY, left_out=("broken.wav: no samples",), warnings=("One speaker was trained on.",)
    )
    assert write_page(with_shift(measured), path, audio=True) == path
    return path.read_text(encoding="utf-8")


def test_the_figures_are_there_with_intervals_and_units(text: str) -> None:
    measured = evaluation()
    eer = f"{100 * measured.measures['eer'].value:.{1 if measured.measures['eer'].value >= 0.1 else 2}f}\xa0%"
    assert f"<dd class=value>{eer}</dd><dd class=about>3.1\xa0to\xa023.5\xa0%; " in text
    assert f"{measured.measures['cllr'].value:.3f}\xa0bits" in text
    loss = measured.measures["cllr"].value - measured.measures["min_cllr"].value
    sure = "(95\N{NO-BREAK SPACE}% interval 0.012\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}0.457\N{NO-BREAK SPACE}bits)"
    assert f"<b>{loss:.3f}\xa0bits</b> {sure} is the calibration loss" in text
    assert "Measured on 12 people and 2,556 pairs of recordings" in text
    assert "FAR 0.1 % needs 30,000 non-target trials" in text
    assert ">1.85<" in text  # hours
    for expected in ("broken.wav: no samples", "One speaker was trained on.", "training seed", "77", "embedding 12 s"):
        assert expected in text


def test_every_part_has_its_heading_and_every_plot_is_drawn(text: str) -> None:
    tree = Tree.of(text)
    everybody = ["for-whom", "pairs", "trials"]
    researchers = ["figures", "errors", "calibration", "shift", "training", "speakers", "data", "leakage", "making"]
    assert re.findall(PARTS, text) == [*everybody, *researchers, "words"]
    assert len(tree.ids) == len(set(tree.ids))
    plots = re.findall(r'<svg viewBox="[^"]*" role="img" aria-label="([^"]*)"', text)
    assert plots == [
        "Detection error trade-off",
        "Scores of target and non-target trials",
        "Reliability",
        "Applied probability of error",
        "Answers and errors",
        "Training curves",
        "t-SNE of 12 speakers",
        "Principal components of 12 speakers",
    ]


def test_the_page_is_one_file_without_scripts(text: str) -> None:
    tree = Tree.of(text)
    assert not {"script", "link", "iframe", "object", "embed", "img"} & tree.tags
    assert all(address.startswith("#") for address in tree.addresses)
    assert not re.search(r"https?:|url\((?!#)|@import|//[a-z]", text)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_names_and_paths_never_become_markup(tmp_path: Path) -> None:
    hostile = '<script>alert("1")</script>', "'><img src=x onerror=alert(1)>", "a\x00b\udcff"
    measured = evaluation(
        names=hostile,
        system="<script>x</script>",
        data="</style><script>y</script>",
        command="xvectors '<script>z</script>'",
        left_out=("<img src=x>: broken",),
        warnings=("<b>no</b>",),
        recipe={"training": {"seed": 1}, "</pre><script>": "<i>"},
        leakage=Leakage(
            checked=True,
            shared_speakers=hostile[:2],
            shared_recordings=(SharedRecording(row=0, train_path="<u>t</u>", by="path"),),
            suspect_pairs=(SuspectPair(a=0, b=7, cosine=0.9),),
            num_suspect_pairs=1,
            two_voices=(
                TwoVoices(hostile[0], (np.array([0, 2, 3]), np.array([1, 4, 5])), within=(1.0, 0.9), between=0.1),
            ),
        ),
    )
    text = write_page(measured, tmp_path / "index.html", audio=False).read_text(encoding="utf-8")
    assert "<h4>1 name that may belong to two people</h4>" in text
    assert len(re.findall("<td[^>]*>3, such as ", text)) == 2
    tree = Tree.of(text)
    assert not {"script", "img", "u", "i"} & tree.tags
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;" in text
    assert "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}" in text


def test_recordings_are_linked_and_played_where_they_are_local(tmp_path: Path) -> None:
    root, page = tmp_path / "a corpus #1", tmp_path / "report" / "index.html"
    measured = evaluation(root=root)
    tone = 0.2 * np.sin(np.arange(16_000 * 6) / 20)
    for row in range(len(measured.manifest)):
        path = measured.manifest.full_path(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        if row == 0:
            soundfile.write(path, tone, 16_000)
    row = 0
    measured = replace(
        measured,
        leakage=Leakage(checked=True, suspect_pairs=(SuspectPair(a=row, b=40, cosine=0.9),), num_suspect_pairs=1),
    )
    text = write_page(measured, page, audio=True).read_text(encoding="utf-8")
    assert '<a href="../a%20corpus%20%231/s00/u0.wav">' in text
    encoded = re.search(r'src="data:audio/mpeg;base64,([^"]*)"', text)
    assert encoded is not None
    excerpt = tmp_path / "excerpt.mp3"
    excerpt.write_bytes(base64.b64decode(encoded[1]))
    assert soundfile.info(excerpt).duration == pytest.approx(4.0, abs=0.2)
    silent = write_page(measured, page, audio=False).read_text(encoding="utf-8")
    assert "<audio" not in silent
    assert '<a href="../a%20corpus%20%231/s00/u0.wav">' in silent


def test_a_recording_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    measured = evaluation(
        root=tmp_path,
        leakage=Leakage(checked=True, suspect_pairs=(SuspectPair(a=0, b=40, cosine=0.9),), num_suspect_pairs=1),
    )
    (tmp_path / "s00").mkdir()
    (tmp_path / "s00" / "u0.wav").write_bytes(b"no sound")
    text = write_page(measured, tmp_path / "index.html", audio=True).read_text(encoding="utf-8")
    assert "no excerpt: " in text
    assert "not a sound file that can be read" in text


@pytest.mark.parametrize("speakers", [3, 30])
def test_without_calibration_and_without_knowing_the_speakers(tmp_path: Path, speakers: int) -> None:
    measured = evaluation(speakers=speakers, mapped=True, calibrated=False, known=False, leakage=Leakage(checked=False))
    text = write_page(measured, tmp_path / "index.html", audio=True).read_text(encoding="utf-8")
    Tree.of(text)
    assert "<code>xvectors calibrate exp/xv --data RECORDINGS</code>" in text
    assert text.count("system is not calibrated") == 1
    assert "its scores rank trials, but do not say how sure a decision is" in text
    assert "actual DCF" not in text
    assert "the training corpus is not available" in text
    assert not {"training", "shift"} & set(re.findall(PARTS, text))
    assert ("Colors and markers repeat" in text) == (speakers == 30)
    assert ">gender unknown: " in text


def test_pictures_follow_light_and_dark_and_are_the_same_every_time(tmp_path: Path) -> None:
    measured = evaluation(mapped=True, history=HISTORY)
    text = render_page(measured, tmp_path, audio=False)
    assert text == render_page(measured, tmp_path, audio=False)
    drawings = " ".join(re.findall(r"<svg viewBox.*?</svg>", text, re.DOTALL))
    palette = {marker_look(number)["markerfacecolor"] for number in range(NUM_LOOKS)}
    assert set(re.findall(r"#[0-9a-f]{6}", drawings)) <= palette  # everything else is a variable of page.css
    variables = set(re.findall(r"var\((--[a-z]+)\)", drawings))
    assert {"--ink", "--line", "--target", "--nontarget", "--point"} <= variables
    light, dark, paper = (text[match.start() :] for match in re.finditer(":root {", text))
    assert all(f"{name}: #" in half.split("}")[0] for name in variables for half in (light, dark, paper))


def test_markers_say_on_hovering_whose_they_are(text: str) -> None:
    for row in evaluation().manifest.id:
        assert text.count(f"<title>{row[:3]}: {row}</title>") == 2  # a marker on each map


def test_twenty_speakers_look_different() -> None:
    looks = {tuple(sorted((key, str(value)) for key, value in marker_look(n).items())) for n in range(NUM_LOOKS)}
    assert len(looks) == NUM_LOOKS == 20


def test_terms_are_explained_on_the_page(text: str) -> None:
    linked = set(re.findall(r'<a class="term" href="#(term-[a-z]+)">', text))
    explained = set(re.findall(r'<dt id="(term-[a-z]+)">', text))
    assert linked <= explained
    assert {"term-eer", "term-far", "term-frr", "term-llr", "term-cllr", "term-interval", "term-point"} <= linked
    words = text[text.index('id="words"') :]
    for word in ("EER", "DET", "Cllr", "minDCF", "LLR", "AS-norm", "t-SNE", "SNR", "TPR", "AUC"):
        assert word in words


def test_the_verdict_comes_first_then_four_figures_then_the_rest(text: str) -> None:
    places = [text.index(part) for part in ('class="verdict"', 'class="cards"', 'id="for-whom"', 'id="research"')]
    assert places == sorted(places)
    assert text.count("<dd class=value>") == 4


def test_few_speakers_lead_with_too_few_to_say_and_no_percentages(tmp_path: Path) -> None:
    text = write_page(evaluation(speakers=4), tmp_path / "index.html", audio=False).read_text(encoding="utf-8")
    box = text[text.index('class="verdict few"') :]
    assert box.index("Too few speakers to say") < box.index("xvectors evaluate exp/xv --data FOLDER")
    assert not re.search(r"times in \d", text)


def test_long_names_names_of_other_scripts_and_turns_of_direction(tmp_path: Path) -> None:
    names = ("x" * 200, "\u05d0\u05d1\u05d2", "\U0001f600 smile", "a\u202eb")
    text = write_page(evaluation(names=names), tmp_path / "index.html", audio=False).read_text(encoding="utf-8")
    Tree.of(text)
    assert f'<bdi title="{"x" * 200}">{"x" * 29}…{"x" * 29}</bdi>' in text
    assert "<bdi>\u05d0\u05d1\u05d2</bdi>" in text
    assert "\u202e" not in text


def separated() -> Evaluation:
    """All targets score 5, all non-targets -5."""
    llrs = np.where(evaluation().trials.target, 5.0, -5.0)
    return evaluation(llrs=llrs, threshold=0.0)


def test_rates_without_an_error_say_of_how_many_trials(tmp_path: Path) -> None:
    measured = separated()
    text = write_page(measured, tmp_path / "index.html", audio=False).read_text(encoding="utf-8")
    num_target, num_nontarget = measured.trials.num_target, measured.trials.num_nontarget
    assert f"<strong>never</strong> took them for one person (none of {num_nontarget:,} pairs" in text
    assert f"<strong>never</strong> missed that (none of {num_target:,} pairs" in text
    assert f"none<small>of {num_nontarget:,}</small>" in text
    assert error_rate(0, 1234) == "none of 1,234"
    assert error_rate(3, 1200) == "0.25\xa0%"


def test_each_operating_point_says_how_many_errors_and_trials_it_rests_on() -> None:
    measured = evaluation()
    misses = int(np.count_nonzero(measured.decision_scores[measured.trials.target] < measured.threshold))
    wrong = measured.trials.target & (measured.decision_scores < measured.threshold)
    speakers = len(set(measured.manifest.speaker_index[measured.trials.enroll[wrong]].tolist()))
    in_use = view_points(measured)["rows"][0]
    assert in_use["label"] == "D"
    assert in_use["misses"].below == f"{misses:,} of {measured.trials.num_target:,}; {speakers} speakers"


def one_slice(**changed: object) -> Slice:
    values: dict[str, object] = {
        "dimension": "age", "name": "under 13 years", "kind": "both", "num_speakers": 7, "num_target": 12,
        "num_nontarget": 3456, "num_misses": 1, "num_false_accepts": 69,
    }  # fmt: skip
    return Slice(**(values | changed))  # type: ignore[arg-type]


def slice_part(slices: Slices, *, children: bool = False) -> str:
    """The part of the page that shows the slices."""
    measured = evaluation(slices=slices)
    measured.manifest.age[:] = 8 if children else 30
    text = render_page(measured, Path(), audio=False)
    return text[text.index('<section id="for-whom">') : text.index('<section id="pairs">')]


def test_slices_without_an_eer_keep_their_rates_intervals_and_sizes() -> None:
    far = SliceMeasure(value=0.02, low=0.01, high=0.05, difference=0.01, difference_low=0.002, departs=True)
    found = evaluation().slices
    one = one_slice(measures={"far": far}, note="12 target trials, fewer than 30")
    text = slice_part(replace(found, slices=(one,)))
    assert "1 group of 1 differs from all trials" in text
    assert "12 / 3,456" in text
    assert "<td class=n>7</td>" in text
    assert "◆ 2.00\xa0%</span><small>1.00\xa0to\xa05.00\xa0%</small>" in text
    assert "12 target trials, fewer than 30" in text


def test_slices_that_do_not_differ_are_a_line_and_a_click_away() -> None:
    found = evaluation().slices
    whole = found.whole.measures["eer"]
    differs = one_slice(
        dimension="gender", name="female speakers", measures={"eer": replace(whole, difference=0.1, departs=True)}
    )
    same = [
        one_slice(dimension=dimension, name=name, measures={"eer": whole})
        for dimension, name in (
            ("gender", "male speakers"),
            ("shorter recording", "2 to 3 s"),
            ("microphone", "phone"),
        )
    ]
    shown, hidden = slice_part(replace(found, slices=(differs, *same))).split("<details>")
    assert "<bdi>women</bdi><small>gender</small>" in shown
    assert "No difference was found by length of the shorter recording or column “microphone”." in shown
    assert "<bdi>men</bdi>" not in shown
    assert "<summary>3 groups that do not differ</summary>" in hidden
    assert "<bdi>men</bdi>" in hidden
    assert "girls and women" in slice_part(replace(found, slices=(differs,)), children=True)


def test_a_page_without_a_map_says_why() -> None:
    text = render_page(evaluation(), Path(), audio=False)
    assert (
        "No map was drawn. It needs 3 embeddings that are finite and not zero, and fewer of the 72 recordings" in text
    )


def test_what_was_left_out_is_said_where_it_is_known() -> None:
    assert "Nothing was left out." in render_page(evaluation(), Path(), audio=False)
    some = render_page(evaluation(left_out=("a.wav: too short (lasts 0.1 s)",)), Path(), audio=False)
    assert "Left out: 1 recording<" in some
    assert "a.wav: too short (lasts 0.1 s)" in some
    assert "Nothing was left out" not in some
    unknown = render_page(evaluation(left_out_known=False), Path(), audio=False)
    assert "Nothing was left out" not in unknown
    assert "Which recordings training left out is not known." in unknown


def test_the_corpus_is_counted() -> None:
    facts = dict(view_data(evaluation()))
    assert facts["speakers"] == "12 (6 female, 6 male)"
    assert facts["recordings"] == "72, 6 of each speaker"
    assert facts["trials"] == "2,556: 180 target, 2,376 non-target (all pairs)"


def test_numbers_are_written_for_people() -> None:
    assert [seconds(value) for value in (0.5, 12, 120, 7200, float("nan"))] == [
        *("0.5 s", "12 s", "2.0 min", "2.0 h", "unknown"),
    ]
    assert [percentage_points(value) for value in (0.012, -0.0123, 0.0001)] == ["+1.2", "\N{MINUS SIGN}1.2", "0.0"]


def test_a_det_plot_without_errors_says_so() -> None:
    separate, usual = (draw_pictures(one)["det"] for one in (separated(), evaluation()))
    assert separate is not None
    assert usual is not None
    assert "No threshold makes errors of both kinds" in separate.caption
    assert "No threshold" not in usual.caption


def test_points_at_rates_of_0_and_1_lie_on_the_edges() -> None:
    """Bounded LLRs may accept nothing at a strict prior: the point is at infinity on these axes."""
    points = [MarkedPoint("1", 0.0, 1.0), MarkedPoint("D", 0.0, 1.0, is_in_use=True)]
    axes = det_figure({"a": evaluation().curves.det}, points).axes[0]
    marks = [
        line.get_xydata()[0] for line in axes.lines if line.get_marker() in ("o", "D") and len(line.get_xdata()) == 1
    ]
    assert len(marks) == 2
    for mark in marks:
        np.testing.assert_allclose(mark, [axes.get_xlim()[0], axes.get_ylim()[1]])


def test_the_det_frame_holds_every_operating_point() -> None:
    measured = evaluation()
    usual = det_figure({"a": measured.curves.det}, [MarkedPoint("D", 0.05, 0.1)]).axes[0]
    assert [text.get_text() for text in usual.get_xticklabels()][-1] == "60"
    strict = det_figure({"a": measured.curves.det}, [MarkedPoint("1", 0.05, 0.1), MarkedPoint("D", 0.01, 0.9)]).axes[0]
    assert [text.get_text() for text in strict.get_yticklabels()][-1] == "95"
    assert [text.get_text() for text in strict.texts] == ["1", "D"]
    low, high = strict.get_ylim()
    assert low < ndtri(0.9) < high


def test_points_that_nearly_coincide_share_a_label() -> None:
    points = [MarkedPoint("1", 0.05, 0.1), MarkedPoint("2", 0.0501, 0.1), MarkedPoint("D", 0.3, 0.01, is_in_use=True)]
    axes = det_figure({"a": evaluation().curves.det}, points).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1, 2", "D"]


def shift_part(text: str) -> str:
    return text[text.index('<section id="shift">') : text.index('<section id="speakers">')]


def test_how_alike_test_and_calibration_recordings_are() -> None:
    measured = with_shift(evaluation())
    assert measured.shift is not None
    part = shift_part(render_page(measured, Path(), audio=False))
    assert "How alike the test and the calibration recordings are" in part
    assert (
        "36 of 72 recordings (50.0\xa0%) are like those that the system was calibrated on, 36 (50.0\xa0%) are not. "
        "1 of them is beyond all that was tested; LLRs are 0 there."
    ) in part
    assert "<li>a high pitch, as of a raised voice: 36 recordings</li><li>&lt;b&gt;: 1 recording</li>" in part
    assert "needs a probability of 80\xa0%" in part
    assert "between \N{MINUS SIGN}3.00, which is 20 to 1 for two people, and 7.00, which is 1,097 to 1 for one" in part
    rows = re.findall("<tr><td>(.*?)</td>.*?<td class=n>([^<]*)</td></tr>", part)
    expected = [("0 to 1", "90 / 540"), ("1 to 4", "85 / 1,770"), ("4 and more", "5 / 66")]
    # 6 speakers of 6 recordings each have no shift; the last recording has 5 others of its speaker, and 66 of others
    assert rows == [(name.replace(" ", "\xa0"), trials) for name, trials in expected]
    assert "The curves end at 95 %: beyond, the bounds of the LLRs do not allow both answers." in part
    one = measured.shift.degrees[0].target
    assert f"<small>{one.num_wrong:,} of {one.num_answers:,}</small>" in part


def test_a_calibrated_system_without_shift_says_why() -> None:
    part = shift_part(render_page(evaluation(), Path(), audio=False))
    assert (
        "Calibrated by an earlier version: its LLRs have no bounds and do not know the condition of recordings; "
        in part
    )
    assert "`" not in part
    assert "<code>xvectors calibrate DIR</code> learns both." in part
    assert not re.search("<table|<svg|<p>.*LLRs</a> are between", part)


def test_answers_and_errors_are_drawn_with_the_numbers_of_each_marker() -> None:
    found = risk_coverage(ROC.from_scores([4.0, 3.0, -2.0, 0.1], [-4.0, -3.0, -2.0, -1.0]))
    axes = coverage_figure(found).axes[0]
    one, mark, two, _ = axes.lines
    # of one speaker: 4 answers at 0.5, 3 from 0.55 to 0.85 (2.0 is 0.88), 2 to 0.95 (3.0 is 0.953), 1 to 0.98 (4.0)
    assert one.get_xdata().tolist() == [1.0] + 7 * [0.75] + 3 * [0.5] + 3 * [0.25]
    np.testing.assert_allclose(one.get_ydata(), [1 / 4] + 7 * [1 / 3] + 6 * [0.0])
    assert (mark.get_xdata().tolist(), two.get_ydata().tolist()) == ([0.75], 14 * [0.0])
    tips = coverage_tips(found)["coverage-one"]
    assert tips[6] == "probability of 80 %: 75.00% answered, 33.33% of the answers wrong"
    assert len(tips) == 14
    bounded = risk_coverage(ROC.from_scores([4.0, 3.0, -2.0, 0.1], [-4.0, -3.0, -2.0, -1.0]), (-2.0, 4.0))
    assert (
        len(coverage_figure(bounded).axes[0].lines[0].get_xdata()) == len(coverage_tips(bounded)["coverage-one"]) == 8
    )
