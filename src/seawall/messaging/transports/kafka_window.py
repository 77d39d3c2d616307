"""What was read of one Kafka partition and is not behind its committed offset yet. Pure.

Kafka remembers one offset a group and partition, and with it a text of up to 4,096 bytes. In
that text goes what the offset cannot say: which messages behind it are done already, and how
often each of the others was delivered, and whether the last lease just ran out. Whoever gets
the partition next goes on from there, so a crash counts, and what was done out of order is not
done again.
"""

from collections import deque
from collections.abc import Callable
from itertools import groupby

from seawall.messaging.base import Message

# What a broker takes beside an offset (offset.metadata.max.bytes) by default.
LONGEST_TEXT = 4_096  # bytes

# Offsets from the committed one to the last that is read, at two characters each at worst. What
# is under way when a partition is paused comes on top.
SPAN = 2_000

# Bodies of a partition that are read and not done. What the client keeps ready comes on top.
READ_AHEAD = 16 * 1024 * 1024  # bytes

UNTOUCHED = "0"
DONE = "-"
WAITING = "~"  # for the time when its retry is due
_COUNTS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # deliveries so far, with nobody now
_HELD = "0abcdefghijklmnopqrstuvwxyz"  # deliveries so far, the last one under way
_DROPPED = "0!\"#$%&'()*+./:;<=>?@[]^_`{"  # as many; the last one ended with its lease
# What a member held that is gone ended with it.
_NOBODYS = str.maketrans(dict(zip(_HELD, _DROPPED, strict=True)))


class Entry:
    """A message of a window, and how far it has come."""

    __slots__ = (
        "base",
        "damage",
        "deliveries",
        "done",
        "dropped",
        "due",
        "failed_at",
        "message",
        "offset",
        "published",
        "token",
        "until",
        "window",
    )

    def __init__(
        self,
        window: "Window",
        offset: int,
        message: Message,
        *,
        damage: str = "",
        base: int = 0,
        due: float = 0.0,
        published: float = 0.0,
        failed_at: float = 0.0,
    ) -> None:
        self.window = window
        self.offset = offset
        self.message = message
        self.damage = damage
        self.base = base  # attempts before this copy was written
        self.due = due  # wall clock; 0 for at once
        self.published = published  # wall clock
        self.failed_at = failed_at  # wall clock: the first time; 0 for never
        self.deliveries = 0
        self.dropped = False  # its last lease ran out
        self.token = 0  # of the delivery that holds it; 0 for none
        self.until = 0.0
        self.done = False

    @property
    def mark(self) -> str:
        if self.done:
            return DONE
        if self.token:
            return _HELD[min(self.deliveries, len(_HELD) - 1)]
        if self.due:
            return WAITING
        if self.dropped:
            return _DROPPED[min(self.deliveries, len(_DROPPED) - 1)]
        return _COUNTS[min(self.deliveries, len(_COUNTS) - 1)]


class Window:
    """The entries of one partition, from its committed offset on, in their order."""

    __slots__ = (
        "_entries",
        "_held",
        "_marks",
        "_restored",
        "_size",
        "_touched",
        "dirty",
        "leaving",
        "live",
        "position",
    )

    def __init__(self, offset: int, text: str = "") -> None:
        self._restored = offset
        self._marks = decode(text).translate(_NOBODYS)
        self._entries: deque[Entry] = deque()
        self._size = 0  # bytes of bodies
        self._held = 0  # entries that are handed out
        self._touched = -1  # behind this offset is nothing but what nobody was given yet
        self.position = offset  # the next offset to be read
        self.dirty = False  # differs from what was committed last
        self.live = True  # the partition is ours
        self.leaving = False  # it is about to be somebody else's: nothing more is handed out

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        """No more is to be read for now."""
        return self.position - self.first >= SPAN or self._size >= READ_AHEAD

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Those that are not done."""
        return tuple(entry for entry in self._entries if not entry.done)

    def add(self, offset: int, make: Callable[["Window"], Entry]) -> Entry | None:
        """The entry for what was read at `offset`; None if an earlier owner had it done."""
        self.position = offset + 1
        place = offset - self._restored
        mark = self._marks[place] if 0 <= place < len(self._marks) else UNTOUCHED
        if mark != UNTOUCHED:
            self._touched = offset
        if mark == DONE:
            if not self._entries:
                self.dirty = True
            return None
        entry = make(self)
        entry.deliveries = deliveries(mark)
        entry.dropped = mark in _DROPPED[1:]
        if entry.due:
            self._touched = offset
        self._entries.append(entry)
        self._size += len(entry.message.body)
        return entry

    def hold(self, entry: Entry, token: int) -> None:
        """It is handed out, once more."""
        entry.deliveries += 1
        entry.token = token
        self._held += 1
        self._touch(entry)

    def take_back(self, entry: Entry) -> None:
        """It is nobody's any more."""
        self._held -= entry.token != 0
        entry.token = 0
        self._touch(entry)

    def _touch(self, entry: Entry) -> None:
        self._touched = max(self._touched, entry.offset)
        self.dirty = True

    def finish(self, entry: Entry) -> None:
        self.take_back(entry)
        entry.done = True
        self._size -= len(entry.message.body)
        while self._entries and self._entries[0].done:
            self._entries.popleft()

    @property
    def first(self) -> int:
        """The offset of the first message that is not done, or the next to be read."""
        return self._entries[0].offset if self._entries else self.position

    @property
    def marks(self) -> str:
        """What is known of each offset from `first` on, to the last that was read; and what the
        last owner knew of those behind it."""
        return "".join([*self._marked(self.position), self._inherited])

    @property
    def _inherited(self) -> str:
        return self._marks[max(0, self.position - self._restored) :]

    def _marked(self, end: int) -> list[str]:
        """The marks of the offsets from `first` to before `end`."""
        first, marks = self.first, list[str]()
        for entry in self._entries:
            if entry.offset >= end:
                break
            # What is missing between two entries was done before, or never was a message.
            marks += DONE * (entry.offset - first - len(marks))
            marks.append(entry.mark)
        # So is what was read last and left no entry.
        marks += DONE * (end - first - len(marks))
        return marks

    def commit(self) -> tuple[int, str]:
        """The offset to commit, and the text beside it."""
        if self._inherited:
            return self.first, encode(self.marks)
        return self.first, encode("".join(self._marked(self._touched + 1)))

    @property
    def is_held(self) -> bool:
        """Whether anything is handed out."""
        return self._held > 0


def deliveries(mark: str) -> int:
    return max(_COUNTS.find(mark), _DROPPED.find(mark), 0)


def is_held(mark: str) -> bool:
    return mark in _HELD[1:]


def encode(marks: str) -> str:
    """Marks as runs: `-3,a,0` is three done, one held. Untouched ones at the end are left out, and
    so is what the broker has no room for: its deliveries then are not remembered."""
    runs = [(mark, sum(1 for _ in same)) for mark, same in groupby(marks.rstrip(UNTOUCHED))]
    text = ",".join(mark if count == 1 else f"{mark}{count}" for mark, count in runs)
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT].rpartition(",")[0]


def decode(text: str) -> str:
    """The marks in a committed text; none if somebody else wrote it."""
    if not text:
        return ""
    known = _COUNTS + _HELD + _DROPPED + DONE + WAITING
    marks = []
    for run in text.split(","):
        mark, count = run[:1], run[1:] or "1"
        if not mark or mark not in known or not count.isdecimal():
            return ""
        marks.append(mark * min(int(count), SPAN))
    return "".join(marks)[: 2 * SPAN]
