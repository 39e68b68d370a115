"""Numerical proof of a layer's derivatives, for the layers here and for those of users.

A layer maps inputs and parameters to outputs; project the outputs on fixed random arrays ``P``
to get a scalar ``L = sum(P . outputs)``. ``backward`` with ``der_outputs = P`` must return the
derivatives of ``L``. They are compared with central differences in float64: element by element
for small arrays, along random directions for large ones. A complex array counts as its real and
imaginary part; its derivative is ``dL/dRe + i dL/dIm``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backend import asnumpy, get_array_module
from .layer import Context, Layer

# Above this number of elements an argument is checked along random directions.
FULL_JACOBIAN_LIMIT = 400
DIRECTIONS = 8
# A central difference errs by O(step^2) and by rounding of O(eps / step): near 1e-5 both are
# below 1e-9 for values of order one.
STEP = 1e-5
TOLERANCE = 1e-6


class GradientError(AssertionError):
    """An analytic derivative differs from the numerical one."""


@dataclass(frozen=True)
class ArgumentCheck:
    """Result for one argument of a layer.

    Attributes
    ----------
    layer, argument : str
        Type of the layer; ``'input 0'``, ``'param 1'``.
    index : tuple or str
        Where the difference is largest: an element, or ``'direction k'``; ``'nowhere'`` in an
        empty array.
    analytic, numerical : float
        The two values there.
    error : float
        ``max|analytic - numerical| / max|numerical|`` over the elements or directions compared;
        where every numerical value is 0, ``max|analytic|``.
    compared : int
        Number of elements or directions compared.
    """

    layer: str
    argument: str
    index: Any
    analytic: float
    numerical: float
    error: float
    compared: int

    def __str__(self) -> str:
        return (
            f"{self.layer}, {self.argument}: relative error {self.error:.2e} over "
            f"{self.compared} values; largest at {self.index}: analytic {self.analytic:.12g}, "
            f"numerical {self.numerical:.12g}"
        )


def relative_error(a: Any, b: Any) -> float:
    """``max|a - b| / max|b|``; ``max|a|`` where ``b`` is 0 everywhere; NaN is never equal."""
    a, b = asnumpy(a), asnumpy(b)
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    if a.size == 0:
        return 0.0
    scale = np.abs(b).max()
    return float(np.abs(a - b).max() / (scale if scale > 0 else 1.0))


def _to_double(array: Any) -> Any:
    xp = get_array_module(array)
    kind = np.complex128 if np.iscomplexobj(array) else np.float64
    return xp.array(array, dtype=kind)


def _inner(a: Any, b: Any) -> float:
    """Real inner product, ``sum Re(a) Re(b) + Im(a) Im(b)``."""
    xp = get_array_module(a, b)
    return float(xp.real(xp.vdot(a, b)))


def _unit(shape: tuple[int, ...], flat: int, value: complex) -> np.ndarray:
    array = np.zeros(shape, dtype=complex if isinstance(value, complex) else float)
    array.reshape(-1)[flat] = value
    return array


def _directions(array: Any, rng: np.random.Generator) -> Iterable[tuple[Any, np.ndarray]]:
    """Pairs (label, direction) along which to differentiate by ``array``."""
    shape, is_complex = array.shape, np.iscomplexobj(array)
    if array.size <= FULL_JACOBIAN_LIMIT:
        for flat in range(array.size):
            index = tuple(int(i) for i in np.unravel_index(flat, shape)) if shape else ()
            yield index, _unit(shape, flat, 1.0)
            if is_complex:
                yield (*index, "imaginary"), _unit(shape, flat, 1.0j)
    else:
        for k in range(DIRECTIONS):
            direction = rng.standard_normal(shape)
            if is_complex:
                direction = direction + 1j * rng.standard_normal(shape)
            yield f"direction {k}", direction / np.linalg.norm(direction.ravel())


def check_layer(
    layer: Layer,
    inputs: Sequence[Any],
    params: Sequence[Any] = (),
    *,
    mode: str = "normal",
    skip_inputs: Sequence[int] = (),
    skip_params: Sequence[int] = (),
    der_outputs: Sequence[Any] | None = None,
    step: float = STEP,
    tolerance: float = TOLERANCE,
    rng: np.random.Generator | None = None,
) -> list[ArgumentCheck]:
    """Check every derivative of a layer against central differences, in float64.

    Random numbers that the layer draws are the same in every evaluation.

    Parameters
    ----------
    layer : Layer
    inputs, params : sequences of arrays
        A point where the layer is differentiable (no ties of a maximum, nothing at a kink).
        They are converted to double precision. Arrays of integers or booleans are constants.
    mode : 'normal' or 'test'
    skip_inputs, skip_params : sequences of int
        Places of arguments that have no derivative by definition (labels, batch-norm moments).
    der_outputs : sequence of arrays or None, optional
        The projection ``P``, shaped as the outputs; by default random. ``None`` entries leave an
        output out.
    step : float
        Step of the central difference along a unit direction.
    tolerance : float
        Largest relative error accepted.
    rng : numpy.random.Generator, optional
        Default: seeded with 0.

    Returns
    -------
    list of ArgumentCheck
        One for each argument that was checked.

    Raises
    ------
    GradientError
        Names layer, argument, index, analytic and numerical value of every failure. Also if
        ``backward`` returns another number of derivatives than there are arguments, or one of
        another shape than its argument, or a complex one by a real argument.
    ValueError
        If ``der_outputs`` does not fit the outputs.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    kind_of_layer = type(layer).__name__
    arguments = {
        **{f"input {i}": a for i, a in enumerate(inputs)},
        **{f"param {i}": a for i, a in enumerate(params)},
    }
    skipped = {f"input {i}" for i in skip_inputs} | {f"param {i}" for i in skip_params}
    for name, array in arguments.items():
        array = array if array is None or hasattr(array, "dtype") else np.asarray(array)
        constant = array is None or array.dtype.kind in "iub"
        if constant:
            skipped.add(name)
        arguments[name] = array if constant else _to_double(array)

    def given() -> tuple[list, list]:
        arrays = list(arguments.values())
        return arrays[: len(inputs)], arrays[len(inputs) :]

    def context() -> Context:
        return Context(mode=mode, rng=np.random.default_rng(0))

    def projection() -> float:
        outputs = layer.forward(*given(), context())[0]
        return sum(_inner(p, o) for p, o in zip(der_outputs, outputs) if p is not None)

    outputs, saved = layer.forward(*given(), context())
    if der_outputs is None:
        der_outputs = [_random_like(o, rng) for o in outputs]
    else:
        der_outputs = _fitting(der_outputs, outputs)
    derivatives = layer.backward(*given(), der_outputs, saved, context())
    for kind, ders, arrays in zip(("inputs", "params"), derivatives, given()):
        if len(ders) != len(arrays):
            raise GradientError(
                f"{kind_of_layer}: backward returned {len(ders)} derivatives by {kind}, "
                f"there are {len(arrays)}"
            )
    analytic = dict(zip(arguments, [*derivatives[0], *derivatives[1]]))

    results = [
        _check_argument(kind_of_layer, name, arguments, analytic[name], projection, step, rng)
        for name in arguments
        if name not in skipped
    ]
    failures = [r for r in results if not r.error <= tolerance]
    if failures:
        raise GradientError("\n".join(str(f) for f in failures))
    return results


def _check_argument(
    layer: str,
    name: str,
    arguments: dict[str, Any],
    der: Any,
    projection: Callable[[], float],
    step: float,
    rng: np.random.Generator,
) -> ArgumentCheck:
    """Compare ``der`` with differences of ``projection``, which reads ``arguments``."""
    array = arguments[name]
    xp = get_array_module(array)
    der = xp.zeros_like(array) if der is None else der
    _check_kind(f"{layer}, {name}", der, array)
    labels, exact, numerical = [], [], []
    for label, direction in _directions(array, rng):
        direction = xp.asarray(direction)
        arguments[name] = array + step * direction
        plus = projection()
        arguments[name] = array - step * direction
        minus = projection()
        labels.append(label)
        # Only where the direction goes: NaN in one element is not in all of them.
        goes = direction != 0
        exact.append(_inner(direction[goes], xp.asarray(der)[goes]))
        numerical.append((plus - minus) / (2 * step))
    arguments[name] = array
    if not labels:
        return ArgumentCheck(layer, name, "nowhere", 0.0, 0.0, 0.0, 0)
    exact, numerical = np.array(exact), np.array(numerical)
    worst = int(np.argmax(np.abs(exact - numerical)))
    return ArgumentCheck(
        layer=layer,
        argument=name,
        index=labels[worst],
        analytic=float(exact[worst]),
        numerical=float(numerical[worst]),
        error=relative_error(exact, numerical),
        compared=len(labels),
    )


def _check_kind(where: str, der: Any, array: Any) -> None:
    """Refuse a derivative that is not of the kind of its argument."""
    shape = der.shape if hasattr(der, "shape") else np.shape(der)
    if shape != array.shape:
        raise GradientError(
            f"{where}: derivative has shape {shape}, the argument has {array.shape}"
        )
    if np.iscomplexobj(der) and not np.iscomplexobj(array):
        raise GradientError(f"{where}: derivative is complex, the argument is real")


def _fitting(der_outputs: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
    """The caller's projection in double precision."""
    projection = [None if d is None else _to_double(d) for d in der_outputs]
    shapes = [None if p is None else p.shape for p in projection]
    wanted = [o.shape for o in outputs]
    if len(shapes) != len(wanted) or any(s not in (None, w) for s, w in zip(shapes, wanted)):
        raise ValueError(f"der_outputs has shapes {shapes}, the outputs have {wanted}")
    return projection


def _random_like(array: Any, rng: np.random.Generator) -> Any:
    xp = get_array_module(array)
    values = rng.standard_normal(array.shape)
    if np.iscomplexobj(array):
        values = values + 1j * rng.standard_normal(array.shape)
    return xp.asarray(values)
