"""Where checkpoints are: paths only, without torch, so that a missing file is reported at once."""

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from cifar_lit.errors import InputError


@dataclass(frozen=True)
class CheckpointRun:
    """A checkpoint file in the folder of the run that wrote it: ``<run>/checkpoints/<file>``."""

    file: Path

    @property
    def folder(self) -> Path:
        """The run's folder, relative to the working directory unless that is in it."""
        folder = self.file.absolute().parents[1]
        relative = Path(os.path.relpath(folder))
        return relative if len(relative.parts) > 1 and ".." not in relative.parts[-2:] else folder

    @property
    def has_folder(self) -> bool:
        """Whether the file is still in the folder of a run, beside its configuration or its curves."""
        is_kept = self.file.absolute().parent.name == "checkpoints"
        return is_kept and (self.config.is_file() or any(self.folder.glob("events.*")))

    @property
    def in_run_folder(self) -> bool:
        """Whether the run's folder has the configuration too."""
        return self.has_folder and self.config.is_file()

    @property
    def config(self) -> Path:
        """The run's complete configuration."""
        return self.folder / "config.yaml"

    @property
    def near_ood(self) -> Path:
        """The AUROC of each score on images similar to those of the classes, if ``report`` measured it."""
        return self.folder / "near_ood.json"

    @property
    def training_features(self) -> Path:
        """Features of training images and a threshold for the k-NN score of one checkpoint, if ``report`` wrote it."""
        return self.folder / "training_features.safetensors"


def locate_checkpoint(wanted: str, runs: str) -> Path:
    """Return the file of the checkpoint that the user names.

    Args:
        wanted: A file, or ``last`` or ``best`` for the newest such file.
        runs: The folders of the runs to choose from, for example ``runs/quickstart/*``.

    Raises:
        InputError: if there is none.
    """
    if wanted in ("last", "best"):
        found = filter(os.path.isfile, glob.glob(f"{runs}/checkpoints/{wanted}.ckpt"))
        files = sorted(map(Path, found), key=os.path.getmtime)
        if not files:
            raise InputError(
                f"--ckpt_path {wanted}: no {wanted}.ckpt in {runs}/checkpoints; name a file, or train a network first:"
                " main.py fit --config configs/quickstart.yaml"
            )
        return files[-1]
    if Path(wanted, "checkpoints").is_dir():
        names = ", ".join(sorted(map(str, Path(wanted, "checkpoints").glob("*.ckpt"))))
        raise InputError(f"{wanted} is a run's folder; name one of its files: {names or 'there are none'}")
    if not Path(wanted).is_file():
        raise InputError(f"no such file: {wanted}; use `best` or `last` for the newest run's checkpoint")
    return Path(wanted)
