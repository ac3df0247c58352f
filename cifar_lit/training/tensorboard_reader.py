"""Read the curves of a run from its TensorBoard files."""

from pathlib import Path

from cifar_lit.training.logger import SPLITS


def read_history(run_folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Return loss and accuracy of training and validation, and the learning rate.

    Args:
        run_folder: Folder with the run's event files, and those of its splits in ``train`` and ``val``.

    Returns:
        Lists of (step, value), sorted by step, under ``train/loss``, ``train/accuracy``, ``val/loss``,
        ``val/accuracy`` and ``lr``, as far as they were logged.
    """
    history = {
        f"{split}/{name}": curve
        for split in SPLITS[:2]
        for name, curve in _scalars(run_folder / split).items()
        if name in ("loss", "accuracy")
    }
    rates = [curve for name, curve in sorted(_scalars(run_folder).items()) if name.startswith("lr-")]
    return history | ({"lr": rates[0]} if rates else {})


def _scalars(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Return all scalars of the event files in a folder; the last value of a step logged twice."""
    if not any(folder.glob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # slow to import

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        name: sorted({float(event.step): float(event.value) for event in events.Scalars(name)}.items())
        for name in events.Tags()["scalars"]
    }
