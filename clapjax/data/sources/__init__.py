"""Sources of labelled recordings: one file for each published layout."""
