"""Decisions that keep a call to another service safe: pure, without I/O, clock or chance."""
