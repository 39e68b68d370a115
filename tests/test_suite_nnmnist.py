"""MatConvNet's test class nnmnist: LeNet learns digits, here ten classes of drawn ones."""

import cv2
import numpy as np
import pytest

from dagnet import Batch, DagNN, TrainOptions, train_dag
from layers import Loss
from lenet import NUM_CLASSES, lenet_layers
from suite import over_kinds

# As there: pixels of 0 to 255 less the mean image, filters of this deviation, learning rate, and
# the greatest part of digits that may be wrong in the last epoch.
SIDE, FACTOR, LEARNING_RATE = 28, 1 / 100, 0.001
TRAIN_ERROR, VAL_ERROR = 0.08, 0.025
# There 600 steps of 100 digits of MNIST; drawn ones are as well told apart after 80 of 10.
NUM_TRAIN, NUM_VAL, BATCH, EPOCHS = 400, 200, 10, 2

FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX)
# Digits are drawn at twice their size.
CANVAS, FONT_SCALE, THICKNESS = 2 * SIDE, 1.5, (4, 6)
# Of the warp: radians, factors, and pixels of the image.
ROTATION, SHEAR, SCALE, SHIFT = 0.08, 0.08, (0.93, 1.07), 0.7


def draw_digit(rng, digit):
    """A white digit on black, uint8, in one of two fonts and strokes, rotated, sheared, moved."""
    font, thickness = FONTS[rng.integers(len(FONTS))], int(rng.integers(*THICKNESS, endpoint=True))
    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    (width, height), _ = cv2.getTextSize(str(digit), font, FONT_SCALE, thickness)
    corner = ((CANVAS - width) // 2, (CANVAS + height) // 2)
    cv2.putText(canvas, str(digit), corner, font, FONT_SCALE, 255, thickness, cv2.LINE_AA)
    angle, shear = rng.uniform(-ROTATION, ROTATION), rng.uniform(-SHEAR, SHEAR)
    matrix = np.array([[np.cos(angle), shear - np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix *= rng.uniform(*SCALE) * SIDE / CANVAS
    shift = SIDE / 2 - matrix @ [CANVAS / 2, CANVAS / 2] + rng.uniform(-SHIFT, SHIFT, 2)
    return cv2.warpAffine(canvas, np.column_stack([matrix, shift]), (SIDE, SIDE))


def draw_digits():
    """Images (N, 1, 28, 28), the mean of the training set taken off, and classes 1 to 10."""
    rng = np.random.default_rng(0)
    digits = rng.permutation(np.arange(NUM_TRAIN + NUM_VAL) % NUM_CLASSES)
    images = np.stack([draw_digit(rng, digit) for digit in digits])[:, None].astype(np.float64)
    return images - images[:NUM_TRAIN].mean(axis=0), digits + 1.0


@pytest.fixture(scope="module")
def digits():
    return draw_digits()


def network(kind, form):
    """LeNet with its errors: variables numbered, as a SimpleNN has them, or with their names."""
    layers = lenet_layers(kind, FACTOR, np.random.default_rng(0))
    net = DagNN.from_simple_nn(layers, canonical_names=form == "dagnn")
    if form == "dagnn":
        read = ["prediction", "label"]
    else:
        # The training loop asks for the derivative by the objective, whatever the form.
        net.rename_var("x8", "objective")
        read = ["x7", "label"]
    net.add_layer("top1err", Loss(loss="classerror"), read, "error")
    net.add_layer("top5err", Loss(loss="topkerror", top_k=5), read, "top5err")
    net.move(kind.device)
    return net


# Images this small are told apart faster layer by layer than by chains of layers.
@pytest.mark.usefixtures("layers_in_turn")
@over_kinds
@pytest.mark.parametrize("form", ["simplenn", "dagnn"])
def test_lenet_tells_digits_apart(tmp_path, digits, kind, form):
    images, labels = digits
    net = network(kind, form)
    first = net.get_inputs()[0]

    def get_batch(indexes, mode, epoch):
        return Batch({first: kind.array(images[indexes]), "label": kind.array(labels[indexes])})

    options = TrainOptions(
        exp_dir=tmp_path,
        continue_=False,
        batch_size=BATCH,
        num_epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
    )
    val = range(NUM_TRAIN, NUM_TRAIN + NUM_VAL)
    net, state = train_dag(net, get_batch, range(NUM_TRAIN), val, options=options)
    train, val = state.stats["train"][-1], state.stats["val"][-1]
    assert train["error"] < TRAIN_ERROR and val["error"] < VAL_ERROR
    assert train["top5err"] <= train["error"] and val["top5err"] <= val["error"]
    assert all(p.value.dtype == kind.dtype for p in net.params)


def test_digits_are_drawn_by_seed_and_are_ten_classes_of_many_shapes(digits):
    images, labels = digits
    assert images.shape == (NUM_TRAIN + NUM_VAL, 1, SIDE, SIDE)
    assert np.array_equal(draw_digits()[0], images)
    assert np.bincount(labels.astype(int)).tolist() == [0, *[60] * NUM_CLASSES]
    assert len({image.tobytes() for image in images}) == len(images)
