"""`imm calibrate`: what a dedup threshold finds, rightly and wrongly, on one's own pictures."""
