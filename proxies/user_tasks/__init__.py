"""User tasks: Python files, arrays and texts."""
