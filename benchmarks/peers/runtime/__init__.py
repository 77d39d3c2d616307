"""What the runtime's peers serve, each in its own way."""
