"""Open-loop load: requests start when the schedule says so, however slow the answers are."""
