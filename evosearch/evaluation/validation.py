"""Validation of champions during a search, which detects overfitting to the search tasks.

If the fitness of champions rises but their result in validation does not, the search overfits (Chen
et al. 2023, section 2.3, "meta-overfitting"). Validation does not influence the search, so it runs
on a thread of its own beside the search.
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
"""The streams of the seeds for tuning and of the seeds for measuring."""
_CHAMPION = "the champion"


class Validator:
    """Validates programs, one after the other, on a thread of its own.

    Attributes:
        problems: messages about programs that could not be validated, for the log of the search.

    Args:
        config: configuration of the search; champions are validated on the counterparts of the
            search tasks with 10x the work.
        interrupted: event that cancels all validations.
        ledger: function that opens the ledger; called once, on the validating thread.
        note: function that is called with the current activity of the validating thread.
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
        """Number of programs that are not validated yet."""
        return len(self._pending)

    def begin(self, number: int, program: Program) -> None:
        """Queue `program`, which the caller identifies by `number`, for validation."""
        if self.tasks:
            self._pending[number] = self._executor.submit(self._validate, number, program)

    def finished(self) -> dict[int, list[Validation]]:
        """Return the validations that finished since the last call, by number."""
        finished = [number for number, future in self._pending.items() if future.done()]
        return {number: self._pending.pop(number).result() for number in finished}

    def close(self) -> None:
        """Cancel queued validations and wait for the current one."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        if self._runner is not None:
            self._runner.backend.close()

    def _validate(self, number: int, program: Program) -> list[Validation]:
        """Return the result of each task and seed; empty if interrupted or after an error."""

        def report_progress(activity: str, done: int, total: int) -> None:
            if self._interrupted.is_set():
                raise _InterruptedError
            self._note(f"validation of champion {number}: {activity}, {done} of {total} trainings")

        try:
            self._runner = self._runner or JobRunner(open_backend(1), self._open_ledger())
            evaluation = evaluate(
                {_CHAMPION: program},
                self.tasks,
                against={BASELINE: zoo.load(BASELINE)},
                seeds=self._config.validation_seeds,
                tuning_seeds=1,
                lrs=VALIDATION_RATES,
                decays=VALIDATION_DECAYS,
                resolution=VALIDATION_RESOLUTION,
                seed=self._config.seed,
                streams=STREAMS,
                progress=report_progress,
                runner=self._runner,
                ops=self._config.ops,
            )
        except _InterruptedError:
            return []
        except Exception as error:  # no error of a validation may end the search
            self.problems.append(f"champion {number} is not validated: {describe_error(error)}")
            return []
        finally:
            self._note("")
        return [
            Validation(report.task, seed, champion.lr, loss, baseline_loss)
            for report in evaluation.tasks
            for champion, baseline in [report.results]
            for seed, (loss, baseline_loss) in enumerate(
                zip(champion.losses, baseline.losses, strict=True)
            )
        ]


class _InterruptedError(Exception):
    """The search ended during a validation."""
