"""The record of a search: its database, journal, resume, cost and lineage."""
