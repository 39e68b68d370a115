"""Tests of dsiam_net.drawing."""

import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter

import cv2
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dsiam_net.branches import siamfc_branch, vgg19_branch
from dsiam_net.drawing import draw_unrolled, unrolled_page
from dsiam_net.unrolled import UnrolledSettings, build_unrolled

SVG = "{http://www.w3.org/2000/svg}"
A3 = (16.54, 11.69)  # inches
POINTS = 72  # an inch

# Branch, settings, frame that is drawn, layers of a frame.
NETWORKS = {
    "paper": (siamfc_branch, {}, 2, 94),
    "last frame": (siamfc_branch, {}, 10, 94),
    "first frame": (siamfc_branch, {"frames": 2}, 1, 94),
    "single layer": (siamfc_branch, {"frames": 1, "features": ("feat",)}, 1, 88),
    "inner layer": (siamfc_branch, {"frames": 3, "features": ("x14",)}, 2, 88),
    "other order": (siamfc_branch, {"frames": 3, "features": ("x14", "feat")}, 2, 94),
    "three layers": (siamfc_branch, {"frames": 3, "features": ("feat", "x14", "x11")}, 2, 99),
    "given centres": (siamfc_branch, {"frames": 3, "crops": "ground-truth"}, 3, 94),
    "first frame, given centres": (
        siamfc_branch,
        {"frames": 2, "crops": "ground-truth"},
        1,
        94,
    ),
    "VGG-19": (vgg19_branch, {"frames": 23, "features": ("x36", "x27")}, 2, 199),
}


class Drawing:
    """What an SVG file shows: shapes and wires by id, and texts."""

    def __init__(self, path):
        self.root = ElementTree.parse(path).getroot()
        self.texts = ["".join(node.itertext()) for node in self.root.iter(f"{SVG}text")]
        groups = {g.get("id"): g for g in self.root.iter(f"{SVG}g")}
        paths = {key: g.find(f"{SVG}path") for key, g in groups.items()}
        self.points = {
            key: [
                tuple(float(n) for n in pair)
                for pair in re.findall(r"[ML] (-?[\d.e-]+) (-?[\d.e-]+)", path.get("d"))
            ]
            for key, path in paths.items()
            if path is not None
        }

    def box(self, key):
        """Left, top, right, bottom; SVG points."""
        x, y = zip(*self.points[key])
        return min(x), min(y), max(x), max(y)


@pytest.fixture(scope="module", params=NETWORKS)
def drawn(request, tmp_path_factory):
    """A network, the frame that is drawn, and its drawing."""
    branch, settings, frame, count = NETWORKS[request.param]
    net = build_unrolled(branch(), UnrolledSettings(**settings))
    path = tmp_path_factory.mktemp("drawing") / "net.svg"
    draw_unrolled(net, path, frame)
    return net, frame, count, Drawing(path)


def is_given(net):
    return net.meta["unrolled"]["crops"] == "ground-truth"


def layers_of(net, frame):
    return [record for record in net.layers if record.name.startswith(f"f{frame}_")]


def test_every_layer_of_the_frame_has_a_box(drawn):
    net, frame, count, drawing = drawn
    names = {record.name for record in layers_of(net, frame)}
    assert len(names) == count
    assert {key for key in drawing.points if re.fullmatch(r"f\d+_\w+", key)} == names


def test_every_wire_of_the_frame_is_drawn_and_no_other(drawn):
    net, frame, _, drawing = drawn
    graph = net.to_networkx()
    nodes = [("layer", record.name) for record in layers_of(net, frame)]
    wires = {f"{v}--{name}" for node in nodes for (_, v), (_, name) in graph.in_edges(node)}
    found = {k for k in drawing.points if "--f" in k and not k.startswith("chain:")}
    assert found == wires


def test_what_comes_from_and_goes_to_other_frames_is_shown(drawn):
    net, frame, _, drawing = drawn
    own = layers_of(net, frame)
    written = {v for record in own for v in record.outputs}
    pills = {key for key in drawing.points if key.startswith("var:")}
    inputs = {f"var:{v}" for record in own for v in record.inputs if v not in written}
    assert inputs <= pills
    onward = {
        v for record in net.layers if record not in own for v in record.inputs if v in written
    }
    last = frame == net.meta["unrolled"]["frames"]
    handed = set() if last or is_given(net) else {f"score{frame}", f"center{frame}"}
    assert onward == handed
    results = {f"{name}{frame}" for name in ("center", "objective", "errdisp", "errmax")}
    unread = {f"f{frame}_o_center", f"f{frame}_g_center"}
    assert pills - inputs == {f"var:out:{v}" for v in onward | results | unread}


def test_the_frames_stand_in_a_chain(drawn):
    net, _, count, drawing = drawn
    frames = net.meta["unrolled"]["frames"]
    for t in range(1, frames + 1):
        assert f"chain{t}" in drawing.points
        assert f"frame {t}" in drawing.texts
        places = f"score{t - 1},center{t - 1}"
        if is_given(net):
            places = f"given_center{max(t - 1, 1)}"
        assert f"chain:{places}" in drawing.points
        # A frame reads its image and, but for the first, the one before.
        for image in {max(t - 1, 1), t}:
            assert f"chain:frame{image}--chain{t}" in drawing.points
        assert f"chain:sides,color,template--chain{t}" in drawing.points
    assert drawing.texts.count(f"{count} layers") == frames


def test_parameters_are_named_once(drawn):
    net, _, _, drawing = drawn
    words = Counter(re.findall(r"[a-z]\w*", " ".join(drawing.texts)))
    for parameter in net.params:
        assert words[parameter.name] == 1, parameter.name
    assert f"{len(net.layers)} layers, {len(net.params)} parameters" in drawing.texts[0]


def test_types_are_counted_in_the_legend(drawn):
    net, frame, count, drawing = drawn
    counts = Counter(record.type.removeprefix("dagnn.") for record in layers_of(net, frame))
    for kind, number in counts.items():
        assert f"{kind} ({number})" in drawing.texts
    assert sum(counts.values()) == count


def inside(box, segment):
    (x0, y0), (x1, y1) = segment
    left, top, right, bottom = box
    slack = 0.5
    return (
        max(x0, x1) > left + slack
        and min(x0, x1) < right - slack
        and max(y0, y1) > top + slack
        and min(y0, y1) < bottom - slack
    )


def wires_of(drawing):
    return {k: list(itertools.pairwise(p)) for k, p in drawing.points.items() if "--" in k}


def test_wires_pass_through_no_box(drawn):
    _, _, _, drawing = drawn
    boxes = {
        key: drawing.box(key)
        for key in drawing.points
        if re.fullmatch(r"f\d+_\w+|chain\d+|var:.*", key)
    }
    for key, segments in wires_of(drawing).items():
        for name, box in boxes.items():
            assert not any(inside(box, segment) for segment in segments), (key, name)


def test_wires_of_two_variables_never_run_along_each_other(drawn):
    _, _, _, drawing = drawn
    upright = []
    for key, segments in wires_of(drawing).items():
        variable = key.split("--")[0]
        for (x0, y0), (x1, y1) in segments:
            if abs(x0 - x1) < 1e-3:
                upright.append(("x", x0, *sorted((y0, y1)), variable))
            else:
                assert abs(y0 - y1) < 1e-3, key
                upright.append(("y", y0, *sorted((x0, x1)), variable))
    for first, second in itertools.combinations(upright, 2):
        near = first[0] == second[0] and abs(second[1] - first[1]) < 1
        overlap = min(first[3], second[3]) - max(first[2], second[2])
        assert not near or overlap < 1 or first[4] == second[4], (first, second)


def test_no_text_lies_on_text_or_on_a_wire_or_leaves_the_page(drawn):
    net, frame, _, drawing = drawn
    page = unrolled_page(net, frame)
    figure = page.figure
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height = figure.get_size_inches() * POINTS
    scale = POINTS / figure.dpi
    extents = []
    for text in page.axes.texts:
        assert text.get_fontsize() >= 5  # points: readable without a magnifier
        box = text.get_window_extent(renderer)
        left, right = box.x0 * scale, box.x1 * scale
        top, bottom = height - box.y1 * scale, height - box.y0 * scale
        assert 0 < left and right < width and 0 < top and bottom < height, text
        extents.append((text.get_text(), (left, top, right, bottom)))
    for (text, box), (other, second) in itertools.combinations(extents, 2):
        wide = min(box[2], second[2]) - max(box[0], second[0])
        high = min(box[3], second[3]) - max(box[1], second[1])
        assert wide <= 0 or high <= 0, (text, other)
    for key, segments in wires_of(drawing).items():
        for text, box in extents:
            assert not any(inside(box, segment) for segment in segments), (key, text)


def test_the_papers_network_fits_an_a3_page(tmp_path):
    net = build_unrolled(siamfc_branch())
    assert tuple(unrolled_page(net).figure.get_size_inches()) == A3
    path = tmp_path / "folder" / "net.png"
    draw_unrolled(net, path)
    height, width = cv2.imread(str(path)).shape[:2]
    assert (width, height) == (int(A3[0] * 150), int(A3[1] * 150))
    draw_unrolled(net, tmp_path / "net.pdf")
    assert (tmp_path / "net.pdf").read_bytes().startswith(b"%PDF")


def test_the_same_network_gives_the_same_file(tmp_path):
    net = build_unrolled(siamfc_branch(), UnrolledSettings(frames=2))
    for name in ("a.svg", "b.svg"):
        draw_unrolled(net, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_what_cannot_be_drawn_is_refused(tmp_path):
    net = build_unrolled(siamfc_branch(), UnrolledSettings(frames=2))
    with pytest.raises(ValueError, match="1 to 2, received 3"):
        draw_unrolled(net, tmp_path / "net.svg", frame=3)
    with pytest.raises(ValueError, match="build_unrolled"):
        draw_unrolled(siamfc_branch(), tmp_path / "net.svg")
    with pytest.raises(ValueError, match="suffix"):
        draw_unrolled(net, tmp_path / "net.txt")
    assert not list(tmp_path.iterdir())
