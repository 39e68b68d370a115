"""What the transformations V and W and training do: the library of ``dsiam_net.analyse``."""
