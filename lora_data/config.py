"""Read and check the configuration. The only file that knows TOML and pydantic.

One TOML file may hold both halves. Everything is checked before anything is touched: an unknown key, a wrong type, an
impossible range and a forbidden augmentation are errors that name the key's path, what was found and what is allowed.
"""

from __future__ import annotations

import dataclasses
import json
import typing
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lora_data.augment.policy import FLIP_REASON, FORBIDDEN, AugmentPolicy
from lora_data.errors import ConfigError
from lora_data.limits import Limits, MotionLimits
from lora_data.ray_settings import RaySettings
from lora_data.remote import local_shards
from lora_data.shards import INDEX, parse_index
from lora_data.stages.cast import WhiteBalance
from lora_data.stages.colour import Colour
from lora_data.stages.consistency import Consistency
from lora_data.stages.deblur import Deblur
from lora_data.stages.deduplicate import Deduplicate
from lora_data.stages.embed import Embed
from lora_data.stages.face_restore import FaceRestore
from lora_data.stages.faces import Faces
from lora_data.stages.filter import Filter
from lora_data.stages.identity import Identity
from lora_data.stages.ingest import Ingest
from lora_data.stages.matte import Matte
from lora_data.stages.select import Select
from lora_data.stages.upscale import Upscale
from lora_data.stages.write import Write
from lora_data.toml import parse_toml, read_toml
from lora_data.train.settings import CaptionSettings, CharacterSettings, DataSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Precompute:
    """The ``[precompute.*]`` tables: one stage each, in the order of the run. Stages without fields have no table."""

    ingest: Ingest = field(default_factory=Ingest)
    matte: Matte = field(default_factory=Matte)
    faces: Faces = field(default_factory=Faces)
    face_restore: FaceRestore = field(default_factory=FaceRestore)
    upscale: Upscale = field(default_factory=Upscale)
    deblur: Deblur = field(default_factory=Deblur)
    white_balance: WhiteBalance = field(default_factory=WhiteBalance)
    colour: Colour = field(default_factory=Colour)
    embed: Embed = field(default_factory=Embed)
    identity: Identity = field(default_factory=Identity)
    filter: Filter = field(default_factory=Filter)
    consistency: Consistency = field(default_factory=Consistency)
    deduplicate: Deduplicate = field(default_factory=Deduplicate)
    select: Select = field(default_factory=Select)
    write: Write = field(default_factory=Write)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration, checked.

    Args:
        preset: "light" runs everything that needs no downloaded weights. "full" adds the strategy's networks.
        precompute: The offline half.
        data: What training reads.
        ray: What ``--engine ray`` asks of a cluster.
        augment: The policy of every character that has none of its own.
        characters: Settings by character name.
    """

    preset: Literal["light", "full"] = "light"
    precompute: Precompute = field(default_factory=Precompute)
    ray: RaySettings = field(default_factory=RaySettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentPolicy = field(default_factory=AugmentPolicy)
    characters: dict[str, CharacterSettings] = field(default_factory=dict[str, CharacterSettings])


_STRICT = ConfigDict(extra="forbid", strict=True)
for _section in (
    *(Config, Precompute, RaySettings, DataSettings, CaptionSettings, CharacterSettings, AugmentPolicy),
    *(
        Ingest,
        Matte,
        Faces,
        FaceRestore,
        Upscale,
        Deblur,
        Limits,
        MotionLimits,
        WhiteBalance,
        Colour,
        Embed,
        Identity,
        Filter,
        Consistency,
        Deduplicate,
        Select,
        Write,
    ),
):
    # The stages are plain dataclasses and know nothing of pydantic; this is where strictness is switched on.
    setattr(_section, "__pydantic_config__", _STRICT)  # noqa: B010
_ADAPTER = TypeAdapter(Config)


def load_config(
    path: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    preset: str | None = None,
    shards: str | Path | None = None,
    decided: bool = True,
) -> Config:
    """Read a TOML file, apply overrides, check everything.

    What a person decided on the review page about a character in training (``symmetric``, ``augment``) stands in the
    shards' index. It is taken for every key about which neither the file nor an override says something; where they
    say something else, that is used, with a warning.

    Args:
        path: The file, or None for the defaults.
        overrides: ``key.path=value`` each; the value as TOML writes it, or a bare text.
        preset: Overrides the file's preset.
        shards: Whose index is read; None: that of ``data.shards``, where there is one.
        decided: Whether to take that; the offline half, which writes it, does not.

    Raises:
        ShardError: The index is there and damaged.
        ConfigError: Naming the key's path, what was found and what is allowed.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        text = read_toml(Path(path))
        if text is None:
            raise ConfigError(f"the configuration cannot be read: there is no file {path}")
        tree = parse_toml(text, str(path))
    for override in overrides:
        _apply_override(tree, override)
    if preset is not None:
        tree["preset"] = preset
    if decided:
        _take_decided(tree, shards)
    return parse_config(tree, where=str(path) if path is not None else "the configuration")


def _take_decided(tree: dict[str, Any], shards: str | Path | None) -> None:
    """Fill in what the shards' index has of a person's decisions, below what the tree says itself."""
    data = tree.get("data", {})
    folder = (
        shards if shards is not None else data.get("shards", DataSettings().shards) if isinstance(data, dict) else None
    )
    if not isinstance(folder, str | Path):
        return
    index = local_shards(str(folder)) / INDEX
    characters = tree.setdefault("characters", {})
    try:
        if not index.is_file() or not isinstance(characters, dict):
            return
        read = index.read_bytes()
    except OSError as error:
        raise ConfigError(f"data.shards: its {INDEX} cannot be read: {error.strerror or error}") from None
    for name, decided in parse_index(read, str(index)).characters.items():
        own = characters.setdefault(name, {})
        if not isinstance(own, dict):
            continue
        if "symmetric" in decided:
            _fill_in(own, "symmetric", decided["symmetric"], f"characters.{name}")
        policy = own.setdefault("augment", {})
        for key, value in dict(decided.get("augment", {})).items():
            # where the file takes the symmetry back, a flip cannot stay
            if isinstance(policy, dict) and (key != "horizontal_flip" or own.get("symmetric") is True):
                _fill_in(policy, key, value, f"characters.{name}.augment")


def _fill_in(table: dict[str, Any], key: str, decided: object, where: str) -> None:
    """Take what a person decided, unless the table says something; if that is something else, say so."""
    said = table.setdefault(key, decided)
    if said != decided:
        warnings.warn(
            f"{where}.{key}: the configuration's {said!r} is used; on the review page it was decided to be {decided!r}",
            stacklevel=4,
        )


def parse_config(tree: dict[str, Any], *, where: str = "the configuration") -> Config:
    """Check a configuration that is already a tree of tables.

    Raises:
        ConfigError: As `load_config`.
    """
    _refuse_forbidden(tree, where)
    merged = _merge_characters(tree)
    try:
        text = json.dumps(merged, allow_nan=False)
    except RecursionError:
        raise ConfigError(f"{where}: tables are nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: dates, nan and inf have no place here: {error}") from None
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        lines = [_explain(dict(e), merged) for e in error.errors(include_url=False)]
        raise ConfigError(f"{where}: " + "\n".join(dict.fromkeys(lines))) from None


def as_tree(config: Config) -> dict[str, Any]:
    """The configuration as plain tables, for run.json."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set wants key.path=value, got {override!r}")
    try:
        parsed = parse_toml(f"value = {value}", "--set")["value"]
    except ConfigError:
        parsed = value
    *parents, last = key.strip().split(".")
    table = tree
    for depth, name in enumerate(parents):
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {key}: {'.'.join(parents[: depth + 1])} is a value, not a table")
        table = inner
    table[last] = parsed


def _refuse_forbidden(tree: dict[str, Any], where: str) -> None:
    """Name the reason before pydantic calls a forbidden augmentation merely unknown."""
    characters = tree.get("characters")
    tables = [("augment", tree.get("augment"), False)]
    if isinstance(characters, dict):
        for name, settings in characters.items():
            if isinstance(settings, dict):
                symmetric = settings.get("symmetric") is True
                tables.append((f"characters.{name}.augment", settings.get("augment"), symmetric))
    for path, table, symmetric in tables:
        if not isinstance(table, dict):
            continue
        for key, value in table.items():
            reason = next((reason for word, reason in FORBIDDEN.items() if word in key.lower()), None)
            if reason is not None:
                raise ConfigError(f"{where}: {path}.{key} is forbidden: {reason}")
            if key == "horizontal_flip" and value != 0 and not symmetric:
                raise ConfigError(f"{where}: {path}.{key} = {value!r} is forbidden: {FLIP_REASON}")


def _merge_characters(tree: dict[str, Any]) -> dict[str, Any]:
    """Fill each character's policy with ``[augment]`` where it says nothing itself."""
    shared, characters = tree.get("augment"), tree.get("characters")
    if not isinstance(shared, dict) or not isinstance(characters, dict):
        return tree
    merged = {
        name: {**settings, "augment": {**shared, **settings.get("augment", {})}}
        if isinstance(settings, dict) and isinstance(settings.get("augment", {}), dict)
        else settings
        for name, settings in characters.items()
    }
    return {**tree, "characters": merged}


def _explain(error: dict[str, Any], tree: dict[str, Any]) -> str:
    """One line for one finding: the key's path, what is wrong, what is allowed."""
    path = [str(part) for part in error["loc"]]
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{'.'.join(path)} is not a key; allowed here: {', '.join(_allowed(path[:-1]))}"
    # A union adds the branch's name to the path; keep the part that is really in the file.
    real: list[str] = []
    table: Any = tree
    for part in path:
        if isinstance(table, dict) and part in table:
            table = table[part]
        elif not (isinstance(table, list) and part.isdigit()):
            break
        real.append(part)
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{'.'.join(real)}.{message}"
    return f"{'.'.join(real)}: {message[0].lower()}{message[1:]}, got {_short(error.get('input'))}"


def _short(value: object) -> str:
    """What was found, in a message; the start of it where it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _allowed(path: list[str]) -> list[str]:
    """The keys of the table at a path."""
    cls: Any = Config
    for part in path:
        hints = typing.get_type_hints(cls) if dataclasses.is_dataclass(cls) else {}
        cls = hints.get(part, typing.get_args(cls)[-1] if typing.get_args(cls) else None)
    return [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
