"""What a finished search says: the funnel, audits, comparisons, ancestors, behaviour."""
