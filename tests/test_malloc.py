import platform
import subprocess
import sys

import pytest

from tests.support.program import ROOT

# Allocates and frees 64 MB repeatedly; prints the number of page faults
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
    completed = subprocess.run(
        [sys.executable, "-c", _CHURN],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT), **environment},
    )
    done, faults = completed.stdout.split()
    return done, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's allocator")
def test_freed_memory_is_reused_unless_switched_off() -> None:
    enabled, faults = churn()
    disabled, faults_by_default = churn(CIFAR_LIT_ALLOCATOR="system")
    assert (enabled, disabled) == ("True", "False")
    assert faults < 100
    assert faults_by_default > 200  # 10 times 64 MB, in pages of 4 KB or 2 MB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's allocator")
def test_preloaded_allocator_is_not_changed() -> None:
    assert churn(LD_PRELOAD="libm.so.6")[0] == "False"
