"""What is kept of runs and stores: gc removes what nothing reaches, forget erases what was withdrawn."""
