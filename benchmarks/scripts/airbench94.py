"""airbench94 as one bare script, the baseline of `configs/airbench94.yaml`; it imports nothing from this project.

A port of airbench94_muon (K. Jordan, https://github.com/KellerJordan/cifar10-airbench: 94.01 % in 2.59 s on an A100)
that also runs on a CPU: it uses autocast to bfloat16 if the hardware supports it, else float32, instead of half
precision, and does not compile, which is slower on CPUs. Every other constant is the original's. Here, images are
normalized before the clock starts and the network is built after; in the original, it is the other way round.

python benchmarks/scripts/airbench94.py ROOT SEED
ROOT holds cifar-10-batches-py in torchvision's format; it is downloaded if missing.
Prints one line of JSON: the test accuracy with test-time augmentation, the seconds of training and of that last
evaluation, and for each epoch the seconds of training so far and the test accuracy without augmentation.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.datasets import CIFAR10

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FEATURES = torch.cpu.get_capabilities()
BFLOAT16 = DEVICE == "cuda" or FEATURES.get("avx512_bf16") or FEATURES.get("amx_bf16")
EPOCHS, BATCH, WHITEN_BIAS_EPOCHS = 8, 2000, 3
BIAS_LR, HEAD_LR, FILTER_LR = 0.053, 0.67, 0.24
DECAY = 2e-6 * BATCH
MEAN = torch.tensor((0.4914, 0.4822, 0.4465), device=DEVICE).view(3, 1, 1)
STD = torch.tensor((0.2470, 0.2435, 0.2616), device=DEVICE).view(3, 1, 1)


def main(root, seed):
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True
    train_images, train_labels = load(root, train=True)
    test_images, test_labels = load(root, train=False)
    start = now()
    net = Net().to(DEVICE, memory_format=torch.channels_last)
    net.whiten.weight.data[:] = whitening(train_images[:5000].float())
    per_epoch = len(train_images) // BATCH
    steps, whiten_steps = EPOCHS * per_epoch, WHITEN_BIAS_EPOCHS * per_epoch
    filters = [p for p in net.parameters() if p.ndim == 4 and p.requires_grad]
    norm_biases = [p for name, p in net.named_parameters() if "norm" in name and p.requires_grad]
    sgd = torch.optim.SGD(
        [
            {"params": [net.whiten.bias], "lr": BIAS_LR, "weight_decay": DECAY / BIAS_LR},
            {"params": norm_biases, "lr": BIAS_LR, "weight_decay": DECAY / BIAS_LR},
            {"params": [net.head.weight], "lr": HEAD_LR, "weight_decay": DECAY / HEAD_LR},
        ],
        momentum=0.85,
        nesterov=True,
        fused=True,
    )
    muon = Muon(filters, lr=FILTER_LR, momentum=0.6)
    rates = [group["lr"] for group in sgd.param_groups + muon.param_groups]

    flipped = torch.where(
        torch.rand(len(train_images), 1, 1, 1, device=DEVICE) < 0.5, train_images.flip(-1), train_images
    )
    padded = F.pad(flipped, (2,) * 4, "reflect")
    step, validating, epoch_ends = 0, 0.0, []
    for epoch in range(EPOCHS):
        net.train()
        images = crop(padded)
        if epoch % 2 == 1:
            images = images.flip(-1)
        for rows in torch.randperm(len(images), device=DEVICE).split(BATCH)[:per_epoch]:
            with torch.autocast(DEVICE, torch.bfloat16, enabled=BFLOAT16):
                logits = net(images[rows].float(), whiten_bias_grad=step < whiten_steps)
            F.cross_entropy(logits.float(), train_labels[rows], label_smoothing=0.2, reduction="sum").backward()
            for group, rate in zip(sgd.param_groups + muon.param_groups, rates, strict=True):
                group["lr"] = rate * (1 - step / steps)
            sgd.param_groups[0]["lr"] = rates[0] * (1 - step / whiten_steps)
            sgd.step()
            muon.step()
            net.zero_grad(set_to_none=True)
            step += 1
        trained = now()
        accuracy = evaluate(net, test_images, test_labels, views=False)  # not timed, as in the original
        epoch_ends.append([trained - start - validating, accuracy])
        validating += now() - trained
    trained = now()
    accuracy = evaluate(net, test_images, test_labels, views=True)
    seconds = {"training": trained - start - validating, "evaluation": now() - trained}
    print(json.dumps({"accuracy": accuracy, **seconds, "epochs": epoch_ends}))


def load(root, train):
    data = CIFAR10(root, train=train, download=True)
    images = (torch.from_numpy(data.data).to(DEVICE).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    return images.half().contiguous(memory_format=torch.channels_last), torch.tensor(data.targets, device=DEVICE)


def now():
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def crop(padded):
    shifts = torch.randint(0, 5, (2, len(padded)), device=padded.device)
    images = torch.empty_like(padded[:, :, 4:, 4:])
    for down in range(5):
        for right in range(5):
            chosen = (shifts[0] == down) & (shifts[1] == right)
            images[chosen] = padded[chosen, :, down : down + 32, right : right + 32]
    return images


def whitening(images):
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).transpose(1, 3).reshape(-1, 12)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = directions.T.reshape(-1, 3, 2, 2) / (variances.view(-1, 1, 1, 1) + 5e-4).sqrt()
    return torch.cat((filters, -filters))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad = False
        self.groups = nn.Sequential(nn.GELU(), Group(24, 64), Group(64, 256), Group(256, 256), nn.MaxPool2d(3))
        self.head = nn.Linear(256, 10, bias=False)
        self.head.weight.data /= self.head.weight.data.std()

    def forward(self, x, whiten_bias_grad=True):
        bias = self.whiten.bias
        x = F.conv2d(x, self.whiten.weight, bias if whiten_bias_grad else bias.detach())
        x = self.groups(x).flatten(1)
        return self.head(x) / x.shape[1]


class Group(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1, self.conv2 = conv(inputs, outputs), conv(outputs, outputs)
        self.norm1, self.norm2 = norm(outputs), norm(outputs)

    def forward(self, x):
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


def conv(inputs, outputs):
    layer = nn.Conv2d(inputs, outputs, 3, padding="same", bias=False)
    nn.init.dirac_(layer.weight.data[:inputs])
    return layer


def norm(channels):
    layer = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad = False
    return layer


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("buffer", torch.zeros_like(p.grad))
                buffer.mul_(group["momentum"]).add_(p.grad)
                update = p.grad.add(buffer, alpha=group["momentum"])
                p.mul_(len(p) ** 0.5 / p.norm())
                p.add_(newton_schulz(update.reshape(len(p), -1)).view(p.shape), alpha=-group["lr"])


def newton_schulz(g):
    x = g.bfloat16() / (g.norm() + 1e-7)
    if g.shape[0] > g.shape[1]:
        x = x.T
    for _ in range(3):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if g.shape[0] > g.shape[1] else x


@torch.no_grad()
def evaluate(net, images, labels, views):
    net.eval()
    correct = 0
    for x, y in zip(images.split(2000), labels.split(2000), strict=True):
        x = x.float()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=BFLOAT16):
            logits = mirror(net, x) if views else net(x)
            if views:
                padded = F.pad(x, (1,) * 4, "reflect")
                moved = mirror(net, padded[:, :, :32, :32]) + mirror(net, padded[:, :, 2:, 2:])
                logits = logits / 2 + moved / 4
        correct += (logits.argmax(1) == y).sum().item()
    return correct / len(labels)


def mirror(net, x):
    return (net(x) + net(x.flip(-1))) / 2


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
