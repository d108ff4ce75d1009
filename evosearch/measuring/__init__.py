"""Training programs: engines, batches, tuning, the ledger of trainings and the baseline."""
