"""What services publish and consume, as data: compared between versions, and shown. Pure."""
