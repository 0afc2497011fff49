"""How ONNX networks are opened: on the CPU, on one thread, so that a value never depends on the machine's cores."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from lora_data.errors import MissingExtraError, ModelError


def options() -> Any:
    """Session options: one thread, quiet.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    found = _runtime().SessionOptions()
    found.intra_op_num_threads = found.inter_op_num_threads = 1
    found.log_severity_level = 3
    return found


def providers() -> list[str]:
    """The CPU: the face networks are small, and a run's worker processes work side by side."""
    return ["CPUExecutionProvider"]


def errors() -> tuple[type[Exception], ...]:
    """What onnxruntime, and the readers around it, raise where a file is no network or another one than expected."""
    state = vars(_runtime().capi.onnxruntime_pybind11_state)
    own = [e for e in state.values() if isinstance(e, type) and issubclass(e, Exception)]  # they have no common base
    message: Any = importlib.import_module("google.protobuf.message")
    return (*own, message.Error, RuntimeError, ValueError, AttributeError, AssertionError, IndexError, OSError)


def open_insightface(path: Path, kind: str) -> Any:
    """A network of insightface's.

    Args:
        path: An ONNX file.
        kind: What it should be, for messages.

    Raises:
        ModelError: It cannot be opened.
        MissingExtraError: insightface is not installed.
    """
    try:
        from insightface.model_zoo import get_model
    except ImportError as error:
        raise MissingExtraError(error.name or "insightface", "models", kind) from None
    try:
        return get_model(str(path), providers=providers(), sess_options=options())
    except errors() as error:
        raise ModelError(f"{path} cannot be opened as {kind}: {type(error).__name__}: {str(error)[:300]}") from None


def open_session(path: Path) -> Any:
    """A network as onnxruntime has it.

    Raises:
        ModelError: It cannot be opened.
        MissingExtraError: onnxruntime is not installed.
    """
    runtime = _runtime()
    try:
        return runtime.InferenceSession(str(path), sess_options=options(), providers=providers())
    except errors() as error:
        raise ModelError(f"{path} cannot be opened as ONNX: {str(error)[:300]}") from None


def output_names(path: Path) -> list[str]:
    """The names of a network's outputs. Raises as `open_session`."""
    return [output.name for output in open_session(path).get_outputs()]


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(error.name or "onnxruntime", "models", "an ONNX network") from None
    return onnxruntime
