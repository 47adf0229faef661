"""How far new preference data differ from what the champion was trained on. Numbers and tables in, records out."""
