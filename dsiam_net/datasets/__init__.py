"""Video sequences on disk, in the layouts of the public data sets: one file a layout.

``recognise.read_sequence(folder)`` reads whatever layout a folder has.
"""
