"""Parts of airbench94_muon (K. Jordan, MIT license) as published: a reference that shares no code with this project."""

import torch


def whitening(images):
    """Return whitening filters (24, 3, 2, 2) for images (N, 3, H, W)."""
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).transpose(1, 3).reshape(-1, 12)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = directions.T.reshape(-1, 3, 2, 2) / (variances.view(-1, 1, 1, 1) + 5e-4).sqrt()
    return torch.cat((filters, -filters))


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized by Newton-Schulz iterations."""

    def __init__(self, params, lr, momentum):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        """Take a step."""
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("buffer", torch.zeros_like(p.grad))
                buffer.mul_(group["momentum"]).add_(p.grad)
                update = p.grad.add(buffer, alpha=group["momentum"])
                p.mul_(len(p) ** 0.5 / p.norm())
                p.add_(newton_schulz(update.reshape(len(p), -1)).view(p.shape), alpha=-group["lr"])


def newton_schulz(g):
    """Return the matrix with its singular values moved close to 1."""
    x = g.bfloat16() / (g.norm() + 1e-7)
    if g.shape[0] > g.shape[1]:
        x = x.T
    for _ in range(3):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if g.shape[0] > g.shape[1] else x
