import hashlib
import pickle
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets as tv

from cifar_lit.data.cifar import CIFAR10, CIFAR100
from cifar_lit.errors import InputError
from space.export.run_datasets import other_cifar


@pytest.fixture
def server() -> Iterator[str]:
    """Return the address of a web server that serves the current folder."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def write_archive(
    folder: Path, dataset: type[tv.CIFAR10], key: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Write an archive with ten images per batch; set its address and checksums in torchvision."""
    random = np.random.default_rng(0)
    members = {}
    for name, _ in dataset.train_list + dataset.test_list:
        batch = {"data": random.integers(0, 256, (10, 3072), dtype=np.uint8), key: list(range(10))}
        members[name] = pickle.dumps(batch)
    members[dataset.meta["filename"]] = pickle.dumps({dataset.meta["key"]: [str(label) for label in range(10)]})
    archive = folder / dataset.filename
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in members.items():
            (folder / name).write_bytes(content)
            tar.add(folder / name, f"{dataset.base_folder}/{name}")
    checksum = {name: hashlib.md5(content).hexdigest() for name, content in members.items()}
    monkeypatch.setattr(dataset, "url", f"{server}/{archive}")
    monkeypatch.setattr(dataset, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    for attribute in ("train_list", "test_list"):
        monkeypatch.setattr(dataset, attribute, [[name, checksum[name]] for name, _ in getattr(dataset, attribute)])
    meta = dataset.meta | {"md5": checksum[dataset.meta["filename"]]}
    monkeypatch.setattr(dataset, "meta", meta)
    return archive


@pytest.mark.parametrize(
    ("data_class", "dataset", "key", "images"),
    [(CIFAR10, tv.CIFAR10, "labels", 50), (CIFAR100, tv.CIFAR100, "fine_labels", 10)],
)
def test_cifar_is_downloaded_verified_and_loaded(
    data_class: type[CIFAR10],
    dataset: type[tv.CIFAR10],
    key: str,
    images: int,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_archive(Path("server"), dataset, key, server, monkeypatch)
    train = data_class(root="data").load("train")
    assert train is not None
    assert train.pixels.shape == (images, 3, 32, 32)
    expected = pickle.loads(Path("server", dataset.train_list[0][0]).read_bytes())
    assert np.array_equal(train.pixels[3].flatten().numpy(), expected["data"][3])
    assert train.labels[:10].tolist() == list(range(10))
    test = data_class(root="data").load("test")
    assert test is not None
    assert len(test) == 10
    assert data_class(root="data").load("val") is None


def test_the_other_cifar_is_available_if_it_was_downloaded(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert other_cifar(CIFAR10(root="data")) == {}
    write_archive(Path("server"), tv.CIFAR100, "fine_labels", server, monkeypatch)
    test = CIFAR100(root="data").load("test")
    assert test is not None
    found = other_cifar(CIFAR10(root="data"))
    assert list(found) == ["CIFAR100"]
    assert torch.equal(found["CIFAR100"], test.pixels)
    assert other_cifar(None) == {}
    next(Path("data", tv.CIFAR100.base_folder).glob("test")).write_bytes(b"damaged")
    assert other_cifar(CIFAR10(root="data")) == {}


def test_class_names_of_cifar_match_the_archives() -> None:
    assert CIFAR10().class_names[:3] == ["airplane", "automobile", "bird"]
    assert (CIFAR10().num_classes, CIFAR100().num_classes) == (10, 100)
    assert sorted(CIFAR100().class_names) == CIFAR100().class_names


def test_failed_download_of_cifar_explains_the_alternatives(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(Path("server"), tv.CIFAR10, "labels", server, monkeypatch)

    content = archive.read_bytes()
    archive.write_bytes(content[:-10])  # damaged in transit
    with pytest.raises(InputError, match=r"could not be downloaded .* or is damaged.*ClassFolders"):
        CIFAR10(root="data").load("train")

    monkeypatch.setattr(tv.CIFAR10, "url", f"{server}/nowhere.tar.gz")
    with pytest.raises(InputError, match="with a network connection"):
        CIFAR10(root="elsewhere").load("train")

    Path("file").touch()
    with pytest.raises(InputError, match="file"):
        CIFAR10(root="file/data").load("train")
