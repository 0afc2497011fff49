"""The augmentation against what a person would use instead, on the same pictures and the same kinds of transform.

    python -m tests.bench.augment [--device cpu|cuda] [--side 768] [--batch 8] [--rounds 9] [--threads 1]

Every variant takes uint8 cut-outs of the demo film (RGBA; the others: RGB and mask) and gives float32 pixels and mask
of the same size: a random crop of scale 0.8 to 1, a rotation within 5 degrees, brightness, contrast and noise on 30 %.
The variants are interleaved in shuffled rounds; medians, the spread, and the ratio to Kornia's chain within the round.
They are comparisons of cost: only ours keeps hue, knows the matte and interpolates once. On a GPU it also says which
share of the measured copy bandwidth is used, and counts launches, host synchronisations and extra memory.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kornia.augmentation as K  # noqa: N812
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lora_data.augment import AugmentPolicy, Batch, CharacterAugment, measure_mattes
from lora_data.augment.geometry import Output
from lora_data.augment.photometry import noise_table
from lora_data.config import parse_config
from lora_data.demo import make_film
from tests.bench.results import Table, finish, interleaved, parser_for

Work = Callable[[], object]
KORNIA = "Kornia chain"


def cutouts(side: int, count: int) -> Tensor:
    """Cut-outs of the demo film on a square canvas, uint8 ``[count, 4, side, side]``, channels-last."""
    pictures = np.zeros((count, side, side, 4), np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        make_film(Path(scratch) / "film", instances=max(count, 8), size=384)
        masters = sorted((Path(scratch) / "film" / "masters").glob("*.webp"))
        for picture, path in zip(pictures, masters, strict=False):
            image = Image.open(path).convert("RGBA")
            scale = side / max(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
            left, top = (side - image.width) // 2, (side - image.height) // 2
            picture[top : top + image.height, left : left + image.width] = np.asarray(image)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def ours(images: Tensor, interpolation: str, backend: Any, *, mattes: bool, dtype: torch.dtype) -> Work:
    config = parse_config({"data": {"interpolation": interpolation, "shards": "none"}})
    augment = CharacterAugment(config, backend=backend, dtype=dtype).to(images.device)
    keys = [f"sample_{i}" for i in range(len(images))]
    known = measure_mattes(images[:, 3].cpu(), coverage=False) if mattes else None
    epoch = iter(range(1 << 30))

    def work() -> object:
        batch = Batch(images=images, sample_keys=keys, characters=keys, epoch=next(epoch), mattes=known)
        return augment(batch).pixel_values

    return work


def kornia_chain(images: Tensor) -> Work:
    side = images.shape[2]
    chain = K.AugmentationSequential(
        K.RandomResizedCrop((side, side), scale=(0.64, 1.0), ratio=(1.0, 1.0), p=1.0),
        K.RandomRotation((-5, 5), p=1.0),
        K.RandomBrightness((0.9, 1.1), p=1.0),
        K.RandomContrast((0.95, 1.05), p=1.0),
        K.RandomGaussianNoise(0.0, 0.01, p=0.3),
        data_keys=["input", "mask"],
    ).to(images.device)

    def work() -> object:
        pixels = images.float() / 255
        return chain(pixels[:, :3], pixels[:, 3:])

    return work


def torchvision_chain(images: Tensor) -> Work:
    from torchvision import tv_tensors  # pyright: ignore[reportMissingImports]  # extra: bench
    from torchvision.transforms import v2  # pyright: ignore[reportMissingImports]

    side = images.shape[2]
    chain = v2.Compose(
        [
            v2.RandomResizedCrop((side, side), scale=(0.64, 1.0), ratio=(1.0, 1.0), antialias=False),
            v2.RandomRotation([-5, 5], interpolation=v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(brightness=(0.9, 1.1), contrast=(0.95, 1.05)),
            v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.uint8}, scale=True),
            v2.RandomApply([v2.GaussianNoise(0.0, 0.01)], p=0.3),
        ]
    )

    def work() -> object:
        return [chain(tv_tensors.Image(i[:3]), tv_tensors.Mask(i[3:])) for i in images]

    return work


def albumentations_chain(images: Tensor) -> Work:
    import albumentations as A  # noqa: N812  # pyright: ignore[reportMissingImports]  # extra: bench
    import cv2

    cv2.setNumThreads(1)
    side = images.shape[2]
    chain = A.Compose(
        [
            A.RandomResizedCrop((side, side), scale=(0.64, 1.0), ratio=(1.0, 1.0), p=1.0),
            A.Rotate((-5, 5), border_mode=cv2.BORDER_REPLICATE, p=1.0),
            A.RandomBrightnessContrast((-0.1, 0.1), (-0.05, 0.05), p=1.0),
            A.GaussNoise((0.01, 0.01), p=0.3),
        ]
    )
    pictures = images.permute(0, 2, 3, 1).contiguous().numpy()
    planes = [(np.ascontiguousarray(p[..., :3]), np.ascontiguousarray(p[..., 3])) for p in pictures]

    def work() -> object:
        made = [chain(image=rgb, mask=alpha) for rgb, alpha in planes]
        pixels = np.stack([m["image"] for m in made]).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        return pixels, np.stack([m["mask"] for m in made])

    return work


def opencv_by_hand(images: Tensor) -> Work:
    """One bilinear warp of RGBA, a table for the light, floats and noise: what a careful person writes."""
    import cv2

    cv2.setNumThreads(1)
    pictures = images.permute(0, 2, 3, 1).contiguous().numpy()
    side = images.shape[2]
    generator = np.random.default_rng(0)

    def work() -> object:
        out = np.empty((len(pictures), 4, side, side), np.float32)
        for target, picture in zip(out, pictures, strict=True):
            matrix = cv2.getRotationMatrix2D((side / 2, side / 2), generator.uniform(-5, 5), generator.uniform(1, 1.25))
            warped = cv2.warpAffine(picture, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
            gain, bias = generator.uniform(0.9, 1.1), generator.uniform(-0.02, 0.02)
            curve = np.clip(np.arange(256) / 255 * gain + bias, 0, 1).astype(np.float32) * 2 - 1
            target[:3] = curve[np.asarray(warped[..., :3], np.uint8)].transpose(2, 0, 1)
            target[3] = warped[..., 3] / np.float32(255)
            if generator.random() < 0.3:
                target[:3] += generator.standard_normal(target[:3].shape, dtype=np.float32) * np.float32(0.02)
        return out

    return work


def variants(images: Tensor, dtype: torch.dtype) -> dict[str, Work]:
    """What can run here, by name; Kornia's chain is what the ratios refer to."""
    found: dict[str, Work] = {KORNIA: kornia_chain(images)}
    for interpolation in ("bilinear", "bicubic"):
        found[f"CharacterAugment, {interpolation}"] = ours(images, interpolation, "auto", mattes=False, dtype=dtype)
    found["CharacterAugment, bicubic, mattes from the loader"] = ours(
        images, "bicubic", "auto", mattes=True, dtype=dtype
    )
    found["CharacterAugment, bicubic, plain torch"] = ours(images, "bicubic", "eager", mattes=False, dtype=dtype)
    if find_spec("torchvision"):
        found["torchvision v2, per sample"] = torchvision_chain(images)
    if images.device.type == "cpu":
        found["OpenCV by hand, per sample, bilinear"] = opencv_by_hand(images)
        if find_spec("albumentations"):
            found["albumentations, per sample"] = albumentations_chain(images)
    return found


def rate(work: Work, samples: int, device: torch.device) -> float:
    """Images a second."""
    repeats = 1 if device.type == "cpu" else 20
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return samples * repeats / (time.perf_counter() - start)


def measure(works: dict[str, Work], rounds: int, samples: int, device: torch.device) -> dict[str, list[float]]:
    """Images a second of each, after two runs that do not count."""
    for work in works.values():
        work()
        rate(work, samples, device)
    return interleaved({name: partial(rate, work, samples, device) for name, work in works.items()}, rounds)


def on_the_gpu(images: Tensor) -> dict[str, Any]:
    """Bandwidth, launches, synchronisations, capture and memory of one step with everything resident."""
    count, _, side, _ = images.shape
    result: dict[str, Any] = {"gpu": torch.cuda.get_device_name()}
    result["copy_gb_per_second"] = round(_copy_bandwidth(), 1)
    for interpolation in ("bilinear", "bicubic"):
        config = parse_config({"data": {"interpolation": interpolation, "shards": "none"}})
        augment = CharacterAugment(config, dtype=torch.bfloat16, mask_dtype=torch.uint8).cuda()
        keys = [f"sample_{i}" for i in range(count)]
        mattes = measure_mattes(images[:, 3].cpu(), coverage=False)
        batch = Batch(images=images, sample_keys=keys, characters=keys, mattes=mattes)
        params = augment.resolve(batch, augment.draw(keys, 0)).to("cuda")

        def apply(augment: Any = augment, batch: Batch = batch, params: Any = params) -> Any:
            return augment.apply(batch, params)

        apply()
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                apply()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            captured = apply()
        graph.replay()
        torch.cuda.synchronize()
        same = bool(torch.equal(captured.pixel_values, apply().pixel_values))
        from lora_data.augment.fused_triton import run
        from lora_data.augment.table import make_table

        sizes = torch.tensor([[side, side]] * count)
        table = make_table(params.to("cpu"), sizes, (side, side), (side, side)).to(images.device)

        def kernel(table: Any = table, kind: Any = interpolation) -> object:
            output = Output(target=(side, side), interpolation=kind, dtype=torch.bfloat16, mask_dtype=torch.uint8)
            return run(images, table, noise_table(images.device), output)

        milliseconds = _cuda_ms(kernel)
        moved = count * side * side * (4 + 3 * 2 + 1)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        out = augment(batch)
        torch.cuda.synchronize()
        output = out.pixel_values.nbytes + out.mask.nbytes
        extra = (torch.cuda.max_memory_allocated() - before) / output
        torch.cuda.set_sync_debug_mode("error")
        try:
            augment(batch)
            synchronised = False
        except RuntimeError as error:
            synchronised = str(error)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            augment(batch)
            torch.cuda.synchronize()
        launches = [e.name for e in profile.events() or () if str(e.device_type).endswith("CUDA")]
        result[interpolation] = {
            "kernel_images_per_second": round(1000 * count / milliseconds),
            "share_of_copy_bandwidth": round(moved / milliseconds / 1e6 / result["copy_gb_per_second"], 3),
            "graph_replay_equal": same,
            "host_synchronisation": synchronised,
            "launches_with_mattes_from_the_loader": launches,
            "peak_memory_over_output": round(extra, 2),
        }
    return result


def _copy_bandwidth() -> float:
    """GB read and written a second by a copy of 1 GiB."""
    block = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    return 2 * block.numel() / _cuda_ms(block.clone) / 1e6


def _cuda_ms(work: Work, repeats: int = 50) -> float:
    """Median milliseconds on the device."""
    for _ in range(5):
        work()
    times: list[float] = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def main() -> None:
    parser = parser_for(__doc__, rounds=9)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--side", type=int, help="px (default: 768 on the CPU, 1024 on a GPU)")
    parser.add_argument("--batch", type=int, help="samples (default: 8 on the CPU, 64 on a GPU)")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    side = options.side or (1024 if device.type == "cuda" else 768)
    images = cutouts(side, options.batch or (64 if device.type == "cuda" else 8)).to(device)
    rows = measure(variants(images, torch.float32), options.rounds, len(images), device)
    title = f"Augmentation, {device}, batches of {len(images)} at {side} px, threads: {options.threads}"
    more: dict[str, Any] = {"policy": str(AugmentPolicy())}
    if device.type == "cuda":
        more["gpu"] = on_the_gpu(images)
        print(json.dumps(more["gpu"], indent=1))
    packages = ("albumentations", "kornia", "numba", "torchvision", "triton")
    missing = [name for name in ("albumentations", "torchvision") if find_spec(name) is None]
    remarks = [f"Left out: {name} is not installed." for name in missing]
    table = Table(title, "images a second", rows, KORNIA)
    finish("augment", [table], options, packages=packages, remarks=remarks, more=more)


if __name__ == "__main__":
    main()
