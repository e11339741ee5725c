"""The outcome of a run, from the results of its steps and from manual actions on it."""
