"""Steps of `LANES` numbers at a time, for loops that are too short for the compiler to vectorise well.

A loop over the forty patches of a group or the forty positions of a search ends with a remainder, which
numba leaves scalar, and begins with a check whether its arrays overlap. These steps are in the terms of LLVM
instead: sums stay in registers, and each processor uses vectors as wide as it has.

All arrays are contiguous and single precision. Places in them are counted in numbers, as in a flat array;
each step reads and writes `LANES` numbers from there on, so arrays are padded.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from calepin.core.compiled import LANES

__all__ = ["ROWS", "add_product", "below", "block_distances", "lowest", "square_distances"]

ROWS = 4  # of the product, whose sums are in registers at the same time

NUMBER, INDEX = ir.FloatType(), ir.IntType(64)
VECTOR = ir.VectorType(NUMBER, LANES)
# Sums are reordered once, at compile time. Infinity is allowed: `below` compares with it.
FLAGS = ("contract", "reassoc", "nsz")


def _step(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `numba.extending.intrinsic` of a function, which kernels call without its first argument."""
    return intrinsic(function)


@_step
def add_product(typing, C, c, pitch, F, f, along, down, Z, z, step, length):
    """Add to `ROWS` rows r of C the sums over s < `length` of F[f + s along + r down] Z[z + s step].

    Row r begins at c + r pitch.
    """
    signature = types.void(C, *[types.intp] * 2, F, *[types.intp] * 3, Z, *[types.intp] * 3)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, c, pitch, _, f, along, down, _, z, step, length = values
        C, F, Z = (_data(context, builder, signature, values, k) for k in (0, 3, 7))
        rows = [ir.Constant(INDEX, r) for r in range(ROWS)]
        places = [_place(builder, C, builder.add(c, builder.mul(pitch, r))) for r in rows]
        shifts = [builder.mul(down, r) for r in rows]
        sums = [_variable(builder, _load(builder, place)) for place in places]
        with cgutils.for_range(builder, length) as loop:
            line = _load(builder, _place(builder, Z, builder.add(z, builder.mul(loop.index, step))))
            first = builder.add(f, builder.mul(loop.index, along))
            for total, shift in zip(sums, shifts, strict=True):
                factor = _spread(builder, builder.load(builder.gep(F, [builder.add(first, shift)])))
                _add(builder, total, builder.fmul(factor, line, flags=FLAGS))
        for place, total in zip(places, sums, strict=True):
            _store(builder, builder.load(total), place)
        return context.get_dummy_value()

    return signature, generate


@_step
def square_distances(typing, D, d, P, a, b, pitch, rows):
    """Set D from d on to the sums over r < rows of (P[a + r pitch] - P[b + r pitch])^2."""
    signature = types.void(D, types.intp, P, *[types.intp] * 4)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, d, _, a, b, pitch, rows = values
        D, P = (_data(context, builder, signature, values, k) for k in (0, 2))
        total = _variable(builder, ir.Constant(VECTOR, [0.0] * LANES))
        with cgutils.for_range(builder, rows) as loop:
            shift = builder.mul(loop.index, pitch)
            one, other = (_load(builder, _place(builder, P, builder.add(at, shift))) for at in (a, b))
            gap = builder.fsub(one, other, flags=FLAGS)
            _add(builder, total, builder.fmul(gap, gap, flags=FLAGS))
        _store(builder, builder.load(total), _place(builder, D, d))
        return context.get_dummy_value()

    return signature, generate


@_step
def block_distances(typing, D, d, P, a, b, pitches, shape):
    """Set D from d on to the squared distances of the block of P at a from the blocks at b, b + 1, ...

    The block has a shape (frames, rows, columns), whose frames and rows are `pitches` apart.
    """
    three, two = (types.UniTuple(types.intp, n) for n in (3, 2))
    signature = types.void(D, types.intp, P, types.intp, types.intp, two, three)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, d, _, a, b, pitches, shape = values
        D, P = (_data(context, builder, signature, values, k) for k in (0, 2))
        frame, row = cgutils.unpack_tuple(builder, pitches, 2)
        lengths = cgutils.unpack_tuple(builder, shape, 3)
        total = _variable(builder, ir.Constant(VECTOR, [0.0] * LANES))
        with (
            cgutils.for_range(builder, lengths[0]) as t,
            cgutils.for_range(builder, lengths[1]) as u,
            cgutils.for_range(builder, lengths[2]) as v,
        ):
            line = builder.add(builder.mul(t.index, frame), builder.mul(u.index, row))
            shift = builder.add(line, v.index)
            own = _spread(builder, builder.load(builder.gep(P, [builder.add(a, shift)])))
            other = _load(builder, _place(builder, P, builder.add(b, shift)))
            gap = builder.fsub(own, other, flags=FLAGS)
            _add(builder, total, builder.fmul(gap, gap, flags=FLAGS))
        _store(builder, builder.load(total), _place(builder, D, d))
        return context.get_dummy_value()

    return signature, generate


@_step
def below(typing, T, D, at, length, least):
    """Set T to sums of `length` entries of D in a row, from `at` on; return bits: which are below `least`."""
    signature = types.int64(T, D, types.intp, types.intp, least)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, _, at, length, _ = values
        T, D, least = (_data(context, builder, signature, values, k) for k in (0, 1, 4))
        total = _variable(builder, ir.Constant(VECTOR, [0.0] * LANES))
        with cgutils.for_range(builder, length) as loop:
            _add(builder, total, _load(builder, _place(builder, D, builder.add(at, loop.index))))
        found = builder.load(total)
        _store(builder, found, _place(builder, T, at))
        less = builder.fcmp_ordered("<", found, _load(builder, _place(builder, least, at)))
        return builder.zext(builder.bitcast(less, ir.IntType(LANES)), INDEX)

    return signature, generate


@_step
def lowest(typing, bits):
    """Return the position of the lowest bit of a positive number."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


def _data(context: Any, builder: Any, signature: Any, values: Any, k: int) -> Any:
    """Return the pointer to the numbers of the array that is argument k."""
    return context.make_array(signature.args[k])(context, builder, value=values[k]).data


def _place(builder: Any, data: Any, index: Any) -> Any:
    return builder.bitcast(builder.gep(data, [index]), VECTOR.as_pointer())


def _load(builder: Any, place: Any) -> Any:
    return builder.load(place, align=4)


def _store(builder: Any, value: Any, place: Any) -> None:
    builder.store(value, place, align=4)


def _variable(builder: Any, value: Any) -> Any:
    """Return a variable, which the compiler keeps in a register."""
    place = cgutils.alloca_once(builder, VECTOR)
    builder.store(value, place)
    return place


def _add(builder: Any, total: Any, value: Any) -> None:
    builder.store(builder.fadd(builder.load(total), value, flags=FLAGS), total)


def _spread(builder: Any, number: Any) -> Any:
    """Return a vector whose entries are the number."""
    empty, first = ir.Constant(VECTOR, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(empty, number, first)
    return builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))
