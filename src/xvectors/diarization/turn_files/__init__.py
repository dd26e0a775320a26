"""The files of turns: RTTM, UEM, JSON, WebVTT, SubRip and Audacity, and annotations of pyannote."""
