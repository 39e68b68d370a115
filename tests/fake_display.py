"""A Matplotlib backend for tests: a window without a screen, whose user does what he is told.

``actions`` is what the user does while a window waits for him: ``("drag", from, to)`` with places
(x, y) in the picture, ``("key", name)`` and ``("close",)``.
"""

from matplotlib import pyplot
from matplotlib.backend_bases import CloseEvent, FigureManagerBase, KeyEvent, MouseEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg

actions: list[tuple] = []


class FigureManager(FigureManagerBase):
    """A window that waits until ``actions`` are done."""

    @classmethod
    def start_main_loop(cls):
        for action, *arguments in list(actions):
            if not pyplot.get_fignums():
                return
            figure = pyplot.gcf()
            figure.canvas.draw()
            if action == "drag":
                for name, place in zip(
                    ("button_press_event", "motion_notify_event", "button_release_event"),
                    (arguments[0], arguments[1], arguments[1]),
                ):
                    x, y = figure.axes[0].transData.transform(place)
                    button = 1
                    MouseEvent(name, figure.canvas, x, y, button)._process()
            elif action == "key":
                KeyEvent("key_press_event", figure.canvas, arguments[0])._process()
            else:
                pyplot.close(figure)

    def destroy(self):
        CloseEvent("close_event", self.canvas)._process()

    def show(self):
        """Nothing appears."""


class FigureCanvas(FigureCanvasAgg):
    """Says that it needs a toolkit, as interactive ones do; the one that machines without have."""

    required_interactive_framework = "headless"
    manager_class = FigureManager
