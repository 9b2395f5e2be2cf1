"""What every factor is: its options, its state, its verbs and their errors."""
