"""Conversations made of utterances of single speakers, one by one and as a corpus."""
