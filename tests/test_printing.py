"""Tests of dagnet.printing: the tables of MatConvNet's DagNN.print, and dot graphs.

The expected texts were written by hand after ``@DagNN/print.m``; numbers are worked out there.
"""

import csv
import io
import math

import networkx
import numpy as np
import pytest

from dagnet import DagNN, DagNNError, UnknownNameError
from dagnet.cells import format_memory, format_seconds
from dagnet.printing import FORMATS
from dsiam_net.branches import siamfc_branch
from dsiam_net.unrolled import build_unrolled
from layers import Conv, Pooling, ReLU
from toy_layers import Plus, Times


@pytest.fixture
def net():
    """Three layers; padding that is not the same on all sides."""
    net = DagNN()
    conv = Conv(size=(8, 3, 3, 3), pad=(1, 1, 2, 2), stride=2)
    net.add_layer("conv_1", conv, "x", "y", ["f", "b"])
    net.add_layer("relu", ReLU(), "y", "z")
    net.add_layer("pool", Pooling(pool_size=2, stride=2), "z", "p")
    net.init_params(0)
    return net


SIZES = {"x": (1, 3, 65, 64)}

# Height (65 + 2 - 3) / 2 + 1 = 33, width fix((64 + 4 - 3) / 2) + 1 = 33; filters 8 * 27 * 4 bytes;
# x has 3 * 65 * 64 * 4 bytes = 48.75 KB, y and z 34.03 KB, p 8 KB: together 124.8 KB.
LAYERS = """\
   func| conv_1|relu|   pool|
-------|-------|----|-------|
   type|   Conv|ReLU|Pooling|
 inputs|      x|   y|      z|
outputs|      y|   z|      p|
 params|    f b|    |       |
    pad|1x1x2x2| n/a|      0|
 stride|      2| n/a|      2|
"""
PARAMETERS = """\
 param|      f|  b|
------|-------|---|
  dims|8x3x3x3|  8|
   mem|   864B|32B|
fanout|      1|  1|
"""
VARIABLES = """\
   var|        x|        y|        z|        p|
------|---------|---------|---------|---------|
  dims|1x3x65x64|1x8x33x33|1x8x33x33|1x8x16x16|
   mem|     49KB|     34KB|     34KB|      8KB|
 fanin|        0|        1|        1|        1|
fanout|        1|        1|        1|        0|
"""
MEMORY = """\
params| vars|total|
  896B|125KB|126KB|
"""
MEMORY_OF_PARAMETERS = """\
params|vars|total|
  896B|  0B| 896B|
"""
# The first window's centre: 1 - pad + 1 of each axis; pooling's lies half a stride further.
FIELDS = """\
rf in 'x'|x|  y|  z|  p|
---------|-|---|---|---|
     size|1|  3|  3|  5|
   stride|1|  2|  2|  4|
   offset|1|1x0|1x0|2x1|
"""
CSV = """\
"func","conv_1","relu","pool"
"type","Conv","ReLU","Pooling"
"inputs","x","y","z"
"outputs","y","z","p"
"params","f b","",""
"pad","1x1x2x2","n/a","0"
"stride","2","n/a","2"
"""
LATEX = r"""\begin{tabular}{cccc}
func & conv\_1 & relu & pool \\
\hline
type & Conv & ReLU & Pooling \\
inputs & x & y & z \\
outputs & y & z & p \\
params & f b &  &  \\
pad & 1x1x2x2 & n/a & 0 \\
stride & 2 & n/a & 2 \\
\end{tabular}
"""
NO_TIMES = """\
    time|conv_1|relu|pool|
--------|------|----|----|
 forward|   n/a| n/a| n/a|
backward|   n/a| n/a| n/a|"""
TIMES = """\
    time|conv_1|relu| pool|
--------|------|----|-----|
 forward|1.25ms| 2us| 1.5s|
backward| 2.5ms| n/a|3600s|

time by type|Pooling|  Conv|ReLU|total|
------------|-------|------|----|-----|
      layers|      1|     1|   1|    3|
     forward|   1.5s|1.25ms| 2us| 1.5s|
    backward|  3600s| 2.5ms| n/a|3600s|
"""
STYLE = 'fontsize=12 fontname="helvetica"]'
VARIABLE_STYLE = (
    f'shape=record style="solid,rounded,filled" color=cornsilk4 fillcolor=beige {STYLE}'
)
PARAMETER_STYLE = (
    'shape=record style="solid,rounded,filled" color=lightsteelblue4 fillcolor=lightsteelblue '
    f"{STYLE}"
)
LAYER_STYLE = f'shape=record style="bold,filled" color="tomato4" fillcolor="tomato" {STYLE}'
DOT = f"""\
digraph DagNN {{
\tfontsize=12
\t"var_x" [label="{{{{x}} | {{1x3x65x64 | 49KB }}}}" {VARIABLE_STYLE}
\t"var_y" [label="{{{{y}} | {{1x8x33x33 | 34KB }}}}" {VARIABLE_STYLE}
\t"var_z" [label="{{{{z}} | {{1x8x33x33 | 34KB }}}}" {VARIABLE_STYLE}
\t"var_p" [label="{{{{p}} | {{1x8x16x16 | 8KB }}}}" {VARIABLE_STYLE}
\t"par_f" [label="{{{{f}} | {{8x3x3x3 | 864B }}}}" {PARAMETER_STYLE}
\t"par_b" [label="{{{{b}} | {{8 | 32B }}}}" {PARAMETER_STYLE}
\t"conv_1" [label="{{ conv_1 | dagnn.Conv }}" {LAYER_STYLE}
\t"var_x"->"conv_1" [weight=10]
\t"conv_1"->"var_y" [weight=10]
\t"par_f"->"conv_1" [weight=1]
\t"par_b"->"conv_1" [weight=1]
\t"relu" [label="{{ relu | dagnn.ReLU }}" {LAYER_STYLE}
\t"var_y"->"relu" [weight=10]
\t"relu"->"var_z" [weight=10]
\t"pool" [label="{{ pool | dagnn.Pooling }}" {LAYER_STYLE}
\t"var_z"->"pool" [weight=10]
\t"pool"->"var_p" [weight=10]
}}
"""


def test_print_shows_layers_and_memory(net):
    assert str(net) == net.print() == f"{LAYERS}\n{MEMORY_OF_PARAMETERS}"


def test_with_input_sizes_variables_are_listed(net):
    assert net.print(SIZES) == f"{LAYERS}\n{VARIABLES}\n{MEMORY}"


def test_all_adds_parameters_and_receptive_fields(net):
    expected = "\n".join([LAYERS, PARAMETERS, VARIABLES, MEMORY, FIELDS])
    assert net.print(SIZES, all=True) == expected


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"layers": None, "parameters": "*"}, PARAMETERS),
        ({"layers": None, "variables": "*", "input_sizes": SIZES}, VARIABLES),
        ({"layers": None, "dependencies": True}, FIELDS),
        ({"all": True, "layers": None, "dependencies": False, "input_sizes": SIZES}, None),
        ({"layers": None}, ""),
    ],
)
def test_each_table_can_be_had_alone(net, options, expected):
    expected = f"{PARAMETERS}\n{VARIABLES}" if expected is None else expected
    assert net.print(**options, memory=False) == expected


def test_names_choose_columns_in_the_networks_order(net):
    text = net.print(SIZES, layers="relu", variables=["p", "x"], memory=False)
    assert [
        line.split("|")[:-1] for line in text.splitlines() if "relu" in line or "var" in line
    ] == [
        ["   func", "relu"],
        ["   var", "        x", "        p"],
    ]


def test_places_choose_columns_too(net):
    by_name = net.print(SIZES, layers=["conv_1", "pool"], variables="z", parameters="f")
    assert net.print(SIZES, layers=[2, 0], variables=2, parameters=np.arange(1)) == by_name
    for what, kind, count in (("layers", "layer", 3), ("variables", "variable", 4)):
        with pytest.raises(UnknownNameError, match=f"no {kind} at place {count}: .* 0 to"):
            net.print(**{what: [0, count]})


@pytest.mark.parametrize("what", ["layers", "parameters", "variables"])
def test_a_name_that_is_not_there_is_refused(net, what):
    with pytest.raises(UnknownNameError, match=f"no {what[:-1]} 'conv'"):
        net.print(**{what: ["conv"]})


def test_csv(net):
    assert net.print(format="csv", memory=False) == CSV
    assert net.print(format="csv") == CSV + '\n"params","vars","total"\n"896B","0B","896B"\n'


def test_csv_is_read_back_whatever_the_names():
    net = DagNN()
    net.add_layer('say "a,b"', ReLU(), "x", "y")
    rows = list(csv.reader(io.StringIO(net.print(format="csv", memory=False))))
    assert rows[0] == ["func", 'say "a,b"'] and rows[1] == ["type", "ReLU"]


def test_latex(net):
    assert net.print(format="latex", memory=False) == LATEX


def test_dot(net):
    assert net.print(SIZES, format="dot") == DOT


def test_names_with_signs_of_the_format_stay_names():
    net = DagNN()
    net.add_layer('a "b" \\ {c|d}', ReLU(), "x & y", "z_1^2")
    text = net.print(format="dot")
    assert '\t"var_x & y"->"a \\"b\\" \\\\ {c|d}" [weight=10]\n' in text
    assert '[label="{ a \\"b\\" \\\\ \\{c\\|d\\} | dagnn.ReLU }"' in text
    rows = net.print(format="latex", memory=False).splitlines()
    assert rows[1] == r'func & a "b" \textbackslash{} \{c|d\} \\'
    assert rows[4:6] == [r"inputs & x \& y \\", r"outputs & z\_1\textasciicircum{}2 \\"]


@pytest.fixture
def graphviz(tmp_path, monkeypatch):
    """A program ``dot`` that writes its arguments into the figure, and refuses ``-Gbad``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "dot"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *-Gbad*) echo "no such attribute" >&2; exit 1;; esac\n'
        'for a in "$@"; do [ "$last" = -o ] && out="$a"; last="$a"; done\n'
        'printf "%s\\n" "$@" > "$out"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return tmp_path


@pytest.mark.parametrize("name, suffix", [("net.svg", "svg"), ("net", "pdf")])
def test_graphviz_draws_the_graph(net, graphviz, name, suffix):
    text = net.print(SIZES, format="dot", figure_path=graphviz / name, dot_args='-Gsize="7" -v')
    figure, source = graphviz / f"net.{suffix}", graphviz / "net.dot"
    assert text == DOT == source.read_text()
    told = [f"-T{suffix}", "-Gsize=7", "-v", "-o", str(figure), str(source)]
    assert figure.read_text().splitlines() == told


def test_without_graphviz_the_graph_is_written_and_the_figure_refused(net, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DagNNError, match="needs Graphviz, whose program 'dot' was not found"):
        net.print(SIZES, format="dot", figure_path=tmp_path / "net.png")
    assert (tmp_path / "net.dot").read_text() == DOT
    # The text alone needs no program.
    net.print(format="dot", figure_path=tmp_path / "other.dot")
    assert (tmp_path / "other.dot").read_text().startswith("digraph")


def test_what_graphviz_says_is_told(net, graphviz):
    with pytest.raises(DagNNError, match=r"dot -Tpng -Gbad .* failed: no such attribute"):
        net.print(format="dot", figure_path=graphviz / "net.png", dot_args=["-Gbad"])


@pytest.mark.parametrize("format", ["ascii", "csv", "latex", "digraph"])
def test_a_figure_goes_with_dot_alone(net, tmp_path, format):
    with pytest.raises(ValueError, match=f"figure_path goes .* received format '{format}'"):
        net.print(format=format, figure_path=tmp_path / "net.pdf")


def test_digraph_is_a_graph_with_heights_and_channels(net):
    graph = net.print(SIZES, format="digraph")
    assert networkx.is_isomorphic(graph, net.to_networkx())
    weights = {(a[1], b[1]): w for a, b, w in graph.edges.data("weight")}
    assert weights == {
        ("x", "conv_1"): 65,
        ("conv_1", "y"): 33,
        ("y", "relu"): 33,
        ("relu", "z"): 33,
        ("z", "pool"): 33,
        ("pool", "p"): 16,
    }
    assert networkx.get_node_attributes(graph, "channels") == {
        ("var", name): channels for name, channels in {"x": 3, "y": 8, "z": 8, "p": 8}.items()
    }
    unknown = net.print(format="digraph")
    assert {w for *_, w in unknown.edges.data("weight")} == {1}
    # Filters tell the channels behind them, whatever the input.
    assert unknown.nodes["var", "x"]["channels"] == 0 and unknown.nodes["var", "y"]["channels"] == 8


def test_times_are_told_by_layer_and_by_type(net):
    assert net.print(layers=None, memory=False, times=True).split("\n\n")[0] == NO_TIMES
    seconds = {"conv_1": (0.00125, 0.0025), "relu": (2e-6, None), "pool": (1.5, 3600.0)}
    for record in net.layers:
        record.forward_time, record.backward_time = seconds[record.name]
    assert net.print(layers=None, memory=False, times=True) == TIMES
    alone = net.print(layers="relu", memory=False, times=True)
    assert alone.endswith("     forward| 2us|  2us|\n    backward| n/a|  n/a|\n")


def test_an_evaluation_leaves_times(net):
    net.eval({"x": np.zeros((1, 3, 65, 64), np.float32)}, {"p": 1}, plan=False)
    text = net.print(layers=None, memory=False, times=True, format="csv")
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["time", "conv_1", "relu", "pool"]
    assert not any("n/a" in row for row in rows)


def test_dot_says_what_is_not_known():
    net = DagNN()
    net.add_layer("times", Times(), "x", "y", "w")
    text = net.print(format="dot")
    assert "{{x} | {n/a | NaN }}" in text and "{{w} | {n/a | NaN }}" in text


def test_an_unknown_format_is_refused(net):
    with pytest.raises(ValueError, match=r"format must be one of \('ascii', .* received 'html'"):
        net.print(format="html")


def test_what_is_not_known_is_said_and_not_counted(net):
    net.get_param("f").value = None
    text = net.print(parameters="*", variables="*", layers=None)
    rows = {line.split("|")[0].strip(): line.split("|")[1:-1] for line in text.splitlines()}
    assert [cell.strip() for cell in rows["var"]] == ["x", "y", "z", "p"]
    blocks = [block.splitlines() for block in text.split("\n\n")]
    assert blocks[0][2:4] == ["  dims|n/a|  8|", "   mem|NaN|32B|"]
    assert blocks[1][2:4] == ["  dims|n/a|n/a|n/a|n/a|", "   mem|NaN|NaN|NaN|NaN|"]
    assert blocks[2][1] == "   32B|  0B|  32B|"


def test_fields_say_what_is_not_reached_and_not_known():
    net = DagNN()
    net.add_layer("a", Conv(size=(1, 1, 3, 3), stride=2), "x", "p", ["f", "b"])
    net.add_layer("b", Conv(size=(1, 1, 3, 3)), "x", "q", ["f", "b"])
    net.add_layer("c", Plus(), ["p", "q"], "z")
    net.add_layer("d", ReLU(), "u", "v")
    text = net.print(layers=None, memory=False, dependencies=True)
    in_x, in_u = text.split("\n\n")
    assert in_x.splitlines()[2] == "     size|1|3|3|n/a|n/a|n/a|"  # x p q z u v
    assert in_u.splitlines()[2] == "     size|n/a|n/a|n/a|n/a|1|1|"


def test_large_sizes_stand_in_full_and_one_number_is_1():
    net = DagNN()
    net.add_layer("fc", Conv(size=(10, 25088, 1, 1)), "x", "y", ["f", "b"])
    net.get_param("f").value = np.zeros((10, 25088, 1, 1), np.float32)
    net.get_param("b").value = np.float32(0)
    lines = net.print({"x": (123456, 25088, 1, 1)}, parameters="*").splitlines()
    dims = [line.split("|")[1:-1] for line in lines if line.startswith("  dims")]
    assert [cell.strip() for cell in dims[0]] == ["10x25088x1x1", "1"]
    assert dims[1][0] == "123456x25088x1x1"


def long_chain(count):
    net = DagNN()
    for i in range(count):
        net.add_layer(f"r{i}", ReLU(), f"x{i}", f"x{i + 1}", skip_rebuild=True)
    net.rebuild()
    return net


@pytest.mark.parametrize("count, tables", [(18, [18]), (19, [18, 1]), (37, [18, 18, 1])])
def test_a_table_has_at_most_18_columns(count, tables):
    text = long_chain(count).print(memory=False)
    found = [line for line in text.splitlines() if line.startswith("   func")]
    assert [line.count("|") - 1 for line in found] == tables
    names = [name.strip() for line in found for name in line.split("|")[1:-1]]
    assert names == [f"r{i}" for i in range(count)]


def test_the_number_of_columns_can_be_chosen():
    net = long_chain(4)
    assert net.print(memory=False, max_num_columns=3).count("func") == 2
    with pytest.raises(ValueError, match="max_num_columns must be positive, received 0"):
        net.print(max_num_columns=0)


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1KB"),
        (1536, "2KB"),
        (2560, "2KB"),  # half to even, as C's printf has it
        (1024**2 - 1, "1024KB"),
        (1024**2, "1MB"),
        (23.4 * 1024**2, "23MB"),
        (1024**3, "1.0GB"),
        (2.34 * 1024**3, "2.3GB"),
        (23.4 * 1024**3, "23GB"),
        (math.nan, "NaN"),
    ],
)
def test_memory_is_told_with_its_unit(count, text):
    assert format_memory(count) == text


@pytest.mark.parametrize(
    "seconds, text",
    [
        (None, "n/a"),
        (0, "0us"),
        (1.234e-6, "1.23us"),
        (999.4e-6, "999us"),
        (999.6e-6, "1ms"),
        (0.0125, "12.5ms"),
        (0.9999, "1s"),
        (12.345, "12.3s"),
        (1234.5, "1234s"),
    ],
)
def test_times_are_told_with_their_unit(seconds, text):
    assert format_seconds(seconds) == text


def test_an_empty_network_prints():
    for format in FORMATS:
        kind = networkx.DiGraph if format == "digraph" else str
        assert isinstance(DagNN().print(format=format, all=True), kind)
    assert DagNN().print(memory=False) == ""
    assert repr(DagNN()) == "<DagNN: 0 layers, 0 variables, 0 parameters; mode normal, on the cpu>"


@pytest.fixture(scope="module")
def unrolled():
    return build_unrolled(siamfc_branch())


@pytest.mark.parametrize("format", ["ascii", "latex", "csv"])
def test_the_940_layers_of_the_unrolled_network_print(unrolled, format):
    text = unrolled.print(format=format)
    assert text.count("func") == math.ceil(940 / 18)
    assert all(
        record.name.replace("_", r"\_" if format == "latex" else "_") in text
        for record in unrolled.layers
    )
    assert repr(unrolled).startswith("<DagNN: 940 layers, ")


def test_the_dot_graph_of_940_layers_has_every_edge(unrolled):
    text = unrolled.print(format="dot")
    graph = unrolled.to_networkx()
    uses = sum(len(record.params) for record in unrolled.layers)
    # A layer that reads one variable twice is one edge in networkx.
    twice = sum(len(r.inputs) - len(set(r.inputs)) for r in unrolled.layers)
    assert text.count("->") == graph.number_of_edges() + twice + uses
    assert networkx.is_directed_acyclic_graph(graph)
