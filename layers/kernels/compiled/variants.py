"""Numbers that the kernels are compiled for, known to their sources and to their callers."""

# Numbers in a vector.
LANES = 16
# Direct convolution: blocks of vectors of filters, and of taps in the derivative by filters.
VECTORS = (6, 2, 1)
TAPS = (3, 1)
# Sides of pooling windows that are unrolled; 0 stands for any window.
SIDES = (3, 0)
