"""What lets other people's tools run this software's trackers and read its data."""
