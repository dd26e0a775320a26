"""VBx beside its reference implementation and pyannote's community-1 pipeline, on numbers that both published."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigh

from xvectors.diarization import read_rttm
from xvectors.diarization.clustering.ahc import average_linkage
from xvectors.diarization.clustering.vbx import soft_assignment, vbx
from xvectors.diarization.turns import as_arrays
from xvectors.metrics import SpeakerTurns, diarization_errors
from xvectors.system.importers.kaldi.files import read_plda

pytestmark = pytest.mark.real

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

TRANSFORM = {"mean1": (2048, (256,)), "mean2": (4096, (128,)), "lda": (5120, (256, 128))}
"""Where the arrays lie in the HDF5 file, which are neither chunked nor compressed, and their shapes."""


def folder(name: str) -> Path:
    path = REAL_DATA / "diarization" / name
    if not path.is_dir():
        pytest.skip(f"no {path.name} at data/diarization beside the checkout")
    return path


def vectors(ark: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The names and the float vectors of a binary archive of Kaldi."""
    data, at = ark.read_bytes(), 0
    while at < len(data):
        end = data.index(b" ", at)
        assert data[end + 1 : end + 7] == b"\0BFV \x04"
        (size,) = struct.unpack_from("<i", data, end + 7)
        yield data[at:end].decode(), np.frombuffer(data, "<f4", size, end + 11)
        at = end + 11 + 4 * size


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def own_threshold(scores: np.ndarray) -> float:
    """Where two Gaussians of one variance, fitted to the scores, are equally likely: the reference's start of AHC."""
    weight, variance = np.array([0.5, 0.5]), float(scores.var())
    mean = scores.mean() + scores.std() * np.array([-1.0, 1.0])
    for _ in range(20):
        likelihood = weight * np.exp(-0.5 * (scores[:, None] - mean) ** 2 / variance)
        share = likelihood / likelihood.sum(axis=1, keepdims=True)
        count = share.sum(axis=0)
        weight, mean = count / len(scores), scores @ share / count
        variance = float((scores**2 @ share / count - mean**2) @ weight)
    # the reference takes the weights squared
    return float((np.diff(mean**2) / variance - 2 * np.diff(np.log(weight)))[0] / 2 * variance / np.diff(mean)[0])


def turns_of(starts: np.ndarray, ends: np.ndarray, labels: np.ndarray) -> list[tuple[float, float, int]]:
    """Join neighbors of one label; where those of two overlap, cut in the middle."""
    turns: list[list[float]] = []
    for start, end, label in zip(starts, ends, labels.tolist(), strict=True):
        if turns and turns[-1][2] == label and start <= turns[-1][1] + 1e-6:
            turns[-1][1] = end
            continue
        if turns and start < turns[-1][1]:
            turns[-1][1] = start = (turns[-1][1] + start) / 2
        turns.append([start, end, label])
    return [(start, end, int(label)) for start, end, label in turns]


def test_a_meeting_is_clustered_as_by_the_reference() -> None:
    """ES2005a of AMI, with the reference's embeddings, transforms and PLDA: the same turns as in its output."""
    data = folder("vbx-es2005a")
    names, found = zip(*vectors(data / "embeddings.ark"), strict=True)
    segments = [line.split() for line in (data / "segments.seg").read_text().splitlines()]
    assert [each[0] for each in segments] == list(names)
    starts, ends = (np.array([float(each[at]) for each in segments]) for at in (2, 3))
    raw = (data / "transform.h5").read_bytes()
    mean1, mean2, lda = (
        np.frombuffer(raw, "<f8", int(np.prod(shape)), offset).reshape(shape) for offset, shape in TRANSFORM.values()
    )
    x = unit((unit(np.stack(found) - mean1) @ lda) - mean2)
    similarity = x @ x.T
    labels = average_linkage(similarity, own_threshold(similarity.ravel()) - 0.015)
    plda = read_plda(data / "plda")
    within = np.linalg.inv(plda.transform.T @ plda.transform)
    between = np.linalg.inv((plda.transform.T / plda.psi) @ plda.transform)
    psi, basis = eigh(between, within)
    features = ((x - plda.mean) @ basis)[:, ::-1][:, :128]
    result = vbx(features, psi[::-1][:128], soft_assignment(labels, 5.0), loop_probability=0.99, fa=0.3, fb=17.0)
    assert np.all(np.diff(result.evidence) > -1e-6)
    ours = turns_of(starts, ends, result.posterior.argmax(axis=1))
    theirs = read_rttm(data / "vbx.rttm").turns["ES2005a"]
    assert len(ours) == len(theirs)
    same = diarization_errors(as_arrays(theirs), SpeakerTurns.of(*zip(*ours, strict=True)))
    assert same.der < 1e-5
    # its labels are its own speakers' numbers
    pairs = {(turn.speaker, label) for turn, (_, _, label) in zip(theirs, ours, strict=True)}
    assert len(pairs) == len({turn.speaker for turn in theirs})


def test_the_pipeline_of_community_1_step_by_step() -> None:
    """Its embeddings to clusters at 0.6, and its PLDA features to its posterior and priors, with Fa 0.07 and Fb 0.8."""
    data = folder("vbx-pipeline")
    load = {path.stem: np.load(path) for path in data.glob("*.npy")}
    x = unit(load["train_embeddings"].astype(np.float64))
    # it joins by the distance of centroids, up to 0.6: 1 - 0.6 ** 2 / 2 as a cosine
    labels = average_linkage(x @ x.T, 1 - 0.6**2 / 2)
    np.testing.assert_array_equal(labels, load["ahc_clusters"])
    result = vbx(
        load["plda_features"],
        load["plda_phi"],
        soft_assignment(load["ahc_clusters"], 7.0),
        loop_probability=0.0,
        fa=0.07,
        fb=0.8,
        iterations=20,
        tolerance=1e-4,
    )
    np.testing.assert_allclose(result.posterior, load["vbx_gamma"], atol=1e-6)
    np.testing.assert_allclose(result.priors, load["vbx_pi"], atol=1e-6)
