"""What all pages share: their frame and style, how figures are written, charts and small pictures."""
