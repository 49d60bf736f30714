"""The workers of a job, seen from the one who leads it: `Crew` hands ranges out, collects marks, replaces the lost.

In: what carries messages (`Transport`), an errand, seats. Out: marks, each for a part that lies on the disk. The ranges
of a worker that is gone are done again by others. It writes no ledger and knows no processes.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

from scgpt_infer.interrupts import asked_to_stop, finishing, honour
from scgpt_infer.keeping import Filled, stop_if_asked
from scgpt_infer.ledger.folder import Ledger
from scgpt_infer.ledger.marks import Mark
from scgpt_infer.ledger.plan import PLAN
from scgpt_infer.scale.errand import Errand
from scgpt_infer.scale.hands import Absent, Hand, difference, why_of
from scgpt_infer.scale.messages import Begin, Done, Ended, Failed, FromWorker, Lost, Ready, Said, Stop, Ticked, ToWorker
from scgpt_infer.scale.seats import Seat
from scgpt_infer.scale.zones import Zones
from scgpt_runtime.errors import DeviceLostError, OptionError, WorkerError

__all__ = ["Crew", "Transport"]

AHEAD = 3
"""Ranges that a worker holds: one at work, one tokenised, one being read."""

_TRIES = 3
"""So often a range may be at work when its worker is lost, and so often in a row a worker may be lost at its start."""

_WAIT_S = 0.2
_FAREWELL_S = 10.0

_log = logging.getLogger(__name__)


class Transport(Protocol):
    """Starts workers, and carries words between them and the crew."""

    def start(self, number: int, errand: Errand, seat: Seat) -> None:
        """Start a worker, which says `Ready` when it has opened what it needs; there may be no room for it yet."""
        ...

    def give(self, number: int, word: ToWorker) -> None:
        """Send a word. A worker that is gone does not hear it, which is no error."""
        ...

    def next(self, timeout: float) -> tuple[int, FromWorker] | None:
        """The next word of any worker; None when none comes within so many seconds."""
        ...

    def close(self) -> None:
        """End all workers that are left, at once."""
        ...


class Crew:
    """Workers that share a job. A context manager, which ends them.

    Parameters
    ----------
    transport
        Starts them and carries words.
    errand
        What they are to do.
    seats
        One a worker.
    say
        Told of what takes time.
    """

    def __init__(self, transport: Transport, errand: Errand, seats: Sequence[Seat], say: Callable[[str], None]) -> None:
        self._transport, self._errand, self._seats, self._say = transport, errand, seats, say
        self._hands: dict[int, Hand] = {}
        self._numbers = itertools.count()
        self._first: Ready | None = None
        self._lost_at_start = 0
        self._ended: list[Ended] = []
        self._zones = Zones(())
        self._lost: Counter[range] = Counter()
        self._begin: Begin | None = None
        self._parting = False
        self._kinds: set[str] = set()

    def first(self) -> Ready:
        """What the first worker runs, which it has chosen for all. It is started here, the others with the work.

        Raises
        ------
        ScgptInferError
            It cannot open what it needs; its own error.
        """
        if self._first is None:
            self._start(self._seats[0])
        while self._first is None:
            honour()
            self._listen(lambda mark: None)
        return self._first

    @property
    def begun(self) -> bool:
        """Whether it has workers."""
        return self._first is not None

    def engine(self) -> Absent:
        """What is told of the engines of the workers: that of the first one, and how many there are."""
        first, count = self.first(), len(self._seats)
        choice, devices = first.choice, sorted({int(seat.device) for seat in self._seats if seat.device.isdigit()})
        of_all = replace(
            choice,
            instances=choice.instances * count,
            devices=tuple(devices) or choice.devices,
            why=f"{why_of(choice, self._seats[0])}; {count} worker{'s' * (count > 1)}, each with {choice.name}",
        )
        return Absent(of_all, first.settings, first.vector_id, first.batch_tokens)

    def __call__(self, ledger: Ledger, tick: Callable[[int], None]) -> Filled:
        """Do what is missing in a ledger; see `scgpt_infer.keeping.Filler`.

        Raises
        ------
        WorkerError
            A range was at work three times when its worker was lost, or no worker comes up.
        ScgptInferError
            A worker met an error; its own.
        """
        least = min((mark.batch_tokens for mark in ledger.marks.values()), default=0)
        begin = Begin(ledger.folder, (ledger.folder / PLAN).read_bytes(), ledger.plan.dtype, least)
        with finishing():
            self.work(begin, ledger.missing(), ledger.mark, tick)
            if not ledger.is_complete:
                stop_if_asked()
        return Filled(self._seconds(), sum(one.peak_bytes for one in self._ended))

    def work(
        self, begin: Begin, spans: Iterable[range], mark: Callable[[Mark], None], tick: Callable[[int], None]
    ) -> None:
        """Have ranges done, each once; returns earlier when a signal asked to stop (`interrupts.asked_to_stop`).

        Parameters
        ----------
        begin
            Where parts go.
        spans
            What is to be done.
        mark
            Told of each range whose part is on the disk; again, where another part has taken its place.
        tick
            Told of each number of cells that is answered; below zero where a lost worker's do not count any more.
        """
        waiting = list(spans)
        left, told = {span.start for span in waiting}, 0
        first, self._zones, self._begin = self.first(), Zones(waiting), begin
        for seat in self._seats[1 : len(waiting)]:
            self._start(seat, first)
        self._greet()
        cells, kept = 0, dict[int, str]()

        def done(found: Mark) -> None:
            nonlocal cells
            if found.first_row in left:
                left.remove(found.first_row)
                cells += found.n_cells
            if kept.get(found.first_row) != found.sha256:  # else a worker that was thought lost has done the same
                kept[found.first_row] = found.sha256
                mark(found)

        while left and not asked_to_stop():
            honour()
            self._hand_out()
            self._listen(done)
            counted = cells + sum(hand.counted for hand in self._hands.values())
            if counted != told:
                tick(counted - told)
            told = counted
        self._part(Stop() if left else None, done)

    def _seconds(self) -> dict[str, float]:
        """Seconds by stage, the mean of the workers."""
        stages = dict.fromkeys(stage for one in self._ended for stage in one.seconds)
        return {stage: sum(one.seconds[stage] for one in self._ended) / len(self._ended) for stage in stages}

    def _start(self, seat: Seat, first: Ready | None = None) -> None:
        number, errand = next(self._numbers), self._errand
        if first is not None:
            errand = errand.settled(first.choice)
        self._hands[number] = Hand(seat)
        self._transport.start(number, errand, seat)

    def _greet(self) -> None:
        for number, hand in self._hands.items():
            if hand.ready is not None and self._begin is not None:
                self._transport.give(number, self._begin)

    def _hand_out(self) -> None:
        """Give each worker what it may hold: near the end no more than its share of what is left."""
        able = {number: hand for number, hand in self._hands.items() if hand.ready is not None and not hand.ended}
        left = len(self._zones) + sum(len(hand.held) for hand in able.values())
        share = min(AHEAD, -(-left // max(1, len(able))))
        for number, hand in able.items():
            # A range whose worker was lost goes alone, so that it is known which one it was when that happens again.
            while len(hand.held) < share and not any(self._lost[span] for span in hand.held):
                span = self._zones.take(number)
                if span is None:
                    break
                if hand.held and self._lost[span]:
                    self._zones.put_back([span])
                    break
                hand.held.append(span)
                self._transport.give(number, span)

    def _listen(self, done: Callable[[Mark], None]) -> None:
        found = self._transport.next(_WAIT_S)
        if found is None or found[0] not in self._hands:
            return
        number, word = found
        hand = self._hands[number]
        match word:
            case Ready():
                self._welcome(number, hand, word)
            case Ticked():
                hand.ticked += word.cells
            case Said():
                self._say(word.line)
            case Done():
                span = word.mark.rows
                if span in hand.held:
                    hand.held.remove(span)
                hand.ticked = max(0, hand.ticked - len(span))
                del self._lost[span]
                done(word.mark)
            case Ended():
                hand.ended = True
                self._ended.append(word)
            case Failed():
                self._failed(number, hand, word)
            case Lost():
                self._replace(number, hand, word.reason)

    def _welcome(self, number: int, hand: Hand, ready: Ready) -> None:
        first, self._lost_at_start = self._first, 0
        if first is not None and (other := difference(first, ready)):
            self._dismiss(number, hand, f"Worker {ready.where} cannot take part: {other}")
            return
        _log.info("Worker %s takes part.", ready.where)
        if first is not None and ready.hardware not in self._kinds:
            told = ready.where, ready.hardware, first.hardware
            _log.warning("Worker %s computes on %s, the first one on %s: last bits of vectors may differ.", *told)
        self._kinds.add(ready.hardware)
        hand.ready, self._first = ready, first or ready
        if self._begin is not None:
            self._transport.give(number, self._begin)

    def _failed(self, number: int, hand: Hand, failed: Failed) -> None:
        """A worker met an error: its own device's, that of a place where others do well, or one that all would meet."""
        if failed.kind == DeviceLostError.__name__:
            self._replace(number, hand, failed.message)
        elif hand.ready is None and self._first is not None:
            self._dismiss(number, hand, f"A worker cannot take part: {failed.message}", failed.error())
        else:
            raise failed.error("" if hand.ready is None or len(self._seats) == 1 else hand.where)

    def _dismiss(self, number: int, hand: Hand, told: str, error: Exception | None = None) -> None:
        """Go on without a worker, as long as there is another."""
        self._remove(number, hand)
        if all(other.ended for other in self._hands.values()):
            raise error or OptionError(told)
        _log.warning("%s The others go on.", told)
        self._transport.give(number, Stop())

    def _replace(self, number: int, hand: Hand, reason: str) -> None:
        """A worker is lost: its ranges wait again, and another is started in its place."""
        self._remove(number, hand)
        if hand.ended or self._parting:
            return
        self._lost_at_start += hand.ready is None
        if self._lost_at_start == _TRIES:
            raise WorkerError(f"No worker comes up: {_TRIES} in a row were lost at their start. The last: {reason}")
        for span in hand.held:
            self._lost[span] += 1
        worst = max(hand.held, key=lambda span: self._lost[span], default=range(0))
        if self._lost[worst] >= _TRIES:
            raise WorkerError(
                f"Rows {worst.start:,} to {worst.stop - 1:,} were at work {_TRIES} times when their worker was lost. "
                f"The last time: {reason} Where memory ran out, the same command with fewer --workers, --threads or "
                "--batch-tokens may go on."
            )
        _log.warning("%s is lost: %s Its ranges (%d) are done again.", hand.where, reason, len(hand.held))
        self._start(hand.seat, self._first)

    def _remove(self, number: int, hand: Hand) -> None:
        del self._hands[number]
        self._zones.leave(number)
        self._zones.put_back(hand.held)

    def _part(self, last: Stop | None, done: Callable[[Mark], None]) -> None:
        """Let all workers come to their end; take what they have finished."""
        self._begin, self._parting = None, True
        for number in list(self._hands):
            self._transport.give(number, last)
        for hand in self._hands.values():
            hand.ended = hand.ended or hand.ready is None  # those that never came up are not waited for
        quiet = 0.0
        while not all(hand.ended for hand in self._hands.values()):
            honour()
            before = sum(hand.ended for hand in self._hands.values())
            self._listen(done)
            quiet = 0.0 if last or before != sum(hand.ended for hand in self._hands.values()) else quiet + _WAIT_S
            if quiet > _FAREWELL_S:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()
