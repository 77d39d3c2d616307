"""The API gateway: a reverse proxy of callbacks on uvloop, fed with snapshots by a control side."""
