"""Mutations of bytes, JSON values and safetensors headers, and new seals of the altered folders.

Every mutation is a function of a `random.Random`, so a number that seeds it reproduces the mutation alone.
"""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

STAND_IN = "stand-in for a JSON text"
ODD_JSON = [
    *(
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "7",
        "10",
        "2.5",
        "1e0",
        "-0.0",
        "1e400",
        "NaN",
        "Infinity",
        "-Infinity",
    ),
    *("255", "256", "65536", "2147483648", "-2147483649", "4294967296", "9223372036854775808", "1" + "0" * 30),
    *(
        "9" * 5000,
        "[" * 600 + "]" * 600,
        '{"a":' * 3000 + "1" + "}" * 3000,
        "[]",
        "{}",
        "[[]]",
        "[[1, 2], [3]]",
        "[null]",
    ),
    *('""', '"1"', '"a"', '"NaN"', '"[red]"', '"[/red]"', '"a\\nb\\u001b[1m"', r'"\ud800"', '"\\u0000"', '"../../x"'),
    *('"' + "x" * 3000 + '"', "[[10]]", "[[1]]", json.dumps([[1] * 31] * 31), '{"input": [[1]]}', "[1, 2, 3]"),
]
ODD_NAMES = ["", "a", "[red]", "[/]", "\ud800", "a\nb", "x" * 300, "../x", "a|||b", "train", "test", "config", "\x00"]
ODD_BYTES = [b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"[", b"]", b'"', b"\\", b",", b"\n", b"9" * 30]


def mutate_bytes(random: Random, content: bytes) -> bytes:
    """Flip, set, cut, insert, delete, repeat or move a few bytes."""
    start = random.randrange(len(content) + 1)
    end = min(len(content), start + random.choice([1, 1, 2, 5, 40, 400]))
    before, span, after = content[:start], content[start:end], content[end:]
    choices: dict[str, Callable[[], bytes]] = {
        "flip": lambda: before + bytes(byte ^ (1 << random.randrange(8)) for byte in span) + after,
        "set": lambda: before + random.choice(ODD_BYTES) + after,
        "insert": lambda: before + random.choice(ODD_BYTES) + span + after,
        "delete": lambda: before + after,
        "cut": lambda: before,
        "repeat": lambda: before + span + span + after,
        "move": lambda: before + after + span,
        "noise": lambda: before + random.randbytes(len(span)) + after,
        "front": lambda: random.choice(ODD_BYTES) + content,
        "double": lambda: content + content,
    }
    return choices[random.choice(list(choices))]()


def mutate_json(random: Random, value: Any) -> str:
    """Return the JSON text of the value with one to three of its members altered at any depth."""
    value = json.loads(json.dumps(value))
    texts = []
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        if not isinstance(value, dict | list) or not value:
            break
        texts.append(_alter_member(random, *_walk_down(random, value)))
    text = json.dumps(value, indent=random.choice([None, None, 1]))
    for replacement in filter(None, texts):
        text = text.replace(f'"{STAND_IN}"', replacement, 1)
    return text.replace(STAND_IN, "")


def _walk_down(random: Random, value: Any) -> tuple[Any, Any]:
    """Return a container inside the value, and the index or name of one of its members."""
    node = value
    depth = random.randint(1, 8)
    while True:
        key = random.choice(range(len(node)) if isinstance(node, list) else list(node))
        depth -= 1
        if depth == 0 or not isinstance(node[key], list | dict) or not node[key]:
            return node, key
        node = node[key]


def _alter_member(random: Random, node: Any, key: Any) -> str | None:
    """Alter one member of a container; returns the text that the stand-in, if it was put there, is replaced by."""
    how = random.choice(["odd", "odd", "odd", "delete", "double", "wrap", "retype", "nudge", "rename", "empty", "swap"])
    old = node[key]
    if how == "odd":
        node[key] = STAND_IN
        return random.choice(ODD_JSON)
    if how == "delete":
        del node[key]
    elif how == "double":
        _double_member(random, node, key)
    elif how == "rename" and isinstance(node, dict):
        node[random.choice([*ODD_NAMES, str(key) + " ", str(key).upper(), STAND_IN + str(key)])] = node.pop(key)
    elif how == "swap":
        other = random.choice(range(len(node)) if isinstance(node, list) else list(node))
        node[key], node[other] = node[other], node[key]
    else:
        node[key] = {"wrap": [old], "retype": _retype(random, old), "empty": _empty(old)}.get(how, _nudge(random, old))
    return None


def _double_member(random: Random, node: Any, key: Any) -> None:
    """Repeat an item many times or once; or a member under another name, perhaps the same one once it is text."""
    if isinstance(node, list):
        node[key:key] = [node[key]] * random.choice([1, 1, 3, 50])
    else:
        node[random.choice([STAND_IN + str(key), *ODD_NAMES])] = node[key]


def _retype(random: Random, value: Any) -> Any:
    candidates = [str(value)[:2000], [value, value], {"value": value}, None, bool(value), 1.5]
    if isinstance(value, list):
        candidates += [dict(enumerate(value)), value[::-1], value[: len(value) // 2]]
    if isinstance(value, dict):
        candidates += [list(value), list(value.values())]
    if isinstance(value, int | float):
        candidates += [float(value), str(value)]
    return random.choice(candidates)


def _empty(value: Any) -> Any:
    return type(value)() if value is not None else 0


def _nudge(random: Random, value: Any) -> Any:
    """Return a nearby value of the same type."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return random.choice([value + 1, value - 1, -value, value * 2, value * 10**9, value + 0.5, value // 2])
    if isinstance(value, str):
        return random.choice([value + "x", value[:-1], value[::-1], value + "\n", f"[red]{value}", value.swapcase()])
    return value[:-1] if isinstance(value, list) else dict(list(value.items())[:-1])


def mutate_safetensors_header(random: Random, content: bytes) -> bytes:
    """Return a safetensors file with an altered header, or another length of it."""
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length]
    if random.random() < 0.2:
        return random.choice([0, 1, length - 1, length + 1, 2**31, 2**63, 10**7]).to_bytes(8, "little") + content[8:]
    new = mutate_json(random, json.loads(header)).encode()
    return len(new).to_bytes(8, "little") + new + content[8 + length :]


def reseal(seal_file: Path, only_itself: bool = False) -> None:
    """Compute the SHA-256 of a sealed folder again, so that an altered folder passes the checksums.

    Args:
        seal_file: the JSON file that seals its folder; one that cannot be parsed is left as it is.
        only_itself: keep the digests of the other files, and compute only that of the JSON file.
    """
    try:
        value = json.loads(seal_file.read_bytes())
        files = dict(value["files"])
    except (ValueError, RecursionError, TypeError, KeyError):
        return
    if not only_itself:
        present = {path.name: path for path in seal_file.parent.iterdir() if path.is_file()}
        files = {
            name: sha256(present[name].read_bytes()).hexdigest() if name in present else files[name] for name in files
        }
        value["files"] = files
    sealed = {name: member for name, member in value.items() if name != "sha256"}
    digest = sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()
    seal_file.write_text(json.dumps(sealed | {"sha256": digest}, indent=2) + "\n")
