"""Start training from the weights of an earlier run."""

from pathlib import Path

from torch import Tensor, nn

from cifar_lit.errors import InputError
from cifar_lit.inference.bundle import read_bundle
from cifar_lit.training.checkpointing.checkpoint_files import read_checkpoint

_MAX_NAMED = 4


def initialize(net: nn.Module, source: str) -> str:
    """Copy the weights that a checkpoint or a bundle has for layers of the same name and shape into a network.

    Args:
        net: The network; it is modified.
        source: A checkpoint, or the folder ``bundle`` of a Space.

    Returns:
        What was taken, left as it was, and not used, in one line.

    Raises:
        InputError: If the source cannot be read, or fits less than half of the network's tensors.
    """
    theirs, ours = _read_weights(Path(source).expanduser()), net.state_dict()
    fitting = {name: value for name, value in theirs.items() if name in ours and ours[name].shape == value.shape}
    if 2 * len(fitting) < len(ours):
        raise InputError(
            f"model.init_from: {source} has the weights of another network: only {len(fitting)} of {len(ours)} tensors"
            f" have a name and a shape of {type(net).__name__}'s"
        )
    net.load_state_dict(fitting, strict=False)
    new, unused = [name for name in ours if name not in fitting], [name for name in theirs if name not in ours]
    return (
        f"Initialized from {source}: {len(fitting)} of {len(ours)} tensors{_list(new, 'new')}{_list(unused, 'unused')}"
    )


def _read_weights(source: Path) -> dict[str, Tensor]:
    """Return the weights of the network in a checkpoint or a bundle."""
    if source.is_dir():
        network: nn.Module = read_bundle(source).network
        return network.get_submodule("net").state_dict()
    if not source.is_file():
        raise InputError(f"model.init_from: no such file or folder: {source}")
    weights: dict[str, Tensor] = read_checkpoint(source)["state_dict"]
    prefix = "model.net."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _list(names: list[str], role: str) -> str:
    """Return the names as a part of a sentence.

    >>> _list(["a", "b"], "new"), _list([str(number) for number in range(9)], "new"), _list([], "new")
    ('; new: a, b', '; new: 0, 1, 2, 3 and 5 more', '')
    """
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"; {role}: {', '.join(names[:_MAX_NAMED])}{more}" if names else ""
