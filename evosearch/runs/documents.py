"""JSON documents in a run directory, written with a checksum and read through typed models.

The key `sha256` of a document is the digest of the canonical JSON of all its other keys. Documents
of earlier versions have no checksum and are validated by their model alone.
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
_MAX_BYTES = 64 * 2**20
"""Maximum size of a document; those of typical runs have less than 1,000,000 bytes."""


class Document(BaseModel):
    """Base model of a JSON object, with exact types, finite numbers and no unknown keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _check_parses(text: str) -> str:
    parse(text)
    return text


ProgramText = Annotated[str, AfterValidator(_check_parses)]
"""The text of a valid program."""
Count = Annotated[int, Field(ge=0, le=10**12)]
"""A non-negative number of items."""

Model = TypeVar("Model", bound=Document)


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum atomically.

    Raises:
        EvosearchError: The file cannot be written.
    """
    # The checksum is that of the values that a reader of the file gets.
    json_values = json.loads(json.dumps(document, allow_nan=False))
    text = json.dumps({**json_values, CHECKSUM: checksum(json_values)}, indent=2)
    write_text(path, text + "\n", follow=False)


def read_document(path: Path, model: type[Model], remedy: str) -> Model | None:
    """Read a document and check it against its checksum and its model.

    Args:
        path: A JSON file.
        model: The document's model.
        remedy: A command that creates the document again.

    Returns:
        The document, or None if there is no such file.

    Raises:
        EvosearchError: The file cannot be read or is damaged.
    """
    try:
        if not path.exists():
            return None
        return model.model_validate(_without_checksum(_parse_object(read_bytes(path, _MAX_BYTES))))
    except UsageError as error:
        problem = str(error)
    except OSError as error:
        problem = f"cannot read {path}: {error.strerror}"
    except ValidationError as error:
        problem = f"{path} is damaged ({first_problem(error)})"
    except (ValueError, RecursionError) as error:
        cause = "nested too deeply" if isinstance(error, RecursionError) else error
        problem = f"{path} is damaged ({cause})"
    raise EvosearchError(f"{problem}; remove it and run `{remedy}`")


def checksum(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 digest of an object's canonical JSON: sorted keys, no spaces, ASCII."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def first_problem(error: ValidationError) -> str:
    """Describe the first invalid field of a document: `stages.0.seeds: Input should be ...`."""
    problem = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message


def _parse_object(content: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: The content is not a JSON object, or has a duplicate key.
        RecursionError: The content is nested too deeply.
    """
    text = content.decode("utf-8")
    document = json.loads(text, object_pairs_hook=_dict_of_pairs, parse_constant=_reject_constant)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return document


def _without_checksum(document: dict[str, Any]) -> dict[str, Any]:
    """Check the checksum of a document, if it has one, and return the other keys.

    Raises:
        ValueError: The checksum does not match.
    """
    if CHECKSUM not in document:
        return document
    content = {key: value for key, value in document.items() if key != CHECKSUM}
    if checksum(content) != document[CHECKSUM]:
        raise ValueError(f"the content does not match its checksum {CHECKSUM}")
    return content


def _dict_of_pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("duplicate key in an object")
    return result


def _reject_constant(name: str) -> float:
    """Reject NaN and infinities, which Python's parser accepts."""
    raise ValueError(f"{name} is not a JSON number")
