"""The search: mutation, evolution, measurement, the driver and the run that it leaves."""
