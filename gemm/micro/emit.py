"""Emitting LLVM: the few vector operations that Numba's Python has no word for.

Addresses are integers (bytes), as are strides; a vector is `lanes` elements of one dtype. Everything here runs while
Numba compiles and leaves instructions behind; nothing runs at the time of a product.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from gemm.micro.host import BYTES

I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
VOID = ir.VoidType()


def word(value: int) -> Any:
    return ir.Constant(I64, value)


class Emitter:
    """A builder that speaks of vectors of one dtype."""

    def __init__(self, builder: Any, dtype: str, lanes: int, fma: bool) -> None:
        self.builder, self.lanes, self.size, self.fused = builder, lanes, BYTES[dtype], fma
        self.element = ir.FloatType() if dtype == "float32" else ir.DoubleType()
        self.vector = ir.VectorType(self.element, lanes)
        self.name = f"v{lanes}f{8 * self.size}"
        self.mask_type = ir.VectorType(I1, lanes)

    def _declared(self, name: str, result: Any, *arguments: Any) -> Any:
        module = self.builder.module
        found = module.globals.get(name)
        return found or ir.Function(module, ir.FunctionType(result, arguments), name)

    @property
    def zero(self) -> Any:
        return ir.Constant(self.vector, [ir.Constant(self.element, 0.0)] * self.lanes)

    def at(self, address: Any, type_: Any) -> Any:
        return self.builder.inttoptr(address, type_.as_pointer())

    def offset(self, address: Any, bytes_: int) -> Any:
        return self.builder.add(address, word(bytes_)) if bytes_ else address

    def load(self, address: Any, mask: Any = None) -> Any:
        pointer = self.at(address, self.vector)
        if mask is None:
            return self.builder.load(pointer, align=self.size)
        load = self._declared(
            f"llvm.masked.load.{self.name}.p0", self.vector, pointer.type, I32, mask.type, self.vector
        )
        return self.builder.call(load, [pointer, ir.Constant(I32, self.size), mask, self.zero])

    def store(self, value: Any, address: Any, mask: Any = None) -> None:
        pointer = self.at(address, self.vector)
        if mask is None:
            self.builder.store(value, pointer, align=self.size)
            return
        store = self._declared(
            f"llvm.masked.store.{self.name}.p0", VOID, self.vector, pointer.type, I32, mask.type
        )
        self.builder.call(store, [value, pointer, ir.Constant(I32, self.size), mask])

    def store_past_caches(self, value: Any, address: Any) -> None:
        """Write a whole vector, at an address that is a multiple of its size, past the caches."""
        store = self.builder.store(value, self.at(address, self.vector), align=self.lanes * self.size)
        store.set_metadata("nontemporal", self.builder.module.add_metadata([ir.Constant(I32, 1)]))

    def prefetch(self, address: Any, *, write: bool = False, locality: int = 3) -> None:
        pointer = self.at(address, I8)
        prefetch = self._declared("llvm.prefetch.p0", VOID, pointer.type, I32, I32, I32)
        flags = [ir.Constant(I32, value) for value in (int(write), locality, 1)]
        self.builder.call(prefetch, [pointer, *flags])

    def splat(self, scalar: Any) -> Any:
        """Every lane the same."""
        return self._spread(scalar, self.vector)

    def _spread(self, scalar: Any, type_: Any) -> Any:
        nothing = ir.Constant(type_, ir.Undefined)
        one = self.builder.insert_element(nothing, scalar, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, type_.count), [ir.Constant(I32, 0)] * type_.count)
        return self.builder.shuffle_vector(one, nothing, zeros)

    def load_element(self, address: Any) -> Any:
        return self.builder.load(self.at(address, self.element), align=self.size)

    def store_element(self, value: Any, address: Any) -> None:
        self.builder.store(value, self.at(address, self.element), align=self.size)

    def first(self, count: Any) -> Any:
        """The mask of the first `count` lanes (all, where it is larger)."""
        numbers = ir.VectorType(I32, self.lanes)
        most = word(self.lanes)
        count = self.builder.select(self.builder.icmp_signed("<", count, most), count, most)
        wanted = self._spread(self.builder.trunc(count, I32), numbers)
        lane = ir.Constant(numbers, [ir.Constant(I32, i) for i in range(self.lanes)])
        return self.builder.icmp_signed("<", lane, wanted)

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        """x y + z, rounded once where the machine has FMA."""
        if not self.fused:
            return self.builder.fadd(self.builder.fmul(x, y), z)
        return self.builder.call(self._declared(f"llvm.fma.{self.name}", *[self.vector] * 4), [x, y, z])

    def either(self, *arrivals: tuple[Any, Any]) -> Any:
        """The value that belongs to the block from which control came: (value, block) pairs."""
        phi = self.builder.phi(arrivals[0][0].type)
        for value, block in arrivals:
            phi.add_incoming(value, block)
        return phi

    def totals(self, vectors: list[Any]) -> list[Any]:
        """The sum of the lanes of each vector: two vectors at a time become one of pairwise sums, until one is left.

        A third of the instructions that summing each by itself takes.
        """
        scalars: list[Any] = []
        for first in range(0, len(vectors), self.lanes):
            some = vectors[first : first + self.lanes]
            level, block = some + [self.zero] * (self.lanes - len(some)), 1
            while len(level) > 1:
                pairs = zip(level[0::2], level[1::2])
                level = [self.builder.fadd(*self.interleaved(x, y, block)) for x, y in pairs]
                block *= 2
            (sums,) = level
            scalars += [
                self.builder.extract_element(sums, ir.Constant(I32, lane)) for lane in range(len(some))
            ]
        return scalars

    def interleaved(self, x: Any, y: Any, block: int) -> tuple[Any, Any]:
        """One step of a transpose: blocks of `block` lanes swapped between two vectors.

        Of x = [x0 x1 ...] and y = [y0 y1 ...] in blocks: [x0 y0 x2 y2 ...] and [x1 y1 x3 y3 ...].
        """
        lanes = range(self.lanes)
        even = [i if not i & block else (i ^ block) + self.lanes for i in lanes]
        odd = [i ^ block if not i & block else i + self.lanes for i in lanes]
        shuffle = self.builder.shuffle_vector
        return shuffle(x, y, self._order(even)), shuffle(x, y, self._order(odd))

    def _order(self, lanes: list[int]) -> Any:
        return ir.Constant(ir.VectorType(I32, len(lanes)), [ir.Constant(I32, lane) for lane in lanes])


def function(module: Any, name: str, arguments: list[Any], *, inline: bool = False) -> Any:
    """A void function of this module alone."""
    made = ir.Function(module, ir.FunctionType(VOID, arguments), name)
    made.linkage = "internal"
    made.attributes.add("alwaysinline" if inline else "noinline")
    made.attributes.add("nounwind")
    return made
