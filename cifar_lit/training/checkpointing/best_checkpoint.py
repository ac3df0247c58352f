"""Lightning's ModelCheckpoint, for run folders that were moved."""

import re
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """ModelCheckpoint that keeps its best score when the run's folder was moved or is spelled differently.

    Lightning compares the folder's name and drops the best score if it differs (``runs`` and ``./runs``), after which
    the next epoch, however bad, would replace the best one.

    Args:
        filename: Name of the file, without its suffix. It may contain metrics: ``{epoch}-{val/accuracy:.3f}`` becomes
            ``epoch=3-val_accuracy=0.912``, since a slash would begin a folder.
        **kwargs: See Lightning's ModelCheckpoint.
    """

    def __init__(self, filename: str | None = None, **kwargs: Any) -> None:
        if filename is not None and kwargs.get("auto_insert_metric_name", True):
            filename = re.sub(r"\{([^}:]+)", lambda name: f"{name[1].replace('/', '_')}={name[0]}", filename)
            kwargs["auto_insert_metric_name"] = False
        super().__init__(filename=filename, **kwargs)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best files and their scores, with their paths in this folder."""
        before, now = str(state_dict["dirpath"]), str(self.dirpath)
        moved = {name: state_dict[name].replace(before, now, 1) for name in ("best_model_path", "kth_best_model_path")}
        files = {file.replace(before, now, 1): score for file, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": files, "dirpath": self.dirpath})
