"""What was found, for people: tables, text and pictures."""
