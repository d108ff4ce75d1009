"""Text: symbols, formulas, words for error messages, and characters made safe to show."""
