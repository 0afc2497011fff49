"""The fused paths against plain torch: numba here, Triton through its interpreter and as compiled for real devices."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_data.augment.crop import measure_mattes
from lora_data.augment.fused_numba import outline, run
from lora_data.augment.geometry import Interpolation, Output
from lora_data.augment.module import run_eager
from lora_data.augment.photometry import noise_table
from lora_data.augment.table import make_table
from tests.augment.pictures import batch_of, module, policies, smooth

NOISE = noise_table()
triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed (on Linux torch brings it)")


@settings(max_examples=60)
@given(
    policies(), st.integers(1, 80), st.integers(1, 80), st.integers(1, 70), st.integers(1, 130),
    st.sampled_from(["bicubic", "bilinear"]), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_numba_equals_torch_within_a_level(
    policy: dict[str, Any], height: int, width: int, out_h: int, out_w: int,
    kind: Interpolation, channels_last: bool, seed: int,
):  # fmt: skip
    pictures = smooth(3, height, width, seed)
    if not channels_last:
        pictures = pictures.contiguous()
    augment = module(policy, background="random")
    sizes = torch.tensor([[height, width], [(height + 1) // 2, width], [height, (width + 2) // 3]])
    batch = batch_of(pictures, target=(out_h, out_w), sizes=sizes, epoch=seed)
    params = augment.resolve(batch, augment.draw(batch.sample_keys, seed, characters=batch.characters))
    table = make_table(params, sizes, (height, width), (out_h, out_w))
    arguments = (pictures, table, NOISE, Output(target=(out_h, out_w), interpolation=kind))
    (ours, mask), (theirs, expected) = run(*arguments), run_eager(*arguments)
    assert float((ours - theirs).abs().max()) * 127.5 < 0.1
    # Whether a position on the very border is inside may round either way.
    assert float(((mask - expected).abs() * 255 > 0.1).float().mean()) < 0.02


def test_the_number_of_threads_changes_no_bit():
    batch = batch_of(smooth(5, 70, 60))
    augment = module(backend="numba")
    results: list[torch.Tensor] = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            results.append(augment(batch).pixel_values)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_numbas_outline_is_torchs(height: int, width: int, seed: int):
    pictures = torch.randint(0, 200, (2, 4, height, width), generator=torch.Generator().manual_seed(seed))
    pictures = pictures.to(torch.uint8)
    assert torch.equal(outline(pictures), measure_mattes(pictures[:, 3], coverage=False).rows)


TRITON_CASES = """
import dataclasses, sys, torch
from lora_data.augment import fused_triton
from lora_data.augment.geometry import Output
from lora_data.augment.module import run_eager
from lora_data.augment.photometry import noise_table
from lora_data.augment.table import make_table
from tests.augment.pictures import batch_of, module, smooth

noise = noise_table()
packed, planar, exact = torch.channels_last, torch.contiguous_format, (torch.float32, torch.float32)
for height, width, target, layout, kind, (dtype, mask_dtype) in (
    (20, 72, (20, 72), packed, "bicubic", exact),
    (20, 72, (20, 72), planar, "bilinear", exact),
    (33, 20, (20, 70), planar, "bicubic", (torch.bfloat16, torch.uint8)),
    (33, 20, (20, 70), packed, "bilinear", (torch.float16, torch.float16)),
    (44, 40, (20, 24), packed, "bicubic", exact),
    (44, 40, (20, 24), planar, "bilinear", exact),
):
    pictures = smooth(2, height, width).contiguous(memory_format=layout)
    augment = module({"noise_probability": 0.5, "noise_area": "everywhere"}, background="random")
    sizes = torch.tensor([[height, width], [height - 5, width - 7]])
    batch = batch_of(pictures, target=target, sizes=sizes)
    params = augment.resolve(batch, augment.draw(batch.sample_keys, 1, characters=batch.characters))
    params = dataclasses.replace(params, flip=torch.tensor([False, True]))
    table = make_table(params, sizes, (height, width), target)
    output = Output(target=target, interpolation=kind, dtype=dtype, mask_dtype=mask_dtype)
    arguments = (pictures, table, noise, output)
    (ours, mask), (theirs, expected) = fused_triton.run(*arguments), run_eager(*arguments)
    worst = float((ours.float() - theirs.float()).abs().max()) * 127.5
    off = float((mask.float() - expected.float()).abs().max()) * (1 if mask_dtype == torch.uint8 else 255)
    print(height, width, target, layout, kind, dtype, worst, off)
    limit = 0.05 if dtype == torch.float32 else 1.0
    assert worst <= limit, worst
    assert off <= limit, off
print("cases done")
"""


@triton
def test_tritons_kernel_equals_torch_within_a_level():
    """By Triton's interpreter, which needs no device; in a process of its own, since it is chosen at import."""
    done = subprocess.run(
        [sys.executable, "-c", TRITON_CASES],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "cases done" in done.stdout


@triton
@pytest.mark.parametrize("capability", [75, 80, 90])
def test_tritons_kernel_compiles_for_real_devices(capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """For Turing, Ampere and Hopper, in every variant that can run: what the interpreter takes, a compiler may not."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton import compile as compile_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lora_data.augment import fused_triton

    pointers = {"source": "*i32", "rows": "*fp32", "gaussian": "*fp32", "out": "*bf16", "mask": "*u8"}
    sizes = dict.fromkeys(("stride_b", "stride_h", "stride_w", "stride_c", "height", "width"), "i32")
    tile = {"TILE_H": fused_triton.BLOCK_H, "TILE_W": fused_triton.BLOCK_W}
    for linear, packed, stretched, noise in ((0, 1, 0, 1), (1, 1, 0, 0), (0, 0, 0, 1), (0, 1, 1, 1), (1, 0, 1, 1)):
        constants: dict[str, Any] = {
            "TAPS": 6 if stretched else 2 if linear else 4,
            "LINEAR": bool(linear),
            "PACKED": bool(packed),
            "STRETCHED": bool(stretched),
            "NOISE": bool(noise),
            "BYTE_MASK": True,
            **tile,
        }
        signature = {**pointers, **sizes, **dict.fromkeys(constants, "constexpr")}
        signature["source"] = "*i32" if packed else "*u8"
        places = {(list(signature).index(name),): value for name, value in constants.items()}
        source = ASTSource(fn=fused_triton._augment, signature=signature, constexprs=places)
        kernel = compile_kernel(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4})
        assert kernel.asm["cubin"]
