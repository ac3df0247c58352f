"""Check that a network fits the images and the number of classes."""

import torch
from torch import Tensor, nn

from cifar_lit.errors import InputError


def check_output_shape(net: nn.Module, inputs: Tensor, num_classes: int) -> None:
    """Run a network on two images and check the shape of its output.

    Args:
        net: The network.
        inputs: Normalized images, float (2, 3, H, W).
        num_classes: Expected number of logits per image.

    Raises:
        InputError: If it fails on images of that size, or the number of logits differs.
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
            f"the network {type(net).__name__} must output one logit per class of the data, {num_classes}, got shape"
            f" {tuple(logits.shape)} for 2 images; set its number of classes (an argument named num_classes is set"
            f" automatically; a function that takes it as a keyword needs dict_kwargs: {{num_classes: {num_classes}}})"
        )
