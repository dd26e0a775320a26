"""What computations of the same thing may differ by, on any processor.

float32 keeps 24 bits: each operation rounds by up to 6e-8 of its result. In which order a product's terms are added
depends on the kernel, and the kernel on the processor (AVX2, AVX-512, AMX, ARM), on the number of threads and on the
shape: a recording alone, in a batch, and from a file beside an array need not agree to the last bit anywhere. Exact
equality may be asserted of two runs of one computation with the same shapes in one process, and of nothing else.
"""

ROUNDING = 1e-5
"""Embeddings and features of the tests' networks (of size 1 to 10) by another order of the same additions. A few
hundred roundings of 6e-8 that do not know of each other make 1e-6, and 1.7e-6 has been seen; a mistake makes 1e-3 and
more."""
BATCHED = 1e-4
"""What DESIGN promises of a recording alone and in a padded batch, and of an exported or imported network."""
