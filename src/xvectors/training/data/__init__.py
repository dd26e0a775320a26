"""What training reads: the prepared corpus, chunks of its recordings, their order, and the loader processes."""
