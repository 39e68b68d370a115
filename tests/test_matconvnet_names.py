"""Tests of docs/matconvnet.md: all of MatConvNet's dagnn is named, and what is named exists."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import dagnet
import layers
from dagnet import DagNN, LayerRecord, Parameter, SimpleResult, Variable, simple_nn
from dagnet.printing import print_network

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "matconvnet.md"
# MatConvNet 1.0-beta25: matlab/+dagnn, @DagNN, and what the class file itself defines.
METHODS = """addLayer clearParameterServer copy eval fromSimpleNN getInputs getLayer
    getLayerExecutionOrder getLayerIndex getOutputs getParam getParamIndex getVar getVarIndex
    getVarReceptiveFields getVarSizes initParams loadobj move print rebuild removeLayer renameLayer
    renameParam renameVar reset saveobj setLayerInputs setLayerOutputs setLayerParams
    setParameterServer addVar addParam"""
PROPERTIES = """layers vars params meta mode holdOn accumulateParamDers conserveMemory
    parameterServer device numPendingVarRefs numPendingParamRefs computingDerivative
    executionOrder name inputs outputs inputIndexes outputIndexes paramIndexes forwardTime
    backwardTime block value der fanin fanout precious trainMethod learningRate weightDecay"""
PRINT = """inputSizes All Layers Parameters Variables Dependencies Memory MaxNumColumns Format ascii
    latex csv dot digraph FigurePath dotArgs"""
LAYER = """forward backward forwardAdvanced backwardAdvanced getOutputSizes getReceptiveFields
    initParams reset move attach save load argsToStruct dagnn.ElementWise dagnn.Filter"""
CLASSES = """AffineGridGenerator BatchNorm BilinearSampler Concat Conv ConvTranspose Crop DropOut
    LRN Loss NormOffset PDist Pooling ROIPooling ReLU Scale Sigmoid SoftMax SpatialNorm Sum
    UniformScalingGridGenerator"""
OPERATORS = """bilinearsampler bnorm concat conv convt crop dropout loss noffset normalize
    normalizelp pdist pool relu roipool sigmoid softmax softmaxloss spnorm"""
SIMPLENN = """vl_simplenn vl_simplenn_tidy vl_simplenn_move vl_simplenn_display
    vl_simplenn_start_parserv Mode ConserveMemory Accumulate BackPropDepth SkipForward x dzdx dzdw
    aux time backwardTime"""
SECTIONS = {
    "Methods of `DagNN`": METHODS,
    "Properties of `DagNN` and its records": PROPERTIES,
    "`print`": PRINT,
    "`dagnn.Layer`": LAYER,
    "Layers and operators": " ".join(
        [*(f"dagnn.{c}" for c in CLASSES.split()), *(f"vl_nn{o}" for o in OPERATORS.split())]
    ),
    "SimpleNN": SIMPLENN,
}


def rows(section):
    """The cells of the rows of a section's table."""
    text = DOCUMENT.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def found(name):
    """What a name of the second column means: of dagnet, of layers, or a whole path."""
    for module in (dagnet, layers):
        value = module
        for part in name.split("."):
            value = getattr(value, part, None)
        if value is not None:
            return value
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_name_of_matconvnet_has_its_row(section):
    there = {name for row in rows(section) for name in names(row[0])}
    assert set(SECTIONS[section].split()) - there == set()


@pytest.mark.parametrize("section", [s for s in SECTIONS if s != "`print`"])
def test_every_name_of_the_second_column_exists(section):
    net = DagNN()
    for row in rows(section):
        assert names(row[1]), row
        for name in names(row[1]):
            owner, _, attribute = name.partition(".")
            if owner == "DagNN":
                assert hasattr(net, attribute), name
            else:
                assert found(name) is not None, name


def test_the_functions_of_operators_exist():
    for row in rows("Layers and operators"):
        kind = names(row[1])[0]
        originals = [n for n in names(row[0]) if n.startswith("dagnn.")]
        assert all(getattr(layers, kind).type_name == name for name in originals)
        # The last column has a remark too.
        functions = [n for n in names(row[2]) if n != "Crop"]
        assert all(callable(getattr(layers, name)) for name in functions)


def test_options_of_print_exist():
    known = inspect.signature(print_network).parameters
    named = {name for row in rows("`print`") for name in names(row[1])}
    assert named == set(known) - {"net"}


@pytest.mark.parametrize(
    "kind, expected",
    [
        (
            LayerRecord,
            "name inputs outputs params input_indexes output_indexes param_indexes forward_time "
            "backward_time block",
        ),
        (Variable, "name value der fanin fanout precious"),
        (Parameter, "name value der fanout train_method learning_rate weight_decay"),
        (SimpleResult, "x dzdx dzdw aux time backward_time"),
    ],
)
def test_records_have_the_originals_fields(kind, expected):
    assert set(kind.__dataclass_fields__) == set(expected.split())


def test_options_of_vl_simplenn_exist():
    options = (
        "mode conserve_memory accumulate back_prop_depth skip_forward parameter_server hold_on"
    )
    assert set(options.split()) <= set(inspect.signature(simple_nn).parameters)
