"""The data card: what is known about preference data before GPU hours are spent on them. Pixels never enter a count."""
