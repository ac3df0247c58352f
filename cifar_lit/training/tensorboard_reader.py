"""Read the curves of a run from its TensorBoard files."""

from pathlib import Path

from cifar_lit.tensorboard_tags import curve_tag

_CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")


def read_history(run_folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Return loss and accuracy of training and validation, and the learning rate.

    Args:
        run_folder: Folder with the run's event files.

    Returns:
        Lists of (step, value), sorted by step, under ``train/loss``, ``train/accuracy``, ``val/loss``,
        ``val/accuracy`` and ``lr``, as far as they were logged; the last value of a step logged twice.
    """
    if not any(run_folder.glob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # slow to import

    events = EventAccumulator(str(run_folder), size_guidance={"scalars": 0})
    events.Reload()
    logged = sorted(events.Tags()["scalars"])
    tags = {name: curve_tag(name) for name in _CURVES} | {
        "lr": next((name for name in logged if name.startswith("lr-")), "")
    }
    return {
        name: sorted({float(event.step): float(event.value) for event in events.Scalars(logged_as)}.items())
        for name, logged_as in tags.items()
        if logged_as in logged
    }
