"""New data sets of records out of old ones: joined (merge), chosen (filter), told anew (annotate).

Each is a map over the shards of its input, done in units by several processes; one that was killed
goes on, to the same bytes. The new data set appears under its name when whole.
"""
