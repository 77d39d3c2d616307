"""Where decisions meet the event loop: owned tasks, guarded calls, batches, drains."""
