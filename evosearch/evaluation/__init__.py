"""Evaluation of programs: `eval`, validation, funnel, audit and signal to noise."""
