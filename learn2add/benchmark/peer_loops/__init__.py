"""Training the benchmark's networks by other libraries' own loops; run in their environments.

Each module has ``make_loop(config)`` and imports its library there and nowhere else. See
:mod:`learn2add.benchmark.peers` for what is said between the processes.
"""
