"""What can only be tested on real data: CIFAR-10 in class folders, named by CIFAR_LIT_TEST_DATA."""

import os
import subprocess
import sys

import pytest

from cifar_lit.data.cifar import CIFAR10
from cifar_lit.data.folders import ClassFolders
from tests.conftest import ROOT

DATA = os.environ.get("CIFAR_LIT_TEST_DATA", "")
pytestmark = pytest.mark.skipif(not DATA, reason="CIFAR_LIT_TEST_DATA names no folder with CIFAR-10 in class folders")


def test_classes_and_statistics_are_those_that_cifar10_states() -> None:
    data = ClassFolders(DATA)
    assert data.class_names == CIFAR10().class_names
    (mean, std), (stated_mean, stated_std) = data.own_statistics, CIFAR10().own_statistics
    assert mean == pytest.approx(stated_mean, abs=5e-4)
    assert std == pytest.approx(stated_std, abs=5e-3)  # JPEG smooths
    assert (len(data.train_set), len(data.val_set or ())) == (45_000, 5_000)
    val = data.val_set
    assert val is not None
    assert val.labels.bincount().tolist() == [500] * 10


def test_second_start_with_60_000_images_reads_the_cache() -> None:
    ClassFolders(DATA).test_dataloader()
    code = (
        "import sys, time\n"
        "from cifar_lit.data.folders import ClassFolders\n"
        "start = time.monotonic()\n"
        "data = ClassFolders(sys.argv[1]); data.load('train'); data.load('test')\n"
        "print(time.monotonic() - start)"
    )
    command = [sys.executable, "-c", code, DATA]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(ended.stdout.split()[-1]) < 10  # 1 to 2 s measured; decoding takes half a minute
