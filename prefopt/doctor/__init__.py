"""What is missing here, in words: checks of this machine, and of what a config needs."""
