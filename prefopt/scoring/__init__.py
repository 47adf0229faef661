"""What a pair is worth, from what was measured of it: soft preference, panel, minority metric. No model is run here."""
