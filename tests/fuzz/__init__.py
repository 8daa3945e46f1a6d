"""Fuzzing of all readers, by bytes and by structure: `make fuzz` runs it for minutes, the tests for seconds."""
