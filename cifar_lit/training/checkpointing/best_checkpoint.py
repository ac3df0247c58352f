"""The best checkpoint so far, also of a run that goes on from another folder."""

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which knows its files again where their folder is written otherwise or was moved.

    Lightning compares the folder's name, and forgets the best score where it differs (``runs`` and ``./runs``): then
    the next epoch, however bad, takes the best one's place. See Lightning's ModelCheckpoint for the arguments.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the best files and their scores."""
        if self.dirpath is not None and state_dict.get("dirpath") not in (None, self.dirpath):
            state_dict = dict(state_dict)
            for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
                if state_dict.get(name):
                    state_dict[name] = self._here(state_dict[name])
            files = state_dict.get("best_k_models", {})
            state_dict["best_k_models"] = {self._here(file): score for file, score in files.items()}
            state_dict["dirpath"] = self.dirpath
        super().load_state_dict(state_dict)

    def _here(self, file: str) -> str:
        return str(Path(str(self.dirpath), Path(file).name))
