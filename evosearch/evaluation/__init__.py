"""Programs tried beyond the search: evaluation, validation, funnel, audit and signal to noise."""
