"""What each part that makes a step fast is worth by itself: all of them, against all but one."""

import json
import statistics

from benchmarks.arms import Arm, alternate
from benchmarks.results import Result, result

# What it is called, and what is changed
_CHANGES: list[tuple[str, dict[str, object]]] = [
    ("freed memory given back (glibc's default)", {"memory_kept": False}),
    ("channels first (NCHW)", {"channels_last": False}),
    ("float32", {"bfloat16": False}),
    ("SGD for the filters, in place of Muon", {"muon": False}),
    ("whitening bias not trained", {"whitening_bias": False}),
    ("images of 24x24 pixels", {"size": 24}),
    ("batches of 250 images", {"batch": 250, "steps": 24}),
    ("batches of 4000 images", {"batch": 4000, "steps": 5}),
    ("compiled (torch.compile)", {"compiled": True}),
]
# An optimizer of all weights, for which it matters more whether it is fused; against a default of its own
_ADAM: dict[str, object] = {"net": "ResNet9", "adam": True, "batch": 512}


def ablation(quick: bool) -> list[Result]:
    """Steps of the airbench network with one part changed, against all as they are by default."""
    changes = _CHANGES[:3] if quick else _CHANGES
    arms = {"default": Arm("-m", "benchmarks.scripts.steps")}
    arms |= {name: Arm("-m", "benchmarks.scripts.steps", json.dumps(change)) for name, change in changes}
    found = {
        name: [one["images_per_second"] for one in many] for name, many in alternate(arms, 1 if quick else 3).items()
    }
    parts = [
        result(
            f"airbench network, {name}: share of the default's speed",
            [changed / default for default, changed in zip(found["default"], found[name], strict=True)],
            "reported",
            f"{statistics.median(found[name]):.0f} and {statistics.median(found['default']):.0f} images/s",
            quick,
        )
        for name, _ in changes
    ]
    if quick:
        return parts
    pair = {
        "fused": Arm("-m", "benchmarks.scripts.steps", json.dumps(_ADAM)),
        "not fused": Arm("-m", "benchmarks.scripts.steps", json.dumps(_ADAM | {"fused": False})),
    }
    speeds = {name: [one["images_per_second"] for one in many] for name, many in alternate(pair, 3).items()}
    return [
        *parts,
        result(
            "ResNet-9, Adam not fused: share of the speed with a fused one",
            [slow / fast for fast, slow in zip(speeds["fused"], speeds["not fused"], strict=True)],
            "reported",
            f"{statistics.median(speeds['not fused']):.0f} and {statistics.median(speeds['fused']):.0f} images/s",
            quick,
        ),
    ]
