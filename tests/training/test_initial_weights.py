from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_lit.errors import InputError
from cifar_lit.models import ResNet9, TinyNet
from cifar_lit.training.initial_weights import initialize
from tests.support.images import write_class_folders
from tests.support.program import ROOT, TINY, Outcome
from tests.support.runs import equal, weights

Fit = Callable[..., Path]


def test_weights_of_other_classes_are_taken_except_the_head(fit: Fit, program: Callable[..., Outcome]) -> None:
    checkpoint = fit("ten_digits") / "checkpoints" / "last.ckpt"
    root = write_class_folders(Path("images"), train=20)
    arguments: list[Any] = ["--config", ROOT / "configs" / "own_images.yaml", "--data.root", root, *TINY]
    arguments += ["--model.net.width", 16]  # as in the quickstart
    start = ["--model.init_from", checkpoint, "--model.optimizer", "SGD", "--model.lr", 1e-12]
    outcome = program("fit", *arguments, *start, "--data.augment", "[]", "--model.lr_scheduler", "null")
    assert outcome.status == 0, outcome.err
    assert f"Initialized from {checkpoint}: " in outcome.err
    assert "; new: head.2.weight, head.2.bias" in outcome.err
    trained = weights(Path("runs/own_images/version_0"))
    assert torch.equal(
        trained["model.net.features.0.weight"], weights(checkpoint.parents[1])["model.net.features.0.weight"]
    )
    again = program("fit", *arguments, *start, "--resume")  # has finished: nothing is initialized again
    assert again.status == 0, again.err
    assert "Initialized" not in again.err


def test_a_bundle_gives_the_weights_of_its_checkpoint(fit: Fit, program: Callable[..., Outcome]) -> None:
    checkpoint = fit("shared") / "checkpoints" / "last.ckpt"
    outcome = program("export", "--ckpt_path", checkpoint, "--output", "space", "--neighbors", 0)
    assert outcome.status == 0, outcome.err
    first, second = TinyNet(10, 16), TinyNet(10, 16)
    assert initialize(first, str(checkpoint)).endswith(
        f": {len(first.state_dict())} of {len(first.state_dict())} tensors"
    )
    initialize(second, "space/bundle")
    assert equal(first.state_dict(), second.state_dict())


def test_weights_of_another_network_are_refused(fit: Fit) -> None:
    checkpoint = fit("other") / "checkpoints" / "last.ckpt"
    with pytest.raises(InputError, match=r"has the weights of another network: only \d+ of \d+ tensors"):
        initialize(ResNet9(), str(checkpoint))
    with pytest.raises(InputError, match="no such file or folder: none"):
        initialize(ResNet9(), "none")
