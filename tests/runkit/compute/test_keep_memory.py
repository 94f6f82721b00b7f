"""Memory of a freed large tensor that is kept for the next one."""

import subprocess
import sys

from support import ROOT


def test_kept_memory_saves_page_faults():
    code = (
        "import resource, runkit.compute.memory\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(20): bytearray(1 << 26)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "before, works = faults(), runkit.compute.memory.keep_freed_memory()\n"
        "print(works, faults() < before / 4)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT, check=True)
    assert done.stdout.split()[0] == "False" or done.stdout.split() == ["True", "True"]
