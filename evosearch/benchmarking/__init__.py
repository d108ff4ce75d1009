"""Benchmarks of trainings, batches of trainings and searches."""
