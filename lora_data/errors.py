"""The exceptions a user may meet.

    LoraDataError
    ├── ConfigError        the configuration or the command line is wrong; nothing was touched (exit code 2)
    ├── MissingExtraError  an optional dependency is not installed (exit code 2)
    ├── ImageError         one image cannot be used; becomes an error row, never a crash
    ├── ShardError         a shard, its index or a sample in it is missing or damaged
    ├── DownloadError      a file cannot be fetched, or is not what it must be
    ├── ModelError         a model's weights are missing or wrong, or their licence is not accepted
    ├── BatchError         a batch or its parameters are not what the augmentation takes
    └── RunError           the run could not finish (exit code 1)

Every message says what was wrong, what was found, what was expected and where. A bug is none of these: it crashes.
"""

from __future__ import annotations

_LONGEST = 500


class LoraDataError(Exception):
    """Base of every error that lora_data raises on purpose."""


class ConfigError(LoraDataError):
    """The configuration or the command line is wrong. Raised before any file is touched."""


class MissingExtraError(LoraDataError):
    """An optional dependency is needed and not installed.

    Args:
        package: The module that could not be imported.
        extra: The extra of lora-data that installs it.
        purpose: What it was wanted for.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f'{purpose} needs {package}, which is not installed: pip install "lora-data[{extra}]"')


class ImageError(LoraDataError):
    """One image cannot be used.

    Args:
        reason: A short stable word for the table ("truncated", "empty_matte", ...).
        message: What was found and what was expected; cut after 500 characters.
    """

    def __init__(self, reason: str, message: str) -> None:
        # It quotes what files and names hold, and goes into the table: text of a bounded length, whatever is quoted.
        text = message.encode("utf-8", "backslashreplace").decode()
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
        super().__init__(text)
        self.reason = reason
        self.message = text

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return ImageError, (self.reason, self.message)


class ShardError(LoraDataError):
    """A shard, its index, or a sample in it is missing or damaged."""


class DownloadError(LoraDataError):
    """A file cannot be fetched, or is not what it must be."""


class ModelError(LoraDataError):
    """A model's weights are missing, damaged, of another architecture, or their licence was not accepted."""


class BatchError(LoraDataError, ValueError):
    """A batch, or the parameters for it, are not what the augmentation takes. Nothing was computed."""


class RunError(LoraDataError):
    """The run could not finish. What is done is kept."""
