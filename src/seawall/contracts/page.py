"""An AsyncAPI document as a page: one file of HTML, without scripts and without foreign servers.

Light or dark as the reader's system is; folded parts, links and the order of tabs are the
browser's own, so a keyboard is enough.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #d5d9e0; --soft: #f3f5f8; --text: #1c2430; --dim: #5c6675;
  --send: #0b6b3a; --receive: #1d4f9e; --back: #fff; }
@media (prefers-color-scheme: dark) { :root { --line: #333b47; --soft: #1a2029; --text: #e4e8ee;
  --dim: #9aa5b4; --send: #5fce93; --receive: #86b4f5; --back: #12161c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem; background: var(--back);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.75rem; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.15rem; }
h3 { margin: 0; font-size: 1.05rem; font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
p { margin: .25rem 0; }
small, .dim { color: var(--dim); }
a { color: var(--receive); }
:focus-visible { outline: 2px solid var(--receive); outline-offset: 2px; }
.skip { position: absolute; left: -100rem; }
.skip:focus { position: static; }
nav ul { list-style: none; margin: 1rem 0 0; padding: 0; columns: 18rem; }
nav li { break-inside: avoid; padding: .1rem 0; }
article { margin: 0 0 1rem; border: 1px solid var(--line); border-radius: .5rem; }
article header { display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: baseline;
  padding: .75rem 1rem; }
article > div { padding: 0 1rem .75rem; }
.act { font-weight: 600; font-size: .85rem; }
.send { color: var(--send); }
.receive { color: var(--receive); }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .92rem; }
th { text-align: left; font-weight: 600; color: var(--dim); }
th, td { padding: .3rem .75rem .3rem 0; border-top: 1px solid var(--line); vertical-align: top; }
td:nth-child(2) { min-width: 6rem; }
td:first-child { font-family: ui-monospace, monospace; white-space: nowrap; }
details { margin-top: .5rem; }
summary { cursor: pointer; color: var(--dim); font-size: .9rem; }
pre { overflow-x: auto; margin: .5rem 0 0; padding: .75rem; background: var(--soft);
  border-radius: .4rem; font-size: .82rem; line-height: 1.4; }
"""

_WORDS = {"send": "publishes", "receive": "consumes"}


def rendered(document: Mapping[str, Any], json_path: str) -> str:
    """The page. `json_path` is where the document itself is."""
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    body = "\n".join(_body(document, json_path))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}: messages</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _body(document: Mapping[str, Any], json_path: str) -> Iterator[str]:
    info, operations = document["info"], document["operations"]
    yield '<a class="skip" href="#messages">To the messages</a>'
    yield f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
    if "description" in info:
        yield f"<p>{escape(info['description'])}</p>"
    link = f'<a href="{escape(json_path)}">asyncapi.json</a>'
    yield f'<p class="dim">What this service publishes and consumes. For programs: {link}</p>'
    if operations:
        yield '<nav aria-label="Topics"><ul>'
        yield from (_entry(name, one, document) for name, one in operations.items())
        yield "</ul></nav>"
    yield '<main id="messages">'
    for action, word in _WORDS.items():
        chosen = {name: one for name, one in operations.items() if one["action"] == action}
        if chosen:
            yield f"<h2>It {word}</h2>"
            for name, one in chosen.items():
                yield from _operation(name, one, document)
    if not operations:
        yield "<p>Nothing: this service declares no messages.</p>"
    yield "</main>"


def _entry(name: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    action = operation["action"]
    address = _found(operation["channel"], document)["address"]
    act = f'<span class="act {action}">{_WORDS[action]}</span>'
    return f'<li><a href="#{escape(name)}">{escape(address)}</a> {act}</li>'


def _operation(
    name: str, operation: Mapping[str, Any], document: Mapping[str, Any]
) -> Iterator[str]:
    action = operation["action"]
    address = _found(operation["channel"], document)["address"]
    yield f'<article id="{escape(name)}"><header><h3>{escape(address)}</h3>'
    yield f'<span class="act {action}">{_WORDS[action]}</span>'
    if "summary" in operation:
        yield f'<span class="dim">{escape(operation["summary"])}</span>'
    yield "</header><div>"
    for reference in operation["messages"]:
        message = _found(_found(reference, document), document)
        schema = _found(message["payload"], document)
        named = "" if message["name"] == address else f"{escape(message['name'])} "
        yield f'<p>{named}<span class="dim">{message["contentType"]}</span></p>'
        if isinstance(schema, Mapping) and "description" in schema:
            yield f"<p>{escape(schema['description'])}</p>"
        yield from _table(_fields(schema, document, "", ()))
        text = json.dumps(schema, indent=2, ensure_ascii=False)
        yield f"<details><summary>JSON Schema</summary><pre>{escape(text)}</pre></details>"
    yield "</div></article>"


Row = tuple[str, str, str]


def _table(rows: Iterable[Row]) -> Iterator[str]:
    rows = list(rows)
    if not rows:
        yield '<p class="dim">Any JSON.</p>'
        return
    yield '<div class="scroll"><table><thead><tr>'
    yield "<th>field</th><th>type</th><th>about</th></tr></thead><tbody>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</tbody></table></div>"


def _fields(
    schema: Any, document: Mapping[str, Any], at: str, inside: tuple[int, ...]
) -> Iterator[Row]:
    """A row for each field; of those inside, below it. A schema may contain itself."""
    if not isinstance(schema, Mapping) or id(schema) in inside:
        return
    inside = (*inside, id(schema))
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        place = f"{at}{name}"
        known = _found(field, document)
        note = [] if name in required else ["optional"]
        yield place, _type(known, document), "; ".join([*note, *_limits({**known, **field})])
        yield from _fields(known, document, f"{place}.", inside)
        items = _found(known.get("items", {}), document)
        yield from _fields(items, document, f"{place}[].", inside)


def _type(schema: Any, document: Mapping[str, Any]) -> str:
    schema = _found(schema, document)
    if not isinstance(schema, Mapping):
        return "anything"
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return " or ".join(_type(option, document) for option in options)
    if "const" in schema or "enum" in schema:
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        return " or ".join(json.dumps(value) for value in values)
    kind = schema.get("type", "anything")
    if kind == "object" and "title" in schema:
        return str(schema["title"])
    if kind == "array":
        return f"list of {_type(schema.get('items', True), document)}"
    return " or ".join(kind) if isinstance(kind, list) else str(schema.get("format") or kind)


_TOLD = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "like {}",
    "description": "{}",
}


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    for key, text in _TOLD.items():
        if key in schema:
            yield text.format(schema[key])
    if schema.get("default") is not None:
        yield f"else {json.dumps(schema['default'])}"


def _found(value: Any, document: Mapping[str, Any]) -> Any:
    """What a reference leads to; the value itself if it is none."""
    if not isinstance(value, Mapping) or "$ref" not in value:
        return value
    place: Any = document
    for name in str(value["$ref"]).removeprefix("#/").split("/"):
        place = place[name]
    return place
