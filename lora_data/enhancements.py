"""Which of the strategy's networks a run uses, what they need, and what a run does without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lora_data.config import Config
from lora_data.errors import ConfigError
from lora_data.models.loaded import path_of
from lora_data.models.registry import model_named
from lora_data.models.weights import Weights, models_folder
from lora_data.results import Results
from lora_data.stages.faces import Enabled


@dataclass(frozen=True, slots=True)
class Enhancements:
    """What is switched on."""

    faces: bool
    face_restore: bool
    upscale: bool
    deblur: bool

    def of_pixels(self) -> tuple[tuple[str, bool], ...]:
        """What changes pixels, by the stage's name, in the order of the stages."""
        return ("face_restore", self.face_restore), ("upscale", self.upscale), ("deblur", self.deblur)


@dataclass(frozen=True, slots=True)
class Use:
    """A stage's network: a name from the table of models, or a path."""

    stage: str
    model: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An enhancement that a run does without.

    Args:
        stage: Its name.
        why: The reason.
        turn_on: What turns it on.
    """

    stage: str
    why: str
    turn_on: str


def enhancements(config: Config) -> Enhancements:
    """What a configuration switches on: "auto" follows the preset; whoever restores faces must find them."""
    p, full = config.precompute, config.preset == "full"

    def on(enabled: Enabled, auto: bool = full) -> bool:
        return auto if enabled == "auto" else enabled

    restore = on(p.face_restore.enabled)
    return Enhancements(on(p.faces.enabled, full or restore), restore, on(p.upscale.enabled), on(p.deblur.enabled))


def uses(config: Config) -> list[Use]:
    """The networks that a run uses, in the order of the stages."""
    p, on = config.precompute, enhancements(config)
    found = [Use("faces", model) for model in p.faces.models if on.faces]
    found += [Use(name, getattr(p, name).model) for name, switched in on.of_pixels() if switched]
    return [*found, *([Use("embed", p.embed.model)] if p.embed.model else [])]


def model_digests(config: Config, results: Results) -> dict[str, tuple[str, ...]]:
    """Digests of the networks' files by the stage that uses them: what their results depend on."""
    weights = Weights(models_folder())
    found: dict[str, tuple[str, ...]] = {}
    for use in uses(config):
        path = path_of(use.model)
        if path is not None:
            digests = tuple(results.digests([path]).values())
        else:
            model = model_named(use.model)
            digests = tuple(m.sha256 for m in model.members) or (weights.expected(model) or "",)
        found[use.stage] = (*found.get(use.stage, ()), *digests)
    return found


def left_out(config: Config) -> list[LeftOut]:
    """The enhancements of the preset "full" that a run does without, each with what turns it on."""
    p, on = config.precompute, enhancements(config)
    why = "needs a network's weights" if config.preset == "light" else "switched off"
    found: list[LeftOut] = []
    for name, switched in on.of_pixels():
        if switched:
            continue
        needed = [getattr(p, name).model, *(p.faces.models if name == "face_restore" and not on.faces else ())]
        fetched = [model for model in needed if path_of(model) is None]
        pull = f"{_pull(fetched)}; then " if fetched else ""
        found.append(LeftOut(name, why, f"{pull}--set precompute.{name}.enabled=true"))
    return found


def need_models(wanted: Sequence[Use]) -> None:
    """Name everything that is missing at once, with the one command that fetches it.

    Raises:
        ConfigError: Weights are not there, or a licence was not accepted.
    """
    weights = Weights(models_folder())
    names = [model for model in dict.fromkeys(use.model for use in wanted) if path_of(model) is None]
    models = [model_named(name) for name in names]
    missing = [m for m in models if not (weights.folder / m.file).is_file()]
    unaccepted = [m for m in models if not weights.accepted(m)]
    if not missing and not unaccepted:
        return
    lines = [f"{m.name}: {m.file} is not in {weights.folder}" for m in missing]
    lines += [
        f"{m.name}: its licence restricts its use and was not accepted ({m.licence}; {m.page})" for m in unaccepted
    ]
    by_hand = [f"{m.file} can only be fetched by hand, from {m.page}" for m in missing if not m.url]
    command = _pull([m.name for m in models if m in missing or m in unaccepted])
    raise ConfigError("weights that the configuration names cannot be used:\n" + "\n".join([*lines, *by_hand, command]))


def _pull(names: Sequence[str]) -> str:
    """The command that fetches models."""
    restricted = any(not model_named(name).commercial for name in names)
    return f"lora-data models pull {' '.join(names)}{' --accept-licence' if restricted else ''}"
