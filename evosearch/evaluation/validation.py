"""Champions on validation tasks while the search goes on: the curve of meta-overfitting.

A fitness that grows while validation does not is what a search fools itself with (Chen et al. 2023,
section 2.3). Validation decides nothing in the search, so it runs beside it, on its own thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from evosearch.config import Config
from evosearch.errors import describe_error
from evosearch.evaluation.evaluation import evaluate
from evosearch.fixed import VALIDATION_DECAYS, VALIDATION_RATES, VALIDATION_RESOLUTION
from evosearch.measuring.job_runner import JobRunner, open_backend
from evosearch.measuring.ledger import Ledger
from evosearch.measuring.scorer import BASELINE
from evosearch.runs.validations import Validation, counterparts
from evosearch.seeds import Stream
from primitives import Program, zoo

STREAMS = (Stream.VALIDATE_TUNE, Stream.VALIDATE)
"""Where validation takes seeds from: to tune on and to measure on."""
_IT = "the champion"


class Validator:
    """Validates programs, one after the other, on a thread of its own.

    Attributes:
        problems: why programs could not be validated; a search goes on and its log says so.

    Args:
        config: of the search; its tasks' counterparts at 10x the work are trained.
        interrupted: once set, what has not ended is given up.
        ledger: opens where trainings are kept; called once, on the validating thread.
        note: told what the validating thread does.
    """

    def __init__(
        self,
        config: Config,
        interrupted: threading.Event,
        ledger: Callable[[], Ledger] = Ledger,
        note: Callable[[str], None] = lambda text: None,
    ):
        self.tasks = counterparts(config.tasks, "10x") if config.validation_seeds else []
        self.problems: list[str] = []
        self._config = config
        self._interrupted = interrupted
        self._open_ledger = ledger
        self._runner: JobRunner | None = None
        self._note = note
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="validation")
        self._pending: dict[int, Future[list[Validation]]] = {}

    @property
    def waiting(self) -> int:
        """How many programs are not validated yet."""
        return len(self._pending)

    def begin(self, number: int, program: Program) -> None:
        """Validates `program`, some time; `number` is the caller's name for it."""
        if self.tasks:
            self._pending[number] = self._executor.submit(self._validate, number, program)

    def finished(self) -> dict[int, list[Validation]]:
        """What has been validated since the last call, by number."""
        done = [number for number, future in self._pending.items() if future.done()]
        return {number: self._pending.pop(number).result() for number in done}

    def close(self) -> None:
        """Gives up what has not begun and waits for what has."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        if self._runner is not None:
            self._runner.backend.close()

    def _validate(self, number: int, program: Program) -> list[Validation]:
        def check(text: str, done: int, total: int) -> None:
            if self._interrupted.is_set():
                raise _InterruptedError
            self._note(f"validation of champion {number}: {text}, {done} of {total} trainings")

        try:
            self._runner = self._runner or JobRunner(open_backend(1), self._open_ledger())
            evaluation = evaluate(
                {_IT: program},
                self.tasks,
                against={BASELINE: zoo.load(BASELINE)},
                seeds=self._config.validation_seeds,
                tuning_seeds=1,
                lrs=VALIDATION_RATES,
                decays=VALIDATION_DECAYS,
                resolution=VALIDATION_RESOLUTION,
                seed=self._config.seed,
                streams=STREAMS,
                progress=check,
                runner=self._runner,
                ops=self._config.ops,
            )
        except _InterruptedError:
            return []
        except Exception as error:  # whatever it is, it must not end a search
            self.problems.append(f"champion {number} is not validated: {describe_error(error)}")
            return []
        finally:
            self._note("")
        return [
            Validation(report.task, seed, mine.lr, loss, baseline)
            for report in evaluation.tasks
            for mine, other in [report.results]
            for seed, (loss, baseline) in enumerate(zip(mine.losses, other.losses, strict=True))
        ]


class _InterruptedError(Exception):
    """The search ends before a validation does."""
