"""Every training that evaluations made, kept: nothing is trained twice, and looks are counted.

A row is found again only if everything that decides its result is the same: the contender, the
task and its data, the code of the language and of the tasks, the versions of the libraries and the
kind of machine. So a tuned baseline is trained once and serves every later evaluation. Each
evaluation leaves a line, so that anybody can see how often held-out tasks were looked at.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sqlite3
import sys
import threading
import time
from collections.abc import Sequence
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

import proxies
from evosearch.files import explained
from evosearch.training.engines import Engine, Outcome
from proxies import Task

LEDGER = Path("runs") / "evaluations.db"
"""Where commands keep it, relative to the working directory."""
_SCHEMA = """
create table if not exists trainings (
    key text primary key, description text not null, loss real, steps integer not null,
    engine text not null, curve blob not null, update_rms blob not null,
    seconds real not null, written text not null);
create table if not exists evaluations (
    id integer primary key, written text not null, split text not null, tasks text not null,
    contenders text not null, command text not null);
"""


class Ledger:
    """Trainings by what decides them; safe to use from several threads and processes.

    Args:
        path: the database, made if need be; None for one in memory.

    Raises:
        EvosearchError: it cannot be written, or is damaged.
    """

    def __init__(self, path: Path | None = None):
        self.path = path
        self._lock = threading.Lock()
        with explained(path or Path(":memory:")):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", timeout=30, check_same_thread=False)
            self._db.execute("pragma journal_mode = wal")
            self._db.executescript(_SCHEMA)

    @classmethod
    def local(cls) -> Ledger:
        """The one of the working directory, which every command uses."""
        return cls(LEDGER)

    def get(self, key: str) -> Outcome | None:
        """What the training with this key gave; None if it was never made."""
        with self._lock, explained(self.path or Path(":memory:")):
            row = self._db.execute(
                "select loss, steps, engine, curve, update_rms from trainings where key = ?", (key,)
            ).fetchone()
        if row is None:
            return None
        loss, steps, engine, curve, update_rms = row
        return Outcome(
            float("inf") if loss is None else loss,
            steps,
            Engine(engine),
            np.frombuffer(curve, np.float32),
            stopped=False,
            update_rms=np.frombuffer(update_rms, np.float32),
        )

    def put(self, key: str, description: str, outcome: Outcome, seconds: float) -> None:
        """Keeps a training; `description` is for people."""
        loss = outcome.loss if np.isfinite(outcome.loss) else None
        curve = outcome.train_loss.astype(np.float32).tobytes()
        sizes = outcome.update_rms.astype(np.float32).tobytes()
        row = (key, description, loss, outcome.steps, outcome.engine, curve, sizes, seconds, _now())
        with self._lock, explained(self.path or Path(":memory:")), self._db:
            self._db.execute("insert or replace into trainings values (?,?,?,?,?,?,?,?,?)", row)

    def log(self, split: str, tasks: Sequence[str], contenders: Sequence[str]) -> None:
        """Notes that an evaluation of `contenders` on tasks of `split` begins."""
        row = (_now(), split, " ".join(tasks), json.dumps(contenders), " ".join(sys.argv))
        with self._lock, explained(self.path or Path(":memory:")), self._db:
            self._db.execute(
                "insert into evaluations (written, split, tasks, contenders, command) "
                "values (?, ?, ?, ?, ?)",
                row,
            )

    def looks(self, split: str) -> int:
        """How many evaluations on tasks of `split` have begun."""
        with self._lock, explained(self.path or Path(":memory:")):
            row = self._db.execute("select count(*) from evaluations where split = ?", (split,))
            return int(row.fetchone()[0])

    def close(self) -> None:
        """Closes the database."""
        with self._lock:
            self._db.close()


def training_key(task: Task, *parts: Any) -> str:
    """The key of a training: a digest of the task, its files, the code, the machine and `parts`.

    `parts` are what else decides it, as text: contender, setting, steps, schedule, seed, engine.
    """
    words = [task.name, json.dumps(proxies.digest(task)), _code_digest(), *map(str, parts)]
    return hashlib.blake2b("\x00".join(words).encode(), digest_size=16).hexdigest()


@cache
def _code_digest() -> str:
    """Of all that a training runs: the language, the tasks, the libraries, the kind of machine."""
    digest = hashlib.blake2b(digest_size=16)
    for package in ("primitives", "proxies"):
        root = Path(str(resources.files(package)))
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    for library in ("jax", "jaxlib", "numpy", "optax", "scikit-learn"):
        digest.update(f"{library} {version(library)}".encode())
    digest.update(f"{platform.machine()} {jax.devices()[0].device_kind}".encode())
    return digest.hexdigest()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
