"""A small data set in the layout of ILSVRC-2015 VID, written by hand."""

from pathlib import Path

import cv2
import numpy as np

PART = "train/ILSVRC2015_VID_train_0000"

_ANNOTATION = """<annotation>
	<folder>{folder}</folder>
	<filename>{name}</filename>
	<source>
		<database>ILSVRC_2015</database>
	</source>
	<size>
		<width>{width}</width>
		<height>{height}</height>
	</size>
{objects}</annotation>
"""
_OBJECT = """	<object>
		<trackid>{track}</trackid>
		<name>{label}</name>
		<bndbox>
			<xmax>{xmax}</xmax>
			<xmin>{xmin}</xmin>
			<ymax>{ymax}</ymax>
			<ymin>{ymin}</ymin>
		</bndbox>
		<occluded>{occluded}</occluded>
		<generated>{generated}</generated>
	</object>
"""


def an_object(xmin, ymin, xmax, ymax, track=0, label="n02084071", occluded=0, generated=0):
    """The element of an object; corners as the files have them, from 0."""
    return _OBJECT.format(**locals())


def annotation(objects=(), size=(160, 120), folder="", name="000000"):
    """The text of an annotation file; ``objects`` are elements."""
    width, height = size
    return _ANNOTATION.format(
        folder=folder, name=name, width=width, height=height, objects="".join(objects)
    )


def write_frame(root: Path, video: str, number: int, objects=(), image=True, **options) -> Path:
    """Write a frame's annotation and, if ``image``, its picture; the annotation's path."""
    xml = root / "Annotations" / "VID" / video / f"{number:06d}.xml"
    xml.parent.mkdir(parents=True, exist_ok=True)
    xml.write_text(annotation(objects, folder=video, name=xml.stem, **options))
    if image:
        write_image(root, video, number)
    return xml


def write_image(root: Path, video: str, number: int) -> Path:
    """Write a frame's picture, grey of a value that follows from its number."""
    path = root / "Data" / "VID" / video / f"{number:06d}.JPEG"
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(".jpg", np.full((120, 160, 3), 20 + number, np.uint8))
    path.write_bytes(data.tobytes())
    return path


def write_video(root: Path, video: str, frames: int = 15, side: int = 30) -> None:
    """A video of one target that moves to the right, one pixel a frame."""
    for t in range(frames):
        write_frame(root, video, t, [an_object(10 + t, 20, 9 + t + side, 19 + side)])
