from __future__ import annotations

import pickle

from lora_data.errors import ImageError, LoraDataError, MissingExtraError


def test_an_image_error_crosses_processes_whole():
    error = pickle.loads(pickle.dumps(ImageError("damaged", "the bytes end early")))
    assert (error.reason, error.message, str(error)) == ("damaged", "the bytes end early", "the bytes end early")


def test_a_missing_extra_names_the_command():
    error = MissingExtraError("cv2", "precompute", "lora-data precompute")
    assert isinstance(error, LoraDataError)
    assert 'pip install "lora-data[precompute]"' in str(error)
