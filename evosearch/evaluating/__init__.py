"""Evaluation: contenders tuned alike, fresh seeds, what is real, and reports."""
