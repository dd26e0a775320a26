"""Diarization of sound as it comes, chunk by chunk: labels within one to three seconds, which then stay.

speech.py finds speech, speakers.py tells speakers apart, names.py asks the gallery who they are, and stream.py joins
them.
"""

from xvectors.diarization.streaming.speakers import OnlineSettings
from xvectors.diarization.streaming.stream import StreamingDiarizer, join_pieces

__all__ = ["OnlineSettings", "StreamingDiarizer", "join_pieces"]
