"""Long runs: memory and time of each frame and step, as ``benchmarks/endurance.py`` notes them."""

import sys

import numpy as np
import pytest

import endurance
from endurance import Course, Notes, generated_frames, table
from endurance_figure import LIMIT

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="memory as Linux tells it"
)


def test_both_runs_are_noted_and_drawn(tmp_path, capsys):
    courses = endurance.main(["--frames", "30", "--steps", "12", "--out", str(tmp_path)])
    assert [(c.unit, len(c.seconds)) for c in courses] == [("frames", 30), ("steps", 12)]
    for course in courses:
        assert (np.diff(course.seconds) > 0).all() and (course.bytes > 10 * endurance.MIB).all()
    assert capsys.readouterr().out.count("growth") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"endurance.npz", "endurance.png"}


def test_memory_that_grows_is_told():
    resident = np.r_[np.linspace(10, 100, 10), np.full(80, 100), np.full(10, 103)] * endurance.MIB
    course = Course("frames", np.arange(100) * 0.01, resident)
    assert course.growth() == pytest.approx(0.03)
    assert "+3.00 %" in table([course])
    assert course.each() == pytest.approx((10, 10)) == course.each(mean=True)


def test_notes_take_no_memory_as_they_are_made():
    notes = Notes(1000)
    for _ in range(1000):
        notes.add()
    assert (np.diff(notes.values[:, 0]) > 0).all()
    assert notes.values[-1, 1] <= notes.values[0, 1] + endurance.MIB


def test_generated_frames_are_made_as_they_are_asked_for():
    frames = generated_frames(10**12)
    first, second = next(frames), next(frames)
    assert first.shape == (240, 320, 3) and first.dtype == np.uint8 and (first != second).any()


@pytest.mark.slow
def test_the_memory_of_long_runs_is_flat(tmp_path):
    for course in endurance.main(["--out", str(tmp_path)]):
        assert abs(course.growth()) <= LIMIT
