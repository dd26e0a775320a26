"""Kaldi's nnet3 x-vectors, with their back-end."""
