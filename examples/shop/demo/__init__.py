"""The demo: the shop under load, with its processes killed, and its books checked."""
