"""A direct depthwise convolution, written as LLVM's intermediate representation with explicit vectors.

A vector holds one pixel in as many channels as a vector register has lanes, so that no sum crosses lanes and every load
is aligned. A tile of `ROWS` × up to `columns` outputs stays in registers while the filter passes over it. Each step
loads one tap per row of the tile and one pixel per column, and adds each of their products to a different sum. Images
are first copied into blocks of this layout, with zeros around them.

The module has two public functions: `forward` (also for the input gradient, with filters read backwards), over a range
of pairs of a block of channels and an image, and `weight_grad`, over a range of blocks of channels. Both copy the data
in, call `accumulate` and copy the result out, where `accumulate` computes

    out[r, s] += sum over i, j of taps[i, j] · image[r + i, s + j]

For the weight gradient, the output gradient takes the place of the taps.
"""

from collections.abc import Sequence

from llvmlite import ir

from replknet.ops.cpu.direct_writer import BOOL, F32, I64, PTR, Function, Writer, number

__all__ = ["ROWS", "build"]

ROWS = 2
"""Number of output rows that are held in registers at once."""
_BAND = 16
"""Number of output gradient rows processed at a time, so that they and the image rows stay in the cache."""

_MAPS: tuple[tuple[str, ir.Type], ...] = (("", PTR), ("_n", I64), ("_c", I64), ("_h", I64), ("_w", I64))


class _Module:
    """The LLVM module under construction, for vectors of `lanes` numbers and tiles of up to `columns` columns."""

    def __init__(self, lanes: int, columns: int):
        self.module = ir.Module("depthwise")
        self.lanes, self.columns = lanes, columns
        self.vector = ir.VectorType(F32, lanes)
        signature = ir.FunctionType(self.vector, [self.vector] * 3)
        self.fma = ir.Function(self.module, signature, f"llvm.fma.v{lanes}f32")
        self.bytes = lanes * 4
        self.tiles = {
            (rows, columns): self._tile(rows, columns) for rows in (1, ROWS) for columns in range(1, self.columns + 1)
        }
        self.accumulate = self._accumulate()
        self.pack = self._copy("pack", into_block=True)
        self.unpack = self._copy("unpack", into_block=False)

    def function(self, name: str, arguments: Sequence[tuple[str, ir.Type]], *, public: bool = False) -> Function:
        types = [kind for _, kind in arguments]
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), types), name)
        if not public:
            function.linkage = "internal"
        for argument, (label, kind) in zip(function.args, arguments, strict=True):
            argument.name = label
            if kind is PTR:
                argument.add_attribute("noalias")
        return Function(function)

    # ------------------------------------------------------------ one tile

    def _tile(self, rows: int, columns: int) -> ir.Function:
        """Write the function that sums `rows` × `columns` outputs over taps [0, tap_rows) × [0, tap_columns).

        The strides of image and taps count vectors, those of the outputs count numbers.
        """
        f = self.function(
            f"tile_{rows}_{columns}",
            [
                ("image", PTR),
                ("image_row", I64),
                ("taps", PTR),
                ("taps_row", I64),
                ("tap_rows", I64),
                ("tap_columns", I64),
                ("out", PTR),
                ("out_row", I64),
                ("out_column", I64),
                ("start", PTR),
                ("from_start", BOOL),
            ],
        )
        f.function.attributes.add("noinline")
        w = f.writer
        places = [
            w.at(f["out"], w.add(w.mul(number(r), f["out_row"]), w.mul(number(s), f["out_column"])))
            for r in range(rows)
            for s in range(columns)
        ]
        with w.if_else(f["from_start"]) as (fresh, going_on):
            with fresh:
                first = w.load(f["start"], typ=self.vector, align=self.bytes)
                fresh_block = w.block
            with going_on:
                held = [w.load(place, typ=self.vector, align=4) for place in places]
                held_block = w.block
        sums = []
        for value in held:
            phi = w.phi(self.vector)
            phi.add_incoming(first, fresh_block)
            phi.add_incoming(value, held_block)
            sums.append(phi)
        one = number(1)
        # the first and the last rows of pixels contribute to some of the output rows only
        for r in range(rows - 1):
            sums = self._pass(f, sums, columns, number(r), {q: number(r - q) for q in range(r + 1)})
        head, body, end = (w.append_basic_block(name) for name in ("rows", "row", "done"))
        before = w.block
        w.branch(head)
        w.position_at_end(head)
        t = w.phi(I64)
        t.add_incoming(number(rows - 1), before)
        phis = [w.phi(self.vector) for _ in sums]
        for phi, value in zip(phis, sums, strict=True):
            phi.add_incoming(value, before)
        w.cbranch(w.icmp_signed("<", t, f["tap_rows"]), body, end)
        w.position_at_end(body)
        after = self._pass(f, list(phis), columns, t, {q: w.sub(t, number(q)) for q in range(rows)})
        t.add_incoming(w.add(t, one), w.block)
        for phi, value in zip(phis, after, strict=True):
            phi.add_incoming(value, w.block)
        w.branch(head)
        w.position_at_end(end)
        sums = list(phis)
        for r in range(rows - 1):
            row = w.add(f["tap_rows"], number(r))
            sums = self._pass(f, sums, columns, row, {q: w.sub(row, number(q)) for q in range(r + 1, rows)})
        for place, value in zip(places, sums, strict=True):
            w.store(value, place, align=4)
        w.ret_void()
        return f.function

    def _pass(
        self, f: Function, sums: list[ir.Value], columns: int, row: ir.Value, tap_rows: dict[int, ir.Value]
    ) -> list[ir.Value]:
        """Add the contribution of one row of pixels to the sums.

        `tap_rows` maps each output row that the pixels contribute to, counted within the tile, to its row of taps.
        """
        w = f.writer
        pixels = w.at(f["image"], w.mul(row, f["image_row"]), self.vector)
        taps = {r: w.at(f["taps"], w.mul(i, f["taps_row"]), self.vector) for r, i in tap_rows.items()}
        head, body, end = (w.append_basic_block(name) for name in ("taps", "tap", "passed"))
        before = w.block
        w.branch(head)
        w.position_at_end(head)
        j = w.phi(I64)
        j.add_incoming(number(0), before)
        phis = [w.phi(self.vector) for _ in sums]
        for phi, value in zip(phis, sums, strict=True):
            phi.add_incoming(value, before)
        w.cbranch(w.icmp_signed("<", j, f["tap_columns"]), body, end)
        w.position_at_end(body)
        after = list(phis)
        tap = {r: w.load(w.at(base, j, self.vector), typ=self.vector, align=self.bytes) for r, base in taps.items()}
        for s in range(columns):
            place = w.at(pixels, w.add(j, number(s)), self.vector)
            pixel = w.load(place, typ=self.vector, align=self.bytes)
            for r, value in tap.items():
                after[r * columns + s] = w.call(self.fma, [pixel, value, after[r * columns + s]])
        j.add_incoming(w.add(j, number(1)), w.block)
        for phi, value in zip(phis, after, strict=True):
            phi.add_incoming(value, w.block)
        w.branch(head)
        w.position_at_end(end)
        return list(phis)

    # ------------------------------------------------------------ all tiles of a block

    def _accumulate(self) -> ir.Function:
        """Write the function for all outputs of one block. Taps that only meet the zeros around the image are skipped.

        The pixels of the image are in rows [row_low, row_high) and columns [column_low, column_high) of the block.
        """
        f = self.function(
            "accumulate",
            [
                ("image", PTR),
                ("image_row", I64),
                ("taps", PTR),
                ("taps_row", I64),
                ("tap_rows", I64),
                ("tap_columns", I64),
                ("out", PTR),
                ("out_row", I64),
                ("out_column", I64),
                ("out_rows", I64),
                ("out_columns", I64),
                ("row_low", I64),
                ("row_high", I64),
                ("column_low", I64),
                ("column_high", I64),
                ("start", PTR),
                ("from_start", BOOL),
            ],
        )
        w = f.writer
        most = number(self.columns)
        count = w.sdiv(w.sub(w.add(f["out_columns"], most), number(1)), most)
        base = w.sdiv(f["out_columns"], count)
        extra = w.srem(f["out_columns"], count)  # number of tiles that are one column wider
        with w.loop(number(0), f["out_rows"], ROWS) as r:
            pair = w.icmp_signed("<=", w.add(r, number(ROWS)), f["out_rows"])
            rows = w.select(pair, number(ROWS), number(1))
            with w.loop(number(0), count) as tile:
                s = w.add(w.mul(tile, base), w.smaller(tile, extra))
                columns = w.add(base, w.zext(w.icmp_signed("<", tile, extra), I64))
                last_row, last_column = w.sub(w.add(r, rows), number(1)), w.sub(w.add(s, columns), number(1))
                i_low = w.larger(number(0), w.sub(f["row_low"], last_row))
                i_high = w.smaller(f["tap_rows"], w.sub(f["row_high"], r))
                j_low = w.larger(number(0), w.sub(f["column_low"], last_column))
                j_high = w.smaller(f["tap_columns"], w.sub(f["column_high"], s))
                n, m = w.sub(i_high, i_low), w.sub(j_high, j_low)
                # where there is nothing to add, one row without taps still sets the outputs
                some = w.and_(w.icmp_signed(">", n, number(0)), w.icmp_signed(">", m, number(0)))
                n, m = w.select(some, n, number(1)), w.select(some, m, number(0))
                pixel = w.total(w.mul(w.add(r, i_low), f["image_row"]), s, j_low)
                arguments = [
                    w.at(f["image"], pixel, self.vector),
                    f["image_row"],
                    w.at(f["taps"], w.add(w.mul(i_low, f["taps_row"]), j_low), self.vector),
                    f["taps_row"],
                    n,
                    m,
                    w.at(f["out"], w.add(w.mul(r, f["out_row"]), w.mul(s, f["out_column"]))),
                    f["out_row"],
                    f["out_column"],
                    f["start"],
                    f["from_start"],
                ]
                with w.if_else(pair) as (two, single):
                    with two:
                        self._call_tile(w, ROWS, columns, arguments)
                    with single:
                        self._call_tile(w, 1, columns, arguments)
        w.ret_void()
        return f.function

    def _call_tile(self, w: Writer, rows: int, columns: ir.Value, arguments: Sequence[ir.Value]) -> None:
        done = w.append_basic_block("tiled")
        switch = w.switch(columns, done)
        for width in range(1, self.columns + 1):
            block = w.append_basic_block(f"tile{width}")
            switch.add_case(number(width), block)
            w.position_at_end(block)
            w.call(self.tiles[rows, width], arguments)
            w.branch(done)
        w.position_at_end(done)

    # ------------------------------------------------------------ copies

    def _copy(self, name: str, *, into_block: bool) -> ir.Function:
        """Write a copy between maps with any strides and a block; lanes from `channels` on are left unchanged."""
        f = self.function(
            name,
            [
                ("maps", PTR),
                ("channel", I64),
                ("row", I64),
                ("column", I64),
                ("channels", I64),
                ("rows", I64),
                ("columns", I64),
                ("block", PTR),
                ("block_row", I64),
            ],
        )
        f.function.attributes.add("noinline")
        w = f.writer
        full = w.icmp_signed("==", f["channels"], number(self.lanes))
        side_by_side = w.and_(full, w.icmp_signed("==", f["channel"], number(1)))
        with w.if_else(side_by_side) as (vectors, numbers):
            with vectors, w.loop(number(0), f["rows"]) as y, w.loop(number(0), f["columns"]) as x:
                outside = w.at(f["maps"], w.add(w.mul(y, f["row"]), w.mul(x, f["column"])))
                inside = w.at(f["block"], w.add(w.mul(y, f["block_row"]), x), self.vector)
                if into_block:
                    w.store(w.load(outside, typ=self.vector, align=4), inside, align=self.bytes)
                else:
                    w.store(w.load(inside, typ=self.vector, align=self.bytes), outside, align=4)
            with numbers, w.loop(number(0), f["rows"]) as y, w.loop(number(0), f["channels"]) as c:
                line = w.at(f["maps"], w.add(w.mul(y, f["row"]), w.mul(c, f["channel"])))
                block_line = w.at(w.at(f["block"], w.mul(y, f["block_row"]), self.vector), c)
                with w.loop(number(0), f["columns"]) as x:
                    outside = w.at(line, w.mul(x, f["column"]))
                    inside = w.at(block_line, w.mul(x, number(self.lanes)))
                    source, target = (outside, inside) if into_block else (inside, outside)
                    w.store(w.load(source, typ=F32, align=4), target, align=4)
        w.ret_void()
        return f.function

    # ------------------------------------------------------------ public functions

    def forward(self) -> None:
        """Write the public function `forward`; see the module docstring."""
        f = self.function(
            "forward",
            [
                *[(f"{name}{part}", kind) for name in ("x", "y") for part, kind in _MAPS],
                ("taps", PTR),
                *[(f"taps{part}", I64) for part in ("_c", "_h", "_w")],
                ("bias", PTR),
                ("with_bias", I64),
                *[(name, I64) for name in ("n", "c", "h", "w", "kh", "kw", "first", "last")],
                ("room", PTR),
            ],
            public=True,
        )
        w = f.writer
        one = number(1)
        pad_h, pad_w, height, width, start, taps, image, out = self._room(f)
        self._clear(w, start, w.total(one, w.mul(f["kh"], f["kw"]), w.mul(height, width)))
        inner = w.at(image, w.add(w.mul(pad_h, width), pad_w), self.vector)
        with w.loop(f["first"], f["last"]) as unit:
            block, n = w.sdiv(unit, f["n"]), w.srem(unit, f["n"])
            c = w.mul(block, number(self.lanes))
            channels = w.smaller(number(self.lanes), w.sub(f["c"], c))
            new = w.or_(w.icmp_signed("==", n, number(0)), w.icmp_signed("==", unit, f["first"]))
            with w.if_then(new):
                source = w.at(f["taps"], w.mul(c, f["taps_c"]))
                shape = [channels, f["kh"], f["kw"], taps, f["kw"]]
                w.call(self.pack, [source, f["taps_c"], f["taps_h"], f["taps_w"], *shape])
                with w.if_then(w.icmp_signed("!=", f["with_bias"], number(0))):
                    w.call(self.pack, [w.at(f["bias"], c), one, one, one, channels, one, one, start, one])
            x = w.at(f["x"], w.add(w.mul(n, f["x_n"]), w.mul(c, f["x_c"])))
            y = w.at(f["y"], w.add(w.mul(n, f["y_n"]), w.mul(c, f["y_c"])))
            w.call(self.pack, [x, f["x_c"], f["x_h"], f["x_w"], channels, f["h"], f["w"], inner, width])
            full = w.icmp_signed("==", channels, number(self.lanes))
            direct = w.and_(full, w.icmp_signed("==", f["y_c"], one))
            target = w.select(direct, y, out)
            row = w.select(direct, f["y_h"], w.mul(f["w"], number(self.lanes)))
            column = w.select(direct, f["y_w"], number(self.lanes))
            bounds = [pad_h, w.add(pad_h, f["h"]), pad_w, w.add(pad_w, f["w"])]
            kernel = [taps, f["kw"], f["kh"], f["kw"]]
            answer = [target, row, column, f["h"], f["w"]]
            w.call(self.accumulate, [image, width, *kernel, *answer, *bounds, start, ir.Constant(BOOL, 1)])
            with w.if_then(w.not_(direct)):
                w.call(self.unpack, [y, f["y_c"], f["y_h"], f["y_w"], channels, f["h"], f["w"], out, f["w"]])
        w.ret_void()

    def weight_grad(self) -> None:
        """Write the public function `weight_grad`; see the module docstring."""
        f = self.function(
            "weight_grad",
            [
                *[(f"{name}{part}", kind) for name in ("x", "g") for part, kind in _MAPS],
                ("taps", PTR),
                *[(f"taps{part}", I64) for part in ("_c", "_h", "_w")],
                *[(name, I64) for name in ("n", "c", "h", "w", "kh", "kw", "first", "last")],
                ("room", PTR),
            ],
            public=True,
        )
        w = f.writer
        pad_h, pad_w, height, width, start, taps, image, grad = self._room(f)
        self._clear(w, start, w.total(number(1), w.mul(f["kh"], f["kw"]), w.mul(height, width), w.mul(f["h"], f["w"])))
        inner = w.at(image, w.add(w.mul(pad_h, width), pad_w), self.vector)
        with w.loop(f["first"], f["last"]) as block:
            c = w.mul(block, number(self.lanes))
            channels = w.smaller(number(self.lanes), w.sub(f["c"], c))
            with w.loop(number(0), f["n"]) as n:
                shape = [channels, f["h"], f["w"]]
                x = w.at(f["x"], w.add(w.mul(n, f["x_n"]), w.mul(c, f["x_c"])))
                g = w.at(f["g"], w.add(w.mul(n, f["g_n"]), w.mul(c, f["g_c"])))
                w.call(self.pack, [x, f["x_c"], f["x_h"], f["x_w"], *shape, inner, width])
                w.call(self.pack, [g, f["g_c"], f["g_h"], f["g_w"], *shape, grad, f["w"]])
                with w.loop(number(0), f["h"], _BAND) as r:
                    rows = w.smaller(number(_BAND), w.sub(f["h"], r))
                    pixels = w.at(image, w.mul(r, width), self.vector)
                    kernel = [w.at(grad, w.mul(r, f["w"]), self.vector), f["w"], rows, f["w"]]
                    answer = [taps, w.mul(f["kw"], number(self.lanes)), number(self.lanes), f["kh"], f["kw"]]
                    low = w.sub(pad_h, r)
                    bounds = [low, w.add(low, f["h"]), pad_w, w.add(pad_w, f["w"])]
                    fresh = w.and_(w.icmp_signed("==", n, number(0)), w.icmp_signed("==", r, number(0)))
                    w.call(self.accumulate, [pixels, width, *kernel, *answer, *bounds, start, fresh])
            target = w.at(f["taps"], w.mul(c, f["taps_c"]))
            shape = [channels, f["kh"], f["kw"], taps, f["kw"]]
            w.call(self.unpack, [target, f["taps_c"], f["taps_h"], f["taps_w"], *shape])
        w.ret_void()

    def _room(self, f: Function) -> tuple[ir.Value, ...]:
        """Layout of a thread's scratch memory, and the size of the zero-padded image.

        Returns: Padding at the top and on the left; height and width of the padded image; then addresses in the scratch
            memory, of a vector of initial values, the taps, the padded image and one more map.
        """
        w = f.writer
        one = number(1)
        pad_h, pad_w = w.sdiv(f["kh"], number(2)), w.sdiv(f["kw"], number(2))
        height, width = w.sub(w.add(f["h"], f["kh"]), one), w.sub(w.add(f["w"], f["kw"]), one)
        start = f["room"]
        taps = w.at(start, one, self.vector)
        image = w.at(taps, w.mul(f["kh"], f["kw"]), self.vector)
        return pad_h, pad_w, height, width, start, taps, image, w.at(image, w.mul(height, width), self.vector)

    def _clear(self, w: Writer, base: ir.Value, vectors: ir.Value) -> None:
        nothing = ir.Constant(self.vector, [0.0] * self.lanes)
        with w.loop(number(0), vectors) as index:
            w.store(nothing, w.at(base, index, self.vector), align=self.bytes)


def build(lanes: int, columns: int) -> str:
    """Return LLVM's intermediate representation of the functions `forward` and `weight_grad`."""
    module = _Module(lanes, columns)
    module.forward()
    module.weight_grad()
    return str(module.module)
