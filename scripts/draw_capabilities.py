"""Write the table of what each broker does into docs/messaging-brokers.md.

    make capabilities                           run the suites, then write the table
    python scripts/draw_capabilities.py FILE    from results of `pytest --capabilities FILE`

Cells of properties and brokers that FILE does not know stay as they are in the page, so a run of
one broker renews one column.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.capabilities import BROKERS, KEPT, SUITES, properties  # noqa: E402

PAGE = ROOT / "docs" / "messaging-brokers.md"
BEGIN, END = "<!-- what the suites saw: begin -->\n", "<!-- what the suites saw: end -->\n"
UNKNOWN = "-"  # never tried

_HEAD = "| it is true that | " + " | ".join(BROKERS) + " |"
_ROW = re.compile(r"^\| (.+?) \| (.+) \|$")

Cells = dict[str, dict[str, str]]  # by row, then by broker


def sentence(name: str) -> str:
    text = name.replace("_", " ").replace("kill 9", "kill -9")
    return text[0].upper() + text[1:]


def rows() -> Iterable[tuple[str, list[tuple[str, str]]]]:
    """Each suite with its properties, as their key in the results and as a sentence."""
    for suite in SUITES:
        yield suite, [(f"{suite}::{name}", sentence(name)) for name in properties(suite)]


def read(page: str) -> Cells:
    """What the page says already."""
    cells: Cells = {}
    for line in page.partition(BEGIN)[2].partition(END)[0].splitlines():
        found = _ROW.match(line)
        if found and line != _HEAD:
            texts = [text.strip() for text in found.group(2).split(" | ")]
            cells[found.group(1)] = dict(zip(BROKERS, texts, strict=True))
    return cells


def draw(results: Mapping[str, Mapping[str, str]], known: Cells) -> str:
    lines = []
    for suite, named in rows():
        lines += [f"### {SUITES[suite]}", "", _HEAD, "|---" * (1 + len(BROKERS)) + "|"]
        for key, text in named:
            seen = results.get(key, {})
            cells = [
                _cell(seen[broker]) if broker in seen else known.get(text, {}).get(broker, UNKNOWN)
                for broker in BROKERS
            ]
            lines.append(f"| {text} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(result: str) -> str:
    return KEPT if result == KEPT else ", ".join(f"`{field}`" for field in result.split(", "))


def main(arguments: list[str]) -> int:
    (file,) = arguments
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = draw(json.loads(Path(file).read_text(encoding="utf-8")), read(page))
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
