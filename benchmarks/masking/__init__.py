"""Running a benchmark as if the processor lacked instruction sets that it has."""
