"""Your own images, listed in a CSV file."""

import csv
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from cifar_lit.data.batches import ImageTensors
from cifar_lit.data.datamodule import Split
from cifar_lit.data.folders import SPLIT_NAMES, ClassFolders
from cifar_lit.errors import InputError


class ImageTable(ClassFolders):
    """Your own images, listed in a CSV file with the columns ``file`` and ``label``, and maybe ``split`` and ``group``.

    Files are relative to the CSV's folder. ``split`` is train, val or test; without it, test images are held out.
    Images of one ``group`` (a patient, a video, a burst of photos) stay together when images are held out.

    Args:
        file: The CSV file, in UTF-8, whose first line names the columns.
        **kwargs: See ClassFolders.
    """

    def __init__(self, file: str, **kwargs: Any) -> None:
        super().__init__(root=file, **kwargs)

    @cached_property
    def class_names(self) -> list[str]:
        """The labels, sorted."""
        names = sorted({row["label"] for row in self._rows})
        if len(names) < 2:
            raise InputError(f"{self.root} has only one label, {names[0]!r}; a classifier needs at least two")
        return names

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        try:
            with self.root.open(encoding="utf-8-sig", newline="") as file:
                table = csv.DictReader(file)
                columns, rows = list(table.fieldnames or ()), list(table)
        except (OSError, ValueError, csv.Error) as error:
            raise InputError(f"{self.root} cannot be read as CSV ({error})") from error
        if not {"file", "label"} <= set(columns):
            raise InputError(f"{self.root} must have the columns file and label, got {', '.join(columns) or 'none'}")
        splits = {name: split for split, names in SPLIT_NAMES.items() for name in names}
        for line, row in enumerate(rows, start=2):
            if not row["file"] or not row["label"] or None in row.values() or None in row:
                raise InputError(f"{self.root}, line {line}: a file, a label or another column is missing, or too many")
            if "split" in columns:
                if row["split"].lower() not in splits:
                    raise InputError(
                        f"{self.root}, line {line}: split must be train, val or test, got {row['split']!r}"
                    )
                row["split"] = splits[row["split"].lower()]
        if not rows:
            raise InputError(f"{self.root} lists no images")
        if repeated := [name for name, count in Counter(row["file"] for row in rows).items() if count > 1]:
            raise InputError(f"{self.root} lists {len(repeated)} files more than once, such as {repeated[0]}")
        if "split" in columns and not any(row["split"] == "train" for row in rows):
            raise InputError(f"{self.root} has no image whose split is train")
        return rows

    @property
    def _is_unsplit(self) -> bool:
        return "split" not in self._rows[0]

    @cached_property
    def _folders(self) -> dict[Split, Path]:
        """The splits that exist, each with the CSV file."""
        return {split: self.root for split in SPLIT_NAMES if split in {row.get("split", "train") for row in self._rows}}

    def groups(self, train: ImageTensors, rows: Tensor) -> list[str] | None:
        """Return the group of each of these images."""
        if "group" not in self._rows[0]:
            return super().groups(train, rows)
        groups = {row["file"]: row["group"] for row in self._rows}
        return [groups[train.files[row]] for row in rows.tolist()]

    def folder(self, split: Split) -> Path:
        """Return the folder of the CSV file."""
        return self.root.parent

    def _listing(self, split: Split) -> dict[str, Any]:
        listed = [(row["file"], row["label"]) for row in self._rows if row.get("split", split) == split]
        return {"listed": listed, "cache_key": f"{self.root.name}/{split}"}
