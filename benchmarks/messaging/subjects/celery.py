"""Celery with one worker process, acknowledging late, prefetch 200."""

from typing import Any

from celery import Celery

from benchmarks.messaging.work import Counter, Figures, Task, leave, ready, send_one_by_one


def run(task: Task) -> Figures:
    app = Celery("bench", broker=task.url)
    app.conf.update(
        task_default_queue=task.topic, task_acks_late=True, worker_prefetch_multiplier=200
    )
    app.conf.update(task_ignore_result=True, worker_concurrency=1, broker_pool_limit=None)
    app.conf.update(broker_transport_options={"confirm_publish": True})
    counter = Counter(task.count)

    @app.task(name="handle")
    def handle(data: str) -> None:
        counter(data.encode())
        if counter.done.is_set():
            leave(counter.report())

    if task.takes:
        _work(app)
    return send_one_by_one(lambda data: handle.delay(data.decode()), task)


def _work(app: Any) -> None:
    ready()
    arguments = ["worker", "--pool=solo", "--loglevel=ERROR", "--without-gossip"]
    app.worker_main([*arguments, "--without-mingle", "--without-heartbeat"])
