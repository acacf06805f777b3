"""What strangers' machines, files and photographs do to the project, tried by the thousand."""
