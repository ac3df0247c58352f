"""Malformed calls of a Space's API: wrong types, wrong counts, and files that were not uploaded."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_NAMES = ("classify", "explain", "misclassified", "confusion_matrix")
_ODD: list[Any] = [
    *(None, True, False, -1, 0, 0.5, 11, 61, 1e308, -1e308, 2**63, 10**40, "", "abc", "5", "NaN", "null", "\x00"),
    *([], {}, [[]], [None], [1, [2, [3]]], {"a": {"b": []}}, {"__class__": "os.system"}, {"path": None}, {"path": 3}),
    *("__class__", "__init__", "../..", "os.system", "net.__globals__", "<script>alert(1)</script>", "a" * 10_000),
    *("gradcam\n", "nonsense", "${jndi:ldap://x}", "{{7*7}}", "' OR 1=1 --"),
]
# Sent verbatim, since they are not valid JSON or not valid in every dialect
_RAW = ("NaN", "Infinity", "-Infinity", "1e999", "{", '{"data": ', "[]", "", '"data"', '{"data": 5}', '{"data": {}}')
_FOREIGN = (
    *("/etc/passwd", "../app.py", "bundle/bundle.json", "/proc/self/environ", "app.py", "~/.ssh/id_rsa"),
    *("http://127.0.0.1:1/x.png", "https://example.org/a.png", "ftp://example.org/a", "data:image/png;base64,AAAA"),
    *("file:///etc/passwd", "//example.org/a.png", "\\\\server\\share", "/dev/zero", "/dev/stdin", "."),
)


@dataclass(frozen=True)
class Call:
    """A request to ``/call/<name>``.

    kind: What is wrong with it.
    name: Name of the API endpoint.
    body: Body of the request.
    """

    kind: str
    name: str
    body: str


def calls(count: int, files: list[str], seed: int = 0) -> Iterator[Call]:
    """Yield malformed calls.

    Args:
        count: Number of calls.
        files: Paths on the server of uploaded images, for the arguments that are valid.
        seed: Seed of the faults.
    """
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        name = chance.choice(_NAMES)
        valid = _valid_arguments(name, [{"path": chance.choice(files), "meta": {"_type": "gradio.FileData"}}])
        yield chance.choice((_odd_value, _odd_value, _odd_file, _odd_count, _raw, _odd_shape))(name, valid, chance)


def _valid_arguments(name: str, images: list[dict[str, Any]]) -> list[Any]:
    return {
        "classify": [images, 5],
        "explain": [images, "", "", "gradcam", 0.5],
        "misclassified": [10, "most confident first", 0, "any class", "any class"],
        "confusion_matrix": [],
    }[name]


def _call(kind: str, name: str, data: Any) -> Call:
    return Call(kind, name, json.dumps({"data": data}))


def _odd_value(name: str, valid: list[Any], chance: random.Random) -> Call:
    if not valid:
        return _call("a superfluous value", name, [chance.choice(_ODD)])
    index, value = chance.randrange(len(valid)), chance.choice(_ODD)
    return _call(f"argument {index} is {value!r:.40}", name, [*valid[:index], value, *valid[index + 1 :]])


def _odd_file(name: str, valid: list[Any], chance: random.Random) -> Call:
    path = chance.choice(_FOREIGN)
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    file |= chance.choice([{}, {"url": path}, {"orig_name": "../../x"}, {"is_stream": True}, {"mime_type": 3}])
    data = [[file], *valid[1:]] if name in ("classify", "explain") else [file]
    return _call(f"the file {path}", name, data)


def _odd_count(name: str, valid: list[Any], chance: random.Random) -> Call:
    data = valid[: chance.randrange(len(valid))] if valid and chance.random() < 0.5 else valid * chance.randint(2, 300)
    return _call(f"{len(data)} arguments", name, data)


def _raw(name: str, valid: list[Any], chance: random.Random) -> Call:
    text = chance.choice(_RAW)
    body = text if chance.random() < 0.5 else f'{{"data": [{text}]}}'
    return Call(f"the body {body!r:.40}", name, body)


def _odd_shape(name: str, valid: list[Any], chance: random.Random) -> Call:
    deep: Any = 1
    for _ in range(chance.choice([10, 500, 900])):
        deep = [deep]
    many: Any = valid[0] * 50 if valid and isinstance(valid[0], list) else {}
    odd: list[Any] = [deep, [None] * 20_000, many, {"data": []}]
    return _call("an odd shape", name, [chance.choice(odd), *valid[1:]])
