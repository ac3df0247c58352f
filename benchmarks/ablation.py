"""What each part that makes a step fast is worth by itself: all of them, against all but one."""

import json
import statistics

from benchmarks.results import Result, result
from benchmarks.variants import Variant, alternate

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
    parts = [
        _changed(f"airbench network, {name}: share of the default's speed", {}, change, quick)
        for name, change in changes
    ]
    if quick:
        return parts
    not_fused = _ADAM | {"fused": False}
    return [*parts, _changed("ResNet-9, Adam not fused: share of the speed with a fused one", _ADAM, not_fused, quick)]


def _changed(name: str, default: dict[str, object], change: dict[str, object], quick: bool) -> Result:
    """The speed with a change over that without it, one right after the other."""
    pair = {
        kind: Variant("-m", "benchmarks.scripts.steps", json.dumps(settings))
        for kind, settings in (("default", default), ("changed", change))
    }
    found = alternate(pair, 1 if quick else 3)
    speeds = {kind: [one["images_per_second"] for one in many] for kind, many in found.items()}
    return result(
        name,
        [changed / before for before, changed in zip(speeds["default"], speeds["changed"], strict=True)],
        "reported",
        f"{statistics.median(speeds['changed']):.0f} and {statistics.median(speeds['default']):.0f} images/s",
        quick,
    )
