"""The class for ``--dataset_class``: planned batches of the shards, augmented when accelerate moves them."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any

from lora_data import CharacterAugment, ConfigError, ShardDataset
from lora_data.train.batch_reader import BatchReader
from lora_data.train.lazy_batch import Assembled, LazyBatch
from lora_data_kohya.fields import Fields, stack_outputs
from lora_data_kohya.settings import arguments_of_caller, configuration, reconcile

# sd-scripts has no package of its own: its `library` is found because its script was started.
try:
    from library.dataset import MinimalDataset  # pyright: ignore  # sd-scripts 0.11 and later
    from library.train_util import ImageInfo  # pyright: ignore
except ImportError:
    from library.train_util import ImageInfo, MinimalDataset  # pyright: ignore

CACHE_FOLDER = "text_encoder_outputs"
"""Beside the shards: where ``--cache_text_encoder_outputs_to_disk`` writes, as kohya writes beside its images."""


@dataclass
class Subset:
    """What kohya's metadata says of one character, under the names it asks for."""

    image_dir: str
    img_count: int
    num_repeats: float
    is_reg: bool = False


class Dataset(MinimalDataset):  # pyright: ignore[reportUntypedBaseClass]
    """A dataset whose items are whole batches; kohya shuffles them, accelerate shares them among GPUs.

    An item is made only when it is used, since kohya says which epoch it is after it has asked for the first item.

    Args:
        tokenizer: Not used; kohya gives None.
        max_token_length: Not used; the trainer's tokenize strategy knows it.
        resolution: (width, height) from ``--resolution``, which must say what ``data.resolution`` says, or None.
        debug_dataset: Refused.

    Raises:
        ConfigError: The environment names no configuration, it is wrong, or it contradicts kohya's arguments.
        ShardError: The shards are missing or do not match their index.
    """

    def __init__(
        self, tokenizer: object, max_token_length: int | None, resolution: Any, debug_dataset: bool = False
    ) -> None:
        if "tokenizer" in inspect.signature(MinimalDataset.__init__).parameters:
            raise ConfigError("these sd-scripts are older than 0.10.0, the first version that lora_data works with")
        config = configuration()
        arguments = arguments_of_caller()
        if arguments is not None:
            reconcile(arguments, config)
        side = config.data.resolution
        super().__init__((side, side), 1.0, False)
        self._config = config
        self._shards = ShardDataset(config.data.shards, cache_gb=config.data.cache_gb)
        self._reader = BatchReader(self._shards, config)
        self.skipped = self._reader.skipped
        self._fields = Fields(CharacterAugment(config, counts=self._shards.index.counts()), config.data)
        self._describe()

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._reader.plan.length

    def __getitem__(self, index: int) -> LazyBatch:
        """A batch that is read and augmented when it is moved, pickled or looked into."""
        return LazyBatch(partial(self._assemble, index), self._fields)

    def verify_bucket_reso_steps(self, min_steps: int) -> None:
        """Check that buckets suit the trainer's model."""
        step = self._config.data.bucket_step
        if step % min_steps:
            raise ConfigError(f"data.bucket_step must be a multiple of {min_steps} for this trainer, got {step}")

    def is_text_encoder_output_cacheable(self, cache_supports_dropout: bool = False) -> bool:
        """True: captions may be cached where there are finitely many; else it is an error that names the key."""
        return bool(self._reader.assembler.all_captions("--cache_text_encoder_outputs"))

    def new_cache_text_encoder_outputs(self, models: list[Any], accelerator: Any) -> None:
        """Encode every caption once, by the trainer's own strategy."""
        captions = self._reader.assembler.all_captions("--cache_text_encoder_outputs")
        folder = self._shards.folder / CACHE_FOLDER
        folder.mkdir(exist_ok=True)
        for caption in captions:
            name = hashlib.sha256(caption.encode("utf-8", "surrogatepass")).hexdigest()[:32]
            self.image_data[caption] = ImageInfo(name, 1, caption, False, str(folder / f"{name}.txt"))
        super().new_cache_text_encoder_outputs(models, accelerator)

    def _assemble(self, index: int) -> Assembled:
        epoch = max(self.current_epoch - 1, 0)  # kohya counts from 1; 0 is before its first epoch
        batch = self._reader.read(epoch, index)
        captions = list(batch.captions or ())
        ready: dict[str, Any] = {
            "captions": captions,
            "input_ids_list": None,
            "text_encoder_outputs_list": None,
            "custom_attributes": [{} for _ in captions],
            "network_multipliers": [self.network_multiplier] * len(captions),
            "image_keys": list(batch.sample_keys),
        }
        cached = self.image_data
        strategy = self.text_encoder_output_caching_strategy
        if cached:
            ready["text_encoder_outputs_list"] = stack_outputs([self._outputs(caption) for caption in captions])
        if not cached or strategy is None or strategy.is_partial:
            ready["input_ids_list"] = list(self.tokenize_strategy.tokenize(captions))
        return batch, ready

    def _outputs(self, caption: str) -> Any:
        info = self.image_data[caption]
        if info.text_encoder_outputs is not None:
            return info.text_encoder_outputs
        return self.text_encoder_output_caching_strategy.load_outputs_npz(info.text_encoder_outputs_npz)

    def _describe(self) -> None:
        """Fill in what the trainer prints, and writes into the LoRA as ``ss_`` metadata."""
        data, plan, samples = self._config.data, self._reader.plan, self._shards.samples
        self.batch_size = data.batch_size
        self.enable_bucket = data.enable_bucket
        self.bucket_no_upscale = data.max_upscale == 1
        self.bucket_reso_steps = data.bucket_step
        counts = plan.bucket_counts()
        self.min_bucket_reso, self.max_bucket_reso = min(map(min, counts)), max(map(max, counts))
        self.num_train_images = sum(counts.values())
        errors = [abs(w / h - s.width / s.height) for s, (h, w) in zip(samples, plan.targets, strict=True)]
        self.bucket_info = {
            "buckets": {i: {"resolution": [w, h], "count": n} for i, ((h, w), n) in enumerate(counts.items())},
            "mean_img_ar_error": sum(errors) / len(errors),
        }
        places = {sample.character: place for place, sample in enumerate(samples)}
        self.subsets = [
            Subset(name, count, plan.repeats_of(places[name])) for name, count in self._shards.index.counts().items()
        ]
        self.img_count = len(samples)
        for place, sample in enumerate(samples):
            tags = self.tag_frequency.setdefault(sample.character, {})
            for tag in self._reader.assembler.plain_caption(place).split(data.captions.separator):
                if tag.strip():
                    tags[tag.strip()] = tags.get(tag.strip(), 0) + 1
