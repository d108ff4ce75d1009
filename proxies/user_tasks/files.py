"""User tasks: a function in a Python file, arrays in an .npz file, or a text file.

    my_task.py:task             the `Task` that the function `task` of the file returns
    table.npz                   arrays `x` and `y`, with a network; integers in `y` are classes
    table.npz:linear            arrays `x` and `y`, with a linear model
    images.npz:paper-vit        images of 64x64 in `x`, classes in `y`, with a vision transformer
    notes.txt                   prediction of the next character, with attention
    notes.txt:recurrent         prediction of the next character, with a recurrent network
    notes.txt:paper-transformer prediction of the next word, with a transformer
    table.npz:network@held-out  the same as table.npz, on the held-out rows

Rows of arrays and blocks of text are assigned to a search, a validation and a held-out part by a
hash of their content, like the bundled data. Equal rows are always in the same part.
"""

import hashlib
import math
import os
import re
import stat
import zipfile
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
from proxies.layers import Weights, gaussian, lecun, network, network_specs, smoothed_divergence
from proxies.registry import Factory
from proxies.sampling import Partition, cut, draw
from proxies.task import Files, Split, Task
from proxies.tasks import paper, recurrent, topics
from proxies.user_tasks.execution import record_loaded_task, sha256
from proxies.user_tasks.python_file import UserTaskError, from_python

_NAME = re.compile(r"(?P<path>.+\.(py|npz|txt))(:(?P<selector>[\w-]+))?(@(?P<part>[\w-]+))?")
_MIN_ITEMS = 32  # minimum number of items in each part of the data
_SMOOTHING = 0.1  # label smoothing of classes


def is_user_task(name: str) -> bool:
    """Return whether `name` has the form of a user task's name; the file need not exist."""
    return _NAME.fullmatch(name) is not None


def load(name: str) -> Task:
    """Return the user task `name`; always the same object, so that it is compiled once.

    A Python file is executed. The audit event `proxies.execute` is raised first, and an audit hook
    may refuse the file; see `proxies.user_tasks.execution`.

    Raises:
        UserTaskError: the file cannot be read, or does not define a task.
        UntrustedTaskError: an audit hook refused a Python file.
    """
    task = _load(name)
    record_loaded_task(task.files)
    return task


@cache
def _load(name: str) -> Task:
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise UserTaskError(f"task {name!r} is not a .py, .npz or .txt file; name such a file")
    path, selector = Path(parts["path"]), parts["selector"]
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a directory" if path.is_dir() else "not a regular file"
            raise UserTaskError(f"task {name!r}: {path} is {kind}; name a file")
        files: Files = ((os.path.abspath(path), sha256(path)),)
    except OSError as error:
        raise UserTaskError(
            f"task {name!r}: cannot read {path}: {error.strerror}; check the path and permissions"
        ) from None
    if path.suffix == ".py":
        task, files = from_python(name, path, selector)
    else:
        models = _MODELS[path.suffix]
        model = selector or next(iter(models))
        if model not in models:
            raise UserTaskError(
                f"task {name!r}: unknown model {model!r} for {path.suffix} files; "
                f"use one of {', '.join(models)}"
            )
        task = models[model](name, path, _split(name, parts["part"] or "search"))
    return replace(task, name=name, source=f"{path} ({files[0][1][:12]})", files=files)


def _split(name: str, part: str) -> Split:
    splits: tuple[Split, ...] = get_args(data.Part)
    for split in splits:
        if split == part:
            return split
    raise UserTaskError(f"task {name!r}: unknown part {part!r}; use one of {', '.join(splits)}")


class Table(NamedTuple):
    """The examples of a network task.

    Attributes:
        x: `[n, features]` float32, standardised.
        y: `[n]` int32 classes, or `[n, outputs]` float32 targets.
    """

    x: NDArray[np.float32]
    y: NDArray[np.number]


def _network(name: str, path: Path, split: Split, *, hidden: tuple[int, ...]) -> Task:
    x, y = _arrays(name, path)
    x = x.reshape(len(x), -1).astype(np.float64)
    classes = int(y.max()) + 1 if y.ndim == 1 and np.issubdtype(y.dtype, np.integer) else 0
    rows = _rows_of(name, path, split, "rows", (row.tobytes() for row in x))
    x = _standardised(name, path, "x", x, np.float64)
    if not classes:
        y = _standardised(name, path, "y", y.reshape(len(y), -1), np.float32)
    table = Table(x[rows].astype(np.float32), y[rows].astype(np.int32 if classes else np.float32))
    sizes = (x.shape[1], *hidden, classes or y.shape[1])
    batch_size = min(64, len(rows) // 2)

    def init(key: jax.Array) -> Weights:
        return gaussian(key, network_specs(sizes, last=lecun))

    def partition(table: Table, key: jax.Array) -> Partition:
        return cut(table.x.shape[0], key)

    def sample(partition: Partition, key: jax.Array) -> jax.Array:
        return draw(partition.train, key, batch_size)[0]

    def read(table: Table, item: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(table.x)[item], jnp.asarray(table.y)[item]

    def loss(params: Weights, batch: tuple[jax.Array, jax.Array], key: jax.Array) -> jax.Array:
        del key
        inputs, targets = batch
        outputs = network(params, inputs)
        if classes:  # on small separable data the cross-entropy collapses to 0 or explodes
            return smoothed_divergence(outputs, targets, _SMOOTHING)
        return jnp.mean((outputs - targets) ** 2)

    def evaluate(params: Weights, table: Table, partition: Partition, key: jax.Array) -> jax.Array:
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


def _standardised(
    name: str, path: Path, key: str, array: NDArray[Any], dtype: type[np.floating]
) -> NDArray[Any]:
    """Scale every column to mean 0 and standard deviation 1, computed in `dtype`."""
    with np.errstate(over="ignore", invalid="ignore"):
        array = array.astype(dtype)
        scaled: NDArray[Any] = (array - array.mean(axis=0)) / np.maximum(array.std(axis=0), 1e-6)
    if not np.isfinite(scaled).all():
        raise UserTaskError(
            f"task {name!r}: {key} of {path} has numbers too large to standardise; "
            "divide them by a constant"
        )
    return scaled


def _paper_vit(name: str, path: Path, split: Split) -> Task:
    x, y = _arrays(name, path)
    shape = (paper.SIDE, paper.SIDE, 3)
    if x.shape[1:] != shape:
        raise UserTaskError(
            f"task {name!r}: x of {path} has the shape {x.shape}; "
            f"save images of the shape (n, {', '.join(map(str, shape))})"
        )
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise UserTaskError(
            f"task {name!r}: x of {path} has the dtype {x.dtype}; save images as uint8 or float32"
        )
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise UserTaskError(
            f"task {name!r}: y of {path} has the dtype {y.dtype} and the shape {y.shape}; "
            "save one integer, the class, for each image"
        )
    rows = _rows_of(name, path, split, "images", (image.tobytes() for image in x))
    pixels = x[rows] if x.dtype == np.uint8 else x[rows].astype(np.float32)
    images = paper.Images.from_pixels(pixels, y[rows].astype(np.int32))
    return paper.vit(name, split, images, int(y.max()) + 1, data_description=path.name)


def _arrays(name: str, path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    x, y = _loaded(name, path)
    for key, array in {"x": x, "y": y}.items():
        if array.dtype.kind not in "biuf":
            raise UserTaskError(
                f"task {name!r}: {key} of {path} has the dtype {array.dtype}; "
                "save integers or floats"
            )
        if array.ndim == 0:
            raise UserTaskError(
                f"task {name!r}: {key} of {path} is a single number; save one row for each example"
            )
        if array.size == 0:
            raise UserTaskError(
                f"task {name!r}: {key} of {path} is empty; save one row for each example"
            )
    if len(x) != len(y):
        raise UserTaskError(
            f"task {name!r}: x of {path} has {len(x)} rows and y has {len(y)}; "
            "save equally many rows"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UserTaskError(f"task {name!r}: {path} has NaN or infinity; remove those rows")
    if np.issubdtype(y.dtype, np.integer) and y.ndim == 1:
        invalid = y[(y < 0) | (y >= len(y))]
        if invalid.size:
            raise UserTaskError(
                f"task {name!r}: y of {path} has the class {invalid[0]}, outside 0 to "
                f"{len(y) - 1}; number classes from 0, or save y as floats if it has no classes"
            )
    return x, y


def _loaded(name: str, path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read the arrays x and y of an .npz file, without checking their content."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
        missing = [key for key in ("x", "y") if f"{key}.npy" not in sizes]
        if missing:
            members = ", ".join(key.removesuffix(".npy") for key in sizes) or "no arrays"
            raise UserTaskError(
                f"task {name!r}: {path} has {members}, but not {' and '.join(missing)}; "
                "save arrays named x and y"
            )
        needed, memory = sizes["x.npy"] + sizes["y.npy"], _memory()
        if needed > memory / 2:
            raise UserTaskError(
                f"task {name!r}: the arrays of {path} take {needed / 2**30:,.1f} GiB, more than "
                f"half of this machine's {memory / 2**30:,.1f} GiB of memory; save fewer rows"
            )
        with np.load(path, allow_pickle=False) as file:
            x, y = file["x"], file["y"]
        if not (isinstance(x, np.ndarray) and isinstance(y, np.ndarray)):
            raise ValueError("x or y is not an array")
        return x, y
    except UserTaskError:
        raise
    except Exception as error:  # a damaged archive can raise about ten kinds of exceptions
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserTaskError(
            f"task {name!r}: {path} is not a valid .npz file ({reason}); save it with numpy.savez"
        ) from None


def _memory() -> float:
    """Return the machine's memory in bytes; infinity if the system does not report the memory."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def _characters(name: str, path: Path, split: Split, *, model: Factory) -> Task:
    code = {character: index for index, character in enumerate(data.ALPHABET)}
    text = _text(name, path).lower()
    codes = np.array([code.get(character, 0) for character in text], np.uint8)
    blocks = codes[: codes.size // data.BLOCK * data.BLOCK].reshape(-1, data.BLOCK)
    unit = f"blocks of {data.BLOCK} characters"
    rows = _rows_of(name, path, split, unit, (block.tobytes() for block in blocks))
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
    rows_of = partial(_rows_of, name, path, unit=f"blocks of {data.BLOCK} words")
    items = [" ".join(block).encode() for block in blocks]
    # All parts use the vocabulary of the search part, so that all parts are the same task.
    code = paper.codes_of(word for row in rows_of("search", items=items) for word in blocks[row])
    rows = rows_of(split, items=items)
    codes = [[code.get(word, 0) for word in blocks[row]] for row in rows]
    text = topics.Text(np.array(codes, np.uint16))
    return paper.transformer(name, split, text, data_description=path.name)


def _text(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserTaskError(f"task {name!r}: {path} is not UTF-8 text; save it as UTF-8") from None


def _rows_of(name: str, path: Path, part: Split, unit: str, items: Iterable[bytes]) -> list[int]:
    """Return the indices of the items in `part`, by a hash of their content.

    Args:
        name: the task's name, for the error message.
        path: the file, for the error message.
        part: the part of the data.
        unit: what an item is, in the plural, for the error message.
        items: the content of every item.

    Raises:
        UserTaskError: the part has too few items.
    """
    groups = [hashlib.sha256(item).hexdigest() for item in items]
    source = data.Source("own", "a user's own data", tuple(groups), ())
    rows = [index for index, group in enumerate(groups) if source.part_of(group) == part]
    if len(rows) < _MIN_ITEMS:
        raise UserTaskError(
            f"task {name!r}: {path} has {len(rows)} {unit} in its {part} part; each part needs at "
            f"least {_MIN_ITEMS}, so save about {5 * _MIN_ITEMS} or more in all"
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
"""Constructors of tasks by the file's suffix and the model's name; the first is the default."""
