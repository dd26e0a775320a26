"""CN-Celeb1 and CN-Celeb2: a folder per speaker, with the genre and the session in the file names.

L. Li et al., "CN-Celeb: multi-genre speaker recognition", Speech Communication 137, 2022.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from xvectors.corpus.published.layout import Archive, Found, Layout, Row, Subset, one_file_each, stem

_SPEAKER = re.compile(r"id\d{5}")
_UTTERANCE = re.compile(r"(?P<genre>[a-z_]+)-(?P<session>\d+)-\d+")
_EVALUATED = re.compile(r"(?P<speaker>id\d{5})-(?P<utterance>.+)")
_FIRST_OF_CNCELEB2 = "id10000"
_FIRST_TEST_SPEAKER = "id00800"


def _rows(found: Found) -> Iterator[Row]:
    development = _development(found)
    for tree in found.trees:
        evaluates = any(tree.folder.glob(f"{above}eval/test") for above in ("", "*/", "*/*/"))
        for path in one_file_each(tree.recordings(), found.left_out):
            names = path.split("/")
            if names[-3:-1] in (["eval", "enroll"], ["eval", "test"]):
                if row := _evaluated(tree.prefix + path, names):
                    yield row
                    continue
            elif len(names) > 1 and _SPEAKER.fullmatch(names[-2]):
                speaker = names[-2]
                is_test = (
                    speaker < _FIRST_OF_CNCELEB2 and speaker not in development
                    if development
                    else (_FIRST_TEST_SPEAKER <= speaker < _FIRST_OF_CNCELEB2)
                )
                if is_test and evaluates:
                    found.left_out["of a test speaker, which eval/enroll and eval/test repeat"] += 1
                    continue
                subset = (
                    "cn-celeb2" if speaker >= _FIRST_OF_CNCELEB2 else "cn-celeb1-test" if is_test else "cn-celeb1-dev"
                )
                genre, session = _genre_and_session(speaker, stem(path))
                utterance_id = f"data/{speaker}/{stem(path)}"
                split = "test" if is_test else ""
                yield (tree.prefix + path, utterance_id, speaker, "", "", session, "", split, subset, genre)
                continue
            found.left_out["not in data/SPEAKER, eval/enroll or eval/test"] += 1


def _evaluated(path: str, names: list[str]) -> Row | None:
    """Return the row of an enrollment `id00800-enroll` or a test utterance `id00800-singing-01-002`."""
    match = _EVALUATED.fullmatch(stem(names[-1]))
    if match is None:
        return None
    part, speaker = names[-2], match["speaker"]
    genre, session = _genre_and_session(speaker, match["utterance"])
    utterance_id = f"eval/{part}/{stem(names[-1])}"
    return (path, utterance_id, speaker, "", "", session, "", "test", f"cn-celeb1-{part}", genre)


def _genre_and_session(speaker: str, utterance: str) -> tuple[str, str]:
    match = _UTTERANCE.fullmatch(utterance)
    return (match["genre"], f"{speaker}/{match['genre']}-{match['session']}") if match else ("", "")


def _development(found: Found) -> set[str]:
    """Return the speakers of dev/dev.lst; empty without that list."""
    path = found.companion("dev/dev.lst")
    return set() if path is None else set(Path(path).read_text(encoding="utf-8").split())


LAYOUT = Layout(
    name="cn-celeb",
    title="CN-Celeb",
    archives=(
        Archive(name="cn-celeb_v2.tar.gz", md5={"cn-celeb_v2.tar.gz": "7ab1b214028a7439e26608b2d5a0336c"}),
        Archive(
            name="cn-celeb2_v2.tar.gz",
            parts=tuple(f"cn-celeb2_v2.tar.gz{part}" for part in ("aa", "ab", "ac")),
            md5={
                "cn-celeb2_v2.tar.gzaa": "4cdf738cff565ce35ad34274848659c3",
                "cn-celeb2_v2.tar.gzab": "4ff59a7009b79ef7043498ad3882b81b",
                "cn-celeb2_v2.tar.gzac": "3aa8e6e7f7ec4382f9926b1b31498228",
            },
        ),
    ),
    pattern=re.compile(r"cn-?celeb.*", re.IGNORECASE),
    subsets=(
        Subset(name="cn-celeb1-dev", num_speakers=797),
        Subset(name="cn-celeb1-enroll", num_speakers=196),
        Subset(name="cn-celeb1-test", num_recordings=17_777),
        Subset(name="cn-celeb2", num_speakers=1_996, num_recordings=520_000, at_least=True),
    ),
    figures_from="OpenSLR 82 and the evaluation plan of CNSRC 2022",
    hashes_from="the download scripts of WeSpeaker and Kiwano, for OpenSLR 82",
    extra=("genre",),
    rows=_rows,
    expected="CN-Celeb_flac/data/id00000/drama-01-001.flac and CN-Celeb_flac/eval",
)
