"""Mails on disk, one file each, in the order they came."""

import os
import threading
from dataclasses import asdict, dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path

# Without a tree of each field, which takes longer than to write the mail to disk.
_HEAD = BytesHeaderParser()

# A development mailbox is no archive: when there are more, the oldest files go.
KEEP = 50_000  # mails


@dataclass(frozen=True, slots=True)
class Mail:
    number: int
    message_id: str
    recipient: str
    subject: str

    def as_json(self) -> dict[str, object]:
        return asdict(self)


class Mails:
    """Keeps mails in a folder. Used from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob("*.part"):  # was never acknowledged
            unfinished.unlink()
        self._mails = {
            number: _read(number, path.read_bytes())
            for number, path in sorted((int(path.stem), path) for path in folder.glob("*.eml"))
        }
        self._next = max(self._mails, default=0) + 1

    def add(self, content: bytes) -> Mail:
        """Return once the mail is on disk and would survive a power cut."""
        with self._lock:
            number, self._next = self._next, self._next + 1
        path = self._path(number)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name is on disk only when its folder is
        finally:
            os.close(folder)
        mail = _read(number, content)
        with self._lock:
            self._mails[number] = mail
            while len(self._mails) > KEEP:
                oldest = next(iter(self._mails))
                del self._mails[oldest]
                self._path(oldest).unlink(missing_ok=True)
        return mail

    def listed(self, after: int = 0, limit: int = 1000, recipient: str | None = None) -> list[Mail]:
        """Mails behind number `after`, oldest first."""
        with self._lock:
            mails = sorted(self._mails.values(), key=lambda mail: mail.number)
        return [
            mail for mail in mails if mail.number > after and recipient in (None, mail.recipient)
        ][:limit]

    def content(self, number: int) -> bytes | None:
        """The mail as it came; None if there is none of that number."""
        try:
            return self._path(number).read_bytes()
        except FileNotFoundError:
            return None

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.eml"


def _read(number: int, content: bytes) -> Mail:
    head = _HEAD.parsebytes(content)
    return Mail(
        number=number,
        message_id=_text(head, "Message-ID").strip(),
        recipient=_text(head, "To"),
        subject=_text(head, "Subject"),
    )


def _text(head: Message, name: str) -> str:
    """A field as a person reads it: in one line, and decoded where it is encoded."""
    said = "".join(str(head.get(name, "")).splitlines())
    if "=?" not in said:
        return said
    try:
        return str(make_header(decode_header(said)))
    except (HeaderParseError, LookupError, UnicodeDecodeError):  # what was sent says nothing
        return said
