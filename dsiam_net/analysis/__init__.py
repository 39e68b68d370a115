"""What the transformations V and W do, shown and counted: the library of ``dsiam_net.analyse``."""
