"""Who is asking: tokens, keys, API keys and sessions."""
