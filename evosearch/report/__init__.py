"""Reports for people: tables, text and pictures."""
