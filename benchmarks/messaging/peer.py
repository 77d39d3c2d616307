"""One process of one subject: `python -m benchmarks.messaging.peer SUBJECT ROLE BROKER URL TOPIC
COUNT`. Prints one line of JSON."""

import importlib
import inspect
import json
import sys

import uvloop

from benchmarks.messaging.work import Task


def main(subject: str, role: str, broker: str, url: str, topic: str, count: str) -> None:
    run = importlib.import_module(f"benchmarks.messaging.subjects.{subject}").run
    task = Task(role, broker, url, topic, int(count))
    figures = uvloop.run(run(task)) if inspect.iscoroutinefunction(run) else run(task)
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
