"""From a corpus as its publisher lays it out to utterances: one file a corpus."""
