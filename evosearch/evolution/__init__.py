"""The search without effects: mutation, what is known of programs, and whom to measure next."""
