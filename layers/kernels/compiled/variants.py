"""Numbers that the kernels are compiled for, known to their sources and to their callers."""

# Numbers in a vector.
LANES = 16
# Sides of pooling windows that are unrolled; 0 stands for any window.
SIDES = (3, 0)
