"""Whether a network fits the images and the classes that it is to be trained on."""

import torch
from torch import Tensor, nn

from cifar_lit.errors import InputError


def check_output_shape(net: nn.Module, inputs: Tensor, num_classes: int) -> None:
    """Tries a network on two images.

    Args:
        net: The network.
        inputs: What it takes, float (2, 3, H, W).
        num_classes: How many logits it is to give for each image.

    Raises:
        InputError: if it cannot take images of that size, or gives another number of logits.
    """
    training = net.training
    net.eval()
    size = "x".join(map(str, inputs.shape[2:]))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits = net(inputs)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the network {type(net).__name__} cannot take images of {size} ({reason})") from error
    finally:
        net.train(training)
    if logits.shape != (2, num_classes):
        raise InputError(
            f"the network {type(net).__name__} gives an output of shape {tuple(logits.shape)} for 2 images,"
            f" but the data have {num_classes} classes: set its number of classes to {num_classes}"
            " (an argument named num_classes is set by itself; a function that takes it as a keyword gets it"
            f" with dict_kwargs: {{num_classes: {num_classes}}})"
        )
