"""Facts, shown: metrics, logs and traces."""
