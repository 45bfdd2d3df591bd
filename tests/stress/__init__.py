"""Everybody at once, at random: clients, workers, feeders, upkeep, dispatchers and operators, who die, repeat
themselves and lose answers, while the clock of Redis jumps."""
