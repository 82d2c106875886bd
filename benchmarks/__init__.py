"""Programs that measure; each checks its numbers before it prints them."""
