import platform
import subprocess
import sys

import pytest

from tests.support.program import ROOT

# Frees and takes 64 MB again and again, and prints how many pages the system handed out meanwhile
_CHURN = """
import resource, sys
from cifar_lit.malloc import keep_freed_memory
done = keep_freed_memory()
import numpy as np
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**23)
before = faults()
for _ in range(10):
    np.ones(2**23)
print(done, faults() - before)
"""


def churn(**environment: str) -> tuple[str, int]:
    ended = subprocess.run(
        [sys.executable, "-c", _CHURN],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT), **environment},
    )
    done, faults = ended.stdout.split()
    return done, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc's allocator")
def test_freed_memory_is_used_again_without_asking_the_system_unless_told_not_to() -> None:
    done, kept = churn()
    told_not_to, given_back = churn(CIFAR_LIT_ALLOCATOR="system")
    assert (done, told_not_to) == ("True", "False")
    assert kept < 100
    assert given_back > 200  # 10 times 64 MB, in pages of 4 KB or (where they are on) 2 MB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc's allocator")
def test_another_allocator_is_left_alone() -> None:
    assert churn(LD_PRELOAD="libm.so.6")[0] == "False"
