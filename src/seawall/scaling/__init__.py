"""How many replicas: decisions without I/O, which the autoscaler and the simulator share."""
