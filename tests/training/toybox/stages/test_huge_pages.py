import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from training.toybox.stages.huge_pages import keep_memory
torch.zeros(8 << 20)
assert keep_memory(256 << 20)
torch.zeros(8 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.zeros(8 << 20)
assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1000
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can keep what is freed")
def test_freed_memory_is_used_again_without_asking_the_kernel():
    # In a process of its own: what is set stays for its life.
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
