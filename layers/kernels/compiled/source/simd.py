"""Vectors of 16 float32 for Numba, and what can be done with them.

LLVM compiles them to whatever the processor has: one AVX-512 register each, two of AVX2, four of
NEON. Loads and stores need no alignment. Several vectors are a tuple, of a length that is known
when it is compiled.

Everything is an intrinsic: a call of a Numba function, operators among them, brings code that
raises its errors, which needs Numba when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic, register_model

from ..variants import LANES

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
_BOOLS = ir.VectorType(ir.IntType(1), LANES)


class Vector(types.Type):
    """Numba's type of a vector."""

    def __init__(self):
        super().__init__("Vector")


class Mask(types.Type):
    """Numba's type of what a comparison of vectors gives, a bit for each lane."""

    def __init__(self):
        super().__init__("Mask")


VECTOR, MASK = Vector(), Mask()


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _FLOATS)


@register_model(Mask)
class _MaskModel(PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _BOOLS)


# LLVM instructions that several of the functions below are made of.


def _address(builder, pointer, index, vector):
    return builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer())


def emit_load(builder, pointer, index, vector=_FLOATS):
    value = builder.load(_address(builder, pointer, index, vector))
    value.align = 4
    return value


def emit_store(builder, pointer, index, value):
    builder.store(value, _address(builder, pointer, index, value.type)).align = 4


def emit_broadcast(builder, number):
    first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), number, _int32(0))
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(_FLOATS, ir.Undefined), everywhere)


def emit_fma(builder, x, y, z):
    """``x * y + z``, rounded once where the processor can, everywhere in the same way."""
    suffix = "v16f32" if x.type == _FLOATS else "v16f64"
    kind = ir.FunctionType(x.type, [x.type] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.{suffix}")
    return builder.call(function, [x, y, z])


def _int32(value):
    return ir.Constant(ir.IntType(32), value)


def emit_step(builder, index, step, count):
    """``index + count * step``."""
    return builder.add(index, builder.mul(step, ir.Constant(step.type, count)))


# Memory.


@intrinsic
def load(context, pointer, index):
    """The 16 numbers from ``pointer[index]`` on."""

    def emit(target, builder, signature, args):
        return emit_load(builder, *args)

    return VECTOR(pointer, types.intp), emit


@intrinsic
def store(context, pointer, index, vector):
    """Write 16 numbers from ``pointer[index]`` on."""

    def emit(target, builder, signature, args):
        emit_store(builder, *args)
        return target.get_dummy_value()

    return types.void(pointer, types.intp, VECTOR), emit


def load_many(count: int) -> Callable:
    """A function ``(pointer, index, step) -> count`` vectors, ``step`` numbers apart."""

    @intrinsic
    def loads(context, pointer, index, step):
        kind = types.UniTuple(VECTOR, count)

        def emit(target, builder, signature, args):
            pointer, index, step = args
            values = [
                emit_load(builder, pointer, emit_step(builder, index, step, k))
                for k in range(count)
            ]
            return target.make_tuple(builder, kind, values)

        return kind(pointer, types.intp, types.intp), emit

    return loads


@intrinsic
def store_many(context, pointer, index, step, vectors):
    """Write vectors ``step`` numbers apart."""

    def emit(target, builder, signature, args):
        pointer, index, step, values = args
        for k, value in enumerate(cgutils.unpack_tuple(builder, values)):
            emit_store(builder, pointer, emit_step(builder, index, step, k), value)
        return target.get_dummy_value()

    return types.void(pointer, types.intp, types.intp, vectors), emit


def load_grid(lines: int, vectors: int) -> Callable:
    """A function ``(pointer, index, step) -> vectors`` next to each other, line by line.

    ``step`` is from one line to the next.
    """

    @intrinsic
    def loads(context, pointer, index, step):
        kind = types.UniTuple(VECTOR, lines * vectors)

        def emit(target, builder, signature, args):
            pointer, index, step = args
            values = [
                emit_load(builder, pointer, _grid_place(builder, index, step, k, vectors))
                for k in range(lines * vectors)
            ]
            return target.make_tuple(builder, kind, values)

        return kind(pointer, types.intp, types.intp), emit

    return loads


def store_grid(vectors: int) -> Callable:
    """A function ``(pointer, index, step, values)`` that writes what ``load_grid`` reads."""

    @intrinsic
    def stores(context, pointer, index, step, values):
        def emit(target, builder, signature, args):
            pointer, index, step, values = args
            for k, value in enumerate(cgutils.unpack_tuple(builder, values)):
                place = _grid_place(builder, index, step, k, vectors)
                emit_store(builder, pointer, place, value)
            return target.get_dummy_value()

        return types.void(pointer, types.intp, types.intp, values), emit

    return stores


def _grid_place(builder, index, step, k, vectors):
    line, vector = divmod(k, vectors)
    start = emit_step(builder, index, step, line)
    return builder.add(start, ir.Constant(start.type, vector * LANES))


@intrinsic
def add_many(context, pointer, index, step, vectors):
    """Add vectors to what is stored ``step`` numbers apart."""

    def emit(target, builder, signature, args):
        pointer, index, step, values = args
        for k, value in enumerate(cgutils.unpack_tuple(builder, values)):
            place = emit_step(builder, index, step, k)
            before = emit_load(builder, pointer, place)
            emit_store(builder, pointer, place, builder.fadd(before, value))
        return target.get_dummy_value()

    return types.void(pointer, types.intp, types.intp, vectors), emit


def stack(vectors: int) -> Callable:
    """A function ``() -> pointer`` to memory for so many vectors that lives as long as the call."""

    @intrinsic
    def allocate(context):
        def emit(target, builder, signature, args):
            # At the start of the function, so that a loop does not allocate again and again.
            with builder.goto_entry_block():
                block = builder.alloca(ir.ArrayType(_FLOATS, vectors))
            block.align = 64
            return builder.bitcast(block, ir.FloatType().as_pointer())

        return types.CPointer(types.float32)(), emit

    return allocate


# Arithmetic.


@intrinsic
def broadcast(context, number):
    """A vector of 16 times the same float32."""

    def emit(target, builder, signature, args):
        return emit_broadcast(builder, args[0])

    return VECTOR(types.float32), emit


def zeros(count: int) -> Callable:
    """A function ``() -> count`` vectors of zeros."""

    @intrinsic
    def zero_vectors(context):
        kind = types.UniTuple(VECTOR, count)

        def emit(target, builder, signature, args):
            return target.make_tuple(builder, kind, [ir.Constant(_FLOATS, [0.0] * LANES)] * count)

        return kind(), emit

    return zero_vectors


@intrinsic
def fma(context, x, y, z):
    """``x * y + z``."""

    def emit(target, builder, signature, args):
        return emit_fma(builder, *args)

    return VECTOR(VECTOR, VECTOR, VECTOR), emit


def _binary(instruction: str) -> Callable:
    @intrinsic
    def apply(context, x, y):
        def emit(target, builder, signature, args):
            return getattr(builder, instruction)(*args)

        return VECTOR(VECTOR, VECTOR), emit

    return apply


add, subtract, multiply = _binary("fadd"), _binary("fsub"), _binary("fmul")


@intrinsic
def outer_fma(context, sums, pointer, index, step, vectors):
    """``sums[p * V + v] + pointer[index + p * step] * vectors[v]``, for all ``p`` and ``v``.

    ``V`` is the number of ``vectors``; ``sums`` has a multiple of it.
    """

    def emit(target, builder, signature, args):
        totals, pointer, index, step, factors = args
        totals = cgutils.unpack_tuple(builder, totals)
        factors = cgutils.unpack_tuple(builder, factors)
        results = []
        for p in range(len(totals) // len(factors)):
            address = builder.gep(pointer, [emit_step(builder, index, step, p)])
            number = emit_broadcast(builder, builder.load(address))
            for v, factor in enumerate(factors):
                total = totals[p * len(factors) + v]
                results.append(emit_fma(builder, number, factor, total))
        return target.make_tuple(builder, sums, results)

    return sums(sums, pointer, types.intp, types.intp, vectors), emit


@intrinsic
def smaller(context, a, b):
    """The smaller of two whole numbers."""

    def emit(target, builder, signature, args):
        return builder.select(builder.icmp_signed("<", *args), *args)

    return types.int64(types.int64, types.int64), emit


# Comparison. Anything compared with NaN is false.


def _comparison(symbol: str) -> Callable:
    @intrinsic
    def compare(context, x, y):
        def emit(target, builder, signature, args):
            return builder.fcmp_ordered(symbol, *args)

        return MASK(VECTOR, VECTOR), emit

    return compare


greater, at_least, less = _comparison(">"), _comparison(">="), _comparison("<")


@intrinsic
def where(context, mask, x, y):
    """``x`` where ``mask`` is set, ``y`` elsewhere."""

    def emit(target, builder, signature, args):
        return builder.select(*args)

    return VECTOR(MASK, VECTOR, VECTOR), emit


# Sums in double precision.


@intrinsic
def accumulate(context, pointer, index, x):
    """``pointer[index : index + 16] += x``, in float64."""

    def emit(target, builder, signature, args):
        pointer, index, x = args
        total = emit_load(builder, pointer, index, _DOUBLES)
        total = builder.fadd(total, builder.fpext(x, _DOUBLES))
        emit_store(builder, pointer, index, total)
        return target.get_dummy_value()

    return types.void(pointer, types.intp, VECTOR), emit


@intrinsic
def accumulate_product(context, pointer, index, x, y):
    """``pointer[index : index + 16] += x * y``, in float64."""

    def emit(target, builder, signature, args):
        pointer, index, x, y = args
        total = emit_load(builder, pointer, index, _DOUBLES)
        total = emit_fma(builder, builder.fpext(x, _DOUBLES), builder.fpext(y, _DOUBLES), total)
        emit_store(builder, pointer, index, total)
        return target.get_dummy_value()

    return types.void(pointer, types.intp, VECTOR, VECTOR), emit


# Linear maps with constant coefficients.


def linear_map(matrix: Sequence[Sequence[float]]) -> Callable:
    """A function that takes a tuple of vectors ``x`` to the tuple ``matrix @ x``.

    Two rows that differ in signs alone share their work: what they have in common is computed
    once, and added to and subtracted from the rest.
    """
    rows = [[float(value) for value in row] for row in matrix]

    @intrinsic
    def apply(context, vectors):
        kind = types.UniTuple(VECTOR, len(rows))

        def emit(target, builder, signature, args):
            inputs = cgutils.unpack_tuple(builder, args[0])
            return target.make_tuple(builder, kind, _emit_rows(builder, rows, inputs))

        return kind(vectors), emit

    return apply


def _emit_rows(builder, rows, inputs):
    results = [None] * len(rows)
    for i, row in enumerate(rows):
        if results[i] is not None:
            continue
        partner = _partner(rows, i, results)
        if partner is None:
            results[i] = _emit_row(builder, row, inputs)
            continue
        other = rows[partner]
        same = [a if a == b else 0.0 for a, b in zip(row, other)]
        opposite = [a if a != b else 0.0 for a, b in zip(row, other)]
        same, opposite = _emit_row(builder, same, inputs), _emit_row(builder, opposite, inputs)
        results[i] = builder.fadd(same, opposite)
        results[partner] = builder.fsub(same, opposite)
    return results


def _partner(rows, i, results):
    """A later row that has the same coefficients as row ``i`` up to some of their signs."""
    for j in range(i + 1, len(rows)):
        pairs = list(zip(rows[i], rows[j]))
        differing = [a for a, b in pairs if a != b]
        common = [a for a, b in pairs if a == b and a != 0]
        signs_only = all(abs(a) == abs(b) for a, b in pairs)
        if results[j] is None and signs_only and differing and common:
            return j
    return None


def _emit_row(builder, row, inputs):
    """One sum of products; terms without a multiplication come first."""
    terms = sorted(
        ((value, x) for value, x in zip(row, inputs) if value != 0),
        key=lambda term: (term[0] != 1, abs(term[0]) != 1),
    )
    total = ir.Constant(_FLOATS, [0.0] * LANES)
    for place, (value, x) in enumerate(terms):
        if value == 1:
            total = builder.fadd(total, x) if place else x
        elif value == -1:
            total = builder.fsub(total, x)
        elif place:
            total = emit_fma(builder, ir.Constant(_FLOATS, [value] * LANES), x, total)
        else:
            total = builder.fmul(ir.Constant(_FLOATS, [value] * LANES), x)
    return total
