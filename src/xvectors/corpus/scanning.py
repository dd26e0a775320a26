"""Scan a corpus: check every recording of a manifest, and report which ones cannot be used and why.

Findings are cached.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from xvectors.corpus.columns import GENDER_NAMES
from xvectors.corpus.findings import CLIPPED_SHARE, Finding, FindingCache, Key, examine
from xvectors.corpus.findings import Reason as Reason
from xvectors.corpus.manifest import Manifest
from xvectors.corpus.walk import counted
from xvectors.errors import ManifestError
from xvectors.files import as_on_disk
from xvectors.files.tables import Table, write_table
from xvectors.files.tars import SUFFIX as TAR
from xvectors.files.tars import split_member
from xvectors.progress import progress_bar
from xvectors.text import count, first_few, short_repr

SECONDS_BETWEEN_SAVES = 60.0
ROWS_AT_A_TIME = 4096


@dataclass(frozen=True, slots=True)
class Remark:
    """An utterance that is left out or has a warning."""

    path: str
    speaker: str
    reason: Reason
    detail: str

    def line(self) -> str:
        """The utterance and the reason, as a line of a list."""
        return f"{self.path}: {self.reason.value}" + (f" ({self.detail})" if self.detail else "")


@short_repr()
@dataclass(frozen=True, kw_only=True)
class ScanReport:
    """Result of a scan. Counts are those of the kept utterances, except for `num_speakers`, before the scan."""

    num_utterances: int
    num_speakers: int
    utterances_per_speaker: dict[str, int]
    hours_per_speaker: dict[str, float]
    sample_rates_hz: dict[int, int]
    genders: dict[str, int]
    rejected: list[Remark] = field(default_factory=list)
    warned: list[Remark] = field(default_factory=list)
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Number of files of the folder that are not recordings, by suffix."""

    @property
    def num_kept(self) -> int:
        return sum(self.utterances_per_speaker.values())

    @property
    def hours(self) -> float:
        return math.fsum(self.hours_per_speaker.values())

    @property
    def rejected_share(self) -> float:
        return len(self.rejected) / self.num_utterances

    def lines(self) -> list[str]:
        """Return the report as lines for a terminal."""
        counts = list(self.utterances_per_speaker.values()) or [0]
        genders = ", ".join(f"{count} {name}" for name, count in self.genders.items() if count)
        rates = ", ".join(f"{rate} Hz ({count})" for rate, count in self.sample_rates_hz.items())
        lines = [
            f"{count(self.num_kept, 'utterance')}, {count(len(self.utterances_per_speaker), 'speaker')} ({genders}), "
            f"{self.hours:.2f} hours, {rates}",
            f"utterances per speaker: {min(counts)} to {max(counts)}, median {statistics.median(counts):g}",
        ]
        lost = self.num_speakers - len(self.utterances_per_speaker)
        if lost:
            lines.append(f"speakers without a usable recording: {lost}")
        for title, remarks in (("left out", self.rejected), ("kept, but", self.warned)):
            lines += [
                f"{title} ({reason.value}): {len(paths)}: {_first(paths)}"
                for reason, paths in _by_reason(remarks).items()
            ]
        if self.passed_over:
            lines.append(f"files skipped because of their suffix: {counted(self.passed_over)}")
        return lines

    def to_json(self) -> dict[str, object]:
        """Return the report as values for json.dumps."""
        return {
            "num_utterances": self.num_utterances,
            "num_kept": self.num_kept,
            "num_speakers": self.num_speakers,
            "hours": self.hours,
            "sample_rates_hz": {str(rate): count for rate, count in self.sample_rates_hz.items()},
            "genders": self.genders,
            "utterances_per_speaker": self.utterances_per_speaker,
            "hours_per_speaker": self.hours_per_speaker,
            "rejected_share": self.rejected_share,
            "rejected": [_remark_dict(remark) for remark in self.rejected],
            "warned": [_remark_dict(remark) for remark in self.warned],
            "passed_over": dict(self.passed_over),
        }

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table of all utterances that are left out or have a warning. Raises StorageError."""
        rows = [
            (remark.path, remark.speaker, outcome, remark.reason.value, remark.detail)
            for outcome, remarks in (("left out", self.rejected), ("kept", self.warned))
            for remark in remarks
        ]
        write_table(path, ["path", "speaker", "outcome", "reason", "detail"], rows, errors="backslashreplace")


def read_left_out(path: str | os.PathLike[str]) -> list[Remark]:
    """Read the utterances left out from a table of `ScanReport.write_csv`. Raises ManifestError."""
    table = Table(path)
    try:
        places = [table.header.index(name) for name in ("path", "speaker", "outcome", "reason", "detail")]
        rows = [[row[at] for at in places] for block in table.blocks() for row in block]
        return [Remark(name, who, Reason(why), more) for name, who, outcome, why, more in rows if outcome == "left out"]
    except ValueError as error:
        raise ManifestError(f"{path} is damaged, or not a list of utterances that a scan left out: {error}") from error


@short_repr()
@dataclass(frozen=True)
class ScanResult:
    """The usable rows, with durations, and the report."""

    manifest: Manifest
    report: ScanReport


def scan(
    manifest: Manifest,
    *,
    min_duration_s: float = 0.0,
    workers: int | None = None,
    contents: bool = True,
    cache: bool = True,
    progress: bool = False,
    max_rejected: float = 0.5,
) -> ScanResult:
    """Check every recording, and keep the usable ones.

    Parameters
    ----------
    min_duration_s
        Minimum duration in seconds; shorter utterances are left out.
    workers
        Number of threads, by default one per processor: decoding and hashing release the interpreter lock.
    contents
        Whether to decode the samples, to find silence, NaN, clipping, copies and most truncation. Reading headers
        alone is much faster.
    cache
        Whether to cache findings beside the manifest, or in the cache folder of the user if that is not writable.
        A file is read again if its size or modification time has changed.
    max_rejected
        Largest share of utterances that may be left out.

    Raises
    ------
    ManifestError
        For a path that is listed under two speakers, and if more than `max_rejected`, or all, would be left out.

    Notes
    -----
    A `duration_s` in the manifest makes a row a segment if the manifest has segments; otherwise it describes the file
    and is replaced by the measured duration. Among copies (equal samples) of one speaker, the first is kept. All copies
    of a recording with two speakers are left out, since one of the names is wrong.
    """
    _check_listed_once(manifest)
    findings = _find(manifest, workers or os.cpu_count() or 1, contents, cache, progress)
    faults = [_fault(finding, min_duration_s) for finding in findings]
    for row, detail in manifest.faults.items():
        faults[row] = Reason.CONTRADICTORY, detail
    _find_names_no_table_holds(manifest, faults)
    _find_copies(manifest, findings, faults)
    kept_rows = np.array([row for row, fault in enumerate(faults) if fault is None], dtype=np.int64)
    durations = np.array([finding.duration_s for finding in findings])
    kept = manifest.with_columns(duration_s=durations).take(kept_rows) if len(kept_rows) else None
    rejected = [
        Remark(manifest.path[row], manifest.speakers[manifest.speaker_index[row]], *fault)
        for row, fault in enumerate(faults)
        if fault is not None
    ]
    if kept is None or len(rejected) > max_rejected * len(manifest):
        raise ManifestError(_too_many(manifest, rejected, max_rejected))
    warned = [
        Remark(manifest.path[row], manifest.speakers[manifest.speaker_index[row]], *remark)
        for row in kept_rows.tolist()
        for remark in _warnings(findings[row])
    ]
    rates = Counter(findings[row].sample_rate_hz for row in kept_rows.tolist())
    return ScanResult(kept, _report(manifest, kept, dict(sorted(rates.items())), rejected, warned))


def _find(manifest: Manifest, workers: int, contents: bool, use_cache: bool, progress: bool) -> list[Finding]:
    known = FindingCache(manifest.source) if use_cache and manifest.source is not None else None
    findings: list[Finding] = []
    new, saved = 0, time.monotonic()
    pool = ThreadPoolExecutor(workers)
    try:
        with progress_bar("Scanning", len(manifest), enabled=progress) as bar:
            for keys, paths in _keys(manifest):
                earlier = [known.get(key, contents=contents) if known else None for key in keys]
                unknown = [row for row, finding in enumerate(earlier) if finding is None]
                bar.advance(len(keys) - len(unknown))
                jobs = pool.map(partial(_examine, contents), [(paths[i], keys[i]) for i in unknown])
                for row, finding in zip(unknown, jobs, strict=True):
                    earlier[row] = finding
                    bar.advance()
                    if known is not None:
                        known.put(keys[row], finding)
                        new += finding.lasts
                        if new and time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                            known.save()
                            new, saved = 0, time.monotonic()
                findings += [finding for finding in earlier if finding is not None]
    finally:
        # also on Ctrl-C: findings so far are kept, and threads end after their current recording
        pool.shutdown(cancel_futures=True)
        if known is not None and new:
            known.save()
    return findings


def _examine(contents: bool, job: tuple[str, Key]) -> Finding:
    path, key = job
    return examine(path, key.start_s, key.stated_s, contents=contents)


def _keys(manifest: Manifest) -> Iterator[tuple[list[Key], list[str]]]:
    """Yield blocks of rows with their keys and the paths of their files."""
    has_segments = manifest.has_segments
    root = str(manifest.root)
    rows = zip(manifest.path, manifest.start_s.tolist(), manifest.duration_s.tolist(), strict=True)
    keys, paths = [], []
    for path, start_s, stated_s in rows:
        full = os.path.join(root, path) if path.isascii() else as_on_disk(os.path.join(root, path))
        try:
            inside = split_member(full) if TAR in full else None
            status = os.stat(full if inside is None else inside[0])
            size, mtime_ns = status.st_size, status.st_mtime_ns
        except (OSError, ValueError):  # examined anyway, so that the finding says what is wrong
            size, mtime_ns = -1, -1
        is_stated = has_segments and not math.isnan(stated_s)
        keys.append(Key(path, start_s, stated_s if is_stated else None, size, mtime_ns))
        paths.append(full)
        if len(keys) == ROWS_AT_A_TIME:
            yield keys, paths
            keys, paths = [], []
    if keys:
        yield keys, paths


def _fault(finding: Finding, min_duration_s: float) -> tuple[Reason, str] | None:
    if finding.fault is not None:
        return finding.fault, finding.detail
    if finding.duration_s < min_duration_s:
        return (
            Reason.TOO_SHORT,
            f"lasts {finding.duration_s:.3f} s, at least {min_duration_s:.3f} s are needed",
        )
    return None


def _find_names_no_table_holds(manifest: Manifest, faults: list[tuple[Reason, str] | None]) -> None:
    """Mark names that the table of the corpus cannot hold, which training writes after the scan."""
    bad_speakers = {at for at, name in enumerate(manifest.speakers) if not _is_utf8(name)}
    for row, path in enumerate(manifest.path):
        if faults[row] is not None:
            continue
        if int(manifest.speaker_index[row]) in bad_speakers or not (path.isascii() or _is_utf8(path)):
            faults[row] = (Reason.NOT_UTF8, "the name of the file, or of its speaker, is not UTF-8; rename it")


def _is_utf8(name: str) -> bool:
    """Whether a name is UTF-8; other bytes are surrogates (PEP 383)."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _find_copies(manifest: Manifest, findings: list[Finding], faults: list[tuple[Reason, str] | None]) -> None:
    """Mark utterances with equal content or, if contents were not read, equal path and start."""
    groups: dict[object, list[int]] = {}
    for row, finding in enumerate(findings):
        if faults[row] is None:
            same_place = (manifest.path[row], float(manifest.start_s[row]))
            groups.setdefault(finding.digest or same_place, []).append(row)
    for rows in groups.values():
        speakers = {manifest.speakers[s] for s in manifest.speaker_index[rows].tolist()}
        if len(speakers) > 1:
            names = first_few(sorted(speakers))
            for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
                faults[row] = (
                    Reason.TWO_SPEAKERS,
                    f"the same sound stands under {names}: {manifest.path[other]}",
                )
        else:
            for row in rows[1:]:
                faults[row] = (Reason.DUPLICATE, f"a copy of {manifest.path[rows[0]]}")


def _check_listed_once(manifest: Manifest) -> None:
    for earlier, later in manifest.path.composed().duplicates():
        one, other = manifest.speaker_index[earlier], manifest.speaker_index[later]
        if one != other and manifest.start_s[earlier] == manifest.start_s[later]:
            raise ManifestError(
                f"{manifest.path[later]} is listed under two speakers, {manifest.speakers[one]!r} and "
                f"{manifest.speakers[other]!r}; remove one of the rows"
            )


def _report(
    manifest: Manifest, kept: Manifest, rates: dict[int, int], rejected: list[Remark], warned: list[Remark]
) -> ScanReport:
    counts = np.bincount(kept.speaker_index, minlength=len(kept.speakers))
    hours = np.bincount(kept.speaker_index, weights=kept.duration_s / 3600)
    # the gender of a speaker is that of most of the rows that state one
    votes = [np.bincount(kept.speaker_index[kept.gender == g], minlength=len(counts)) for g in (0, 1)]
    known = (votes[0] + votes[1]) > 0
    female = known & (votes[1] > votes[0])
    tally = (int((known & ~female).sum()), int(female.sum()))
    return ScanReport(
        num_utterances=len(manifest),
        num_speakers=len(manifest.speakers),
        utterances_per_speaker=dict(zip(kept.speakers, counts.tolist(), strict=True)),
        hours_per_speaker=dict(zip(kept.speakers, hours.tolist(), strict=True)),
        sample_rates_hz=rates,
        genders=dict(zip(GENDER_NAMES, tally, strict=True)) | {"unknown": int((~known).sum())},
        rejected=rejected,
        warned=warned,
        passed_over=manifest.passed_over,
    )


def _too_many(manifest: Manifest, rejected: list[Remark], max_rejected: float) -> str:
    where = manifest.source if manifest.source is not None else manifest.root
    reasons = _by_reason(rejected)
    counts = ", ".join(f"{len(paths)} {reason.value}" for reason, paths in reasons.items())
    most_frequent = max(reasons, key=lambda reason: len(reasons[reason]))
    example = next(remark for remark in rejected if remark.reason is most_frequent)
    return (
        f"{where}: {len(rejected)} of {len(manifest)} utterances cannot be used ({counts}), "
        f"more than the share of {max_rejected:g} that may be left out; "
        f"for example {example.path}: {example.detail}"
    )


def _by_reason(remarks: list[Remark]) -> dict[Reason, list[str]]:
    grouped: dict[Reason, list[str]] = {}
    for remark in remarks:
        grouped.setdefault(remark.reason, []).append(remark.path)
    return grouped


def _first(paths: list[str]) -> str:
    """List a few of the paths, in characters that every terminal shows."""
    return first_few(paths).encode("utf-8", "backslashreplace").decode()


def _warnings(finding: Finding) -> Iterator[tuple[Reason, str]]:
    """Yield the warnings about a usable recording."""
    if finding.incomplete:
        yield Reason.INCOMPLETE, finding.incomplete
    if finding.canceled:
        yield Reason.CANCELED, finding.canceled
    if finding.clipped_share > CLIPPED_SHARE:
        yield Reason.CLIPPED, f"{finding.clipped_share:.1%} of the samples at full scale"


def _remark_dict(remark: Remark) -> dict[str, str]:
    return {
        "path": remark.path,
        "speaker": remark.speaker,
        "reason": remark.reason.value,
        "detail": remark.detail,
    }
