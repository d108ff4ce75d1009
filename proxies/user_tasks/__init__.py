"""Tasks that users bring: Python files, arrays and texts."""
