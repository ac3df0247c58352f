"""Upload an exported Space to Hugging Face."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from cifar_lit.errors import InputError


def check_push(repo: str, dry_run: bool) -> None:
    """Raise InputError if ``push`` would fail, before the time-consuming export."""
    from huggingface_hub import get_token

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise InputError(f"--push must be user/name, got {repo}")
    if not dry_run and get_token() is None:
        raise InputError("not logged in to Hugging Face; run `uv run hf auth login` first, or set HF_TOKEN")


def push(folder: Path, files: Sequence[str], repo: str, dry_run: bool, yes: bool) -> str:
    """Upload a folder's files as a Space, with huggingface_hub's login, and delete stale files of earlier uploads.

    Args:
        folder: The Space's folder.
        files: The files to upload, relative to the folder.
        repo: ``user/name``.
        dry_run: Only list what would be uploaded.
        yes: Upload without asking.

    Returns:
        A message about what was done.

    Raises:
        InputError: if Hugging Face rejects the upload or cannot be reached, or nobody can be asked.
    """
    from httpx2 import HTTPError  # raised by huggingface_hub without a network
    from huggingface_hub import HfApi

    sizes = {file: (folder / file).stat().st_size for file in files}
    total = f"{len(files)} files, {sum(sizes.values()) / 1e6:.1f} MB, to https://huggingface.co/spaces/{repo}"
    print("\n".join(f"{size:>12,}  {file}" for file, size in sizes.items()))
    if dry_run:
        return f"This would upload {total}; leave out --dry_run to do it."
    if not yes:
        if not sys.stdin.isatty():
            raise InputError(f"--push asks before it uploads {total}; without a terminal, add --yes")
        if input(f"Upload {total}? [y/N] ").strip().lower() not in ("y", "yes"):
            return "Nothing was uploaded."
    api = HfApi()
    try:
        api.create_repo(repo, repo_type="space", space_sdk="gradio", exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            repo_type="space",
            folder_path=folder,
            allow_patterns=list(files),
            delete_patterns=["bundle/**", "report_files/**", "callbacks/**", "cifar_lit/**", "space/**"],
            commit_message="Export of a trained classifier",
        )
    except (HTTPError, OSError) as error:
        raise InputError(f"upload to Hugging Face failed ({' '.join(str(error).split())})") from error
    return f"Uploaded {total} ({commit.oid})"
