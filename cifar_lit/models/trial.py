"""Run a network once before training, to find out whether it fits the images and the classes."""

import torch
from torch import Tensor, nn

from cifar_lit.errors import InputError


def try_network(net: nn.Module, inputs: Tensor, num_classes: int, smallest_batch: int = 0) -> None:
    """Run a network in evaluation mode, and in training mode, and check its output; it is not modified.

    Args:
        net: The network.
        inputs: Normalized images, float (2, 3, H, W).
        num_classes: Expected number of logits per image.
        smallest_batch: Number of images to try in training mode; 0 skips that.

    Raises:
        InputError: If it fails on images of that size, or the number of logits differs.
    """
    name, training = type(net).__name__, net.training
    size = "x".join(map(str, inputs.shape[2:]))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            logits = net.eval()(inputs)
            if smallest_batch:  # later, since lazy layers get their shapes in the first run
                buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
                net.train()(inputs[:smallest_batch])
                for buffer, content in buffers:
                    buffer.copy_(content)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            if smallest_batch == 1 and "more than 1 value per channel" in reason:  # batch norm's error
                raise InputError(
                    f"the network {name} cannot be trained on a batch of one image ({reason}); use a"
                    " data.batch_size of at least 2"
                ) from error
            raise InputError(f"the network {name} cannot take images of {size} ({reason})") from error
        finally:
            net.train(training)
    if logits.shape != (2, num_classes):
        raise InputError(
            f"the network {name} must output one logit per class of the data, {num_classes}, got shape"
            f" {tuple(logits.shape)} for 2 images; set its number of classes (an argument named num_classes is set"
            f" automatically; a function that takes it as a keyword needs dict_kwargs: {{num_classes: {num_classes}}})"
        )
