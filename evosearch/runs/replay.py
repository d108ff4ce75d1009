"""Replay of a run: a new evolution receives the stored measurements, up to the last one.

Each request and each program of the replay is compared with the stored request or program of the
same number. A replay either uses all of the record or reports where the replay differs from the
record. A replay writes nothing and trains nothing.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from evosearch.config import Config
from evosearch.evolution.evolution import Birth, Evolution, Request
from evosearch.measuring.measurement import Measurement
from evosearch.runs.conversion import measurement_of, program_row, test_row
from evosearch.runs.rows import (
    CHAMPIONS,
    INJECTIONS,
    MEASUREMENTS,
    PROGRAMS,
    SPARES,
    TESTS,
    InjectionRow,
    MeasurementRow,
    ProgramRow,
)
from evosearch.runs.store import Store
from evosearch.seeds import Seed, Stream
from primitives import ProgramError, parse

Measurements = dict[str, Measurement]
"""The measurements of one request, by task."""


class Divergence(Exception):  # noqa: N818  (a term of the project)
    """Raised when a replay with the current code differs from the record.

    Attributes:
        request: Number of the first request that differs.
        stored: Description of this request or its program in the record.
        replayed: Description of the request or program of the same number in the replay.
    """

    def __init__(self, request: int, stored: str, replayed: str):
        super().__init__(f"request {request}: the record has {stored}, the replay {replayed}")
        self.request = request
        self.stored = stored
        self.replayed = replayed


@dataclass
class ReplayResult:
    """Result of a replay: the search at the end of its record.

    Attributes:
        evolution: The evolution, which has received all stored measurements.
        in_flight: Requests of the evolution for which no measurements are stored, in order.
        unused_measurements: Measurements in the record that no decision has used yet, by semantic
            key and seed. They were made after a limit. When the continued search requests them,
            they are used instead of trainings. The table `spares` stores them.
        set_aside_from: The first request whose measurements this replay moved to
            `unused_measurements`; None if there is none.
    """

    evolution: Evolution
    in_flight: deque[Request]
    unused_measurements: dict[tuple[str, Seed], Measurements] = field(default_factory=dict)
    set_aside_from: int | None = None


def replay(
    config: Config,
    store: Store,
    *,
    programs: int | None = None,
    trainings: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    add_injections: Callable[[Evolution], None] = lambda evolution: None,
    derive: bool = False,
) -> ReplayResult:
    """Pass the measurements in `store` to a new evolution; compare its decisions with the record.

    Args:
        config: The run's configuration.
        store: The run's store, which is only read.
        programs: Maximum number of programs of the continued search; None means unlimited.
        trainings: Maximum number of trainings of the continued search; None means unlimited.
        on_progress: Function that is called with the number of replayed requests and of all
            requests. The function may raise an exception to stop the replay.
        add_injections: Called before each request beyond the record, to pass new injections to the
            evolution.
        derive: Whether to read only measurements from the record. Stored programs and verdicts are
            then not compared with the replay, and all programs are in
            `ReplayResult.evolution.births`.

    Returns:
        The search at the end of the record.

    Raises:
        Divergence: The replay differs from the record.
        EvosearchError: The database is damaged.
    """
    return _Replay(config, store, (programs, trainings), on_progress, add_injections, derive).run()


class _Replay:
    def __init__(
        self,
        config: Config,
        store: Store,
        limits: tuple[int | None, int | None],
        on_progress: Callable[[int, int], None],
        add_injections: Callable[[Evolution], None],
        derive: bool,
    ):
        self._derive = derive
        self._limits = limits
        self._on_progress = on_progress
        self._add_injections = add_injections
        self._store = store
        self._stored_rows: dict[int, list[MeasurementRow]] = defaultdict(list)
        for row in store.select(MEASUREMENTS, "order by rowid"):
            self._stored_rows[row.request].append(row)
        self._stored_request_count = len(self._stored_rows)
        self._last_stored_request = max(self._stored_rows, default=0)
        self._programs = {} if derive else {row.id: row for row in store.select(PROGRAMS)}
        self._limited_from = store.progress_or_guess().limited_from
        self._injections = deque(
            store.select(INJECTIONS, "where request is not null order by request, id")
        )
        self._evolution = Evolution(config)
        self._new_births: list[Birth] = []
        self._set_aside_from: int | None = None

    def run(self) -> ReplayResult:
        evolution = self._evolution
        in_flight: deque[Request] = deque()
        while True:
            finished_requests = evolution.next_request - 1 - len(in_flight)
            while len(in_flight) < evolution.config.max_in_flight(finished_requests):
                request = self._next_request()
                if request is None:
                    break
                in_flight.append(request)
            if not in_flight or not self._is_stored(in_flight[0].number):
                break
            self._tell(in_flight.popleft())
        self._check_record_is_consumed()
        evolution.births.extend(self._new_births)
        return ReplayResult(
            evolution, in_flight, self._collect_unused_measurements(), self._set_aside_from
        )

    def _next_request(self) -> Request | None:
        """Return the next request, after comparing it with the record; None after a limit."""
        evolution = self._evolution
        self._inject_due_programs()
        request = evolution.ask(*self._limits)
        self._check_births()
        if (
            request is None
            or self._set_aside_from is not None
            or request.number > self._last_stored_request
        ):
            return request
        rows = self._stored_rows.get(request.number)
        if not _is_same_request(request, rows):
            seed = _describe_seed(request.seed)
            replayed = f"{request.reason} of program {request.record.id} on {seed}"
            self._set_aside_or_raise(request.number, _describe_rows(rows), replayed)
        return request

    def _is_stored(self, number: int) -> bool:
        """Whether the record has measurements of a request, and they are not set aside."""
        is_set_aside = self._set_aside_from is not None and number >= self._set_aside_from
        return number in self._stored_rows and not is_set_aside

    def _tell(self, request: Request) -> None:
        rows = self._stored_rows.pop(request.number)
        scores = {row.task: measurement_of(row).score for row in rows}
        self._evolution.tell(request, scores)
        self._on_progress(
            self._stored_request_count - len(self._stored_rows), self._stored_request_count
        )

    def _inject_due_programs(self) -> None:
        """Pass injected programs to evolution at the request at which the search used them."""
        number = self._evolution.next_request
        while self._injections and self._injections[0].request == number:
            row: InjectionRow = self._injections.popleft()
            try:
                self._evolution.inject(row.id, parse(row.source))
            except ProgramError as error:
                raise Divergence(number, f"the injected program i{row.id}", str(error)) from None
        is_beyond_record = number > self._last_stored_request or self._set_aside_from is not None
        if is_beyond_record and not self._programs:
            self._add_injections(self._evolution)

    def _may_differ(self, number: int) -> bool:
        """Whether an old limit may have decided a request, so that it may now differ."""
        return self._limited_from is not None and number >= self._limited_from

    def _set_aside_or_raise(self, number: int, stored: str, replayed: str) -> None:
        """Set the rest of the record aside, since request `number` differs from it.

        Raises:
            Divergence: No old limit explains the difference.
        """
        if not self._may_differ(number):
            raise Divergence(number, stored, replayed)
        self._set_aside_from = number

    def _check_births(self) -> None:
        """Compare the programs that were generated since the last call with the record."""
        for birth in self._evolution.births:
            replayed, stored = program_row(birth), self._programs.pop(birth.id, None)
            if stored is None:
                is_recorded = birth.request in self._stored_rows and not self._derive
                if is_recorded and not self._may_differ(birth.request):
                    stored_text = f"no program {replayed.id}"
                    raise Divergence(birth.request, stored_text, _describe_program(replayed))
                self._new_births.append(birth)
            elif stored != replayed:
                raise Divergence(
                    birth.request, _describe_program(stored), _describe_program(replayed)
                )
        self._evolution.births.clear()

    def _check_record_is_consumed(self) -> None:
        """Check that all stored measurements, programs and verdicts were replayed or set aside.

        Raises:
            Divergence: The replay did not use all of the record.
        """
        if self._stored_rows and self._set_aside_from is None:
            first = min(self._stored_rows)
            self._set_aside_or_raise(first, _describe_rows(self._stored_rows[first]), "nothing")
        if self._programs:
            program = min(self._programs.values(), key=lambda row: row.id)
            raise Divergence(program.request, _describe_program(program), "no program")
        if self._set_aside_from is None and not self._derive:
            self._check_verdicts()

    def _check_verdicts(self) -> None:
        """Compare tests and champions with the record, if the record has measurements."""
        evolution = self._evolution
        # Seeds are not compared, since schema version 1 does not have them. The columns
        # `difference` and `low` follow from the scores.
        tests = [(row.challenger, row.defender, row.won) for row in map(test_row, evolution.tests)]
        stored_tests = [
            (row.challenger, row.defender, row.won)
            for row in self._store.select(TESTS, "order by number")
        ]
        champions = [champion.record.id for champion in evolution.champions]
        stored_champions = [row.program for row in self._store.select(CHAMPIONS, "order by number")]
        for name, stored, replayed in (
            ("tests (challenger, defender, won)", stored_tests, tests),
            ("champions", stored_champions, champions),
        ):
            if self._stored_request_count and stored != replayed:
                raise Divergence(evolution.next_request, f"{name} {stored}", f"{name} {replayed}")

    def _collect_unused_measurements(self) -> dict[tuple[str, Seed], Measurements]:
        """Return the stored unused measurements, and those that this replay has set aside."""
        rows = [row for rows in self._stored_rows.values() for row in rows]
        unused: dict[tuple[str, Seed], Measurements] = defaultdict(dict)
        for row in [*self._store.select(SPARES), *rows]:
            unused[row.key, Seed(Stream(row.stream), row.seed)][row.task] = measurement_of(row)
        return dict(unused)


def _describe_seed(seed: Seed) -> str:
    return f"{seed.stream} seed {seed.number}"


def _describe_rows(rows: list[MeasurementRow] | None) -> str:
    if not rows:
        return "nothing, although later requests are stored"
    row = rows[0]
    return f"{row.reason} of program {row.program} on {row.stream} seed {row.seed}"


def _describe_program(row: ProgramRow) -> str:
    origin = "" if row.parent is None else f" of program {row.parent}"
    head, *statements = (line.strip() for line in row.source.splitlines())
    return f"program {row.id} ({row.mutation}{origin}), {head} {'; '.join(statements)}"


def _is_same_request(request: Request, rows: list[MeasurementRow] | None) -> bool:
    """Whether `rows` are the stored measurements of `request`."""
    if not rows:
        return False
    row = rows[0]
    return (row.reason, row.program, row.key, row.stream, row.seed) == (
        request.reason,
        request.record.id,
        request.record.key,
        request.seed.stream,
        request.seed.number,
    )
