"""The synthetic corpus: artificial voices made with espeak-ng, to try everything without recordings.

In: a folder, how many speakers and utterances, a seed. Out: recordings, metadata.csv; always the same bytes.
"""

from xvectors.corpus.synth.generate import synthesize

__all__ = ["synthesize"]
