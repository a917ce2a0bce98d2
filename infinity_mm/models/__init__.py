"""Models that look at media and texts: embedders, and the small tokenizer that the shipped models share."""
