"""Synthetic corpora of artificial voices by espeak-ng, reproducible to the byte."""

from xvectors.corpus.synth.generate import synthesize

__all__ = ["synthesize"]
