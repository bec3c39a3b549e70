"""The tables and figures of ConPreDiff, composed from the five packages."""
