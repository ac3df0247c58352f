import csv
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_lit.evaluation.ood import energy
from cifar_lit.inference.images import Resizing, read_image
from cifar_lit.models import TinyNet
from cifar_lit.training.checkpointing.checkpoint_files import read_classifier
from tests.support.images import write_class_folders, write_noise
from tests.support.program import NO_CALLBACKS, QUIET, ROOT, TINY, Outcome
from tests.support.runs import weights

QUICKSTART = ROOT / "configs" / "quickstart.yaml"
Program = Callable[..., Outcome]
Fit = Callable[..., Path]


def test_fit_prints_the_result_and_the_next_commands(program: Program) -> None:
    outcome = program("fit", "--config", QUICKSTART, *TINY)
    assert outcome.status == 0, outcome.err
    assert "Seed set to 0" in outcome.err
    for text in ("(the best val/accuracy: ", "accuracy", "runs/quickstart/version_0/checkpoints/best.ckpt"):
        assert text in outcome.out
    assert "tensorboard --logdir runs/quickstart/version_0 --samples_per_plugin images=100" in outcome.out
    for command in ("test", "report", "demo"):
        assert f"{command} --ckpt_path runs/quickstart/version_0/checkpoints/best.ckpt" in outcome.out
    assert "Network: TinyNet, " in outcome.err
    assert not re.search("TPU|Modules in|FLOPs|Loading `train", outcome.out + outcome.err)


def test_fit_suggests_test_only_if_there_are_test_images(program: Program) -> None:
    root = write_class_folders(Path("images"), train=20)
    shutil.rmtree(root / "test")
    data = ["--data", "ClassFolders", "--data.root", root, "--data.batch_size", 8]
    outcome = program("fit", "--config", QUICKSTART, *TINY, *data)
    assert outcome.status == 0, outcome.err
    assert "report --ckpt_path" in outcome.out
    assert "test --ckpt_path" not in outcome.out


def test_second_run_gets_its_own_folder(fit: Fit) -> None:
    assert [fit("again").name, fit("again").name] == ["version_0", "version_1"]


def test_fixed_folder_can_be_overwritten(fit: Fit) -> None:
    assert fit("fixed", "--trainer.logger.version", "here") == fit("fixed", "--trainer.logger.version", "here")


@pytest.mark.parametrize(("command", "checkpoint"), [("validate", "last"), ("test", "file"), ("test", "default")])
def test_checkpoint_can_be_evaluated_without_a_config(
    command: str, checkpoint: str, fit: Fit, program: Program
) -> None:
    run = fit("evaluated")
    before = (run / "config.yaml").read_text()
    file = run / "checkpoints" / "best.ckpt" if checkpoint == "file" else checkpoint
    outcome = program(command, *([] if checkpoint == "default" else ["--ckpt_path", file]))
    assert outcome.status == 0, outcome.err
    assert "accuracy" in outcome.out
    assert re.search(r"images are classified correctly: [\d.]+% \(95% interval [\d.]+% to [\d.]+%\)", outcome.out)
    assert "mistakes: runs/evaluated/version_0/misclassified" in outcome.out
    assert [folder.name for folder in Path("runs/evaluated").iterdir()] == ["version_0"]
    assert (run / "config.yaml").read_text() == before


def test_last_selects_the_newest_checkpoint_of_the_configuration(fit: Fit, program: Program) -> None:
    constant = ["--model.lr_scheduler", "null"]
    run = fit("quickstart", *constant)
    more = [*TINY, *constant, "--trainer.max_epochs", 2]
    outcome = program("fit", "--ckpt_path", "last", "--config", QUICKSTART, *more)
    assert outcome.status == 0, outcome.err
    assert [folder.name for folder in Path("runs/quickstart").iterdir()] == ["version_0"]
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    again = program("fit", "--ckpt_path", "last", "--config", QUICKSTART, *more)
    assert "already finished" in again.out


def test_schedule_too_short_for_the_resumed_run_is_refused(fit: Fit, program: Program) -> None:
    fit("quickstart")
    outcome = program("fit", "--ckpt_path", "last", "--config", QUICKSTART, *TINY, "--trainer.max_epochs", 2)
    assert outcome.status == 2
    assert "schedule ends after 17 steps, but this run has 34" in outcome.err


def test_printed_config_runs(program: Program) -> None:
    printed = program("fit", "--config", QUICKSTART, *TINY, "--print_config")
    assert printed.status == 0
    Path("printed.yaml").write_text(printed.out)
    outcome = program("fit", "--config", "printed.yaml")
    assert outcome.status == 0, outcome.err


def test_saved_config_repeats_the_run(fit: Fit, program: Program) -> None:
    run = fit("first")
    outcome = program("fit", "--config", run / "config.yaml", "--trainer.logger.name", "second")
    assert outcome.status == 0, outcome.err
    first, second = weights(run), weights(Path("runs/second/version_0"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_second_config_replaces_or_extends_lists(program: Program) -> None:
    def callbacks(text: str) -> list[str]:
        Path("more.yaml").write_text(text)
        printed = program("fit", "--config", QUICKSTART, "--config", "more.yaml", "--print_config")
        entries = yaml.safe_load(printed.out)["trainer"]["callbacks"]
        return [entry["class_path"].rpartition(".")[2] for entry in entries]

    one = "[{class_path: EarlyStopping, init_args: {monitor: val/loss}}]"
    assert callbacks(f"trainer: {{callbacks: {one}}}") == ["EarlyStopping"]
    added = callbacks(f"trainer: {{callbacks+: {one}}}")
    assert added[-1] == "EarlyStopping"
    assert "TrainingSamples" in added


def test_added_callback_replaces_the_default_of_its_class(fit: Fit) -> None:
    own = "{class_path: MisclassifiedImages, init_args: {count: 3}}"
    run = fit(
        "replaced",
        "--trainer.callbacks+",
        own,
        "--trainer.callbacks+",
        "{class_path: OneLineProgressBar, init_args: {refresh_rate: 1}}",
        "--trainer.enable_progress_bar",
        "true",
    )
    listed = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["callbacks"]
    names = [entry["class_path"].rpartition(".")[2] for entry in listed]
    assert sorted(names) == sorted(set(names))
    assert len(names) == 11
    assert len((run / "misclassified.csv").read_text().splitlines()) == 1 + 3


# Networks from other packages

OWN_NETWORK = """
from types import SimpleNamespace

from torch import nn

class Own(nn.Module):
    def __init__(self, num_classes: int, width: int = 4):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, width, 3, 4), nn.Flatten(), nn.LazyLinear(num_classes))

    def forward(self, images):
        return self.net(images)

class Fixed(Own):
    def __init__(self, outputs: int = 5):
        super().__init__(outputs)

class NoArguments(Own):
    def __init__(self):
        super().__init__(3)

class WithAuxiliaryHead(Own):
    def forward(self, images):
        logits = super().forward(images)
        return SimpleNamespace(logits=logits, aux_logits=logits) if self.training else logits

class Pair(Own):
    def forward(self, images):
        return super().forward(images), images

class Normalized(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 32), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, num_classes))

    def forward(self, images):
        return self.net(images)
"""


@pytest.mark.parametrize(
    "net",
    [
        ["--model.net", "torchvision.models.resnet18"],
        ["--model.net", "timm.create_model", "--model.net.model_name", "test_resnet"],
        ["--model.net", "own_network.Own", "--model.net.width", 3, "--allow_import", "own_network"],
        ["--model.net", "own_network.NoArguments", "--allow_import", "own_network"],
        ["--model.net", "own_network.WithAuxiliaryHead", "--allow_import", "own_network"],
        ["--model.net", "WideResNet", "--model.net.depth", 10, "--model.net.width", 1],
    ],
    ids=lambda net: net[1],
)
def test_network_of_any_package_trains_and_predicts(
    net: list[Any], fit: Fit, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own_network.py").write_text(OWN_NETWORK)
    monkeypatch.syspath_prepend(Path.cwd())
    root = write_class_folders(Path("images"), ("a", "b", "c"), size=(32, 32), train=8)
    data = ["--data", "ClassFolders", "--data.root", root, "--data.batch_size", 8, "--data.val_fraction", 0.2]
    run = fit("net", *net, *data)
    outcome = program("predict", root / "test", "--ckpt_path", run / "checkpoints" / "last.ckpt", *OWN)
    assert outcome.status == 0, outcome.err
    assert len(Path("predictions.csv").read_text().splitlines()) == 13


def test_network_with_the_wrong_number_of_outputs_is_refused(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_network.py").write_text(OWN_NETWORK)
    monkeypatch.syspath_prepend(Path.cwd())
    outcome = program("fit", "--config", QUICKSTART, *TINY, "--model.net", "own_network.Fixed", *OWN)
    assert outcome.status == 2
    assert "one logit per class of the data, 10, got shape (2, 5) for 2 images" in outcome.err


def test_a_network_whose_output_has_no_logits_is_refused(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_network.py").write_text(OWN_NETWORK)
    monkeypatch.syspath_prepend(Path.cwd())
    outcome = program("fit", "--config", QUICKSTART, *TINY, "--model.net", "own_network.Pair", *OWN)
    assert outcome.status == 2
    assert outcome.err.splitlines()[-1].endswith("or an object with the attribute logits; it returned a tuple")


def test_a_single_last_image_does_not_stop_batch_norm(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_network.py").write_text(OWN_NETWORK)
    monkeypatch.syspath_prepend(Path.cwd())
    root = write_class_folders(Path("images"), ("a", "b", "c"), size=(32, 32), train=11)
    data = ["--data", "ClassFolders", "--data.root", root, "--data.val_fraction", 0]
    command = ["fit", "--config", QUICKSTART, *TINY, *data, "--model.net", "own_network.Normalized", *OWN]
    outcome = program(*command, "--data.batch_size", 32)
    assert outcome.status == 0, outcome.err
    assert "1 epoch, 1 step, " in outcome.out
    outcome = program(*command, "--data.batch_size", 1)
    assert outcome.status == 2
    assert "cannot be trained on a batch of one image" in outcome.err
    assert "use a data.batch_size of at least 2" in outcome.err


# predict


def test_predict_writes_the_most_likely_classes_of_each_image(fit: Fit, program: Program) -> None:
    root = write_class_folders(Path("images"), ("red", "green"), train=40, size=(16, 16))
    data = ["--data", "ClassFolders", "--data.root", root, "--data.batch_size", 8]
    run = fit("colors", *data, "--trainer.max_epochs", 5)
    Image.new("RGB", (50, 70), (0, 200, 0)).save("photo.jpg")
    checkpoint = run / "checkpoints" / "best.ckpt"
    outcome = program(
        "predict", root / "test", "photo.jpg", "--ckpt_path", checkpoint, "--top_k", 5, "--output", "p.csv"
    )
    assert outcome.status == 0, outcome.err
    with open("p.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    columns = ["file", "class_1", "probability_1", "class_2", "probability_2"]  # there are two classes
    assert list(rows[0]) == [*columns, "possibly_none_of_the_classes"]
    assert {row["possibly_none_of_the_classes"] for row in rows} <= {"True", "False"}
    for row in rows:
        assert float(row["probability_1"]) + float(row["probability_2"]) == pytest.approx(1, abs=1e-5)
        assert float(row["probability_1"]) >= 0.5
        if row["file"] != "photo.jpg":
            assert row["class_1"] == Path(row["file"]).parent.name
    assert re.search(r"photo\.jpg +│ green \d", outcome.out)
    assert rows[-1]["file"] == "photo.jpg"
    assert rows[-1]["class_1"] == "green"


def test_predict_refuses_or_skips_unreadable_images(fit: Fit, program: Program) -> None:
    checkpoint = fit("p") / "checkpoints" / "best.ckpt"
    Path("broken.png").write_text("no image")
    Image.new("RGB", (8, 8)).save("good.png")
    outcome = program("predict", "good.png", "broken.png", "--ckpt_path", checkpoint)
    assert outcome.status == 2
    assert "broken.png cannot be read" in outcome.err
    assert not Path("predictions.csv").exists()
    outcome = program("predict", "good.png", "broken.png", "--ckpt_path", "best", "--skip_unreadable", "true")
    assert outcome.status == 0, outcome.err
    assert "skipped: broken.png" in outcome.out
    assert "1 image classified" in outcome.out


def test_predict_handles_any_name_and_tells_what_it_leaves_out(fit: Fit, program: Program) -> None:
    checkpoint = (fit("p") / "checkpoints" / "best.ckpt").absolute()
    Path("photos").mkdir()
    names = [os.fsdecode(b"caf\xe9.png"), "=1+1.png", "[red]\x1b[31m.png"]
    for name in names:
        Image.new("RGB", (8, 8)).save(f"photos/{name}")
    for name in ("1.heic", "2.heic", "notes.txt"):
        Path("photos", name).touch()
    Path("older.csv").write_text("older")
    outcome = program("predict", "photos", "--ckpt_path", checkpoint, "--output", "older.csv")
    assert outcome.status == 0, outcome.err
    assert "caf\\udce9.png" in outcome.out
    assert outcome.out.splitlines()[-1].startswith("3 files left out of photos: .heic 2, .txt 1 (to read .heic")
    written = Path("older.csv").read_bytes()
    assert b"photos/caf\xe9.png," in written
    [odd] = Path("photos").glob("caf*")
    odd.write_bytes(b"no image")
    outcome = program("predict", odd, "--ckpt_path", checkpoint, "--output", "older.csv")
    assert outcome.status == 2
    assert "caf\\udce9.png cannot be read" in outcome.err
    assert Path("older.csv").read_bytes() == written
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("photos")
        outcome = program("predict", "=1+1.png", "--ckpt_path", checkpoint, "--output", "../formula.csv")
    assert outcome.status == 0, outcome.err
    assert "\n'=1+1.png," in Path("formula.csv").read_text()


def set_threshold(checkpoint: Path, threshold: float | None) -> None:
    """Set the energy score below which an image may be none of the classes; None for a run without such a score."""
    content = torch.load(checkpoint, weights_only=True)
    content["ood_thresholds"] = {} if threshold is None else {"energy": threshold}
    torch.save(content, checkpoint)


def verdicts() -> dict[str, str]:
    with open("predictions.csv") as file:
        return {row["file"]: row["possibly_none_of_the_classes"] for row in csv.DictReader(file)}


def test_predict_shows_twenty_images_and_marks_those_of_no_class(fit: Fit, program: Program) -> None:
    checkpoint = fit("p", *NO_CALLBACKS) / "checkpoints" / "best.ckpt"
    names = [f"{number:02}.png" for number in range(23)]
    pixels = torch.stack(
        [torch.from_numpy(read_image(file, Resizing((32, 32))).copy()) for file in write_noise(*names)]
    )
    scores = energy(read_classifier(checkpoint).logits(pixels.permute(0, 3, 1, 2)))
    threshold = float(scores.sort()[0][10:12].mean())
    set_threshold(checkpoint, threshold)
    outcome = program("predict", *names, "--ckpt_path", checkpoint)
    assert outcome.status == 0, outcome.err
    flags = dict(zip(names, (scores < threshold).tolist(), strict=True))
    assert verdicts() == {name: str(flag) for name, flag in flags.items()}
    assert re.findall(r"^┃ file +┃ 1 .*┃ (.+) ┃$", outcome.out, re.MULTILINE) == ["none of the classes"]
    shown = re.findall(r"^│ (\S+) +│ \w+ \d.*│ (possibly|) +│$", outcome.out, re.MULTILINE)
    assert shown == [(name, "possibly" if flags[name] else "") for name in names[:20]]
    for line in ("and 3 more", "23 images classified: predictions.csv", "11 may be none of the classes"):
        assert f"\n{line}" in outcome.out
    assert outcome.out.startswith("┏")  # no bar, and no empty line instead of one
    assert all(line.isprintable() for line in outcome.out.split("\n"))


def test_predict_without_a_threshold_marks_nothing(fit: Fit, program: Program) -> None:
    checkpoint = fit("p", *NO_CALLBACKS) / "checkpoints" / "best.ckpt"
    set_threshold(checkpoint, None)
    names = [f"{number:02}.png" for number in range(20)]
    write_noise(*names)
    outcome = program("predict", *names, "--ckpt_path", checkpoint)
    assert outcome.status == 0, outcome.err
    assert verdicts() == dict.fromkeys(names, "")
    assert [line.split()[1] for line in outcome.out.splitlines() if line.startswith("│")] == names
    assert not re.search(r"none of the classes|possibly|\d more$", outcome.out, re.MULTILINE)

    refused = program("predict", "--images", *names, "--ckpt_path", checkpoint)
    assert refused.err == "error: unexpected '--images'; list the images without it (see --help)\n"


# The learning-rate finder

MAX_LR = ["--model.lr_scheduler", "OneCycleLR", "--model.lr_scheduler.max_lr", "[0.5]"]
POISON = ["--trainer.callbacks+", "poison.Poison", "--allow_import", "poison"]
OWN = ["--allow_import", "own_network", "--allow_import", "ten_network"]


def poison_at_step_25(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the callback that POISON adds: it sets a weight to NaN."""
    Path("poison.py").write_text(
        "from lightning.pytorch import Callback\n"
        "class Poison(Callback):\n"
        "    def on_train_batch_start(self, trainer, pl_module, *_):\n"
        "        if trainer.global_step == 25:\n"
        "            next(pl_module.parameters()).data.fill_(float('nan'))\n"
    )
    monkeypatch.syspath_prepend(Path.cwd())


def test_lr_find_prints_and_plots_a_suggestion(program: Program) -> None:
    outcome = program("lr_find", "--config", QUICKSTART, *TINY, "--num_training", 40)  # 17 steps per epoch
    assert outcome.status == 0, outcome.err
    assert "stopped early" not in outcome.err
    shown = EventAccumulator("runs/quickstart/version_0").Reload()
    assert shown.Tags()["images"] == ["3_data/learning-rate finder"]
    assert "Suggested learning rate: " in outcome.err
    with Image.open("runs/quickstart/version_0/lr_find.png") as plot:
        assert plot.size == (600, 400)
    assert not list(Path("runs").glob(".lr_find*"))


@pytest.mark.parametrize(
    ("start", "options", "configured"),
    [
        ("python", [], "0.02"),
        ("uv run", ["--model.lr", 0.3, "--trainer.logger.name", "my run"], "0.3"),
        ("python", [*MAX_LR, "--model.net", "own.Own", "--allow_import", "own"], "[0.5]"),
    ],
)
def test_lr_find_says_how_to_train_with_its_result(
    start: str, options: list[object], configured: str, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py"])
    monkeypatch.delenv("UV", raising=False)
    if start == "uv run":
        monkeypatch.setenv("UV", "/bin/uv")
    Path("own.py").write_text("from cifar_lit.models import TinyNet\n\n\nclass Own(TinyNet): ...\n")
    monkeypatch.syspath_prepend(".")
    args = [f"--config={QUICKSTART}", *TINY, *options]
    outcome = program("lr_find", *args, "--num_training", 20)
    assert outcome.status == 0, outcome.err
    [(suggested, found)] = re.findall(
        r"Suggested learning rate: (\S+) \(configured: (.+)\)$", outcome.err, re.MULTILINE
    )
    assert found == configured
    [hint] = re.findall(r"^Train with it: (.+)$", outcome.out, re.MULTILINE)
    assert hint.startswith(f"{start} main.py fit --config={QUICKSTART} ")
    outcome = program(*shlex.split(hint.removeprefix(f"{start} main.py ")))
    assert outcome.status == 0, outcome.err
    [config] = Path("runs").glob("*/version_1/config.yaml")
    settings = yaml.safe_load(config.read_text())
    assert settings["model"]["lr"] == float(suggested)
    assert settings["trainer"]["max_epochs"] == 1
    assert not re.search(r"stopped: |Restoring states", outcome.err)  # said by Lightning about the search


def test_nan_loss_does_not_end_the_search(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    poison_at_step_25(monkeypatch)
    outcome = program("lr_find", "--config", QUICKSTART, *TINY, "--num_training", 40, *POISON)
    assert outcome.status == 0, outcome.err
    assert "Suggested learning rate: " in outcome.err


def test_onecycle_peaks_at_the_suggested_rate(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    from cifar_lit.training.classifier import Classifier

    rates: list[float] = []

    def record(self: Classifier, *_: object) -> None:
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        rates.append(optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(Classifier, "on_train_batch_end", record)
    options = ["--config", QUICKSTART, *TINY, "--trainer.max_epochs", 2, "--trainer.enable_checkpointing", "true"]
    outcome = program("fit", *options, "--lr_find", "true")
    assert outcome.status == 0, outcome.err
    suggestion = float(re.findall(r"Suggested learning rate: (\S+)", outcome.err)[0])
    trained = rates[-2 * 17 :]
    assert max(trained) == pytest.approx(suggestion, rel=0.01)
    assert max(trained) != pytest.approx(0.02, rel=0.01)  # the YAML's max_lr
    assert 1e-4 < suggestion <= 0.1  # a tenth of the rate with the lowest loss, searched from 1e-6 to 1
    saved = yaml.safe_load(Path("runs/quickstart/version_0/config.yaml").read_text())
    assert saved["model"]["lr"] == pytest.approx(suggestion, rel=0.01)

    # the search affects nothing but the rate
    outcome = program("fit", *options, "--model.lr", saved["model"]["lr"], "--trainer.logger.name", "given")
    assert outcome.status == 0, outcome.err
    searched, given = weights(Path("runs/quickstart/version_0")), weights(Path("runs/given/version_0"))
    assert all(torch.equal(searched[name], given[name]) for name in searched)


# Errors: one line and status 2

_WRONG_MONITOR = '{"class_path": "EarlyStopping", "init_args": {"monitor": "val/los"}}'


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fitt"], "unknown command 'fitt'; did you mean 'fit'?"),
        (["exprot"], "unknown command 'exprot'; did you mean 'export'?"),
        (["--config", "none.yaml", "fit"], "the command comes first"),
        (["fit"], "no network is configured; give a configuration"),
        (["fit", "--config", "none.yaml"], "--config: none.yaml cannot be read"),
        (["fit", "--config", "broken.yaml"], "broken.yaml is not valid YAML"),
        (["fit", "--config", "list.yaml"], "list.yaml must hold settings"),
        (["fit", "--config", "no_data.yaml"], "no_data.yaml: data must name a class"),
        (["fit", "Q", "--config", "wrong_key.yaml"], "unknown setting 'model.nett'; did you mean 'model.net'?"),
        (["fit", "Q", "--trainer.max_epoch", "3"], "'trainer.max_epoch'; did you mean 'trainer.max_epochs'?"),
        (["fit", "Q", "--trainer.max_epochs", "three"], "trainer.max_epochs: expected int or null, got three"),
        (["fit", "Q", "--model.net", "ResNet99"], "unknown class 'ResNet99'; did you mean 'ResNet9'?"),
        (["audit", "--data", "Digits", "--output"], "--output needs a value"),
        (["audit", "photos", "--data", "Digits"], "unexpected 'photos'; give a setting as --name value"),
        (["fit", "Q", "--model.net.widht", "3"], "unknown setting 'widht'; did you mean 'width'?"),
        (["fit", "Q", "--model.optimizer", "SDG"], "unknown class 'SDG'; did you mean 'SGD'?"),
        (["fit", "Q", "--data", "Digitz"], "unknown class 'Digitz'; did you mean 'Digits'?"),
        (["fit", "Q", "--data", "ClassFolders"], "missing data.root"),
        (
            ["fit", "Q", "--data", "ClassFolders", "--data.root", "none"],
            "does not exist; choose another with --data.root",
        ),
        (["fit", "Q", "--config", "wrong_callback.yaml"], "unknown setting 'cuont'; did you mean 'count'?"),
        (["fit", "Q", "--ckpt_path", "last"], "no last.ckpt in runs/quickstart"),
        (["fit", "Q", "--ckpt_path", "none.ckpt"], "no such file: none.ckpt"),
        (["fit", "Q", "--ckpt_path", "broken.yaml"], "broken.yaml is truncated, or is not a checkpoint of this"),
        (["validate", "--ckpt_path", "broken.yaml"], "pass the configuration of the run with --config"),
        (["fit", "Q", "--model.net", "torchvision.models.resnet99"], "resnet99"),
        (["fit", "Q", "--model.net.residual_layers", "[4]"], "residual_layers must be taken from 1, 2, 3"),
        (["fit", "Q", "--model.label_smoothing", "2"], "model.label_smoothing must be"),
        (["fit", "Q", "--data.num_workers", "-1"], "data.num_workers"),
        (["fit", "Q", "--data.batch_size", "null"], "data.batch_size: expected int, got None"),
        (["fit", "Q", "--model.optimizer.lr", "null"], "model.optimizer.lr: expected float, got None"),
        (["fit", "Q", "--trainer.max_epochs", "-1"], "set trainer.max_epochs"),
        (["fit", "Q", "--trainer.max_epochs", "1", "--trainer.callbacks+", "WRONG_MONITOR"], "val/los"),
        (["fit", "Q", "--trainer.accelerator", "cpu", "--trainer.devices", "0"], "devices"),
        (["fit", "Q", "--trainer.accelerator", "cpu", "--trainer.strategy", "fsdp"], "requires a GPU accelerator"),
        (["fit", "Q", "--trainer.strategy", "dpp"], "trainer: You selected an invalid strategy name: `strategy='dpp'`"),
        (["fit", "Q", "--ckpt_path", "broken.yaml", "--lr_find", "true"], "is truncated, or is not a checkpoint"),
        (["lr_find", "Q", "--num_training", "5"], "num_training must be at least 20"),
        (["predict", "--ckpt_path", "broken.yaml"], "missing images"),
        (["predict", "none.png", "--ckpt_path", "none.ckpt"], "no such file: none.ckpt"),
        (["fit", "Q", "--trainer.logger.save_dir", "file"], "file"),
        (["fit", "Q", "--model.net", "os.system"], "os.system may not be imported from a configuration"),
        (["fit", "Q", "--model.net", "stranger.Net"], "if you trust it, add --allow_import stranger"),
        (["fit", "Q", "--model.net", "torch.nn.modules.module.warnings.warn"], "_warnings.warn may not be imported"),
        (["fit", "Q", "--trainer.callbacks+", "subprocess.Popen"], "subprocess.Popen may not be imported"),
        (["fit", "Q", "--allow_import"], "--allow_import needs the name of one of your modules"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_user_error_is_one_line(args: list[str], message: str, program: Program) -> None:
    Path("broken.yaml").write_text("model: [")
    Path("list.yaml").write_text("- a\n- b\n")
    Path("no_data.yaml").write_text("data:\nmodel:\n  net: TinyNet\n")
    Path("wrong_key.yaml").write_text("model:\n  nett: TinyNet\n")
    Path("wrong_callback.yaml").write_text(
        "trainer:\n  callbacks:\n  - class_path: TrainingSamples\n    init_args: {cuont: 3}\n"
    )
    Path("file").touch()
    Path("stranger.py").write_text("raise SystemExit('it ran')")
    args = [arg.replace("WRONG_MONITOR", _WRONG_MONITOR) for arg in args]
    expanded = [part for arg in args for part in (["--config", str(QUICKSTART), *QUIET] if arg == "Q" else [arg])]
    outcome = program(*expanded)
    assert outcome.status == 2
    *_, last = outcome.err.strip().splitlines()
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in outcome.err


def test_checkpoint_of_another_network_is_refused_with_both_names(fit: Fit, program: Program) -> None:
    checkpoint = fit("other") / "checkpoints" / "last.ckpt"
    outcome = program("test", "--config", QUICKSTART, "--ckpt_path", checkpoint)
    assert outcome.status == 2
    assert "contains the network TinyNet(" in outcome.err
    assert "the configuration specifies ResNet9(" in outcome.err


def test_checkpoint_of_other_classes_is_refused(fit: Fit, program: Program) -> None:
    checkpoint = fit("digits") / "checkpoints" / "last.ckpt"
    root = write_class_folders(Path("images"))
    outcome = program("test", "--ckpt_path", checkpoint, "--data", "ClassFolders", "--data.root", root)
    assert outcome.status == 2
    assert "was trained on the classes zero, one" in outcome.err


def test_head_with_ten_outputs_is_refused_for_five_classes(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("ten_network.py").write_text(OWN_NETWORK.replace("outputs: int = 5", "outputs: int = 10"))
    monkeypatch.syspath_prepend(Path.cwd())
    root = write_class_folders(Path("images"), tuple("abcde"), size=(32, 32))
    data = ["--data", "ClassFolders", "--data.root", root, "--data.batch_size", 8]
    outcome = program("fit", "--config", QUICKSTART, *TINY, *data, "--model.net", "ten_network.Fixed", *OWN)
    assert outcome.status == 2
    assert "one logit per class of the data, 5, got shape (2, 10) for 2 images" in outcome.err


def test_lr_find_and_ckpt_path_are_refused_together(fit: Fit, program: Program) -> None:
    fit("quickstart")
    both = ["--ckpt_path", "last", "--lr_find", "true"]
    outcome = program("fit", "--config", QUICKSTART, *TINY, *both)
    assert outcome.status == 2
    assert "use one of the two" in outcome.err


def test_overridden_setting_of_a_resumed_run_is_reported(fit: Fit, program: Program) -> None:
    checkpoint = fit("kept") / "checkpoints" / "last.ckpt"
    outcome = program("fit", "--ckpt_path", checkpoint, "--model.label_smoothing", 0.3)
    assert outcome.status == 0, outcome.err
    assert "warning: model.label_smoothing: the checkpoint's 0.0 is used, not 0.3" in outcome.err


def test_evaluation_is_in_float32_unless_asked_otherwise(fit: Fit, program: Program) -> None:
    checkpoint = fit("precise", "--trainer.precision", "bf16-mixed") / "checkpoints" / "last.ckpt"
    precise = program("test", "--ckpt_path", checkpoint)
    fast = program("test", "--ckpt_path", checkpoint, "--trainer.precision", "bf16-mixed")
    assert ("bfloat16" in precise.err, "bfloat16" in fast.err) == (False, True)


def test_evaluation_takes_the_views_that_are_asked_for(fit: Fit, program: Program) -> None:
    checkpoint = fit("views") / "checkpoints" / "last.ckpt"
    one, two = (program("test", "--ckpt_path", checkpoint, "--model.flip_tta", views) for views in ("false", "true"))
    assert "warning: model.flip_tta: True is used; the checkpoint was trained with False" in two.err
    assert re.findall(r"loss .*", one.out) != re.findall(r"loss .*", two.out)


def test_nan_loss_stops_training_and_keeps_the_last_good_checkpoint(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_at_step_25(monkeypatch)
    outcome = program("fit", "--config", QUICKSTART, *TINY, *POISON, "--trainer.max_epochs", 3)
    assert outcome.status == 2
    assert re.search(r"the loss or the weights became NaN or infinite by step (2[5-9]|30);", outcome.err)
    for name in ("last", "best"):
        checkpoint = torch.load(f"runs/quickstart/version_0/checkpoints/{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] == 17
        assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


# Memory, secrets and help


def test_out_of_memory_error_suggests_a_batch_size(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: TinyNet, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 2 and self.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return torch.zeros(len(images), 10)

    monkeypatch.setattr(TinyNet, "forward", forward)
    outcome = program("fit", "--config", QUICKSTART, *TINY)
    assert outcome.status == 2
    *_, last = outcome.err.strip().splitlines()
    assert "out of memory on cpu with batches of 64 images; try --data.batch_size 32" in last
    assert "Traceback" not in outcome.err


def test_hub_token_is_written_nowhere(fit: Fit, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_do_not_write_this")
    fit("secret")
    outcome = program("export", "--ckpt_path", "runs/secret/version_0/checkpoints/last.ckpt", "--output", "space")
    assert outcome.status == 0, outcome.err
    assert "hf_do_not" not in outcome.out + outcome.err
    assert not [file for file in Path().rglob("*") if file.is_file() and b"hf_do_not" in file.read_bytes()]


def test_help_shows_how_to_train_on_own_images(program: Program) -> None:
    outcome = program("fit", "--help")
    assert outcome.status == 0
    assert "fit --config configs/own_images.yaml --data.root DIR" in outcome.out


# Options of Lightning

STOCHASTIC_WEIGHT_AVERAGING = """
class_path: lightning.pytorch.callbacks.StochasticWeightAveraging
init_args: {swa_lrs: 0.01}
"""


@pytest.mark.filterwarnings("ignore:SWA is currently only supported every epoch")
@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.overfit_batches", 1],
        ["--trainer.overfit_batches", 0.2],
        ["--trainer.callbacks+", STOCHASTIC_WEIGHT_AVERAGING],
        ["--trainer.accumulate_grad_batches", 2],
    ],
    ids=lambda options: options[0],
)
def test_options_of_lightning_work(options: list[Any], fit: Fit) -> None:
    fit("options", "--trainer.max_epochs", 3, *options)


def test_a_metric_in_a_checkpoints_name_makes_no_folder(fit: Fit, program: Program) -> None:
    run = fit("named", "--best_checkpoint.filename", "{epoch}-{val/accuracy:.3f}")
    [best] = (run / "checkpoints").glob("epoch=0-val_accuracy=0.???.ckpt")
    assert program("test", "--ckpt_path", best).status == 0


def test_arguments_without_names_are_refused(program: Program) -> None:
    outcome = program("fit", "--config", QUICKSTART, "--model.net", "torch.nn.Sequential", "--model.net.args", "[1]")
    assert outcome.status == 2
    assert "'args' is a list of arguments without names, which YAML cannot pass; write a function" in outcome.err
