"""Score files fused: the ratio of Gaussian scores is found, files are matched by names, what misleads is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.commands import run
from xvectors.errors import ManifestError
from xvectors.evaluation.score_files import fuse_score_files
from xvectors.metrics import cllr, eer
from xvectors.trials.score_files import read_scores

MEANS = (0.6, 1.2)


def score_files(folder: Path, name: str, num: int, seed: int) -> tuple[list[Path], NDArray[np.float64]]:
    """Two systems' scores N(+-mean, 1) of the same trials, the second's file in another order; scores [num, 2]."""
    rng = np.random.default_rng(seed)
    target = np.arange(num) % 2 == 0
    scores = np.where(target[:, None], 1, -1) * MEANS + rng.normal(size=(num, 2))
    paths = []
    for system, order in enumerate((np.arange(num), rng.permutation(num))):
        paths.append(folder / f"{name}{system}.txt")
        lines = [f"m{at:05d} u{at:05d} {scores[at, system]:.9g} {int(target[at])}" for at in order]
        paths[-1].write_text("\n".join(lines) + "\n")
    return paths, scores


def test_the_fused_scores_are_llrs_better_than_either(tmp_path: Path) -> None:
    dev, _ = score_files(tmp_path, "dev", 20_000, seed=0)
    files, scores = score_files(tmp_path, "test", 2_000, seed=1)
    fused = fuse_score_files(files, tmp_path / "fused.csv", fit_on=dev)
    # of two independent systems the log ratio is 2 (mean . score)
    np.testing.assert_allclose(fused.fusion.weights_, [1.2, 2.4], rtol=0.05)
    assert (fused.num_target, fused.num_nontarget, fused.num_trials) == (10_000, 10_000, 2_000)
    listed, llrs = read_scores(tmp_path / "fused.csv").labeled()
    assert read_scores(tmp_path / "fused.csv").column == "llr"
    np.testing.assert_allclose(llrs, fused.fusion.transform(scores), rtol=1e-5)
    target = listed.target
    rates = [eer(one[target], one[~target]).eer for one in (llrs, scores[:, 0], scores[:, 1])]
    assert rates[0] < min(rates[1:]) - 0.01
    exact = 2 * scores @ MEANS
    assert cllr(llrs[target], llrs[~target]) == pytest.approx(cllr(exact[target], exact[~target]), abs=0.005)


def test_from_the_command_line_with_a_list(tmp_path: Path) -> None:
    dev, _ = score_files(tmp_path, "dev", 2_000, seed=0)
    files, _ = score_files(tmp_path, "test", 20, seed=1)
    for path in files:
        path.write_text("".join(line.rsplit(" ", 1)[0] + "\n" for line in path.read_text().splitlines()))
    out = tmp_path / "fused.csv"
    options = ("-o", out, "--fit-on", dev[0], "--fit-on", dev[1])
    assert "has no labels: add target or nontarget" in run("fuse", *files, *options, status=2).stderr
    (tmp_path / "trials").write_text("1 m00002 u00002\n0 m00001 u00001\n")
    printed = run("fuse", *files, *options, "--trials", tmp_path / "trials").stdout.splitlines()
    assert printed[0] == "learned from  1,000 target and 1,000 non-target trials"
    assert [line.split()[0] for line in printed[1:4]] == ["weight", "weight", "offset"]
    assert printed[4] == f"2 LLRs: {out}"
    as_json = json.loads(run("fuse", *files, *options, "--trials", tmp_path / "trials", "--json").stdout)
    assert (as_json["num_target_trials"], as_json["num_trials"], as_json["path"]) == (1000, 2, str(out))
    assert [f"{weight:+.4g}" for weight in as_json["weights"].values()] == [line.split()[1] for line in printed[1:3]]
    assert [line.split(",")[:3] for line in out.read_text().splitlines()] == [
        ["enroll", "test", "target"],
        ["m00002", "u00002", "1"],
        ["m00001", "u00001", "0"],
    ]


def test_what_cannot_be_fused(tmp_path: Path) -> None:
    dev, _ = score_files(tmp_path, "dev", 20, seed=0)
    files, _ = score_files(tmp_path, "test", 20, seed=1)
    out = tmp_path / "fused.csv"
    with pytest.raises(ManifestError, match="two or more score files to fuse"):
        fuse_score_files(files[:1], out, fit_on=dev[:1])
    with pytest.raises(ManifestError, match=r"2 score files to fuse and 1 to fit on.*--fit-on"):
        fuse_score_files(files, out, fit_on=dev[:1])
    with pytest.raises(ManifestError, match=r"test0.txt is fused and fitted on"):
        fuse_score_files(files, out, fit_on=[files[0], dev[1]])
    files[1].write_text("".join(line + "\n" for line in files[1].read_text().splitlines()[:-1]))
    with pytest.raises(ManifestError, match=r"has 20 trials and .*test1.txt 19: only systems on the same trials"):
        fuse_score_files(files, out, fit_on=dev)
    assert not out.exists()
