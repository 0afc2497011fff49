"""The folder of weights: fetched by a command or put there by hand, checked before they are used, never replaced."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora_data.download import download, file_digest, user_cache
from lora_data.errors import DownloadError, ModelError
from lora_data.models.registry import Model, Task

FOLDER = "LORA_DATA_MODELS"
"""Environment variable: the folder of weights; ``models`` in the user's cache folder where it is not set."""
NOTES = "lora_data.json"
"""In the folder: which licences were accepted, and the digests that the first download pinned."""


def models_folder(given: Path | None = None) -> Path:
    """The folder of weights: the one that is given, that of ``LORA_DATA_MODELS``, or the user's cache."""
    if given is not None:
        return given
    own = os.environ.get(FOLDER)
    return Path(own) if own else user_cache() / "models"


class Weights:
    """The weights in a folder.

    Args:
        folder: See `models_folder`; need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, model: Model) -> Path:
        """A model's file, ready to be loaded.

        Raises:
            ModelError: It is not there, its licence was not accepted, or it is not what it must be. Says what to do.
        """
        path = self._present(model)
        self._need_licence(model)
        self.verify(model)
        return path

    def member(self, model: Model, task: Task) -> Path:
        """The file of an archive that does a task, taken out of it the first time.

        Raises:
            ModelError: As `path`; or the archive does not hold it, or holds another.
        """
        member = next(m for m in model.members if m.task == task)
        path = self.folder / Path(model.file).stem / member.file
        if not path.is_file():
            archive = self.path(model)
            try:
                with zipfile.ZipFile(archive) as opened:
                    name = next(n for n in opened.namelist() if Path(n).name == member.file)  # in whatever folder
                    _put(path, opened.read(name))
            except (zipfile.BadZipFile, StopIteration, OSError) as error:
                what = "does not hold it" if isinstance(error, StopIteration) else str(error)
                raise ModelError(f"{member.file} cannot be taken out of {archive}: {what}") from None
        self._need_licence(model)
        digest = file_digest(path)
        if digest != member.sha256:
            raise ModelError(
                f"{path} has SHA-256 {digest}, {model.name} must have {member.sha256}: remove it, and it is taken out "
                f"of {model.file} again"
            )
        return path

    def verify(self, model: Model) -> str:
        """Check a file's digest.

        Returns:
            Its SHA-256.

        Raises:
            ModelError: It is not there, or has another digest.
        """
        path = self._present(model)
        expected = self.expected(model)
        digest = file_digest(path)
        if expected is None:
            self._note("digests", model.name, digest)
        elif digest != expected:
            raise ModelError(
                f"{path} has SHA-256 {digest}, {model.name} must have {expected}: it is damaged or another file; move "
                f"it away and fetch it again (lora-data models pull {model.name})"
            )
        return digest

    def expected(self, model: Model) -> str | None:
        """The digest that a model's file must have; None where nobody has pinned one yet."""
        return model.sha256 or self._notes()["digests"].get(model.name)

    def accepted(self, model: Model) -> bool:
        """Whether a model may be used: its licence allows it, or somebody accepted it for this folder."""
        return model.commercial or self._notes()["licences"].get(model.name) == model.licence

    def accept(self, model: Model) -> None:
        """Note that a model's licence was accepted."""
        self._note("licences", model.name, model.licence)

    def pull(self, model: Model, advance: Callable[[int, int | None], None] | None = None) -> bool:
        """Fetch a model's file where it is not there yet.

        Args:
            model: Which.
            advance: As for `lora_data.download.download`.

        Returns:
            Whether its digest was pinned by this download, since none was known.

        Raises:
            ModelError: Its licence was not accepted, it can only be fetched by hand, or it cannot be fetched.
        """
        self._need_licence(model)
        pinned = self.expected(model) is None
        if (self.folder / model.file).is_file():
            self.verify(model)
            return pinned
        if not model.url:
            raise ModelError(f"{model.name}: {self._how(model)}")
        try:
            digest = download(model.url, self.folder / model.file, sha256=self.expected(model), advance=advance)
        except (DownloadError, OSError) as error:
            raise ModelError(f"{model.name} cannot be fetched: {error}") from None
        if pinned:
            self._note("digests", model.name, digest)
        return pinned

    def _present(self, model: Model) -> Path:
        path = self.folder / model.file
        if not path.is_file():
            raise ModelError(f"the weights of {model.name} are not at {path}: {self._how(model)}")
        return path

    def _need_licence(self, model: Model) -> None:
        if not self.accepted(model):
            raise ModelError(
                f"{model.name} is under a licence that restricts its use ({model.licence}; {model.page}): read it, "
                f"then lora-data models pull {model.name} --accept-licence"
            )

    def _how(self, model: Model) -> str:
        if model.url:
            return f"lora-data models pull {model.name} fetches them, or put {model.file} there (from {model.url})"
        return f"they can only be fetched by hand: put {model.file} from {model.page} into {self.folder}"

    def _notes(self) -> dict[str, dict[str, str]]:
        path = self.folder / NOTES
        found: dict[str, Any] = {}
        if path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise ModelError(f"{path} cannot be read: {error}; remove it to accept licences anew") from None
        return {"licences": dict(found.get("licences", {})), "digests": dict(found.get("digests", {}))}

    def _note(self, kind: str, name: str, value: str) -> None:
        notes = self._notes()
        if notes[kind].get(name) == value:
            return
        notes[kind][name] = value
        _put(self.folder / NOTES, (json.dumps(notes, indent=1, sort_keys=True) + "\n").encode())


def _put(path: Path, data: bytes) -> None:
    """Write whole or not at all; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_bytes(data)
    os.replace(new, path)
