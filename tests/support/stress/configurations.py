"""Configurations with one fault each, which must be refused in a line that names the fault."""

import contextlib
import io
import logging
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import yaml

from main import main
from tests.support.program import ROOT
from tests.support.stress.outcome import Outcome

_MAX_LINES = 3
# Invalid values by the last part of a setting's name
_INVALID_VALUES: dict[str, list[Any]] = {
    "batch_size": [0, -4, 2.5, "many", None],
    "val_fraction": [1.0, -0.1, 7, "half", float("nan")],
    "num_workers": [-1, 0.5, "two"],
    "max_epochs": [-5, 1.5, "ten"],
    "label_smoothing": [1.0, -0.1, "much", float("nan")],
    "translate_tta": [-1, 99, "one"],
    "flip_tta": [3, "perhaps"],
    "padding": [0, -2, "wide"],
    "lr": ["fast", [1]],
    "max_lr": ["high", [1, 2]],
    "momentum": ["some"],
    "weight_decay": ["little", {"a": 1}],
    "precision": ["17-mixed", 5],
    "mixup": [-1, "a bit"],
    "size": [0, -1, "small"],
    "width": ["wide", [1]],
    "dropout": ["rarely"],
    "route": ["both_ways", 3],
    "split_seed": ["today"],
}


@dataclass(frozen=True)
class Case:
    """A faulty configuration.

    fault: Description of the fault.
    text: The YAML.
    named: Words of which the message must contain at least one.
    """

    fault: str
    text: str
    named: tuple[str, ...]


def configurations(count: int, seed: int = 0) -> Outcome:
    """Run ``fit`` with faulty configurations, in this process.

    Args:
        count: Number of configurations.
        seed: Seed of the faults.
    """
    failures = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for number in range(count):
            case = create_case(random.Random(f"{seed} {number}"))
            if problem := refusal_problem(case):
                failures.append(f"seed {seed}, case {number}, {case.fault}: {problem}")
    return Outcome("faulty configurations: refused in one line that names the error", count, failures)


def refusal_problem(case: Case) -> str | None:
    """Return what is wrong with the response to a faulty configuration, or None."""
    Path("faulty.yaml").write_text(case.text)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        log_to(err)
        try:
            status = main(["fit", "--config", "faulty.yaml", "--trainer.fast_dev_run", "true"])
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
    message = err.getvalue().strip()
    lines = [line for line in message.splitlines() if line.startswith("error")]
    if status == 0:
        return "was accepted"
    if "Traceback" in message or len(lines) != 1:
        return f"printed {message[-300:]!r}"
    if len(lines[0]) > 120 * _MAX_LINES:
        return f"printed {len(lines[0])} characters: {lines[0][:300]!r}"
    if not any(word in lines[0] for word in (*case.named, "faulty.yaml")):
        return f"printed without {' or '.join(case.named)}: {lines[0]!r}"
    return None


def log_to(stream: TextIO) -> None:
    """Redirect Lightning's logging to a stream; its handlers keep the standard error of the time of its import."""
    for name in ("lightning", "lightning.fabric", "lightning.pytorch"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.stream = stream  # setStream would flush the old stream, which may be closed


def create_case(chance: random.Random) -> Case:
    """Return a random configuration with one fault."""
    excluded = ("defaults", "finetune")  # which would download weights
    name = chance.choice([file.name for file in sorted((ROOT / "configs").glob("*.yaml")) if file.stem not in excluded])
    settings = yaml.safe_load((ROOT / "configs" / name).read_text())
    _use_digits(settings)
    fault = chance.choice(_FAULTS)
    for _ in range(50):
        if case := fault(settings, chance):
            return Case(f"{name}: {case.fault}", case.text, case.named)
    return create_case(chance)


def _use_digits(settings: dict[str, Any]) -> None:
    data = settings.setdefault("data", {"class_path": "Digits"})
    data["class_path"] = "Digits"
    for unsupported in ("root", "cache_dir", "image_size", "skip_unreadable"):
        data.get("init_args", {}).pop(unsupported, None)


def _mappings(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
        for key, child in value.items():
            if key != "dict_kwargs" and key != "albumentations":
                yield from _mappings(child, (*path, str(key)))
    elif isinstance(value, list):
        for child in value:
            yield from _mappings(child, path)


def _misspelled_key(settings: dict[str, Any], chance: random.Random) -> Case | None:
    path, mapping = chance.choice(list(_mappings(settings)))
    if not mapping:
        return None
    key = chance.choice(list(mapping))
    letters = list(str(key))
    index = chance.randrange(len(letters))
    letters[index] = chance.choice("abcdefghijklmnopqrstuvwxyz")
    other = "".join(letters)
    if other in mapping:
        return None
    renamed = {other if name == key else name: value for name, value in mapping.items()}
    mapping.clear()
    mapping.update(renamed)
    return Case(f"{'.'.join((*path, key))} misspelled {other}", yaml.safe_dump(settings), (other, str(key)))


def _unknown_key(settings: dict[str, Any], chance: random.Random) -> Case | None:
    path, mapping = chance.choice(list(_mappings(settings)))
    key = chance.choice(["epochs_", "learning_rate", "batchsize", "gpu", "device", "modell", "nets", "args", "xyz"])
    if key in mapping:
        return None
    mapping[key] = chance.choice([1, "a", None, [1], {"b": 2}])
    return Case(f"{'.'.join((*path, key))} added", yaml.safe_dump(settings), (key, *path[-1:]))


def _invalid_value(settings: dict[str, Any], chance: random.Random) -> Case | None:
    candidates = [
        (path, mapping, key) for path, mapping in _mappings(settings) for key in mapping if str(key) in _INVALID_VALUES
    ]
    if not candidates:
        return None
    path, mapping, key = chance.choice(candidates)
    mapping[key] = chance.choice(_INVALID_VALUES[key])
    return Case(f"{'.'.join((*path, key))} = {mapping[key]}", yaml.safe_dump(settings), (key, *path[-2:]))


def _misspelled_class(settings: dict[str, Any], chance: random.Random) -> Case | None:
    mappings = [mapping for _, mapping in _mappings(settings) if isinstance(mapping.get("class_path"), str)]
    if not mappings:
        return None
    mapping = chance.choice(mappings)
    name = mapping["class_path"]
    index = chance.randrange(len(name))
    mapping["class_path"] = name[:index] + chance.choice("qxzj") + name[index:]
    return Case(f"class {mapping['class_path']}", yaml.safe_dump(settings), (mapping["class_path"], name))


def _wrong_type(settings: dict[str, Any], chance: random.Random) -> Case | None:
    key = chance.choice(["trainer", "data", "model"])
    settings[key] = chance.choice([[1, 2], 17, "yes", True])
    return Case(f"{key} = {settings[key]}", yaml.safe_dump(settings), (key,))


def _invalid_yaml(settings: dict[str, Any], chance: random.Random) -> Case | None:
    text = yaml.safe_dump(settings)
    index = chance.randrange(len(text))
    broken = text[:index] + chance.choice(["[", "{", "\t", '"', ": :", "\x00", "&a *b", "@"]) + text[index:]
    try:
        if isinstance(yaml.safe_load(broken), dict):
            return None  # still a mapping
    except (yaml.YAMLError, ValueError):
        pass
    return Case("invalid YAML", broken, ("faulty.yaml",))


_FAULTS: list[Callable[[dict[str, Any], random.Random], Case | None]] = [
    _misspelled_key,
    _misspelled_key,
    _unknown_key,
    _invalid_value,
    _invalid_value,
    _misspelled_class,
    _wrong_type,
    _invalid_yaml,
]
