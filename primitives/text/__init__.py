"""Text: formulas, symbols, words of error messages, and escaping."""
