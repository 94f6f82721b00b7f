"""An instruction builder of llvmlite, extended for loops over feature maps; all integers have 64 bits."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce

from llvmlite import ir

__all__ = ["BOOL", "F32", "I64", "PTR", "Function", "Writer", "number"]

I64, F32, BOOL, PTR = ir.IntType(64), ir.FloatType(), ir.IntType(1), ir.PointerType()


def number(value: int) -> ir.Constant:
    """An integer constant."""
    return ir.Constant(I64, value)


class Writer(ir.IRBuilder):
    """An instruction builder with loops, minimum and maximum, sums and addresses."""

    @contextmanager
    def loop(self, start: ir.Value, stop: ir.Value, step: int = 1) -> Iterator[ir.Value]:
        """Write the loop `for index in range(start, stop, step)`; the `with` block writes its body."""
        head, body, end = (self.append_basic_block(name) for name in ("head", "body", "end"))
        before = self.block
        self.branch(head)
        self.position_at_end(head)
        index = self.phi(I64)
        index.add_incoming(start, before)
        self.cbranch(self.icmp_signed("<", index, stop), body, end)
        self.position_at_end(body)
        yield index
        index.add_incoming(self.add(index, number(step)), self.block)
        self.branch(head)
        self.position_at_end(end)

    def larger(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The larger of two numbers."""
        return self.select(self.icmp_signed(">", a, b), a, b)

    def smaller(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The smaller of two numbers."""
        return self.select(self.icmp_signed("<", a, b), a, b)

    def total(self, *terms: ir.Value) -> ir.Value:
        """Sum of several numbers."""
        return reduce(self.add, terms)

    def at(self, base: ir.Value, index: ir.Value, element: ir.Type = F32) -> ir.Value:
        """Address of an element of an array."""
        return self.gep(base, [index], source_etype=element)


class Function:
    """A function under construction; its arguments are accessed by name."""

    def __init__(self, function: ir.Function):
        self.function = function
        self.writer = Writer(function.append_basic_block("entry"))
        self._arguments = {argument.name: argument for argument in function.args}

    def __getitem__(self, name: str) -> ir.Value:
        return self._arguments[name]
