"""A search from start to end: tasks compiled, the loop with its workers, limits and checks."""
