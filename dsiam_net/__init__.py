"""dsiam_net: the DSiam network and its use: builders, data, labels, tracker and commands."""
