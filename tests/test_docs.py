"""Examples of the documentation, run: on embeddings and scores drawn here, in place of the reader's own."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xvectors.backends import PLDA, load_backend
from xvectors.metrics import ROC
from xvectors.trials import all_pairs

DOCS = Path(__file__).resolve().parents[1] / "docs"
ROOT = DOCS.parent
PAGES = sorted(DOCS.rglob("*.md"))
KINDS = {"tutorials", "how-to", "reference", "explanation"}
DIM = 8


def links(page: Path) -> list[str]:
    """Relative targets of a page's links, without those in code blocks."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [found for found in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in found]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_has_a_kind_and_is_in_the_index() -> None:
    indexed = {(DOCS / link).resolve() for link in links(DOCS / "index.md")}
    assert {page for page in PAGES if page.name != "index.md"} == {path for path in indexed if DOCS in path.parents}
    assert {page.parent.name for page in PAGES if page.parent != DOCS} == KINDS


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "SECURITY.md", *PAGES], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target), f"{page}: {link}"


def run_example(page: str, section: str, **given: Any) -> dict[str, Any]:
    """Execute the first Python block of a section; what names it leaves."""
    text = (DOCS / page).read_text(encoding="utf-8").split(f" {section}\n", 1)[1]
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    exec(block[1], given)
    return given


def drawn(num_speakers: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(num_speakers), 6)
    rows = rng.standard_normal((num_speakers, DIM))[speakers] + 0.5 * rng.standard_normal((len(speakers), DIM))
    return rows.astype(np.float32), speakers


def test_adapting_plda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (train, speakers), (new, _) = drawn(30, seed=0), drawn(20, seed=1)
    new = 2 * new + 1
    found = run_example(
        "reference/backends.md",
        "Another domain",
        train_embeddings=train,
        train_speakers=speakers,
        new_embeddings=new,
        enroll_embeddings=new[:5],
        test_embeddings=new[5:],
    )
    saved = load_backend("adapted.npz")
    assert isinstance(saved.scorer, PLDA)
    np.testing.assert_allclose(saved.scorer.mean_, saved.transform(new).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(saved.score_matrix(new[:5], new[5:]), found["scores"], rtol=1e-5)


def test_fusing_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.arange(4000) % 2 == 0
    means = np.array([0.6, 1.2])
    dev, scores = (np.where(labels[:, None], 1, -1) * means + rng.normal(size=(4000, 2)) for _ in range(2))
    found = run_example("reference/backends.md", "Fusion", dev_scores=dev, dev_labels=labels, scores=scores)
    np.testing.assert_allclose(found["fusion"].weights_, 2 * means, rtol=0.15)
    assert np.mean((found["llrs"] > 0) == labels) > 0.89


def test_snr_and_magnitude_in_the_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise takes from the score, and the shorter an embedding the more chance is in it."""

    def measure_system(folder: str, *, data: str, snr: bool) -> SimpleNamespace:
        assert (folder, snr) == ("exp/xv", True)
        rng = np.random.default_rng(["dev", "test"].index(data))
        num = 200
        trials = all_pairs(np.repeat(np.arange(20), 10))
        snr_db = rng.uniform(0, 30, num)
        log_lengths = rng.uniform(-2, 1, num)
        rows = rng.standard_normal((num, DIM))
        rows *= np.exp(log_lengths)[:, None] / np.linalg.norm(rows, axis=1, keepdims=True)
        worse_db = np.minimum(snr_db[trials.enroll], snr_db[trials.test])
        chance = 0.03 * np.exp(-np.minimum(log_lengths[trials.enroll], log_lengths[trials.test]))
        scores = 0.3 * trials.target + 0.02 * worse_db + chance * rng.standard_normal(len(trials))
        return SimpleNamespace(
            trials=trials,
            scores=scores,
            embeddings=rows.astype(np.float32),
            duration_s=rng.uniform(1, 9, num),
            snr_db=np.where(np.arange(num) == 7, np.nan, snr_db),
        )

    monkeypatch.setattr("xvectors.report.measure_system", measure_system)
    found = run_example("reference/metrics.md", "More measures: SNR and magnitude")
    target = found["test"].trials.target
    plain = type(found["calibration"])().fit(found["dev"].scores, found["dev"].trials.target)
    costs = [
        ROC.from_scores(llrs[target], llrs[~target]).cllr()
        for llrs in (found["llrs"], plain.transform(found["test"].scores))
    ]
    assert costs[0] < 0.65 * costs[1]
