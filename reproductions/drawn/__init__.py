"""What is drawn: shapes with captions, masks, damages, and the judge that reads captions off drawings."""
