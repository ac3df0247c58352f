import itertools
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR
from torchvision.models import resnet18

from cifar_lit.errors import InputError
from cifar_lit.models import AirbenchNet
from cifar_lit.training.optim.configure import configure_optimizer, configure_schedule
from cifar_lit.training.optim.freeze_layers import FreezeLayers
from cifar_lit.training.optim.freeze_whitening import FreezeWhitening
from cifar_lit.training.optim.lookahead import Lookahead
from cifar_lit.training.optim.muon import ConvMuon, orthogonal
from cifar_lit.training.optim.param_groups import MultiOptimizer, layer_decay_groups
from cifar_lit.training.optim.schedules import TriangularLR
from tests.support import airbench_reference
from tests.support.program import NO_CALLBACKS, ROOT, TINY, Outcome
from tests.support.runs import equal, weights

Fit = Callable[..., Path]
Program = Callable[..., Outcome]


def steps_of(optimizer: torch.optim.Optimizer, weight: nn.Parameter, gradients: torch.Tensor) -> torch.Tensor:
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


def assert_same_steps(start: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Assert equality up to rounding to bfloat16 (8 bits), which both implementations use."""
    assert float((ours - theirs).norm()) < 0.05 * float((theirs - start).norm())


def test_muon_matches_torch_optim_muon_for_matrices() -> None:
    torch.manual_seed(0)
    gradients, start = torch.randn(3, 20, 50), torch.randn(20, 50)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    found = steps_of(ConvMuon([ours], lr=0.1, momentum=0.6, ns_steps=5, keep_norm=False), ours, gradients)
    reference = torch.optim.Muon([theirs], lr=0.1, momentum=0.6, ns_steps=5, weight_decay=0.0)
    assert_same_steps(start, found, steps_of(reference, theirs, gradients))


def test_muon_for_filters_matches_the_airbench_reference() -> None:
    torch.manual_seed(0)
    gradients, start = torch.randn(3, 24, 8, 3, 3), torch.randn(24, 8, 3, 3)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    found = steps_of(ConvMuon([ours], lr=0.24, momentum=0.6), ours, gradients)
    reference = steps_of(airbench_reference.Muon([theirs], lr=0.24, momentum=0.6), theirs, gradients)
    assert_same_steps(start, found, reference)


@pytest.mark.parametrize("shape", [(10, 40), (40, 10)])
def test_orthogonal_brings_all_singular_values_near_1(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape)
    values = torch.linalg.svdvals(orthogonal(matrix, 5).float())
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found, nearest = orthogonal(matrix, 5).float().flatten(), (left @ right).flatten()
    assert float(nn.functional.cosine_similarity(found, nearest, 0)) > 0.98


@pytest.mark.parametrize("steps", [0, 3, 7, 20])
def test_triangular_schedule_is_piecewise_linear(steps: int) -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = SGD([{"params": [weight], "lr": 2.0}])
    schedule = TriangularLR(optimizer, total_steps=20, start=0.2, peak=0.25, end=0.07)
    for _ in range(steps):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr()[0] == pytest.approx(2 * np.interp(steps, [0, 5, 20], [0.2, 1, 0.07]))


def test_triangular_schedule_with_peak_0_only_decreases() -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    assert TriangularLR(optimizer, 10, start=1, peak=0, end=0).factor(0) == 1
    assert TriangularLR(optimizer, 10, start=0.2, peak=0, end=0).factor(0) == 1


def multi_optimizer(net: nn.Module) -> MultiOptimizer:
    return MultiOptimizer(net.parameters(), partial(ConvMuon, lr=0.2), partial(SGD, lr=3.0), partial(SGD, lr=5.0))


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_multi_optimizer_splits_the_weights_and_schedules_all_rates() -> None:
    net = small_net()
    optimizer = multi_optimizer(net)
    rate_of = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    assert [rate_of[id(weight)] for weight in net.parameters()] == [0.2, 5.0, 5.0, 5.0, 3.0, 5.0]
    schedule = TriangularLR(optimizer, total_steps=10, start=1, peak=0, end=0)
    before = net[3].weight.detach().clone()
    for weight in net.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    schedule.step()
    optimizer.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.18, 2.7, 4.5])
    torch.testing.assert_close(net[3].weight.detach(), before - 3.0 - 2.7)


def test_multi_optimizer_resumes_from_its_state_dict() -> None:
    first, second = small_net(), small_net()
    one, other = multi_optimizer(first), multi_optimizer(second)
    gradients = [torch.randn_like(weight) for weight in first.parameters()]

    def step(net: nn.Module, optimizer: MultiOptimizer) -> None:
        for weight, gradient in zip(net.parameters(), gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()

    step(first, one)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(deepcopy(one.state_dict()))  # otherwise, both would share tensors
    for group in itertools.chain(one.param_groups, other.param_groups):  # schedules must reach the inner optimizers
        group["lr"] *= 0.5
    step(first, one)
    step(second, other)
    assert equal(first.state_dict(), second.state_dict())
    assert not equal(first.state_dict(), small_net().state_dict())


def test_a_network_without_filters_is_refused() -> None:
    with pytest.raises(InputError, match="no filters"):
        multi_optimizer(nn.Sequential(nn.Linear(3, 2)))


def test_muon_refuses_vectors() -> None:
    with pytest.raises(InputError, match="two or more dimensions"):
        ConvMuon(small_net().parameters())


def test_muon_keeps_zero_filters_finite() -> None:
    weight = nn.Parameter(torch.zeros(4, 2, 3, 3))
    assert bool(steps_of(ConvMuon([weight]), weight, torch.randn(2, 4, 2, 3, 3)).isfinite().all())


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
@pytest.mark.parametrize("recipe", ["model: {optimizer: SGD}", "RECIPE"])
def test_gradients_are_clipped_with_any_optimizer(fit: Fit, recipe: str, precision: str) -> None:
    Path("recipe.yaml").write_text(RECIPE if recipe == "RECIPE" else recipe)
    options = ["--config", "recipe.yaml", "--model.lr_scheduler", "null", "--trainer.precision", precision]
    options += ["--trainer.limit_train_batches", 3, *NO_CALLBACKS]

    def head(clip: float, epochs: int) -> torch.Tensor:
        clipped = ["--trainer.gradient_clip_val", clip, "--trainer.max_epochs", epochs]
        return weights(fit(f"{clip}_{epochs}", *options, *clipped))["model.net.head.2.weight"]

    assert not torch.allclose(head(10.0, 1), head(10.0, 2), rtol=1e-2)
    assert torch.allclose(head(1e-9, 1), head(1e-9, 2), rtol=1e-3)  # only weight decay remains


def test_one_cycle_is_refused_for_several_rates(program: Program) -> None:
    Path("recipe.yaml").write_text(RECIPE.replace("TriangularLR", "{class_path: OneCycleLR, init_args: {max_lr: 0.1}}"))
    config = ROOT / "configs" / "quickstart.yaml"
    outcome = program("fit", "--config", config, "--config", "recipe.yaml", "--model.net", "TinyNet")
    assert outcome.status == 2
    assert "use TriangularLR" in outcome.err


RECIPE = """
model:
  optimizer:
    class_path: MultiOptimizer
    init_args:
      filters: {class_path: ConvMuon, init_args: {lr: 0.1}}
      head: {class_path: SGD, init_args: {lr: 1.0, momentum: 0.85, nesterov: true}}
      biases: {class_path: SGD, init_args: {lr: 2.0, momentum: 0.85, nesterov: true}}
  lr_scheduler: TriangularLR
"""
LOOKAHEAD = "{class_path: Lookahead, init_args: {every_n_steps: 3}}"


def test_a_run_with_muon_and_lookahead_resumes_exactly(fit: Fit, program: Program) -> None:
    Path("recipe.yaml").write_text(RECIPE)
    recipe = ["--config", "recipe.yaml", "--trainer.limit_train_batches", 4, "--trainer.max_epochs", 3, *NO_CALLBACKS]
    each = "{class_path: ModelCheckpoint, init_args: {filename: 'after-{epoch}', save_top_k: -1, mode: max}}"
    added = ["--trainer.callbacks+", LOOKAHEAD, "--trainer.callbacks+", each]
    run = fit("run", *recipe, *added)
    uninterrupted = weights(run)
    (run / "checkpoints" / "last.ckpt").unlink()
    outcome = program("fit", "--ckpt_path", run / "checkpoints" / "after-epoch=0.ckpt")
    assert outcome.status == 0, outcome.err
    assert equal(weights(run), uninterrupted)
    without = fit("without", *recipe)
    assert not equal(weights(without), uninterrupted)


@pytest.mark.parametrize("last", [7, 8])
def test_lookahead_matches_its_recurrence(last: int) -> None:
    trainer = SimpleNamespace(current_epoch=0, global_step=0, estimated_stepping_batches=last)
    module = nn.Sequential(nn.Linear(1, 1, bias=False))
    callback, slow = Lookahead(every_n_steps=2, decay=0.9, power=1.0), None
    fast = 0.0
    for step in range(1, last + 1):
        fast += step  # a training step
        nn.init.constant_(module[0].weight, fast)
        trainer.global_step = step
        callback.on_train_batch_end(trainer, module, None, None, step)  # type: ignore[arg-type]
        if step % 2 == 0:
            decay = 0.9**2 * step / last
            slow = fast if slow is None else decay * slow + (1 - decay) * fast
            fast = slow
        if step == last:
            fast = slow
        assert module[0].weight.item() == pytest.approx(fast)


WHITENED = ["--model.net", "{class_path: AirbenchNet, init_args: {widths: [8, 8]}}", "--trainer.limit_train_batches", 2]


FREEZE = [*NO_CALLBACKS, "--trainer.callbacks+", "{class_path: FreezeWhitening, init_args: {after_epochs: 2}}"]
EACH_EPOCH = [
    "--trainer.callbacks+",
    "{class_path: ModelCheckpoint, init_args: {filename: 'after-{epoch}', save_top_k: -1, mode: max}}",
]


def test_whitening_stays_frozen_in_a_resumed_run(fit: Fit, program: Program) -> None:
    run = fit("run", *WHITENED, *FREEZE, *EACH_EPOCH, "--trainer.max_epochs", 4)
    found = [weights(run, f"after-epoch={epoch}") for epoch in range(4)]
    biases = [state["model.net.whiten.bias"] for state in found]
    assert not torch.equal(biases[0], biases[1])
    assert torch.equal(biases[1], biases[2])
    assert torch.equal(biases[2], biases[3])
    assert not torch.equal(found[2]["model.net.head.weight"], found[3]["model.net.head.weight"])
    for epoch in (0, 2):
        outcome = program("fit", "--ckpt_path", run / "checkpoints" / f"after-epoch={epoch}.ckpt")
        assert outcome.status == 0, outcome.err
        assert equal(weights(run), found[3])


LAYERS = [
    *NO_CALLBACKS,
    "--trainer.callbacks+",
    "{class_path: FreezeLayers, init_args: {names: '^features', until_epoch: 2}}",
]
LAYERS += ["--trainer.limit_train_batches", 2, "--model.layer_decay", 0.5]


def test_layers_stay_frozen_until_their_epoch_also_in_resumed_runs(fit: Fit, program: Program) -> None:
    run = fit("run", *LAYERS, *EACH_EPOCH, "--trainer.max_epochs", 4)
    found = [weights(run, f"after-epoch={epoch}") for epoch in range(4)]
    frozen = [name for name in found[0] if name.startswith("model.net.features")]
    assert any("running_mean" in name for name in frozen)
    for name in frozen:
        assert torch.equal(found[0][name], found[1][name])
    for name in ("model.net.features.0.weight", "model.net.features.1.running_mean"):
        assert not torch.equal(found[1][name], found[2][name])
    heads = [state["model.net.head.2.weight"] for state in found]
    assert not torch.equal(heads[0], heads[1])
    for epoch in (0, 1, 2):  # before the epoch in which they begin to train, at its start, and after it
        outcome = program("fit", "--ckpt_path", run / "checkpoints" / f"after-epoch={epoch}.ckpt")
        assert outcome.status == 0, outcome.err
        assert equal(weights(run), found[3])


def resnet_trainer(callback: FreezeLayers, epoch: int = 0) -> tuple[nn.Module, Callable[[], None]]:
    net = resnet18(num_classes=3)
    model = nn.ModuleDict({"model": nn.ModuleDict({"net": net})})  # named like a Classifier
    trainer = SimpleNamespace(current_epoch=epoch, strategy=SingleDeviceStrategy())

    def start_epoch() -> None:
        callback.on_fit_start(trainer, model)  # type: ignore[arg-type]
        callback.on_train_epoch_start(trainer, model)  # type: ignore[arg-type]

    return net, start_epoch


def test_all_but_the_last_layer_is_frozen_by_default() -> None:
    net, start_epoch = resnet_trainer(FreezeLayers())
    start_epoch()
    trained = [name for name, weight in net.named_parameters() if weight.requires_grad]
    assert trained == ["fc.weight", "fc.bias"]
    assert not any(module.training for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    net, start_epoch = resnet_trainer(FreezeLayers(), epoch=3)
    start_epoch()
    assert all(weight.requires_grad for weight in net.parameters())


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (lambda: FreezeLayers("(", 1), "is not a regular expression"),
        (lambda: FreezeLayers(until_epoch=0), "until_epoch must be at least 1, got 0"),
        (lambda: FreezeLayers("conv9"), "names matches no weight of the network, such as conv1.weight, "),
        (lambda: FreezeLayers(".", None), "names matches all weights"),
    ],
)
def test_impossible_freezing_is_refused(callback: Callable[[], FreezeLayers], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resnet_trainer(callback())[1]()


def test_layer_decay_is_that_of_timm() -> None:
    net = timm.create_model("vit_tiny_patch16_224", num_classes=3)
    theirs = {}
    for group in param_groups_layer_decay(net, weight_decay=0, layer_decay=0.7):
        theirs |= {id(weight): group["lr_scale"] for weight in group["params"]}
    groups = layer_decay_groups({f"model.net.{name}": weight for name, weight in net.named_parameters()}, 0.7)
    ours = {id(weight): group["lr_scale"] for group in groups for weight in group["params"]}
    blocks = {name: weight for name, weight in net.named_parameters() if name.startswith(("blocks.", "head."))}
    ratios = {round(ours[id(weight)] / theirs[id(weight)], 6) for name, weight in blocks.items() if "blocks" in name}
    assert len(blocks) == 12 * 12 + 2
    assert ratios == {0.7}  # the final norm is a block of its own here, and part of the head in timm
    assert [group["name"] for group in groups] == [
        "cls_token", "pos_embed", "patch_embed.proj", *(f"blocks.{number}" for number in range(12)), "norm", "head",
    ]  # fmt: skip


def test_layer_decay_needs_a_single_optimizer_and_a_single_peak(program: Program) -> None:
    config = ROOT / "configs" / "airbench94.yaml"
    outcome = program("fit", "--config", config, "--data", "Digits", "--model.layer_decay", 0.7, *TINY[2:])
    assert outcome.status == 2
    assert "MultiOptimizer sets its own rates; set model.layer_decay to 1" in outcome.err
    optimizer = torch.optim.SGD(layer_decay_groups(dict(resnet18().named_parameters()), 0.5), lr=0.1)
    with pytest.raises(InputError, match="max_lr must be a single rate"):
        configure_schedule(
            partial(OneCycleLR, max_lr=[0.1]), optimizer, None, SimpleNamespace(estimated_stepping_batches=9)
        )  # type: ignore[arg-type]


def test_weights_that_are_never_trained_stay_so() -> None:
    callback = FreezeLayers("^(whiten|head)", 1)
    net = AirbenchNet(widths=[8, 8])
    model = nn.ModuleDict({"model": nn.ModuleDict({"net": net})})
    fixed = {name for name, weight in net.named_parameters() if not weight.requires_grad}
    assert fixed
    for epoch in (0, 1):
        trainer = SimpleNamespace(current_epoch=epoch, strategy=SingleDeviceStrategy())
        if epoch == 0:
            callback.on_fit_start(trainer, model)  # type: ignore[arg-type]
        callback.on_train_epoch_start(trainer, model)  # type: ignore[arg-type]
    assert {name for name, weight in net.named_parameters() if not weight.requires_grad} == fixed


@pytest.mark.parametrize("lr", [None, 0.4])
def test_every_layer_gets_its_share_of_the_peak_rate(lr: float | None) -> None:
    weights = {f"model.net.{name}": weight for name, weight in resnet18().named_parameters()}
    groups = layer_decay_groups(weights, 0.5)
    optimizer = configure_optimizer(partial(torch.optim.SGD, lr=0.1), groups, lr)
    peak = 0.4 if lr else 0.1
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([peak / 2**n for n in range(6, -1, -1)])
    trainer = SimpleNamespace(estimated_stepping_batches=10)
    schedule = configure_schedule(partial(OneCycleLR, max_lr=0.1), optimizer, lr, trainer)["scheduler"]  # type: ignore[arg-type]
    assert [group["max_lr"] for group in optimizer.param_groups] == pytest.approx(
        [peak / 2**n for n in range(6, -1, -1)]
    )
    assert schedule.total_steps == 10


def test_ddp_keeps_training_after_whitening_is_frozen(fit: Fit) -> None:
    options = [*WHITENED, *FREEZE, "--trainer.max_epochs", 3, "--trainer.precision", "32-true"]
    alone = ["--trainer.devices", 1, "--trainer.strategy", "ddp"]  # one process, but wrapped like several
    command = [sys.executable, ROOT / "main.py", "fit", "--config", ROOT / "configs" / "quickstart.yaml", *TINY, *alone]
    command += ["--trainer.logger.name", "ddp", *options]
    completed = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    by_ddp, plain = weights(Path("runs/ddp/version_0")), weights(fit("plain", *options))
    assert torch.equal(by_ddp["model.net.whiten.bias"], plain["model.net.whiten.bias"])
    for name, weight in plain.items():
        torch.testing.assert_close(by_ddp[name], weight, atol=1e-3, rtol=1e-2)


def test_ddp_freezes_whitening_without_unused_parameters() -> None:
    net, callback = AirbenchNet(widths=[8, 8]), FreezeWhitening(after_epochs=1)
    callback.on_fit_start(None, net)  # type: ignore[arg-type]
    for epoch in (0, 1):
        trainer = SimpleNamespace(current_epoch=epoch, strategy=DDPStrategy())
        callback.on_train_epoch_start(trainer, net)  # type: ignore[arg-type]
        net(torch.randn(2, 3, 16, 16)).sum().backward()
        assert net.whiten.bias is not None
        assert net.whiten.bias.grad is not None  # DDP waits for it
        callback.on_before_optimizer_step(trainer, net, None)  # type: ignore[arg-type]
        assert (net.whiten.bias.grad is None) == (epoch == 1)


def test_lr_find_refuses_an_optimizer_with_several_rates(program: Program) -> None:
    Path("recipe.yaml").write_text(RECIPE)
    config = ROOT / "configs" / "quickstart.yaml"
    outcome = program("lr_find", "--config", config, "--config", "recipe.yaml", "--model.net", "TinyNet")
    assert outcome.status == 2
    assert "error: the optimizer has 3 learning rates (0.1, 1, 2)" in outcome.err
    assert "Traceback" not in outcome.err
