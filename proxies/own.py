"""A user's own tasks: a factory in a Python file, arrays, or a text.

    my_task.py:task             the `Task` that the function `task` in the file returns
    table.npz                   arrays `x` and `y`: a network; integers in `y` are classes
    table.npz:linear            the same with a linear model
    notes.txt                   a text: next characters with attention; or notes.txt:recurrent, ...
    table.npz:network@held-out  the same, on rows that a search never sees

Rows of arrays, and blocks of text, are cut into a search, a validation and a held-out part by a
hash of their content, as the bundled data are: duplicates fall into one part.
"""

import hashlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies import data
from proxies.layers import Weights, cross_entropy, gaussian, lecun, network, network_plan
from proxies.sampling import Cut, choose, cut, halves
from proxies.task import Split, Task
from proxies.tasks import recurrent, topics

_NAME = re.compile(r"(?P<path>.+(?P<suffix>\.py|\.npz|\.txt))(:(?P<what>\w+))?(@(?P<part>[\w-]+))?")
_LEAST_ITEMS = 32


class OwnTaskError(ValueError):
    """A user's task cannot be made; the message names the file and the remedy."""


def is_own(name: str) -> bool:
    """Whether `name` is that of a user's task: a path to a file that can be one."""
    return _NAME.fullmatch(name) is not None


@cache
def load(name: str) -> Task:
    """The task that `name` describes; always the same object, so that it compiles once.

    A Python file is executed: it is the user's own code, as any training script is.

    Raises:
        OwnTaskError: the file cannot be read or does not hold what it should.
    """
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise OwnTaskError(f"task {name!r}: name a .py, .npz or .txt file")
    path, what = Path(parts["path"]), parts["what"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OwnTaskError(f"task {name!r}: cannot read {path}: {error.strerror}") from None
    digest = hashlib.sha256(content).hexdigest()[:12]
    if path.suffix == ".py":
        task = _from_python(name, path, what)
    else:
        models = _TABLE_MODELS if path.suffix == ".npz" else _TEXT_MODELS
        model = what or next(iter(models))
        if model not in models:
            known = ", ".join(models)
            raise OwnTaskError(f"task {name!r}: no model {model!r} for {path.suffix}; use {known}")
        make = _from_arrays if path.suffix == ".npz" else _from_text
        task = make(name, path, _split(name, parts["part"] or "search"), model)
    return replace(task, name=name, source=f"{path} ({digest})")


def _split(name: str, part: str) -> Split:
    known: tuple[Split, ...] = get_args(data.Part)
    for split in known:
        if split == part:
            return split
    raise OwnTaskError(f"task {name!r}: no part {part!r}; use one of {', '.join(known)}")


def _from_python(name: str, path: Path, function: str | None) -> Task:
    if not function:
        raise OwnTaskError(f"task {name!r}: which function makes it? Write {path}:FUNCTION")
    spec = importlib.util.spec_from_file_location(f"evosearch_own_{path.stem}", path)
    assert spec is not None  # the suffix is .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = getattr(module, function)()
    except AttributeError as error:
        raise OwnTaskError(f"task {name!r}: {error}") from error
    except Exception as error:
        kind = type(error).__name__
        raise OwnTaskError(f"task {name!r}: {path} failed with {kind}: {error}") from error
    if not isinstance(made, Task):
        raise OwnTaskError(
            f"task {name!r}: {function}() returned {type(made).__name__}; return a proxies.Task"
        )
    return made


_TABLE_MODELS = {"network": (32,), "linear": ()}
"""Sizes of hidden layers by the model's name."""


class Table(NamedTuple):
    """`x` `[n, features]` float32, standardised, and `y`: `[n]` int32 or `[n, outputs]` float32."""

    x: NDArray[np.float32]
    y: NDArray[np.number]


def _from_arrays(name: str, path: Path, split: Split, model: str) -> Task:
    x, y = _arrays(name, path)
    classes = int(y.max()) + 1 if y.ndim == 1 and np.issubdtype(y.dtype, np.integer) else 0
    rows = _rows_of(split, [row.tobytes() for row in x])
    if len(rows) < _LEAST_ITEMS:
        raise OwnTaskError(
            f"task {name!r}: {path} has {len(rows)} rows in its {split} part; give at least "
            f"{_LEAST_ITEMS} in each part"
        )
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    if not classes:
        y = y.reshape(len(y), -1).astype(np.float32)
        y = (y - y.mean(axis=0)) / np.maximum(y.std(axis=0), 1e-6)
    table = Table(x[rows].astype(np.float32), y[rows].astype(np.int32 if classes else np.float32))
    sizes = (x.shape[1], *_TABLE_MODELS[model], classes or y.shape[1])
    batch = min(64, len(rows) // 2)

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_plan(sizes, last=lecun))

    def partition(table: Table, key: jax.Array) -> Cut:
        return cut(table.x.shape[0], key)

    def sample(partition: Cut, key: jax.Array) -> jax.Array:
        return choose(partition.train, halves(jax.random.bits(key, (batch,)))[0])

    def read(table: Table, item: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(table.x)[item], jnp.asarray(table.y)[item]

    def loss(params: Weights, seen: tuple[jax.Array, jax.Array], key: jax.Array) -> jax.Array:
        del key
        inputs, wanted = seen
        outputs = network(params, inputs)
        return cross_entropy(outputs, wanted) if classes else jnp.mean((outputs - wanted) ** 2)

    def evaluate(params: Weights, table: Table, partition: Cut, key: jax.Array) -> jax.Array:
        return loss(params, read(table, partition.evaluation), key)

    kind = f"{classes} classes" if classes else f"{y.shape[1]} numbers"
    return Task(
        name=name,
        split=split,
        description=f"{kind} from {x.shape[1]} features of {path.name}, {model}",
        metric="cross-entropy (nats)" if classes else "mean squared error (share of the variance)",
        steps=200,
        data=table,
        init=init,
        partition=partition,
        sample=sample,
        batch=read,
        loss=loss,
        evaluate=evaluate,
    )


def _arrays(name: str, path: Path) -> tuple[NDArray[np.float64], NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in ("x", "y") if key not in file]
            if missing:
                has = ", ".join(file) or "nothing"
                raise OwnTaskError(f"task {name!r}: {path} has {has}; save arrays x and y")
            x, y = file["x"], file["y"]
    except (ValueError, OSError) as error:
        if isinstance(error, OwnTaskError):
            raise
        raise OwnTaskError(f"task {name!r}: {path} is no .npz of arrays ({error})") from None
    if len(x) != len(y):
        raise OwnTaskError(f"task {name!r}: x has {len(x)} rows and y {len(y)}; give them as many")
    x = x.reshape(len(x), -1).astype(np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise OwnTaskError(f"task {name!r}: {path} holds NaN or infinity; remove those rows")
    if np.issubdtype(y.dtype, np.integer) and y.ndim == 1 and y.min() < 0:
        raise OwnTaskError(f"task {name!r}: class {y.min()} in y; number classes from 0")
    return x, y


_TEXT_MODELS: dict[str, Callable[[str, Split], Task]] = {
    "attention": partial(topics.attention, width=16, context=16, batch=4, steps=200),
    "recurrent": recurrent.recurrent,
    "transformer": topics.transformer,
    "lstm": recurrent.lstm,
}


def _from_text(name: str, path: Path, split: Split, model: str) -> Task:
    try:
        text = path.read_text(encoding="utf-8").lower()
    except UnicodeDecodeError:
        raise OwnTaskError(f"task {name!r}: {path} is not UTF-8 text; save it as UTF-8") from None
    code = {character: index for index, character in enumerate(data.ALPHABET)}
    codes = np.array([code.get(character, 0) for character in text], np.uint8)
    blocks = codes[: codes.size // data.BLOCK * data.BLOCK].reshape(-1, data.BLOCK)
    rows = _rows_of(split, [block.tobytes() for block in blocks])
    if len(rows) < _LEAST_ITEMS:
        raise OwnTaskError(
            f"task {name!r}: {path} has {len(rows)} blocks of {data.BLOCK} characters in its "
            f"{split} part; give at least {_LEAST_ITEMS} in each part, so a longer text"
        )
    task = _TEXT_MODELS[model](name, split)
    return replace(
        task,
        data=topics.Text(blocks[rows]),
        description=task.description.replace("English text", path.name),
    )


def _rows_of(part: Split, items: list[bytes]) -> list[int]:
    """The items that fall into `part`, by a hash of their content."""
    groups = [hashlib.sha256(item).hexdigest() for item in items]
    source = data.Source("own", "a user's own data", tuple(groups), ())
    return [place for place, group in enumerate(groups) if source.part_of(group) == part]
