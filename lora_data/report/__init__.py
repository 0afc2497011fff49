"""The static report of a run: what went in, what was kept, and why the rest was not."""

from lora_data.report.page import write_report

__all__ = ["write_report"]
