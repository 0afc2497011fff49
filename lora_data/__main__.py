"""``python -m lora_data``."""

import sys

from lora_data.cli import main

if __name__ == "__main__":
    sys.exit(main())
