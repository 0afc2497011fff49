"""``python -m lora_data_kohya path/to/sdxl_train_network.py --lora_data luca.toml <the script's own arguments>``."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

from lora_data import ConfigError, load_config
from lora_data.train.launch import split_command
from lora_data_kohya.settings import VARIABLE

USAGE = "usage: python -m lora_data_kohya path/to/train_network.py --lora_data luca.toml [the script's arguments]"


def main(arguments: Sequence[str]) -> int:
    """Run an unmodified script of sd-scripts on lora_data's shards.

    Returns:
        2 where the command line or the configuration is wrong; else the script itself ends the process or returns.
    """
    try:
        script, config, rest = split_command(list(arguments), USAGE)
        load_config(config)  # what is wrong with it is said before the script's imports, which take a while
    except ConfigError as error:
        print(f"lora_data_kohya: {error}", file=sys.stderr)
        return 2
    os.environ[VARIABLE] = str(config)  # worker processes inherit it, however they are started
    sys.path.insert(0, str(script.parent))
    sys.argv = [str(script), *rest, "--dataset_class", "lora_data_kohya.Dataset"]
    runpy.run_path(str(script), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
