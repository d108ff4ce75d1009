"""One training: seeds, conditions, contenders, engines, and tuning alike for all."""
