"""Networks in pure PyTorch that map normalized images (N, 3, H, W) to logits (N, num_classes)."""

from cifar_lit.models.airbench import AirbenchNet
from cifar_lit.models.pixel_normalization import PixelNormalization
from cifar_lit.models.resnet9 import ResNet9
from cifar_lit.models.resnet18 import ResNet18
from cifar_lit.models.tiny import TinyNet
from cifar_lit.models.wide_resnet import WideResNet

NETWORKS = ("AirbenchNet", "ResNet9", "ResNet18", "TinyNet", "WideResNet")  # offered by the CLI, trusted in bundles

__all__ = ["NETWORKS", "AirbenchNet", "PixelNormalization", "ResNet9", "ResNet18", "TinyNet", "WideResNet"]
