"""The commands behind what is kept in ``runs/``; each says in its head what it makes."""
