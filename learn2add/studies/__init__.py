"""The sibling studies, one file a notebook; they import the core, never the reverse."""
