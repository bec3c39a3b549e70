"""`conprediff study`: one question each."""
