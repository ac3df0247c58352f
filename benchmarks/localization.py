"""Whether heatmaps of a transformer are hottest on the object, on toy images whose object's place is known."""

import pytorch_grad_cam
import timm
import torch
import torch.nn.functional as F
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from benchmarks.results import Result, result
from callbacks.most_faithful_heatmap import select_heatmap
from callbacks.rendering.class_activation_maps import heatmaps, name_layers

_SIDE, _OBJECT, _PATCH = 32, 8, 4
_COLORS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])  # of the classes


def localization(quick: bool) -> list[Result]:
    """Compare how often the hottest pixel is on the object: our selected heatmaps and the grad-cam library's recipe."""
    ratios, shares = [], []
    for seed in range(1 if quick else 3):
        net = _train(seed, 60 if quick else 200)
        inputs, labels, corners = _images(400, seed + 100)
        layer, method = select_heatmap(net, _images(64, seed + 200)[0])
        ours = heatmaps(net, [layer], inputs, labels[:, None], method)[0, :, 0]
        explain = pytorch_grad_cam.GradCAM(net, [net.blocks[-1].norm1], reshape_transform=_arrange)
        theirs = torch.from_numpy(explain(inputs.clone(), [ClassifierOutputTarget(label) for label in labels.tolist()]))
        found = _hits(ours, corners), _hits(theirs, corners)
        ratios.append(found[0] / found[1])
        shares.append(f"{found[0]:.1%} and {found[1]:.1%} ({method} at {name_layers(method, [layer])})")
    name = "hottest pixel on the object, of a vision transformer: over the grad-cam library's recipe"
    return [result(name, ratios, "> 1", "; ".join(shares), quick)]


def _images(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return noise with a square of the class's color, float (N, 3, H, W), labels and the squares' top left corners."""
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, _SIDE, _SIDE, generator=random)
    labels = torch.randint(0, len(_COLORS), (count,), generator=random)
    corners = torch.randint(0, _SIDE - _OBJECT + 1, (count, 2), generator=random)
    for image, label, (top, left) in zip(images, labels, corners.tolist(), strict=True):
        square = image[:, top : top + _OBJECT, left : left + _OBJECT]
        square.mul_(0.3).add_(0.7 * _COLORS[label].view(3, 1, 1))
    return 2 * images - 1, labels, corners


def _train(seed: int, steps: int) -> nn.Module:
    torch.manual_seed(seed)
    size = {"img_size": _SIDE, "patch_size": _PATCH, "depth": 3, "embed_dim": 48, "num_heads": 3}
    net: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=len(_COLORS), **size)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    inputs, labels, _ = _images(1024, seed)
    for _ in range(steps):
        rows = torch.randint(0, len(labels), (64,))
        F.cross_entropy(net(inputs[rows]), labels[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return net.eval()


def _arrange(tokens: Tensor) -> Tensor:
    side = _SIDE // _PATCH
    return tokens[:, 1:].reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)


def _hits(maps: Tensor, corners: Tensor) -> float:
    """Return the share of maps (N, H, W) whose largest value is in the square at a corner (N, 2)."""
    place = maps.flatten(1).argmax(1)
    inside = torch.stack([place // _SIDE, place % _SIDE], 1) - corners
    return float(((inside >= 0) & (inside < _OBJECT)).all(1).float().mean())
