"""Training speed, side by side with the loop that coursework usually has and with other libraries.

The same network starts from the same weights in several loops. Each contender has a process of its
own, as settings of memory and precision hold for a whole process; they take turns, so a machine
that slows down slows all of them. Ratios are formed within one turn.
"""
