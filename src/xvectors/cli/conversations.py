"""The command that makes simulated conversations: simulate-conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xvectors.cli.shared import MEASURE, SpeakerLevel, command
from xvectors.cli.terminal import print
from xvectors.errors import ConfigError
from xvectors.text import count


@command(
    MEASURE,
    "xvectors simulate-conversations recordings -o simulated",
    "xvectors simulate-conversations recordings -o simulated --speakers 2..8 --number 20 --overlap 0.3 --rt60 0.3..0.8",
    name="simulate-conversations",
)
def simulate_conversations_command(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Corpus, as in `xvectors train`.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write to.")],
    number: Annotated[int, typer.Option(metavar="N", help="Number of conversations.")] = 10,
    speakers: Annotated[
        str, typer.Option(metavar="N", help="Speakers of each, as 3, or rising within limits, as 2..8.")
    ] = "2..4",
    minutes: Annotated[float, typer.Option(metavar="M", help="Least duration of each.")] = 2.0,
    turn: Annotated[float, typer.Option(metavar="S", help="Mean duration of a turn, in seconds.")] = 4.0,
    pause: Annotated[float, typer.Option(metavar="S", help="Mean pause between turns, in seconds.")] = 0.6,
    overlap: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the turns that begin before the last has ended.")
    ] = 0.15,
    answers: Annotated[
        float, typer.Option(metavar="N", help="Short answers of others per minute while somebody speaks.")
    ] = 0.0,
    rt60: Annotated[
        str, typer.Option(metavar="S", help="Reverberation time in seconds, as 0.2..0.5, or none for no room.")
    ] = "0.2..0.5",
    snr: Annotated[float, typer.Option(metavar="DB", help="Level of the speech above a steady noise.")] = 20.0,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same conversations.")] = 0,
    speaker_level: SpeakerLevel = None,
) -> None:
    """Make simulated conversations from recordings of single speakers, with their turns as RTTM.

    They have exact labels and are easier than real conversations: call figures on them simulated.
    """
    from xvectors.corpus import open_corpus
    from xvectors.diarization import ConversationStyle, SpeakerRange
    from xvectors.diarization.simulation.corpus import RTTM_NAME, UEM_NAME, write_conversations

    if number < 1:
        raise ConfigError(f"--number {number}: ask for 1 or more")
    style = ConversationStyle(
        duration_s=60 * minutes,
        turn_s=turn,
        pause_s=pause,
        overlap=overlap,
        answers_per_min=answers,
        rt60_s=_range_s(rt60),
        snr_db=snr,
    )
    manifest = open_corpus(data, speaker_level=speaker_level)
    written = write_conversations(output, manifest, number, SpeakerRange.of(speakers), style, seed=seed)
    print(f"{count(len(written), 'simulated conversation')} in {output}, with {RTTM_NAME} and {UEM_NAME}")


def _range_s(text: str) -> tuple[float, float] | None:
    if text == "none":
        return None
    low, _, high = text.partition("..")
    try:
        return float(low), float(high or low)
    except ValueError:
        raise ConfigError(f"--rt60 {text!r} is no range of seconds; give one as 0.2..0.5, or none") from None
