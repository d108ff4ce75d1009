"""Replaying a run: measurements made earlier bring evolution to where it was.

Every request that evolution makes is compared with the stored one of the same number, and every
program with the stored one. So a replay either consumes all that is stored, or says where it
differs; it writes nothing and trains nothing.
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
"""What one request measured, by task."""


class Divergence(Exception):  # noqa: N818  (what it is, not that something is wrong)
    """The present code does not make the search that is stored.

    Attributes:
        request: the first request that differs.
        stored: what the run has there.
        made: what the present code makes of it.
    """

    def __init__(self, request: int, stored: str, made: str):
        super().__init__(f"request {request}: stored is {stored}, made is {made}")
        self.request = request
        self.stored = stored
        self.made = made


@dataclass
class Replayed:
    """A search brought to where its record ends.

    Attributes:
        evolution: which has been told all that was measured.
        in_flight: requests that it has made and that nothing is stored for, in order.
        spares: measurements beyond a limit that the search did not have to keep to now, by semantic
            key and seed: a longer search takes them when it asks for them.
        set_aside_from: the first request whose stored measurements became spares in this replay;
            None if none did.
    """

    evolution: Evolution
    in_flight: deque[Request]
    spares: dict[tuple[str, Seed], Measurements] = field(default_factory=dict)
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
) -> Replayed:
    """Brings a new evolution to where the record in `store` ends.

    Args:
        config: that the run was made with.
        store: is read only.
        programs: the limit of the search that goes on; None for none.
        trainings: likewise.
        on_progress: told how many of how many requests are replayed; may raise to give up.
        add_injections: called before each request beyond the record, to pass on new injections.
        derive: take measurements alone from the record; programs and verdicts, which follow from
            them, are not compared, and all programs are in `Replayed.evolution.births`.

    Raises:
        Divergence: what is stored is not what the present code makes.
        EvosearchError: the database is damaged.
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
        self._proceed = on_progress
        self._add_injections = add_injections
        self._store = store
        self._measured: dict[int, list[MeasurementRow]] = defaultdict(list)
        for row in store.select(MEASUREMENTS, "order by rowid"):
            self._measured[row.request].append(row)
        self._total = len(self._measured)
        self._last = max(self._measured, default=0)
        self._programs = {} if derive else {row.id: row for row in store.select(PROGRAMS)}
        self._limited_from = store.progress_or_guess().limited_from
        self._injections = deque(
            store.select(INJECTIONS, "where request is not null order by request, id")
        )
        self._evolution = Evolution(config)
        self._unstored: list[Birth] = []
        self._set_aside_from: int | None = None

    def run(self) -> Replayed:
        evolution = self._evolution
        in_flight: deque[Request] = deque()
        while True:
            while len(in_flight) < evolution.config.requests:
                request = self._asked()
                if request is None:
                    break
                in_flight.append(request)
            if not in_flight or not self._is_stored(in_flight[0].number):
                break
            self._tell(in_flight.popleft())
        self._check_nothing_is_left()
        evolution.births.extend(self._unstored)
        return Replayed(evolution, in_flight, self._spares(), self._set_aside_from)

    def _asked(self) -> Request | None:
        """The next request, which is the stored one of its number or beyond all that is stored."""
        evolution = self._evolution
        self._inject()
        request = evolution.ask(*self._limits)
        self._check_births()
        if request is None or self._set_aside_from is not None or request.number > self._last:
            return request
        rows = self._measured.get(request.number)
        if not _same(request, rows):
            made = f"{request.reason} of program {request.record.id} on {_seed(request.seed)}"
            self._differ(request.number, _stored(rows), made)
        return request

    def _is_stored(self, number: int) -> bool:
        """Whether request `number` has stored results that it is to be told."""
        aside = self._set_aside_from is not None and number >= self._set_aside_from
        return number in self._measured and not aside

    def _tell(self, request: Request) -> None:
        rows = self._measured.pop(request.number)
        found = {row.task: measurement_of(row) for row in rows}
        self._evolution.tell(request, {task: m.score for task, m in found.items()})
        self._proceed(self._total - len(self._measured), self._total)

    def _inject(self) -> None:
        """Passes on the programs put in by hand, at the request at which they were taken up."""
        number = self._evolution.next_request
        while self._injections and self._injections[0].request == number:
            row: InjectionRow = self._injections.popleft()
            try:
                self._evolution.inject(row.id, parse(row.source))
            except ProgramError as error:
                raise Divergence(number, f"the injected program i{row.id}", str(error)) from None
        beyond = number > self._last or self._set_aside_from is not None
        if beyond and not self._programs:
            self._add_injections(self._evolution)

    def _may_differ(self, number: int) -> bool:
        """Whether a limit that no longer holds may have decided request `number`."""
        return self._limited_from is not None and number >= self._limited_from

    def _differ(self, number: int, stored: str, made: str) -> None:
        """Request `number` is another than the stored one: the search goes on longer, or diverges.

        Raises:
            Divergence: no limit explains it.
        """
        if not self._may_differ(number):
            raise Divergence(number, stored, made)
        self._set_aside_from = number

    def _check_births(self) -> None:
        """Each program that was generated since the last call is the stored one of its number."""
        for birth in self._evolution.births:
            made, stored = program_row(birth), self._programs.pop(birth.id, None)
            if stored is None:
                known = birth.request in self._measured and not self._derive
                if known and not self._may_differ(birth.request):
                    raise Divergence(birth.request, f"no program {made.id}", _program(made))
                self._unstored.append(birth)
            elif stored != made:
                raise Divergence(birth.request, _program(stored), _program(made))
        self._evolution.births.clear()

    def _check_nothing_is_left(self) -> None:
        """Every stored measurement, program and verdict is one of this search, or set aside.

        Raises:
            Divergence: one is not.
        """
        if self._measured and self._set_aside_from is None:
            first = min(self._measured)
            self._differ(first, _stored(self._measured[first]), "nothing")
        if self._programs:
            program = min(self._programs.values(), key=lambda row: row.id)
            raise Divergence(program.request, _program(program), "no program")
        if self._set_aside_from is None and not self._derive:
            self._check_verdicts()

    def _check_verdicts(self) -> None:
        """Tests and champions are the stored ones; before the first commit none are stored."""
        evolution = self._evolution
        # `seeds` is missing in the first version; `difference` and `low` follow from the scores.
        tests = [(row.challenger, row.defender, row.won) for row in map(test_row, evolution.tests)]
        stored_tests = [
            (row.challenger, row.defender, row.won)
            for row in self._store.select(TESTS, "order by number")
        ]
        champions = [champion.record.id for champion in evolution.champions]
        stored_champions = [row.program for row in self._store.select(CHAMPIONS, "order by number")]
        for name, stored, made in (
            ("tests (challenger, defender, won)", stored_tests, tests),
            ("champions", stored_champions, champions),
        ):
            if self._total and stored != made:
                raise Divergence(evolution.next_request, f"{name} {stored}", f"{name} {made}")

    def _spares(self) -> dict[tuple[str, Seed], Measurements]:
        rows = [row for rows in self._measured.values() for row in rows]
        found: dict[tuple[str, Seed], Measurements] = defaultdict(dict)
        for row in [*self._store.select(SPARES), *rows]:
            found[row.key, Seed(Stream(row.stream), row.seed)][row.task] = measurement_of(row)
        return dict(found)


def _seed(seed: Seed) -> str:
    return f"{seed.stream} seed {seed.number}"


def _stored(rows: list[MeasurementRow] | None) -> str:
    if not rows:
        return "nothing, though later requests are stored"
    row = rows[0]
    return f"{row.reason} of program {row.program} on {row.stream} seed {row.seed}"


def _program(row: ProgramRow) -> str:
    origin = "" if row.parent is None else f" of program {row.parent}"
    head, *statements = (line.strip() for line in row.source.splitlines())
    return f"program {row.id} ({row.mutation}{origin}), {head} {'; '.join(statements)}"


def _same(request: Request, rows: list[MeasurementRow] | None) -> bool:
    """Whether `rows` are what was stored for `request`."""
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
