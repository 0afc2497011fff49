"""The models that lora_data knows: where their weights come from, what they must be, and under which licence.

Digests without a remark are third-party observations in several public projects; with ``one_source`` in one only. Where
none is known, the first download pins it, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lora_data.errors import ConfigError

Task = Literal["upscale", "deblur", "face_restore", "face_detect", "face_embed", "image_embed"]
_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_GFPGAN = "https://github.com/TencentARC/GFPGAN/releases/download"
_NAFNET = "https://huggingface.co/nyanko7/nafnet-models/resolve/main"
_INSIGHTFACE = "https://github.com/deepinsight/insightface/releases/download/v0.7"
_CCIP = "https://huggingface.co/deepghs/ccip_onnx/resolve/eb2acdd29af1703388d3d0c04221add322bc9110"
_DRIVE = "https://drive.google.com/file/d"
BSD = "BSD-3-Clause"
NON_COMMERCIAL_INSIGHTFACE = "insightface models: non-commercial research"


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive of weights.

    Args:
        task: What it does.
        file: Its name, in whatever folder of the archive.
        sha256: What it must have.
    """

    task: Task
    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Model:
    """One file of weights.

    Args:
        name: As it is configured.
        task: What it does.
        file: Name in the folder of models.
        url: Where it can be fetched without a person; "" where only by hand, from ``page``.
        sha256: What it must have; None: pinned by the first download.
        licence: Of the weights.
        commercial: Whether the licence allows commercial use; where not, it is accepted once, explicitly.
        page: Where the weights and their licence are described.
        scale: How much larger the output is.
        multiple: The input's sides must be multiples of this.
        least: The input's sides must be at least this, px.
        half: Whether float16 works; bfloat16 and float32 always do.
        size: Bytes, where it is known.
        one_source: The digest was seen in one project only.
        members: Where the file is an archive: what is used of it.
    """

    name: str
    task: Task
    file: str
    url: str
    sha256: str | None
    licence: str
    page: str
    commercial: bool = True
    scale: int = 1
    multiple: int = 1
    least: int = 1
    half: bool = True
    size: int | None = None
    one_source: bool = False
    members: tuple[Member, ...] = ()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Everything that it does."""
        return tuple(member.task for member in self.members) or (self.task,)


MODELS = (
    Model(
        "realesrgan-x2plus", "upscale", "RealESRGAN_x2plus.pth", f"{_ESRGAN}/v0.2.1/RealESRGAN_x2plus.pth",
        "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb", BSD,
        "https://github.com/xinntao/Real-ESRGAN", scale=2, multiple=2, size=67_061_725,
    ),
    Model(
        "realesrgan-x4plus", "upscale", "RealESRGAN_x4plus.pth", f"{_ESRGAN}/v0.1.0/RealESRGAN_x4plus.pth",
        "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1", BSD,
        "https://github.com/xinntao/Real-ESRGAN", scale=4, size=67_040_989,
    ),
    Model(
        "realesrgan-x4plus-anime", "upscale", "RealESRGAN_x4plus_anime_6B.pth",
        f"{_ESRGAN}/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",
        "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da", BSD,
        "https://github.com/xinntao/Real-ESRGAN", scale=4, size=17_938_799,
    ),
    Model(
        "realesr-animevideov3", "upscale", "realesr-animevideov3.pth", f"{_ESRGAN}/v0.2.5.0/realesr-animevideov3.pth",
        "b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d", BSD,
        "https://github.com/xinntao/Real-ESRGAN", scale=4, one_source=True,
    ),
    Model(
        "realesr-general-x4v3", "upscale", "realesr-general-x4v3.pth", f"{_ESRGAN}/v0.2.5.0/realesr-general-x4v3.pth",
        "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292", BSD,
        "https://github.com/xinntao/Real-ESRGAN", scale=4,
    ),
    Model(
        "nafnet-gopro-32", "deblur", "NAFNet-GoPro-width32.pth", f"{_NAFNET}/NAFNet-GoPro-width32.pth",
        "19394e6155d12ef6371d1d57496f87f0ec88f92bdffa27c0792690722d5d1a5c", "MIT",
        "https://github.com/megvii-research/NAFNet", multiple=16, half=False, one_source=True,
    ),
    Model(
        "nafnet-gopro-64", "deblur", "NAFNet-GoPro-width64.pth", f"{_NAFNET}/NAFNet-GoPro-width64.pth",
        "329d3ab4077b8d6b7ff61de376e483714667960bf85be027bf4335cda701196f", "MIT",
        "https://github.com/megvii-research/NAFNet", multiple=16, half=False, one_source=True,
    ),
    Model(
        "nafnet-reds-64", "deblur", "NAFNet-REDS-width64.pth", f"{_NAFNET}/NAFNet-REDS-width64.pth", None, "MIT",
        "https://github.com/megvii-research/NAFNet", multiple=16, half=False,
    ),
    Model(
        "deblurganv2-inception", "deblur", "fpn_inception.h5", "", None, "BSD-2-Clause",
        f"{_DRIVE}/1UXcsRVW-6KF23_TNzxw-xC0SzaMfXOaR", multiple=32, least=160,
    ),
    Model(
        "deblurganv2-mobilenet", "deblur", "fpn_mobilenet.h5", "", None, "BSD-2-Clause",
        f"{_DRIVE}/1JhnT4BBeKBBSLqTo6UsJ13HeBXevarrU", multiple=32, least=64,
    ),
    Model(
        "gfpgan-1.3", "face_restore", "GFPGANv1.3.pth", f"{_GFPGAN}/v1.3.0/GFPGANv1.3.pth",
        "c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70",
        "Apache-2.0, with notices of non-commercial parts (StyleGAN2, DFDNet) in its licence file",
        "https://github.com/TencentARC/GFPGAN/blob/master/LICENSE", commercial=False, half=False, one_source=True,
    ),
    Model(
        "gfpgan-1.4", "face_restore", "GFPGANv1.4.pth", f"{_GFPGAN}/v1.3.0/GFPGANv1.4.pth",
        "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad",
        "Apache-2.0, with notices of non-commercial parts (StyleGAN2, DFDNet) in its licence file",
        "https://github.com/TencentARC/GFPGAN/blob/master/LICENSE", commercial=False, half=False,
    ),
    Model(
        "restoreformer", "face_restore", "RestoreFormer.pth", f"{_GFPGAN}/v1.3.4/RestoreFormer.pth", None, "Apache-2.0",
        "https://github.com/wzhouxiff/RestoreFormer", half=False,
    ),
    Model(
        "codeformer", "face_restore", "codeformer.pth",
        "https://github.com/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth",
        "1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7", "S-Lab License 1.0, non-commercial",
        "https://github.com/sczhou/CodeFormer/blob/master/LICENSE", commercial=False, half=False, size=376_637_898,
    ),
    Model(
        "yunet", "face_detect", "face_detection_yunet_2023mar.onnx",
        "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
        "face_detection_yunet_2023mar.onnx",
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4", "MIT",
        "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet", one_source=True,
    ),
    Model(
        "insightface-buffalo-l", "face_embed", "buffalo_l.zip", f"{_INSIGHTFACE}/buffalo_l.zip",
        "80ffe37d8a5940d59a7384c201a2a38d4741f2f3c51eef46ebb28218a7b0ca2f", NON_COMMERCIAL_INSIGHTFACE,
        "https://github.com/deepinsight/insightface#license", commercial=False, size=288_621_354,
        members=(
            Member(
                "face_detect", "det_10g.onnx", "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91"
            ),
            Member(
                "face_embed", "w600k_r50.onnx", "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43"
            ),
        ),
    ),
    Model(
        "ccip", "image_embed", "ccip-caformer-24-randaug-pruned.onnx",
        f"{_CCIP}/ccip-caformer-24-randaug-pruned/model_feat.onnx",
        "4ea118d16496274f4f6e08d3afc768cc592389e8f7f32f8732ce2215c228ac5f",
        "OpenRAIL, with restrictions of use", "https://huggingface.co/deepghs/ccip_onnx", size=150_248_245,
    ),
    Model(
        "dinov2-small", "image_embed", "dinov2-small.onnx",
        "https://huggingface.co/onnx-community/dinov2-small/resolve/main/onnx/model.onnx", None, "Apache-2.0",
        "https://huggingface.co/onnx-community/dinov2-small",
    ),
)  # fmt: skip


def model_named(name: str) -> Model:
    """The model of a name.

    Raises:
        ConfigError: There is none; the message lists those there are.
    """
    for model in MODELS:
        if model.name == name:
            return model
    raise ConfigError(f"there is no model {name!r}; there are: {', '.join(m.name for m in MODELS)}")
