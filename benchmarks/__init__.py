"""Who trains the same network fastest: `python -m benchmarks` checks every contender's result, then times it."""
