"""JSON documents that a run keeps: written with a checksum, read through typed models.

A document holds `sha256`, the digest of the canonical JSON of everything else in it. Documents of
versions before that have none and are checked by their model alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from evosearch.errors import EvosearchError, UsageError
from evosearch.files import read_bytes, write_text
from primitives import parse

CHECKSUM = "sha256"
_LARGEST = 64 * 2**20
"""Bytes of a document; those of real runs have less than a million."""


class Document(BaseModel):
    """A model of a JSON object: exact types, finite numbers, no unknown keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _parses(text: str) -> str:
    parse(text)
    return text


ProgramText = Annotated[str, AfterValidator(_parses)]
"""The text of a program."""
Count = Annotated[int, Field(ge=0, le=10**12)]
"""A number of things."""

Model = TypeVar("Model", bound=Document)


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Writes a JSON object with its checksum, whole or not at all.

    Raises:
        EvosearchError: the file cannot be written.
    """
    plain = json.loads(json.dumps(document, allow_nan=False))
    text = json.dumps({**plain, CHECKSUM: checksum(plain)}, indent=2)
    write_text(path, text + "\n", follow=False)


def read_document(path: Path, model: type[Model], remedy: str) -> Model | None:
    """The document at `path`; None if there is no such file.

    Args:
        path: a JSON file.
        model: what it holds.
        remedy: a command that makes the document anew.

    Raises:
        EvosearchError: it cannot be read, or is damaged; says where and what to do.
    """
    try:
        if not path.exists():
            return None
        return model.model_validate(_checked(_parsed(read_bytes(path, _LARGEST))))
    except UsageError as error:
        what = str(error)
    except OSError as error:
        what = f"cannot read {path}: {error.strerror}"
    except ValidationError as error:
        what = f"{path} is damaged ({first_problem(error)})"
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        what = f"{path} is damaged ({why})"
    raise EvosearchError(f"{what}; remove it and run `{remedy}`")


def checksum(document: Mapping[str, Any]) -> str:
    """The SHA-256 digest of a JSON object's canonical text: sorted keys, no spaces, ASCII."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def first_problem(error: ValidationError) -> str:
    """Where a model refuses its input, and why: `stages.0.seeds: Input should be ...`."""
    found = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in found["loc"])
    what = found["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


def _parsed(content: bytes) -> dict[str, Any]:
    """The JSON object in `content`; raises ValueError or RecursionError if there is none."""
    text = content.decode("utf-8")
    document = json.loads(text, object_pairs_hook=_distinct, parse_constant=_not_finite)
    if not isinstance(document, dict):
        raise ValueError("it holds no JSON object")
    return document


def _checked(document: dict[str, Any]) -> dict[str, Any]:
    """`document` without its checksum; raises ValueError if that is not the content's."""
    if CHECKSUM not in document:
        return document
    content = {key: value for key, value in document.items() if key != CHECKSUM}
    if checksum(content) != document[CHECKSUM]:
        raise ValueError(f"its content is not that of its checksum, {CHECKSUM}")
    return content


def _distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return made


def _not_finite(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
