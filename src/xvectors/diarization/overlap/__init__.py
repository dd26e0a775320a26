"""Overlapped speech: where several people speak at once, and who the second one is."""

from typing import TYPE_CHECKING

from xvectors.lazy import lazy_names

if TYPE_CHECKING:
    from xvectors.diarization.overlap.counting import Counter as Counter
    from xvectors.diarization.overlap.counting import SpeakerCounts as SpeakerCounts
    from xvectors.diarization.overlap.counting import count_speakers as count_speakers
    from xvectors.diarization.overlap.counting import find_counter as find_counter
    from xvectors.diarization.overlap.network import SpeakerCounter as SpeakerCounter
    from xvectors.diarization.overlap.speakers import with_second_speakers as with_second_speakers

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    counting="Counter SpeakerCounts count_speakers find_counter",
    network="SpeakerCounter",
    speakers="with_second_speakers",
)
