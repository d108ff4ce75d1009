"""A user's own tasks: a factory in a Python file, arrays, or a text.

    my_task.py:task             the `Task` that the function `task` in the file returns
    table.npz                   arrays `x` and `y`: a network; integers in `y` are classes
    table.npz:linear            the same with a linear model
    images.npz:paper-vit        images 64x64 in `x`, classes in `y`: a vision transformer
    notes.txt                   a text: next characters with attention; or notes.txt:recurrent, ...
    notes.txt:paper-transformer next words with a transformer
    table.npz:network@held-out  the same, on rows that a search never sees

Rows of arrays, and blocks of text, are cut into a search, a validation and a held-out part by a
hash of their content, as the bundled data are: duplicates fall into one part.
"""

import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from proxies import data
from proxies.layers import Weights, gaussian, lecun, network, network_plan, smoothed_divergence
from proxies.registry import Factory
from proxies.sampling import Cut, cut, draw
from proxies.task import Split, Task
from proxies.tasks import paper, recurrent, topics

_NAME = re.compile(r"(?P<path>.+\.(py|npz|txt))(:(?P<what>[\w-]+))?(@(?P<part>[\w-]+))?")
_LEAST_ITEMS = 32
_SMOOTHING = 0.1


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
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as error:
        raise OwnTaskError(f"task {name!r}: cannot read {path}: {error.strerror}") from None
    if path.suffix == ".py":
        task = _from_python(name, path, what)
    else:
        models = _MODELS[path.suffix]
        model = what or next(iter(models))
        if model not in models:
            known = ", ".join(models)
            raise OwnTaskError(f"task {name!r}: no model {model!r} for {path.suffix}; use {known}")
        task = models[model](name, path, _split(name, parts["part"] or "search"))
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


class Table(NamedTuple):
    """`x` `[n, features]` float32, standardised, and `y`: `[n]` int32 or `[n, outputs]` float32."""

    x: NDArray[np.float32]
    y: NDArray[np.number]


def _network(name: str, path: Path, split: Split, *, hidden: tuple[int, ...]) -> Task:
    x, y = _arrays(name, path)
    x = x.reshape(len(x), -1).astype(np.float64)
    classes = int(y.max()) + 1 if y.ndim == 1 and np.issubdtype(y.dtype, np.integer) else 0
    rows = _rows_of(name, path, split, "rows", (row.tobytes() for row in x))
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    if not classes:
        y = y.reshape(len(y), -1).astype(np.float32)
        y = (y - y.mean(axis=0)) / np.maximum(y.std(axis=0), 1e-6)
    table = Table(x[rows].astype(np.float32), y[rows].astype(np.int32 if classes else np.float32))
    sizes = (x.shape[1], *hidden, classes or y.shape[1])
    batch = min(64, len(rows) // 2)

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_plan(sizes, last=lecun))

    def partition(table: Table, key: jax.Array) -> Cut:
        return cut(table.x.shape[0], key)

    def sample(partition: Cut, key: jax.Array) -> jax.Array:
        return draw(partition.train, key, batch)[0]

    def read(table: Table, item: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(table.x)[item], jnp.asarray(table.y)[item]

    def loss(params: Weights, seen: tuple[jax.Array, jax.Array], key: jax.Array) -> jax.Array:
        del key
        inputs, wanted = seen
        outputs = network(params, inputs)
        if classes:  # few rows can be told apart so well that a cross-entropy compares nothing
            return smoothed_divergence(outputs, wanted, _SMOOTHING)
        return jnp.mean((outputs - wanted) ** 2)

    def evaluate(params: Weights, table: Table, partition: Cut, key: jax.Array) -> jax.Array:
        return loss(params, read(table, partition.evaluation), key)

    model = "network" if hidden else "linear"
    kind = f"{classes} classes" if classes else f"{y.shape[1]} numbers"
    return Task(
        name=name,
        split=split,
        description=f"{kind} from {x.shape[1]} features of {path.name}, {model}",
        metric="divergence from smoothed labels (nats)"
        if classes
        else "mean squared error (share of the variance)",
        steps=200,
        data=table,
        init=init,
        partition=partition,
        sample=sample,
        batch=read,
        loss=loss,
        evaluate=evaluate,
    )


def _paper_vit(name: str, path: Path, split: Split) -> Task:
    x, y = _arrays(name, path)
    shape = (paper.SIDE, paper.SIDE, 3)
    if x.shape[1:] != shape:
        has = "x".join(map(str, x.shape[1:])) or "single numbers"
        wanted = "x".join(map(str, shape))
        raise OwnTaskError(f"task {name!r}: the images in x are {has}; resize them to {wanted}")
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise OwnTaskError(f"task {name!r}: x holds {x.dtype}; save images as uint8 or float32")
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise OwnTaskError(
            f"task {name!r}: y holds {y.dtype} of shape {y.shape}; save a whole number, the class, "
            "for each image"
        )
    rows = _rows_of(name, path, split, "images", (image.tobytes() for image in x))
    pixels = x[rows] if x.dtype == np.uint8 else x[rows].astype(np.float32)
    images = paper.Images.of(pixels, y[rows].astype(np.int32))
    return paper.vit(name, split, images, int(y.max()) + 1, of=path.name)


def _arrays(name: str, path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
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
    for key, array in {"x": x, "y": y}.items():
        if array.dtype.kind not in "biuf":
            raise OwnTaskError(f"task {name!r}: {key} holds {array.dtype}; save numbers")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise OwnTaskError(f"task {name!r}: {path} holds NaN or infinity; remove those rows")
    if np.issubdtype(y.dtype, np.integer) and y.ndim == 1 and y.min() < 0:
        raise OwnTaskError(f"task {name!r}: class {y.min()} in y; number classes from 0")
    return x, y


def _characters(name: str, path: Path, split: Split, *, model: Factory) -> Task:
    code = {character: index for index, character in enumerate(data.ALPHABET)}
    text = _text(name, path).lower()
    codes = np.array([code.get(character, 0) for character in text], np.uint8)
    blocks = codes[: codes.size // data.BLOCK * data.BLOCK].reshape(-1, data.BLOCK)
    what = f"blocks of {data.BLOCK} characters"
    rows = _rows_of(name, path, split, what, (block.tobytes() for block in blocks))
    task = model(name, split)
    return replace(
        task,
        data=topics.Text(blocks[rows]),
        description=task.description.replace("English text", path.name),
    )


def _paper_transformer(name: str, path: Path, split: Split) -> Task:
    words = paper.words(_text(name, path))
    blocks = [words[start : start + data.BLOCK] for start in range(0, len(words), data.BLOCK)]
    blocks = [block for block in blocks if len(block) == data.BLOCK]
    pick = partial(_rows_of, name, path, what=f"blocks of {data.BLOCK} words")
    items = [" ".join(block).encode() for block in blocks]
    # What a search may see decides what a word is, so that all parts are the same task.
    code = paper.codes_of(word for row in pick("search", items=items) for word in blocks[row])
    rows = pick(split, items=items)
    codes = [[code.get(word, 0) for word in blocks[row]] for row in rows]
    text = topics.Text(np.array(codes, np.uint16))
    return paper.transformer(name, split, text, of=path.name)


def _text(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise OwnTaskError(f"task {name!r}: {path} is not UTF-8 text; save it as UTF-8") from None


def _rows_of(name: str, path: Path, part: Split, what: str, items: Iterable[bytes]) -> list[int]:
    """The items that fall into `part`, by a hash of their content.

    Raises:
        OwnTaskError: there are too few of them.
    """
    groups = [hashlib.sha256(item).hexdigest() for item in items]
    source = data.Source("own", "a user's own data", tuple(groups), ())
    rows = [place for place, group in enumerate(groups) if source.part_of(group) == part]
    if len(rows) < _LEAST_ITEMS:
        raise OwnTaskError(
            f"task {name!r}: {path} has {len(rows)} {what} in its {part} part; give at least "
            f"{_LEAST_ITEMS} in each part, so about {5 * _LEAST_ITEMS} in all"
        )
    return rows


_MODELS: dict[str, dict[str, Callable[[str, Path, Split], Task]]] = {
    ".npz": {
        "network": partial(_network, hidden=(32,)),
        "linear": partial(_network, hidden=()),
        "paper-vit": _paper_vit,
    },
    ".txt": {
        "attention": partial(
            _characters,
            model=partial(topics.attention, width=16, context=16, batch=4, steps=200),
        ),
        "recurrent": partial(_characters, model=recurrent.recurrent),
        "transformer": partial(_characters, model=topics.transformer),
        "lstm": partial(_characters, model=recurrent.lstm),
        "paper-transformer": _paper_transformer,
    },
}
"""What makes a task of a file, by its ending and the model's name; the first is the default."""
