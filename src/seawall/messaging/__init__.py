"""Events and queues: one delivery contract over every broker."""
