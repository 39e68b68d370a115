"""TraX sessions: trackers driven by vot-trax's client, and by the VOT toolkit in a workspace."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from analysing import tiny_net
from dsiam_net.adapters.trax import frame_of, import_trax, region_of, serve
from dsiam_net.sequences import read_image
from dsiam_net.tracker import create_tracker
from dsiam_net.tracking import track_sequence
from dsiam_net.vot import main
from evaluation_stubs import DriftingTracker, write_sequence
from golden import ROOT

FRAMES = 4
# TraX sends single precision, written with four decimals.
ROUNDING = 2e-4
# The VOT toolkit's program; it may have an environment of its own.
VOT = os.environ.get("VOT_TOOLKIT") or shutil.which("vot")


@pytest.fixture
def trax():
    return pytest.importorskip("trax", reason="vot-trax is not installed (pip install vot-trax)")


@pytest.fixture
def weights(tmp_path):
    tiny_net().save(tmp_path / "tiny.npz")
    return tmp_path / "tiny.npz"


@pytest.fixture
def sequence(tmp_path):
    return write_sequence(tmp_path / "data" / "A", FRAMES)


def command(weights, tracker="dsiamm"):
    return [sys.executable, "-m", "dsiam_net.vot", "--tracker", tracker, "--weights", str(weights)]


class Session:
    """A tracker's process and the client that talks to it."""

    def __init__(self, weights, tracker="dsiamm"):
        from trax.client import Client

        self.process = subprocess.Popen(
            command(weights, tracker),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        streams = (self.process.stdin.fileno(), self.process.stdout.fileno())
        self.said = []
        self.client = Client(stream=streams, timeout=120, log=self.said.append)

    def end(self):
        self.client.quit()
        return self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.communicate()


def ours(answers):
    """Boxes, 1-based, of a client's answers."""
    return [np.add(objects[0][0].bounds(), [1, 1, 0, 0]) for objects, _ in answers]


def test_a_session_gives_the_boxes_of_the_library(trax, weights, sequence):
    expected = track_sequence(create_tracker("dsiamm", tiny_net()), sequence).boxes
    x, y, w, h = sequence.boxes[0]
    with Session(weights) as session:
        client = session.client
        assert client.tracker_name == "dsiamm" and client.tracker_family == "DSiam"
        assert client.region_formats == ["rectangle", "polygon"]
        target = [(trax.Rectangle.create(x - 1, y - 1, w, h), {})]
        for _ in range(2):  # started again in the same session, on paths and on pixels
            images = [{"color": trax.FileImage.create(str(path))} for path in sequence.paths]
            answers = [client.initialize(images[0], target, {})]
            answers += [client.frame(image, objects=[]) for image in images[1:]]
            assert np.abs(np.array(ours(answers)) - expected).max() < ROUNDING
            images = [
                {"color": trax.MemoryImage.create(read_image(path))} for path in sequence.paths
            ]
        assert float(answers[-1][0][0][1]["confidence"]) and not answers[0][0][0][1]
        assert session.end() == 0
        said = "".join(session.said)
        assert said.count("@@TRAX:state") == 2 * FRAMES and "@@TRAX:quit" in said


def test_a_refused_target_ends_the_session_with_the_reason(trax, weights, sequence):
    with Session(weights, "siamfc") as session:
        image = {"color": trax.FileImage.create(str(sequence.paths[0]))}
        with pytest.raises(trax.TraxException, match=r"terminated the session.*outside"):
            session.client.initialize(image, [(trax.Rectangle.create(500, 500, 9, 9), {})], {})
        assert session.process.wait(60) == 2
        assert "outside" in session.process.stderr.read()


def test_a_client_that_went_away_is_an_error(trax, weights):
    done = subprocess.run(
        command(weights, "siamfc"), cwd=ROOT, input="hello\n", capture_output=True, text=True
    )
    assert done.returncode == 2 and "the TraX client went away" in done.stderr


# Regions and images


def test_regions_are_counted_from_one(trax):
    rectangle = trax.Rectangle.create(2.5, 3, 10, 20)
    assert region_of(rectangle).tolist() == [3.5, 4, 10, 20]
    corners = [(0.0, 0.0), (10.0, 0.0), (10.0, 5.0), (0.0, 5.0)]
    assert region_of(trax.Polygon.create(corners)).tolist() == [1, 1, 11, 1, 11, 6, 1, 6]
    five = trax.Polygon.create([(3.0, 1.0), (9.0, 1.0), (12.0, 4.0), (6.0, 9.0), (1.0, 4.0)])
    assert region_of(five).tolist() == [2, 2, 11, 8]
    mask = trax.Mask.create(np.ones((2, 3), np.uint8))
    with pytest.raises(ValueError, match="expected a rectangle or a polygon, received a mask"):
        region_of(mask)


def test_images_of_every_kind_in_memory_become_frames(trax, rng):
    colour = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    assert np.array_equal(frame_of(trax.MemoryImage.create(colour)), colour)
    assert np.array_equal(frame_of(trax.MemoryImage.create(colour[:, :, 0])), colour[:, :, 0])
    deep = rng.integers(0, 65536, (4, 6), dtype=np.uint16)
    assert np.array_equal(frame_of(trax.MemoryImage.create(deep)), deep >> 8)
    with pytest.raises(ValueError, match="as a path or in memory, received a url"):
        frame_of(trax.URLImage.create("http://example.org/1.jpg"))


def test_more_targets_than_one_are_refused(trax, sequence):
    """A server that asks once, for two targets."""
    objects = [(trax.Rectangle.create(1, 1, 5, 5), {})] * 2
    image = trax.FileImage.create(str(sequence.paths[0]))
    request = SimpleNamespace(type="initialize", image={"color": image}, objects=objects)
    reasons = []
    server = SimpleNamespace(wait=lambda: request, quit=lambda reason: reasons.append(reason))
    with pytest.raises(ValueError, match="expected one target, received 2"):
        serve(DriftingTracker(), server)
    assert reasons == ["expected one target, received 2"]


def test_the_command_without_the_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "trax", None)
    with pytest.raises(ImportError, match=r"pip install 'dsiam\[vot\]'"):
        import_trax()
    with pytest.raises(ImportError, match="needs the package vot-trax"):
        main(["--tracker", "siamfc", "--random-weights"])


# The toolkit's own stack


STACK = """
title: A small stack
experiments:
  unsupervised:
    type: unsupervised
    repetitions: 1
    analyses:
      - type: average_accuracy
        name: accuracy
        burnin: 1
        ignore_unknown: False
"""


def write_workspace(folder, sequence, line, frames):
    """A workspace of the VOT toolkit with one sequence, one stack and one tracker."""
    data = folder / "sequences" / "A"
    (data / "color").mkdir(parents=True)
    for number, path in enumerate(sequence.paths, start=1):
        shutil.copyfile(path, data / "color" / f"{number:08d}.png")
    zero_based = sequence.boxes - [1, 1, 0, 0]
    np.savetxt(data / "groundtruth.txt", zero_based, delimiter=",", fmt="%g")
    height, width = sequence.frame(0).shape[:2]
    (data / "sequence").write_text(
        f"name=A\nfps=30\nwidth={width}\nheight={height}\nlength={frames}\n"
        "channels.color=color/%08d.png\n"
    )
    (folder / "sequences" / "list.txt").write_text("A\n")
    (folder / "stack.yaml").write_text(STACK)
    (folder / "config.yaml").write_text("registry: [./trackers.ini]\nstack: ./stack.yaml\n")
    (folder / "trackers.ini").write_text(
        f"[DSiamM]\nlabel = DSiamM\nprotocol = trax\ncommand = {' '.join(line)}\n"
        f"timeout = 300\nenv_PYTHONPATH = {ROOT}\n"
    )


@pytest.mark.skipif(
    VOT is None,
    reason="the VOT toolkit is not there (pip install vot-toolkit, or its program in $VOT_TOOLKIT)",
)
def test_the_vot_toolkits_stack_runs_our_tracker(trax, weights, sequence, tmp_path):
    workspace = tmp_path / "workspace"
    write_workspace(workspace, sequence, command(weights), FRAMES)
    for words in (["evaluate", "DSiamM"], ["analysis", "DSiamM"]):
        done = subprocess.run(
            [VOT, words[0], "--workspace", str(workspace), words[1]], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    (result,) = (workspace / "results" / "DSiamM").rglob("A_001.bin")
    assert result.is_file()
