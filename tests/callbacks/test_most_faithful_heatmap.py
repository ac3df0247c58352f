from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from callbacks.grad_cam import GradCAMImages
from callbacks.most_faithful_heatmap import select_heatmap
from cifar_lit.errors import InputError
from cifar_lit.inference.bundle import Recipe, TrainedClassifier
from space.export.evaluate import default_heatmap


class Brightness(nn.Module):
    """Two classes, bright and dark; the evidence is known for 2x2 pixels in ``sharp``, for 8x8 in ``coarse``."""

    def __init__(self) -> None:
        super().__init__()
        self.sharp = nn.Conv2d(3, 2, 2, stride=2, bias=False)
        self.coarse = nn.AvgPool2d(4)
        with torch.no_grad():
            self.sharp.weight[0], self.sharp.weight[1] = 1, -1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.coarse(self.sharp(x)).sum((2, 3))


def spots() -> torch.Tensor:
    """One faint spot of 2x2 pixels in each cell of 8x8."""
    inputs = torch.zeros(4, 3, 8, 8)
    for image in range(4):
        inputs[image, :, 2 * image : 2 * image + 2, 4:6] = 0.1
    return inputs.tile(1, 1, 4, 4)


def test_the_layer_that_locates_the_evidence_best_is_selected() -> None:
    net = Brightness().eval()
    assert select_heatmap(net, spots())[0] == "sharp"
    assert select_heatmap(net, spots(), ["coarse"], ["layercam"]) == ("coarse", "layercam")
    assert select_heatmap(net, spots(), methods=["hirescam"]) == ("sharp", "hirescam")


def test_a_network_without_feature_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="no feature maps"):
        select_heatmap(nn.Flatten(), spots())


def test_export_takes_a_chosen_layer_and_refuses_an_unknown_one() -> None:
    net = {"class_path": "cifar_lit.models.TinyNet", "init_args": {"num_classes": 2}}
    recipe = Recipe(net, ["a", "b"], (32, 32), [0.5] * 3, [0.25] * 3)
    classifier = TrainedClassifier.from_weights(recipe, recipe.build().state_dict())
    assert default_heatmap(classifier, None, None, None)[1] == "gradcam"
    assert default_heatmap(classifier, None, "features.0", "layercam") == ("features.0", "layercam")
    with pytest.raises(InputError, match="--layer head: the network's feature maps are features"):
        default_heatmap(classifier, None, "head", None)


def test_the_key_in_a_checkpoint_depends_on_the_options_alone() -> None:
    callback, other = GradCAMImages(count=4), GradCAMImages(count=5)
    key = callback.state_key
    callback.log = nn.Linear(1, 1)  # type: ignore[attr-defined]  # as Lightning adds its methods, which name the network
    assert callback.state_key == key != other.state_key
    assert "Linear" not in key


def test_the_selection_is_repeated_and_kept_in_the_checkpoint(fit: Callable[..., Path]) -> None:
    run = fit("selected", "--trainer.max_epochs", 3)
    states = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    [state] = [state for name, state in states.items() if name.startswith("GradCAMImages")]
    assert state["selection_epoch"] == 3  # after epochs 1 and 2, in the last one
    layers, method = state["selected"]
    assert layers[0].startswith("features")
    assert method in ("gradcam", "gradcam++", "hirescam", "layercam")
