"""Samples of the wire in `tests/data/wire`, and the lock `schemas/released.json`: what makes a released schema permanent.

`python -m tests.wire_samples` adds what is missing: for each schema file that the lock does not list, its SHA-256 and
fingerprint in the lock, one record in it as `<schema>.bin`, and beside that the value as `<schema>.json` (bytes in hex).
It never rewrites what is there. While schemas still settle, before the first release, `--unreleased` writes all anew.

To release a new version of a contract: copy `message.1.avsc` to `message.2.avsc`, change the copy (new fields with a
default, so that version 1 still resolves to it), give the class in `schemas/contracts.py` the same fields, run the command,
and commit the new file with its sample and its line in the lock. The tests then read both samples.
"""

from __future__ import annotations

import argparse
import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from fastavro.schema import fingerprint, to_parsing_canonical_form

from parley import schemas
from parley.schemas import encode, schema_of

ROOT = Path(__file__).parent.parent
SCHEMAS = ROOT / "schemas"
LOCK = SCHEMAS / "released.json"
SAMPLES = Path(__file__).parent / "data" / "wire"


class SchemaFile(NamedTuple):
    """A schema file's name without its suffix, such as ``message.1``, and what the lock says of it."""

    name: str
    sha256: str
    fingerprint: str


def schema_files() -> list[SchemaFile]:
    """Every schema file that there is."""
    return [
        SchemaFile(path.stem, sha256(path.read_bytes()).hexdigest(), mark(json.loads(path.read_text())))
        for path in sorted(SCHEMAS.glob("*.avsc"))
    ]


def mark(source: dict[str, Any]) -> str:
    """A schema's CRC-64-AVRO fingerprint, as it stands in the bytes after ``C3 01``, in hex."""
    return fingerprint(to_parsing_canonical_form(source), "CRC-64-AVRO")


def locked() -> dict[str, dict[str, str]]:
    """What the lock lists."""
    if not LOCK.exists():
        return {}
    listed: dict[str, dict[str, str]] = json.loads(LOCK.read_text())
    return listed


def contract_for(name: str) -> type[Any]:
    """The class of a schema file's contract."""
    return getattr(schemas, json.loads((SCHEMAS / f"{name}.avsc").read_text())["name"])  # type: ignore[no-any-return]


def sample(schema: Any, path: str, named: dict[str, Any]) -> Any:
    """A value of the schema: nothing absent, two items an array, no two values alike."""
    if isinstance(schema, list):
        return sample(schema[1], path, named)
    if isinstance(schema, str) and schema in named:
        return sample(named[schema], path, named)
    if isinstance(schema, str):
        return _primitive(schema, path)
    if "name" in schema:
        named[schema["name"]] = schema
    match schema["type"]:
        case "record":
            values = [sample(field["type"], f"{path}/{field['name']}", named) for field in schema["fields"]]
            return getattr(schemas, schema["name"].rpartition(".")[2])._make(values)
        case "array":
            return tuple(sample(schema["items"], f"{path}/{place}", named) for place in range(2))
        case "fixed":
            return sha256(path.encode()).digest()[: schema["size"]]
        case "enum":
            return schema["symbols"][sha256(path.encode()).digest()[0] % len(schema["symbols"])]
        case kind:
            return _primitive(kind, path)


def _primitive(kind: str, path: str) -> Any:
    digest = sha256(path.encode()).digest()
    number = int.from_bytes(digest[:7], "big")
    values = {
        "int": number >> 32,
        "long": number,
        "boolean": True,
        "bytes": digest,
        "string": f"{path} é ☃ 😀",
    }
    return values[kind]


def plain(value: Any) -> Any:
    """The value as JSON has it: records as objects, bytes in hex."""
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "_fields"):
        return {name: plain(field) for name, field in zip(value._fields, value, strict=True)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def agrees(found: Any, expected: Any) -> bool:
    """Whether a record holds what a sample's JSON says, in every field that the record still has."""
    if isinstance(expected, dict):
        return all(
            agrees(getattr(found, name), value) for name, value in expected.items() if hasattr(found, name)
        )
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(agrees, found, expected))
    return bool(plain(found) == expected)


def write(*, unreleased: bool) -> list[str]:
    """Complete lock and samples (or write them anew) and name what was written.

    Raises:
        SystemExit: a file in the lock has changed.

    """
    listed = {} if unreleased else locked()
    written = []
    SAMPLES.mkdir(exist_ok=True)
    for name, digest, crc in schema_files():
        entry = {"sha256": digest, "fingerprint": crc}
        if name in listed:
            if listed[name] != entry:
                raise SystemExit(
                    f"schemas/{name}.avsc is released and has changed: restore it, and add a version"
                )
            continue
        value = _sample_of(contract_for(name))
        data = encode(value)
        if data[2:10].hex() != crc:
            raise SystemExit(
                f"schemas/{name}.avsc is not the newest of its contract: its sample must be kept from then"
            )
        (SAMPLES / f"{name}.bin").write_bytes(data)
        (SAMPLES / f"{name}.json").write_text(json.dumps(plain(value), indent=1, ensure_ascii=False) + "\n")
        listed[name] = entry
        written.append(name)
    LOCK.write_text(json.dumps(dict(sorted(listed.items())), indent=1) + "\n")
    return written


def _sample_of(contract: type[Any]) -> Any:
    return sample(schema_of(contract), re.sub(r"(?<!^)(?=[A-Z])", "-", contract.__name__).lower(), {})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Complete the samples of the wire and the lock of its schemas."
    )
    parser.add_argument(
        "--unreleased", action="store_true", help="write all anew; only before the first release"
    )
    print(*write(unreleased=parser.parse_args().unreleased) or ["nothing to add"], sep="\n")  # noqa: T201
