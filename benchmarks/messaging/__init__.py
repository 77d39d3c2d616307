"""Messages through every broker: ours beside each raw client at its best, and the frameworks."""
