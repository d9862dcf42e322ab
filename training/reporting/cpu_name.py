"""The processor's name, found without torch."""

import platform
from pathlib import Path


def cpu_name() -> str:
    """The model of the processor as the system tells it, or else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(filter(None, models), platform.processor() or platform.machine())
