"""The heart of the fused path on the CPU: a weighted sum of 4 x 4 RGBA pixels as four vectors of 16 bytes.

Compilers do not find this by themselves (measured, per picture of 768 px and one thread: 16 ms from scalar code, 4 ms
with it; OpenCV's bicubic warp alone 11), so it is spelled out in LLVM's terms, which serve any CPU.
"""

# llvmlite's builder is untyped: its decorators hide the parameter ``flags``.
# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def sum_block(
    typing_context: Any, pixels: Any, offset: Any, stride: Any,
    x0: Any, x1: Any, x2: Any, x3: Any, y0: Any, y1: Any, y2: Any, y3: Any,
) -> Any:  # fmt: skip
    """Weighted sum of 4 x 4 pixels with column weights x0..x3 and row weights y0..y3: r, g, b, a.

    Pixels are uint8 RGBA with straight alpha, ``offset`` and ``stride`` (one row) are in bytes; the sums are
    premultiplied, in units of 1 / 65025.
    """
    signature = types.UniTuple(types.float32, 4)(pixels, offset, stride, x0, x1, x2, x3, y0, y1, y2, y3)
    byte, word, real = ir.IntType(8), ir.IntType(32), ir.FloatType()
    bytes16, words16, reals16 = (ir.VectorType(kind, 16) for kind in (byte, word, real))

    def indices(values: list[int]) -> ir.Constant:
        return ir.Constant(ir.VectorType(word, len(values)), values)

    def splat(builder: ir.IRBuilder, value: Any, count: int) -> Any:
        empty = ir.Constant(ir.VectorType(real, count), ir.Undefined)
        first = builder.insert_element(empty, value, ir.Constant(word, 0))
        return builder.shuffle_vector(first, empty, indices([0] * count))

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, values[0])
        data = builder.bitcast(array.data, byte.as_pointer())
        offset, stride, columns, rows = values[1], values[2], values[3:7], values[7:11]
        opaque = ir.Constant(reals16, [255.0] * 16)
        loads: list[Any] = []
        for _ in range(4):
            loads.append(builder.load(builder.bitcast(builder.gep(data, [offset]), bytes16.as_pointer())))
            loads[-1].align = 1
            offset = builder.add(offset, stride)
        # Each colour times its pixel's alpha, the alpha itself times 255.
        partners = indices([v for pixel in range(4) for v in (4 * pixel + 3,) * 3 + (16,)])
        total: Any = None
        for loaded, weight in zip(loads, rows, strict=True):
            pixels = builder.uitofp(builder.zext(loaded, words16), reals16)
            pixels = builder.fmul(pixels, builder.shuffle_vector(pixels, opaque, partners), flags=("fast",))
            pixels = builder.fmul(pixels, splat(builder, weight, 16), flags=("fast",))
            total = pixels if total is None else builder.fadd(total, pixels, flags=("fast",))
        result: Any = None
        for k, weight in enumerate(columns):
            pixel = builder.shuffle_vector(total, opaque, indices([4 * k + c for c in range(4)]))
            pixel = builder.fmul(pixel, splat(builder, weight, 4), flags=("fast",))
            result = pixel if result is None else builder.fadd(result, pixel, flags=("fast",))
        channels = [builder.extract_element(result, ir.Constant(word, c)) for c in range(4)]
        return context.make_tuple(builder, signature.return_type, channels)

    return signature, generate
