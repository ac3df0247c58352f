"""The options that most users need, by command and group, for a help text that fits on a screen."""

from collections.abc import Mapping

_DATA = {
    "--data NAME": "CIFAR10, CIFAR100, Digits; your own images: ClassFolders, ImageTable (CSV)",
    "--data.root DIR": "folder of the images, or to download them to",
    "--data.batch_size N": "images per batch, in each process",
    "--data.num_workers N": "processes that load batches; needed for Albumentations only",
}
_DEVICES = {
    "--trainer.accelerator NAME": "cpu, gpu, mps or auto",
    "--trainer.devices N": "number of devices",
    "--trainer.precision NAME": "32-true, bf16-mixed, ...; default: bf16-mixed if native, else 32-true",
}
_CHECKPOINT = {
    "--ckpt_path FILE": "a checkpoint; best or last (the newest run's) instead of a file; default: best",
    "--config FILE": "configuration; by default that of the checkpoint's run",
}
_ANY = {"--allow_import MODULE": "allow your own module, such as a file with a network"}
_TTA = {
    "--model.flip_tta true": "average over mirrored images in evaluation",
    "--model.translate_tta N": "average over images shifted by N pixels in evaluation",
}

# Option with its value, and its description, by command and group
OPTIONS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "fit": {
        "Run": {
            "--config FILE": "YAML file, from configs/ or your own; later ones override earlier ones",
            "--resume": "resume the newest run of this configuration, or start one",
            "--ckpt_path FILE": "resume from this checkpoint, or from last",
            "--seed_everything N": "seed of the run",
            "--print_config": "print the complete configuration and exit",
            "--trainer.logger.save_dir DIR": "folder of all runs",
            **_ANY,
        },
        "Data": {
            **_DATA,
            "--data.val_fraction F": "fraction of the training images held out for validation",
            "--data.mixup ALPHA": "mix pairs of images; 0.2 is usual (--data.cutmix pastes parts)",
        },
        "Model": {
            "--model.net NAME": "ResNet9, ResNet18, WideResNet, AirbenchNet, TinyNet, or an import path",
            "--model.init_from FILE": "start from the weights of a checkpoint or a Space's bundle",
            "--model.lr LR": "peak learning rate",
            "--lr_find true": "find the learning rate first",
            "--model.optimizer NAME": "SGD, Adam, AdamW, ... of torch.optim, or an import path",
            "--model.lr_scheduler NAME": "OneCycleLR, CosineAnnealingLR, ...; null for a constant rate",
            "--model.label_smoothing F": "fraction of the target spread over all classes",
            "--model.class_weights W": "balanced, or a list: weights of the classes in the loss",
            **_TTA,
        },
        "Trainer": {
            "--trainer.max_epochs N": "number of epochs",
            **_DEVICES,
            "--trainer.accumulate_grad_batches N": "batches per optimizer step",
            "--trainer.gradient_clip_val X": "clip the norm of the gradient",
            "--trainer.callbacks+ YAML": "add a callback, or configure a default one",
        },
    },
    **{
        command: {"Run": {**_CHECKPOINT, **_ANY}, "Data": _DATA, "Trainer": _DEVICES}
        for command in ("validate", "test")
    },
    "lr_find": {
        "Run": {"--config FILE": "YAML file, from configs/ or your own", "--seed_everything N": "seed", **_ANY},
        "Search": {
            "--min_lr LR": "first rate to try",
            "--max_lr LR": "last rate to try",
            "--num_training N": "number of rates to try, one per step",
        },
        "Data": _DATA,
    },
}


def option_help(command: str, summary: str) -> str:
    """Return the help text of a command of ``OPTIONS``."""
    groups = OPTIONS[command]
    width = max(len(option) for options in groups.values() for option in options)
    lines = [f"{summary}.", "", f"usage: main.py {command} [OPTIONS]"]
    for group, options in groups.items():
        lines += ["", f"{group}:", *(f"  {option:<{width}}  {text}" for option, text in options.items())]
    more = [
        f"All options:      main.py {command} --help_all",
        "Those of a class: main.py fit --model.net.help ResNet9",
        "Your own images:  main.py fit --config configs/own_images.yaml --data.root DIR",
    ]
    return "\n".join([*lines, "", *more])
