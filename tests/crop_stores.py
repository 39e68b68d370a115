"""Small crop stores for tests."""

import json

import cv2
import numpy as np

from dsiam_net.crops import CropStore, Track, write_crops


def make_store(folder, tracks, size=255, frames=6, still=False, seed=0):
    """Write a store of noise: ``tracks`` are names of videos, with a track each."""
    rng = np.random.default_rng(seed)
    made = []
    for number, video in enumerate(tracks):
        paths = []
        for k in range(1 if still else frames):
            image = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (120, 90))
            path = folder / "frames" / f"{number}-{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
            paths.append(path)
        boxes = np.tile([40.0, 30.0, 24.0, 18.0], (len(paths), 1))
        made.append(Track("target", video, paths, boxes))
    return write_crops(made, folder / "crops", size=size)


def fake_store(folder, lengths, videos=None, size=255):
    """The index alone of a store whose tracks have so many crops."""
    statistics = {"mean": [0, 0, 0], "covariance": np.eye(3).tolist()}
    tracks = [
        {
            "name": f"t{number}",
            "video": videos[number] if videos else f"v{number}",
            "folder": f"v{number}",
            "files": [f"{k}.jpg" for k in range(length)],
            "frames": list(range(1, length + 1)),
            "positions": list(range(length)),
            "sizes": [[50, 40]] * length,
        }
        for number, length in enumerate(lengths)
    ]
    content = {
        "format": "dsiam crops",
        "version": 1,
        "size": size,
        "exemplar_size": 127,
        "statistics": {"exemplar": statistics, "instance": statistics},
        "tracks": tracks,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").write_text(json.dumps(content))
    return CropStore(folder)
