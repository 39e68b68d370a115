"""Tests of dagnet.gradient_check: right layers pass, and every planted error is found."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from dagnet import GradientError, Layer, check_layer, relative_error
from dagnet.gradient_check import DIRECTIONS, FULL_JACOBIAN_LIMIT
from toy_layers import Split, Times


@dataclass(eq=False, kw_only=True)
class Product(Layer):
    """``y = a . b``, real or complex."""

    num_inputs: ClassVar = (2, 2)

    def forward(self, inputs, params, context):
        return [inputs[0] * inputs[1]], None

    def backward(self, inputs, params, der_outputs, saved, context):
        (der,) = der_outputs
        return [der * np.conj(inputs[1]), der * np.conj(inputs[0])], []


@dataclass(eq=False, kw_only=True)
class Planted(Layer):
    """``y = w x . x + b``, with an error planted into its derivatives by ``spoil``."""

    num_params: ClassVar = (2, 2)
    spoil: Any = None

    def forward(self, inputs, params, context):
        return [params[0] * inputs[0] ** 2 + params[1]], None

    def backward(self, inputs, params, der_outputs, saved, context):
        (der,) = der_outputs
        x, (w, b) = inputs[0], params
        der_inputs = [2 * w * x * der]
        der_params = [np.sum(der * x**2).reshape(w.shape), np.sum(der).reshape(b.shape)]
        if self.spoil is not None:
            self.spoil(der_inputs, der_params)
        return der_inputs, der_params


X = np.arange(1.0, 7.0).reshape(2, 3)
W, B = np.array([0.5]), np.array([2.0])


def check(spoil=None, x=X, **options):
    return check_layer(Planted(spoil=spoil), [x], [W, B], **options)


def test_right_derivatives_pass_and_every_argument_is_reported():
    results = check()
    assert [(r.layer, r.argument, r.compared) for r in results] == [
        ("Planted", "input 0", 6),
        ("Planted", "param 0", 1),
        ("Planted", "param 1", 1),
    ]
    assert all(r.error < 1e-9 for r in results)
    assert "Planted, input 0: relative error" in str(results[0])


def wrong_factor(der_inputs, der_params):
    der_inputs[0] = der_inputs[0] / 2


def one_wrong_element(der_inputs, der_params):
    der_inputs[0][1, 2] += 1e-3


def missing_derivative(der_inputs, der_params):
    der_inputs[0] = None


def wrong_parameter_derivative(der_inputs, der_params):
    der_params[0] = -der_params[0]


def not_a_number(der_inputs, der_params):
    der_inputs[0][0, 1] = np.nan


@pytest.mark.parametrize(
    "spoil, message",
    [
        (wrong_factor, "Planted, input 0: relative error 5.0"),
        (one_wrong_element, r"Planted, input 0: .* largest at \(1, 2\): analytic"),
        (missing_derivative, r"Planted, input 0: relative error 1.00e\+00 .* analytic 0, numer"),
        (wrong_parameter_derivative, r"Planted, param 0: relative error 2.00e\+00"),
        (
            not_a_number,
            r"Planted, input 0: relative error nan .* largest at \(0, 1\): analytic nan",
        ),
        (lambda i, p: i.__setitem__(0, i[0][:1]), r"input 0: derivative has shape \(1, 3\), the"),
        (lambda i, p: p.__setitem__(1, 1.0), r"param 1: derivative has shape \(\), the arg"),
        (lambda i, p: i.__setitem__(0, i[0] + 0j), "input 0: derivative is complex, the argument"),
        (lambda i, p: i.clear(), "backward returned 0 derivatives by inputs, there are 1"),
        (lambda i, p: p.append(None), "backward returned 3 derivatives by params, there are 2"),
    ],
)
def test_a_planted_error_is_found_and_named(spoil, message):
    with pytest.raises(GradientError, match=message):
        check(spoil)


def test_the_message_has_both_numbers():
    projection = [np.zeros((2, 3))]
    projection[0][1, 2] = 10.0
    with pytest.raises(GradientError) as caught:
        check(wrong_factor, der_outputs=projection)
    # d(w x^2)/dx = 2 . 0.5 . 6, times 10; half of it was returned.
    text = str(caught.value)
    analytic, numerical = text.split("analytic ")[1].split(", numerical ")
    assert float(analytic) == pytest.approx(30) and float(numerical) == pytest.approx(60)
    assert "largest at (1, 2)" in text and "over 6 values" in text


def test_every_failure_is_told():
    def spoil(der_inputs, der_params):
        wrong_factor(der_inputs, der_params)
        wrong_parameter_derivative(der_inputs, der_params)

    with pytest.raises(GradientError) as caught:
        check(spoil)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["Planted, input 0", "Planted, param 0"]


def test_what_is_skipped_may_be_wrong():
    assert [r.argument for r in check(wrong_factor, skip_inputs=[0])] == ["param 0", "param 1"]
    found = check(wrong_parameter_derivative, skip_params=[0])
    assert [r.argument for r in found] == ["input 0", "param 1"]


def test_the_tolerance_decides():
    check(one_wrong_element, tolerance=1e-2)


# Large arrays


def large(rng):
    side = math.isqrt(FULL_JACOBIAN_LIMIT) + 1
    return rng.uniform(1, 2, (side, side))


def test_large_arrays_are_checked_along_directions(rng):
    results = check(x=large(rng))
    assert results[0].compared == DIRECTIONS and results[0].error < 1e-8
    assert results[0].index.startswith("direction ")


@pytest.mark.parametrize("spoil", [wrong_factor, one_wrong_element, missing_derivative])
def test_errors_in_large_arrays_are_found(rng, spoil):
    with pytest.raises(GradientError, match=r"input 0: .* largest at direction \d"):
        check(spoil, x=large(rng))


def test_directions_follow_from_the_generator(rng):
    x = large(rng)
    first, again, other = (check(x=x, rng=np.random.default_rng(s))[0] for s in (1, 1, 2))
    assert first == again and first.analytic != other.analytic


def test_large_complex_arrays(rng):
    shape = large(rng).shape
    a, b = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape) for _ in range(2))
    assert [r.compared for r in check_layer(Product(), [a, b])] == [DIRECTIONS, DIRECTIONS]


# Complex arguments


def complex_pair(rng):
    return [rng.standard_normal((2, 2)) + 1j * rng.standard_normal((2, 2)) for _ in range(2)]


def test_complex_arguments_are_checked_in_both_parts(rng):
    results = check_layer(Product(), complex_pair(rng))
    assert [r.compared for r in results] == [8, 8]


@dataclass(eq=False, kw_only=True)
class MissingConjugate(Product):
    def backward(self, inputs, params, der_outputs, saved, context):
        return [der_outputs[0] * inputs[1], der_outputs[0] * np.conj(inputs[0])], []


def test_a_missing_conjugate_is_found_in_the_imaginary_part_too(rng):
    a, b = complex_pair(rng)
    with pytest.raises(GradientError, match="MissingConjugate, input 0"):
        check_layer(MissingConjugate(), [a, b])
    # With b imaginary and P real, the imaginary part of the derivative alone is wrong.
    with pytest.raises(GradientError, match=r"largest at \(0, 1, 'imaginary'\)"):
        check_layer(
            MissingConjugate(), [a, b.imag * 1j], der_outputs=[np.array([[0, 1.0], [0, 0]]) + 0j]
        )


@dataclass(eq=False, kw_only=True)
class PowerSpectrum(Layer):
    """From real to complex and back: ``y = |fft2(x)|^2``."""

    def forward(self, inputs, params, context):
        spectrum = np.fft.fft2(inputs[0])
        return [np.abs(spectrum) ** 2], spectrum

    def backward(self, inputs, params, der_outputs, saved, context):
        n = saved.shape[-1] * saved.shape[-2]
        return [np.real(np.fft.ifft2(2 * der_outputs[0] * saved)) * n], []


def test_a_real_argument_of_a_complex_computation(rng):
    check_layer(PowerSpectrum(), [rng.standard_normal((3, 4))])


# Arguments of special kinds


def test_empty_arrays_have_nothing_to_compare():
    (found, *_) = check(x=np.zeros((0, 3)))
    assert (found.index, found.compared, found.error) == ("nowhere", 0, 0.0)


def test_arrays_of_shape_0d_and_single_precision_are_taken(rng):
    found, _ = check_layer(Product(), [np.float32(1.5), np.array(2.0)])
    assert found.index == () and found.compared == 1 and found.error < 1e-9
    assert check(x=X.astype(np.float32))[0].error < 1e-9


@pytest.mark.parametrize("kind", [np.int32, np.uint8, bool])
def test_integers_and_booleans_are_constants(kind):
    labels = np.array([1, 0, 1], dtype=kind)
    (found,) = check_layer(Product(), [np.array([0.5, 1.0, 2.0]), labels])
    assert found.argument == "input 0"


def test_integers_reach_the_layer_as_they_are():
    seen = []

    class Watch(Product):
        def forward(self, inputs, params, context):
            seen.append(inputs[1].dtype)
            return super().forward(inputs, params, context)

    check_layer(Watch(), [np.array([0.5]), np.array([3], dtype=np.int16)])
    assert set(seen) == {np.dtype(np.int16)}


def test_lists_are_taken_as_arrays_and_none_as_nothing():
    assert check_layer(Product(), [[0.5, 1.0], [2.0, 3.0]])[0].compared == 2

    class Optional(Times):
        num_inputs = (2, 2)

        def backward(self, inputs, params, der_outputs, saved, context):
            ders, der_params = super().backward(inputs, params, der_outputs, saved, context)
            return [*ders, None], der_params

    found = check_layer(Optional(), [X, None], [W])
    assert [r.argument for r in found] == ["input 0", "param 0"]


def test_the_callers_arrays_are_left_alone():
    x = X.copy()
    check(x=x)
    assert np.array_equal(x, X) and W == 0.5


# The evaluation around the layer


def test_one_output_of_several_can_be_chosen(rng):
    x = rng.standard_normal(4)
    assert check_layer(Split(), [x])[0].error < 1e-8
    (first,) = check_layer(Split(), [x], der_outputs=[np.ones(4), None])
    assert first.analytic == 1.0
    check_layer(Split(), [x], der_outputs=[None, np.ones(4, dtype=np.float32)])


@pytest.mark.parametrize("der_outputs", [[np.ones(4)], [np.ones(4), np.ones((4, 1))]])
def test_a_projection_that_does_not_fit_is_refused(der_outputs):
    with pytest.raises(ValueError, match=r"der_outputs has shapes .*, the outputs have \[\(4,\)"):
        check_layer(Split(), [np.ones(4)], der_outputs=der_outputs)


@dataclass(eq=False, kw_only=True)
class Drop(Layer):
    """Dropout: ``y = m . x`` with a mask that is drawn; passes through in test mode."""

    def forward(self, inputs, params, context):
        if context.mode == "test":
            return [inputs[0]], None
        mask = context.rng.random(inputs[0].shape) < 0.5
        return [mask * inputs[0]], mask

    def backward(self, inputs, params, der_outputs, saved, context):
        return [der_outputs[0] if saved is None else saved * der_outputs[0]], []


@pytest.mark.parametrize("mode", ["normal", "test"])
def test_layers_that_draw_numbers_draw_the_same_each_time(mode):
    assert check_layer(Drop(), [X], mode=mode)[0].error < 1e-9


def test_relative_error_is_over_the_greatest_value():
    assert relative_error([1.0, 2.5], [1.0, 2.0]) == 0.25
    assert relative_error([3.0, 0.0], [0.0, 0.0]) == 3.0
    assert relative_error([], []) == 0.0
    assert math.isnan(relative_error([np.nan], [1.0]))
    with pytest.raises(ValueError, match=r"shapes differ: \(1,\) and \(2,\)"):
        relative_error([1.0], [1.0, 1.0])
