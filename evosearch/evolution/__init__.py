"""Evolution as a pure state machine: mutation, records of programs, tests and requests."""
