"""The windows with a real toolkit, where PyQt6 is installed: Qt's own offscreen platform."""

import importlib.util
import subprocess
import sys

import pytest

from golden import ROOT

# A real QApplication must be there before Matplotlib looks for a display.
SCRIPT = """
import os
os.environ["QT_QPA_PLATFORM"] = "offscreen"
from PyQt6 import QtCore, QtTest, QtWidgets
application = QtWidgets.QApplication(["test"])
import numpy as np
from matplotlib import pyplot
from dsiam_net.window import Window, select_box

def at(place):
    canvas = pyplot.gcf().canvas
    x, y = pyplot.gcf().axes[0].transData.transform(place) / canvas.device_pixel_ratio
    return QtCore.QPoint(round(x), round(canvas.height() - y))

def drag(first, last):
    canvas, left = pyplot.gcf().canvas, QtCore.Qt.MouseButton.LeftButton
    canvas.draw()
    QtTest.QTest.mousePress(canvas, left, pos=at(first))
    QtTest.QTest.mouseMove(canvas, at(np.add(first, last) / 2))
    QtTest.QTest.mouseMove(canvas, at(last))
    QtTest.QTest.mouseRelease(canvas, left, pos=at(last))

def key(name):
    QtTest.QTest.keyClick(pyplot.gcf().canvas, getattr(QtCore.Qt.Key, "Key_" + name))

def user(*actions):
    for number, action in enumerate(actions):
        QtCore.QTimer.singleShot(200 * (number + 1), action)

image = np.zeros((24, 32, 3), np.uint8)
user(
    lambda: drag((3, 3), (9, 9)),
    lambda: key("Escape"),
    lambda: key("Return"),
    lambda: drag((4.5, 2.5), (14.5, 8.5)),
    lambda: key("Return"),
)
assert select_box(image).tolist() == [6, 4, 10, 6]
with Window("frames") as window:
    window.add(image)
    window.add(image + 9)
    assert not window.closed
    pyplot.gcf().canvas.manager.window.close()
    assert window.closed
"""


@pytest.mark.skipif(importlib.util.find_spec("PyQt6") is None, reason="PyQt6 is not installed")
def test_a_box_is_drawn_and_frames_are_shown_with_qt():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
