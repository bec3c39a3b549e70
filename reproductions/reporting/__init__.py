"""From what was measured to what people look at."""
