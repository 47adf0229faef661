"""People's judgement of drawn images: blinded pairs out, votes in, win rates."""
