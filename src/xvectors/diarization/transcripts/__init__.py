"""Speakers for the words of transcripts: read whisper's JSON and CTM, label each word, and write the same form again.

words.py finds the speaker of each word; json_form.py and ctm_form.py read and write; captions.py makes WebVTT and SRT.
"""

from xvectors.diarization.transcripts.labeling import LabeledTranscript, label_transcript, write_transcript
from xvectors.diarization.transcripts.words import LABEL_GAP_S, Word, speakers_of_spans

__all__ = ["LABEL_GAP_S", "LabeledTranscript", "Word", "label_transcript", "speakers_of_spans", "write_transcript"]
