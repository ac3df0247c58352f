"""What each speed-up is worth by itself: the default training step against steps with one change each."""

import json
import statistics

from benchmarks.results import Result, result
from benchmarks.variants import Variant, alternate

# Name of each change and the settings it overrides
_CHANGES: list[tuple[str, dict[str, object]]] = [
    ("freed memory given back (glibc's default)", {"memory_kept": False}),
    ("channels first (NCHW)", {"channels_last": False}),
    ("float32", {"bfloat16": False}),
    ("weight gradients image by image", {"side_by_side": False}),
    ("SGD for the filters, in place of Muon", {"muon": False}),
    ("whitening bias not trained", {"whitening_bias": False}),
    ("images of 24x24 pixels", {"size": 24}),
    ("batches of 250 images", {"batch": 250, "steps": 24}),
    ("batches of 4000 images", {"batch": 4000, "steps": 5}),
    ("compiled (torch.compile)", {"compiled": True, "side_by_side": False}),
]


def ablation(quick: bool) -> list[Result]:
    """Measure the speed of airbench training steps with one change each, relative to the default."""
    changes = _CHANGES[:3] if quick else _CHANGES
    return [
        _relative_speed(f"airbench network, {name}: share of the default's speed", change, quick)
        for name, change in changes
    ]


def _relative_speed(name: str, change: dict[str, object], quick: bool) -> Result:
    """Return the speed with a change relative to the default, measured alternately."""
    variants = {
        kind: Variant("-m", "benchmarks.scripts.steps", json.dumps(settings))
        for kind, settings in (("default", {}), ("changed", change))
    }
    measured = alternate(variants, 1 if quick else 3)
    speeds = {kind: [run["images_per_second"] for run in runs] for kind, runs in measured.items()}
    return result(
        name,
        [changed / default for default, changed in zip(speeds["default"], speeds["changed"], strict=True)],
        "reported",
        f"{statistics.median(speeds['changed']):.0f} and {statistics.median(speeds['default']):.0f} images/s",
        quick,
    )
