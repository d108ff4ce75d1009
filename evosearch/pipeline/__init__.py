"""The pipeline of a run: start-up, search loop, validation, limits and checks."""
